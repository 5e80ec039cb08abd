"""Write values as JSON, with marks for what JSON does not have: total, and exact both ways."""

from collections.abc import Mapping
from datetime import datetime
from math import isfinite
from typing import Any

import msgspec

from co2.errors import ValueRefused
from co2.exact_json.marks import EXACT, is_marked, mark

__all__ = ["exact", "is_short", "write", "write_exact"]

_encode = msgspec.json.Encoder().encode


def write(value: Any) -> bytes:
    """Return a value as JSON text.

    Raises:
        ValueRefused: of a type that cannot travel, or nested too deep to be written.
    """
    try:
        return write_exact(exact(value))
    except RecursionError:
        raise ValueRefused("nested too deep to be written as JSON") from None


def write_exact(value: Any) -> bytes:
    """Return the result of :func:`exact` as JSON text.

    Raises:
        ValueRefused: nested too deep to be written.
    """
    try:
        return _encode(value)
    except RecursionError:
        raise ValueRefused("nested too deep to be written as JSON") from None
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise ValueRefused(f"cannot be written as JSON: {error}") from None


def exact(value: Any) -> Any:
    """Return a value in which everything that JSON does not have is marked."""
    if value is None:
        return value
    kind = type(value)
    if kind is str or kind is bool:
        return value
    if kind is int:
        return value if -EXACT <= value <= EXACT else mark(value)
    if kind is float:
        return value if isfinite(value) else mark(value)
    if kind is list or kind is tuple:
        return [exact(one) for one in value]
    if kind is dict:
        return _dictionary(value)
    return _other(value)


def _dictionary(value: Mapping[Any, Any]) -> dict[str, Any]:
    if all(type(key) is str for key in value):
        found = {key: exact(one) for key, one in value.items()}
        return {"$d": found} if is_marked(found) else found
    return {"$m": [[exact(key), exact(one)] for key, one in value.items()]}


def _other(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _dictionary(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [exact(one) for one in value]
    if isinstance(value, bytes | bytearray | memoryview | datetime | msgspec.msgpack.Ext):
        return mark(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | float):
        return exact(float(value) if isinstance(value, float) else int(value))
    raise ValueRefused(f"a value of type {type(value).__name__} has no form in JSON")


def is_short(value: Any, most: int) -> bool:
    """Return whether a value has at most so many values and, in text and bytes, characters."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        most -= 1
        if isinstance(one, str | bytes):
            most -= len(one)
        elif isinstance(one, list | tuple):
            if len(one) > most:
                return False
            waiting += one
        elif isinstance(one, Mapping):
            if len(one) > most:
                return False
            waiting += one
            waiting += one.values()
        if most < 0:
            return False
    return True
