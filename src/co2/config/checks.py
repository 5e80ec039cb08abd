"""Checks of single values: each takes a value from a file, variable or flag and returns the checked one.

Each raises a ValueError whose text describes valid values.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from co2.host_name import check_host_name

__all__ = [
    "address",
    "count",
    "duration",
    "folder",
    "group_ids",
    "host_name",
    "host_names",
    "managed",
    "names",
    "one_of",
    "port",
    "seconds",
    "switch",
    "url",
    "user_ids",
    "variables",
]

_VARIABLE = re.compile(r"\*|[A-Za-z_][A-Za-z0-9_]*\*?")
_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_-]{1,63})*\.?")


def address(found: Any) -> str:
    """Check an IP address to listen on."""
    if found == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(_text(found)))
    except ValueError:
        raise ValueError("an IP address such as 127.0.0.1, 0.0.0.0 or ::1") from None


def count(low: int, high: int) -> Callable[[Any], int]:
    """Return a check for an integer within bounds."""

    def check(found: Any) -> int:
        if not isinstance(found, int) or isinstance(found, bool) or not low <= found <= high:
            raise ValueError(f"an integer from {low} to {high}")
        return found

    return check


port = count(0, 65535)


def seconds(low: float, high: float) -> Callable[[Any], float]:
    """Return a check for a number of seconds within bounds."""

    def check(found: Any) -> float:
        wanted = f"seconds, a number from {low:g} to {high:g}"
        if not isinstance(found, int | float) or isinstance(found, bool) or not low <= found <= high:
            raise ValueError(wanted)
        return float(found)

    return check


_UNITS = {"ms": 0.001, "s": 1.0}


def duration(low: float, high: float) -> Callable[[Any], float]:
    """Return a check for a duration within bounds, in seconds: a number of seconds, or text with a unit."""

    def check(found: Any) -> float:
        wanted = f'a duration such as "50ms" or "1s", or seconds, from {low:g} to {high:g} s'
        if isinstance(found, str):
            parts = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ms|s)\s*", found)
            if parts is None:
                raise ValueError(wanted)
            found = float(parts[1]) * _UNITS[parts[2]]
        if not isinstance(found, int | float) or isinstance(found, bool) or not low <= found <= high:
            raise ValueError(wanted)
        return float(found)

    return check


def switch(found: Any) -> bool:
    """Check a boolean; text in the forms of a variable or a flag."""
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(found, bool):
        return found
    if isinstance(found, str | int) and str(found).lower() in known:
        return known[str(found).lower()]
    raise ValueError("true or false")


def managed(found: Any) -> bool | str:
    """Check what the relay may do: a boolean, or ``read``."""
    if isinstance(found, str) and found.lower() == "read":
        return "read"
    try:
        return switch(found)
    except ValueError:
        raise ValueError('true, "read" or false') from None


def one_of(*choices: str) -> Callable[[Any], str]:
    """Return a check for one of several words."""

    def check(found: Any) -> str:
        if found not in choices:
            raise ValueError(" or ".join(repr(choice) for choice in choices))
        return str(found)

    return check


def folder(found: Any) -> Path:
    """Check a path."""
    text = str(found) if isinstance(found, Path) else found
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError("the path of a folder")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("the path of a folder; the user it names does not exist") from None


def names(pattern: re.Pattern[str]) -> Callable[[Any], tuple[str, ...]]:
    """Return a check for a list of names; text is split at commas."""

    def check(found: Any) -> tuple[str, ...]:
        items = _items(found)
        for item in items:
            if not isinstance(item, str) or not pattern.fullmatch(item):
                raise ValueError(f"a list of package names (letters, digits, _), not {item!r:.80}")
        return tuple(dict.fromkeys(items))

    return check


def host_name(found: Any) -> str:
    """Check the name of a host."""
    return check_host_name(_text(found))


def host_names(found: Any) -> tuple[str, ...]:
    """Check a list of host names; text is split at commas."""
    items = _items(found)
    for item in items:
        if not isinstance(item, str) or not _HOST_NAME.fullmatch(item):
            raise ValueError(f"a list of host names without port, not {item!r:.80}")
    return tuple(items)


def variables(found: Any) -> tuple[str, ...]:
    """Check a list of names of variables; text is split at commas."""
    items = _items(found)
    for item in items:
        if not isinstance(item, str) or not _VARIABLE.fullmatch(item):
            raise ValueError(
                f'a list of environment variables, such as "API_KEY", "MQTT_*" or "*", not {item!r:.80}'
            )
    return tuple(items)


def user_ids(found: Any) -> tuple[int, ...]:
    """Check a list of users of this machine, by name or number; text is split at commas."""

    def look_up(name: str) -> int:
        import pwd

        return pwd.getpwnam(name).pw_uid

    return _ids(found, "users", look_up)


def group_ids(found: Any) -> tuple[int, ...]:
    """Check a list of groups of this machine, by name or number; text is split at commas."""

    def look_up(name: str) -> int:
        import grp

        return grp.getgrnam(name).gr_gid

    return _ids(found, "groups", look_up)


def _ids(found: Any, what: str, look_up: Callable[[str], int]) -> tuple[int, ...]:
    ids = []
    for item in _items(found):
        if isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**32:
            ids.append(item)
            continue
        try:
            ids.append(int(item) if isinstance(item, str) and item.isdecimal() else look_up(str(item)))
        except (KeyError, ImportError, ValueError):
            raise ValueError(f"a list of {what} of this machine by name or number, not {item!r:.80}") from None
    return tuple(ids)


def url(found: Any) -> str:
    """Check a relay's URL; return it as ``http://host:port``, with port 2003 by default."""
    wanted = "a URL such as http://127.0.0.1:2003"
    try:
        parts = urlsplit(_text(found))
        number = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    if parts.scheme != "http" or not parts.hostname or parts.username is not None or number == 0:
        raise ValueError(wanted)
    if parts.path not in ("", "/", "/RPC2") or parts.query or parts.fragment:
        raise ValueError(f"{wanted}, without a path")
    if ":" in parts.hostname:
        if not _is_ipv6(parts.hostname.partition("%")[0]):
            raise ValueError(wanted)
        return f"http://[{parts.hostname}]:{number or 2003}"
    if not _HOST_NAME.fullmatch(parts.hostname):
        raise ValueError(wanted)
    return f"http://{parts.hostname}:{number or 2003}"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _text(found: Any) -> str:
    if not isinstance(found, str):
        raise ValueError("text")
    return found


def _items(found: Any) -> Sequence[Any]:
    if isinstance(found, str):
        return [item.strip() for item in found.split(",") if item.strip()]
    if not isinstance(found, list | tuple):
        raise ValueError("a list of names")
    return found
