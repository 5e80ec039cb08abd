"""The owner of a port that a relay wants: if it is a relay, a second one would silently make a second network."""

from collections.abc import Mapping
from typing import Any

from co2.errors import Co2Error, ConfigError
from co2.server.process.local_address import host_url, is_everywhere, local_ip
from co2.store.state_folder import default_state_path, holder_of

__all__ = ["ASK_TIMEOUT", "MAX_ANSWER", "refuse_second_relay"]

ASK_TIMEOUT = 2.0
"""Seconds in which the owner of the port must answer; else it is taken for another program."""

MAX_ANSWER = 1024 * 1024
"""Bytes of its answer; one that sends more is another program."""

_WHAT_TO_DO = "Stop it; or, to run a second network beside it, choose another port with --port N"


def refuse_second_relay(bind: str, port: int) -> None:
    """Refuse to start beside a relay that has the port we should listen on.

    Args:
        bind: IP address to listen on.
        port: in use there.

    Raises:
        ConfigError: a relay has the port; the text says which, and what to do. Any other owner is ignored. A relay
            that does not answer, as after Ctrl-Z, is recognised by the locked state folder of that port.
    """
    places = ("127.0.0.1", local_ip(bind, "192.0.2.1")) if is_everywhere(bind) else (bind,)
    for url in dict.fromkeys(host_url(ip, port) for ip in places):
        if (found := _relay_at(url)) is not None:
            raise ConfigError(
                "port", (f"a relay is already running here: {url} ({_standing(found)}). {_WHAT_TO_DO}")
            )
    if holder := holder_of(default_state_path("relay", port)):
        raise ConfigError(
            "port",
            f"a relay is already running here, process {holder}, and does not answer: it may be stopped "
            "(Ctrl-Z; fg "
            f"resumes it), busy or overloaded. {_WHAT_TO_DO}",
        )


def _relay_at(url: str) -> Mapping[str, Any] | None:
    """Return the properties of the relay at a URL, None for any other program."""
    from co2.xmlrpc.simple_client import SimpleClient  # only needed if the port is in use

    try:
        with SimpleClient(url, ASK_TIMEOUT, max_response=MAX_ANSWER) as client:
            found = client.call("co2.get_properties")
    except Co2Error:
        return None
    return found if isinstance(found, dict) and found.get("role") == "relay" else None


def _standing(properties: Mapping[str, Any]) -> str:
    """Describe a relay in a few words; its properties may be malformed."""
    from co2.web.text import duration

    uptime, satellites = properties.get("uptime"), properties.get("satellites")
    said = [f"up {duration(uptime)}"] if isinstance(uptime, int | float) else []
    if isinstance(satellites, int):
        said.append(f"{satellites} satellite{'' if satellites == 1 else 's'}")
    return ", ".join(said) or "no details available"
