"""Help and XML-RPC signatures of ``x_`` methods, from docstrings and type hints."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

__all__ = ["MAX_HELP", "help_of", "hints_of", "signatures_of", "takes", "xml_type"]

MAX_HELP = 8192
"""Characters of a docstring that are sent."""

_EXACT: dict[object, str] = {
    int: "int",
    str: "string",
    bool: "boolean",
    float: "double",
    list: "array",
    tuple: "array",
    set: "array",
    frozenset: "array",
    dict: "struct",
    bytes: "base64",
    bytearray: "base64",
    datetime: "dateTime.iso8601",
    type(None): "nil",
    None: "nil",
}


def help_of(docstring: object) -> str:
    """Return a docstring without its indentation, shortened; '' for none."""
    return inspect.cleandoc(docstring)[:MAX_HELP] if isinstance(docstring, str) else ""


def signatures_of(function: Callable[..., Any], data: str = "") -> list[list[str]]:
    """Return the one signature of an ``x_`` method: the result's type, and ``struct``.

    Args:
        function: the method.
        data: form of the argument's ``data``, if known.
    """
    hints = hints_of(function)
    argument = f"struct {{data: {data}}}" if data else "struct"
    return [[xml_type(hints["return"]) if "return" in hints else "any", argument]]


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the type hints of a method; none if one of them cannot be resolved.

    A hint with a missing name (imported for type checkers only) is useless, but does no harm.
    """
    try:
        return typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except Exception:
        return {}


def xml_type(hint: object) -> str:
    """Return the XML-RPC type of a type hint, 'any' for one without."""
    if isinstance(hint, typing.TypeVar | str):
        return "any"
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return xml_type(typing.get_args(hint)[0])
    if origin is typing.Union or origin is types.UnionType:
        kinds = {xml_type(option) for option in typing.get_args(hint)}
        return kinds.pop() if len(kinds) == 1 else "any"
    if origin is typing.Literal:
        kinds = {_EXACT.get(type(option), "any") for option in typing.get_args(hint)}
        return kinds.pop() if len(kinds) == 1 else "any"
    kind = origin or hint
    if kind in _EXACT:
        return _EXACT[kind]
    if isinstance(kind, type) and kind is not object:
        return _by_base(kind)
    return "any"


def _by_base(kind: type) -> str:
    if issubclass(kind, Mapping) or typing.is_typeddict(kind):
        return "struct"
    for base, name in _EXACT.items():
        if isinstance(base, type) and issubclass(kind, base):
            return "boolean" if issubclass(kind, bool) else name
    return "array" if issubclass(kind, typing.Collection) else "any"


def takes(function: object, count: int) -> bool:
    """Return whether a bound method can be called with ``count`` positional arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)  # type: ignore[arg-type]  # not callable: TypeError
    except TypeError:
        return False
    except ValueError:
        return True  # a function in C without a signature: only a call would show it
    return True
