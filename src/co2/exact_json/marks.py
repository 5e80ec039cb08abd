"""Values that JSON does not have, as dictionaries with one key that begins with ``$``: exact both ways.

============================  ==========================================================================
``{"$b": "aGFt"}``            bytes, in base64
``{"$f": "nan"}``             a number that is none: ``nan``, ``inf``, ``-inf``; also ``-0``
``{"$i": "9007199254740993"}``  an integer that a double of 64 bits, as JavaScript has it, may not hold
``{"$t": "2026-12-01T…Z"}``   a time, ISO 8601 with its offset from UTC
``{"$m": [[1, "a"]]}``        a dictionary with keys other than text, as a list of pairs
``{"$x": [5, "aGFt"]}``       an extension of MessagePack: its number, and its bytes in base64
``{"$d": {"$b": 1}}``         a dictionary that really has one key which begins with ``$``
============================  ==========================================================================

Any other dictionary whose only key begins with ``$`` is refused when read, so that marks can be added later.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from co2.errors import ValueRefused

__all__ = ["EXACT", "HIGHEST", "LOWEST", "is_marked", "mark", "unmark"]

EXACT = 2**53 - 1
"""The largest integer up to which a double of 64 bits holds every integer."""

LOWEST, HIGHEST = -(2**63), 2**64 - 1
"""The integers that can travel."""

_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "-0": -0.0}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,19})")
_MAX_PAIRS = 10_000
_MAX_TIME = 40


def is_marked(value: Mapping[Any, Any]) -> bool:
    """Return whether a dictionary that was read stands for something else: its only key begins with ``$``."""
    if len(value) != 1:
        return False
    key = next(iter(value))
    return isinstance(key, str) and key.startswith("$")


def mark(value: Any) -> dict[str, Any]:
    """Return the marked form of a scalar that JSON does not have.

    Raises:
        ValueRefused: it is of no type that can travel.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$b": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float):
        return {"$f": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}
    if isinstance(value, int):
        return {"$i": str(value)}
    if isinstance(value, datetime):
        told = value.astimezone(UTC) if value.tzinfo else value
        digits = "milliseconds" if told.microsecond and not told.microsecond % 1000 else "auto"
        return {"$t": told.isoformat(timespec=digits).replace("+00:00", "Z")}
    if isinstance(value, msgspec.msgpack.Ext):
        return {"$x": [value.code, base64.b64encode(value.data).decode("ascii")]}
    raise ValueRefused(f"a value of type {type(value).__name__} has no form in JSON")


def unmark(value: Mapping[str, Any]) -> Any:
    """Return what a marked dictionary stands for. Values inside ``$d`` and ``$m`` are left as they are.

    Raises:
        ValueRefused: an unknown mark, or not the form that this mark has.
    """
    ((name, inner),) = value.items()
    read = _READERS.get(name)
    if read is None:
        raise ValueRefused(
            f"a dictionary with the only key {name[:40]!r}: one key that begins with $ marks a value that JSON "
            f'does not have, and there is no such mark; write {{"$d": {{…}}}} around a dictionary that really '
            "has this key"
        )
    found = read(inner)
    if found is _NONE:
        raise ValueRefused(f"a malformed value marked {name}: {inner!r:.80}; expected {_FORMS[name]}")
    return found


_NONE = object()
_FORMS = {
    "$b": "text in base64",
    "$f": '"nan", "inf", "-inf" or "-0"',
    "$i": "the digits of an integer of 64 bits, as text",
    "$t": 'ISO 8601 with an offset, such as "2026-12-01T08:00:00Z"',
    "$m": "a list of pairs, each key once",
    "$x": "a list of a number from -128 to 127 and text in base64",
    "$d": "a dictionary",
}


def _bytes(inner: Any) -> Any:
    try:
        return base64.b64decode(inner, validate=True) if isinstance(inner, str) else _NONE
    except (binascii.Error, ValueError):
        return _NONE


def _float(inner: Any) -> Any:
    return _FLOATS.get(inner, _NONE) if isinstance(inner, str) else _NONE


def _integer(inner: Any) -> Any:
    if not isinstance(inner, str) or _INTEGER.fullmatch(inner) is None:
        return _NONE
    found = int(inner)
    return found if LOWEST <= found <= HIGHEST else _NONE


def _time(inner: Any) -> Any:
    if not isinstance(inner, str) or len(inner) > _MAX_TIME or not inner.isascii():
        return _NONE
    try:
        found = msgspec.convert(inner, datetime)
    except msgspec.ValidationError:
        return _NONE
    return found if found.tzinfo is not None else _NONE


def _map(inner: Any) -> Any:
    if not isinstance(inner, list) or len(inner) > _MAX_PAIRS:
        return _NONE
    found: dict[Any, Any] = {}
    for pair in inner:
        if not isinstance(pair, list) or len(pair) != 2 or isinstance(pair[0], dict | msgspec.msgpack.Ext):
            return _NONE
        key = _as_key(pair[0])
        if key in found:
            return _NONE
        found[key] = pair[1]
    return found


def _as_key(value: Any) -> Any:
    """Return a list as a key: MessagePack may have one, which Python reads as a tuple."""
    return tuple(map(_as_key, value)) if isinstance(value, list) else value


def _extension(inner: Any) -> Any:
    if not isinstance(inner, list) or len(inner) != 2 or type(inner[0]) is not int or not -128 <= inner[0] <= 127:
        return _NONE
    data = _bytes(inner[1])
    return data if data is _NONE else msgspec.msgpack.Ext(inner[0], data)


def _dictionary(inner: Any) -> Any:
    return inner if isinstance(inner, dict) else _NONE


_READERS: dict[str, Callable[[Any], Any]] = {
    "$b": _bytes,
    "$f": _float,
    "$i": _integer,
    "$t": _time,
    "$m": _map,
    "$x": _extension,
    "$d": _dictionary,
}
