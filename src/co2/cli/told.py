"""Checks of the answers of satellites before they are shown: anybody may join the network, and answer anything."""

from collections.abc import Mapping
from typing import Any

from co2.errors import ParseError

__all__ = ["check_letters", "check_properties"]

Kinds = Mapping[str, type | tuple[type, ...]]

_TEXT = (str, bytes)  # it comes as bytes if XML cannot contain one of its characters
_NUMBER = (int, float)

_PACKAGE: Kinds = {
    "name": str,
    "state": str,
    "load": int,
    "code": str,
    "restarts": int,
    "dead_letters": int,
    "last_error": _TEXT,
}
_NEWER_OF_PACKAGE: Kinds = {
    "hangs": _NUMBER,
    "refused": bool,
    "last_error_age": _NUMBER,
    "uses": dict,
    "limits": dict,
}
"""Keys that an older host does not have."""

_LETTER: Kinds = {
    "id": int,
    "at": object,
    "plugin": object,
    "host_id": object,
    "reason": object,
    "message": object,
}


def check_properties(found: Any) -> dict[str, Any]:
    """Check an answer to ``co2.get_properties``, and return it.

    Raises:
        ParseError: a value has another type than a host of co2 would send.
    """
    if not isinstance(found, dict):
        raise _wrong("its properties")
    for row in _rows(found.get("plugins", []), _PACKAGE, "plugins"):
        for key, kind in _NEWER_OF_PACKAGE.items():
            if key in row and not isinstance(row[key], kind):
                raise _wrong(f"{key} of plugins")
        for key in ("uses", "limits"):
            if not all(isinstance(number, _NUMBER) for number in row.get(key, {}).values()):
                raise _wrong(f"{key} of plugins")
    problems = found.get("problems", [])
    if not isinstance(problems, list) or not all(isinstance(problem, _TEXT) for problem in problems):
        raise _wrong("problems")
    counters = found.get("counters")
    if isinstance(counters, dict) and not isinstance(counters.get("dead_letters_kept", 0), int):
        raise _wrong("counters")
    return found


def check_letters(found: Any) -> list[dict[str, Any]]:
    """Check an answer to ``co2.plugin.get_dead_letters``, and return it.

    Raises:
        ParseError: a value has another type than a host of co2 would send.
    """
    return _rows(found, _LETTER, "dead letters")


def _rows(found: Any, kinds: Kinds, what: str) -> list[dict[str, Any]]:
    if not isinstance(found, list):
        raise _wrong(what)
    for row in found:
        if not isinstance(row, dict):
            raise _wrong(what)
        for key, kind in kinds.items():
            if key not in row or not isinstance(row[key], kind):
                raise _wrong(f"{key} of {what}")
    return found


def _wrong(what: str) -> ParseError:
    return ParseError(f"not a co2 host, or one of another version: cannot read {what}")
