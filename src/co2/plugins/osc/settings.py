"""The table ``[plugin.osc]`` of co2.toml, checked."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from co2 import plugin

from .addresses import read_host_port

__all__ = ["OscSettings", "read_settings"]

_EVERY_CHANNEL = plugin.Channels((">",))


@dataclass(frozen=True, slots=True)
class OscSettings:
    """The configuration of the bridge.

    Attributes:
        listen: host and port of its UDP socket, for both directions.
        send_to: host and port of each destination of messages of the network.
        send: channels of the messages that are sent to OSC.
        receive: channels, with prefix, of the messages that are accepted from OSC; None for all.
        prefix: is put before the channel of a message from OSC, and removed from that of a message to OSC.
    """

    listen: tuple[str, int] = ("127.0.0.1", 9000)
    send_to: tuple[tuple[str, int], ...] = ()
    send: plugin.Channels = _EVERY_CHANNEL
    receive: plugin.Channels | None = None
    prefix: str = ""


def read_settings(config: Mapping[str, Any]) -> OscSettings:
    """Check the configuration and return it.

    Args:
        config: the table ``[plugin.osc]``.

    Raises:
        ValueError: a key is unknown, or a value has another form; the text names the key, and a similar known one.
    """
    known = list(OscSettings.__dataclass_fields__)
    for key in config:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; the keys are {', '.join(known)}"
            raise ValueError(f"unknown key {key!r}{hint}")
    default = OscSettings()
    prefix = config.get("prefix", "")
    if not isinstance(prefix, str) or (prefix and "" in prefix.split(".")):
        raise ValueError(f'prefix: {prefix!r} is not a channel, such as "stage.left"')
    return OscSettings(
        listen=read_host_port(config["listen"], "listen") if "listen" in config else default.listen,
        send_to=tuple(read_host_port(item, "send_to") for item in _strings(config, "send_to", ())),
        send=_channels("send", _strings(config, "send", ())) if "send" in config else default.send,
        receive=_channels("receive", received) if (received := _strings(config, "receive", ())) else None,
        prefix=prefix,
    )


def _channels(key: str, patterns: tuple[Any, ...]) -> plugin.Channels:
    try:
        return plugin.Channels(patterns)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _strings(config: Mapping[str, Any], key: str, default: tuple[str, ...]) -> tuple[Any, ...]:
    value = config.get(key, default)
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{key}: expected a list of strings, not {value!r}")
    return tuple(value)
