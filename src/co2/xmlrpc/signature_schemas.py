"""JSON Schema of methods of which only the XML-RPC signatures are known: those of hosts themselves."""

from collections.abc import Sequence
from typing import Any

__all__ = ["schema_of"]

_SCHEMAS: dict[str, dict[str, Any]] = {
    "int": {"type": "integer"},
    "double": {"type": "number"},
    "boolean": {"type": "boolean"},
    "string": {"type": "string"},
    "base64": {"type": "string", "contentEncoding": "base64"},
    "dateTime.iso8601": {"type": "string", "format": "date-time"},
    "array": {"type": "array"},
    "struct": {"type": "object"},
    "nil": {"type": "null"},
}


def schema_of(signatures: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return ``parameters``, ``result`` and ``danger`` of a method; no host's method says how dangerous it is.

    Args:
        signatures: each a list of XML-RPC type names, the result's first.
    """
    results = [found[0] for found in signatures if found]
    arguments = [found[1] for found in signatures if len(found) > 1]
    return {"parameters": _any_of(arguments), "result": _any_of(results), "danger": ""}


def _any_of(types: Sequence[str]) -> dict[str, Any]:
    if not types or not all(name in _SCHEMAS for name in types):
        return {}  # it accepts everything
    schemas = [_SCHEMAS[name] for name in dict.fromkeys(types)]
    return dict(schemas[0]) if len(schemas) == 1 else {"anyOf": schemas}
