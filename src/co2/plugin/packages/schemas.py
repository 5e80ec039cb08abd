"""JSON Schema, draft 2020-12, of methods, of the configuration, and of what plugins send.

A schema is made when somebody asks for it, from the same types with which co2 checks the values and writes the
signatures. What it cannot describe accepts every value, and its ``description`` says why.

No object in a schema has a key with ``$`` as its only one: in co2's JSON such an object stands for another value.
"""

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from co2.plugin.channels import patterns_problem
from co2.plugin.method_marks import RESULT, marks_of
from co2.plugin.packages.signatures import hints_of
from co2.plugin.packages.typed_parameters import NO_DEFAULT, Parameters

__all__ = ["MAX_SCHEMA", "JsonSchema", "config_schema", "method_schema", "sends_problem", "sent_schemas"]

MAX_SCHEMA = 64 * 1024
"""Bytes of one schema as JSON: of a method's parameters, of its result, of a configuration, and of all that one
class says it sends."""

JsonSchema = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class _Property:
    name: str
    hint: Any
    default: Any
    unit: str = ""


def method_schema(function: Callable[..., Any], parameters: Parameters | None) -> dict[str, Any]:
    """Describe an ``x_`` method.

    Args:
        function: the method.
        parameters: that it has; None for one that takes the whole dictionary.

    Returns:
        ``parameters``, the schema of the key ``data`` of the argument; ``result``, that of the result; ``danger``.
    """
    marks = marks_of(function)
    hints = hints_of(function)
    described: JsonSchema = {}
    if parameters is not None:
        described = _object(
            _Property(one.name, one.hint, one.default, marks.units.get(one.name, "")) for one in parameters
        )
    result: JsonSchema = {}
    if RESULT in hints:
        result = _of_type(hints[RESULT])
    if RESULT in marks.units:
        result["unit"] = marks.units[RESULT]
    return {"parameters": _limited(described), "result": _limited(result), "danger": marks.danger}


def config_schema(forms: Sequence[Any]) -> JsonSchema:
    """Describe the table of a package.

    Args:
        forms: the ``Config`` of each plugin; None for one that takes the dictionary, and may read any key.
    """
    known = list(dict.fromkeys(form for form in forms if form is not None))
    if not known:
        return {"type": "object"}
    schema = _object([one for form in known for one in _properties_of(form)])
    schema["additionalProperties"] = None in forms
    if len(known) == 1 and (text := _docstring_of(known[0])):
        schema = {"description": text, **schema}
    return _limited(schema)


def sent_schemas(sends: object) -> dict[str, JsonSchema]:
    """Describe ``data`` of the messages that a class says it sends, by the pattern of their channels."""
    if not isinstance(sends, Mapping):
        return {}  # an attribute of the author's own, from before co2 gave the name a meaning
    return {pattern: _of_type(hint) for pattern, hint in sends.items()}


def sends_problem(sends: Mapping[Any, Any]) -> str:
    """Return what is wrong with an attribute ``sends``, and what is expected; '' if it is right."""
    if problem := patterns_problem(tuple(sends), '("stage.*",)'):
        return problem
    for pattern, hint in sends.items():
        try:
            _made([hint])
        except Exception as error:
            return (
                f"{pattern!r}: {hint!r:.80} cannot be described ({_reason(error)}); expected a type such as "
                "float, list[int], a msgspec.Struct or a dataclass"
            )
    size = sum(len(_as_json(schema)) for schema in sent_schemas(sends).values())
    return f"its schemas have {size} bytes; the limit is {MAX_SCHEMA}" if size > MAX_SCHEMA else ""


def _properties_of(form: Any) -> list[_Property]:
    """Return the keys of a ``Config``."""
    try:
        hints = typing.get_type_hints(form, include_extras=True)
    except Exception:
        hints = {}  # a name that only type checkers import; co2 could not check such a table either
    fields = msgspec.inspect.type_info(form).fields  # type: ignore[attr-defined]  # forms have fields
    return [_Property(field.encode_name, hints.get(field.name, Any), _default_of(field)) for field in fields]


def _default_of(field: msgspec.inspect.Field) -> Any:
    if field.required:
        return NO_DEFAULT
    if field.default is not msgspec.NODEFAULT:
        return field.default
    # A factory of the author's own is not called: it may do anything.
    return field.default_factory() if field.default_factory in (list, dict, set, bytearray) else _UNKNOWN


def _docstring_of(form: type) -> str:
    text = form.__doc__ or ""
    written = not (dataclasses.is_dataclass(form) and text.startswith(f"{form.__name__}("))
    return " ".join(text.split()) if written else ""


# ---- schemas of types ----------------------------------------------------------------------------------


class _Unknown:
    """Stands for a default that exists, but cannot be shown."""


_UNKNOWN = _Unknown()


def _of_type(hint: Any) -> JsonSchema:
    [made], shared = _schemas([hint])
    return _with_shared(made, shared)


def _object(properties: Iterable[_Property]) -> JsonSchema:
    """Return the schema of an object; a name that comes twice must fit both types."""
    listed = list(properties)
    made, shared = _schemas([one.hint for one in listed])
    schemas: dict[str, JsonSchema] = {}
    for one, schema in zip(listed, made, strict=True):
        if one.unit:
            schema["unit"] = one.unit
        if (default := _shown(one.default)) is not _UNKNOWN:
            schema["default"] = default
        before = schemas.setdefault(one.name, schema)
        if before != schema:
            schemas[one.name] = {"allOf": [before, schema]}
    required = dict.fromkeys(one.name for one in listed if one.default is NO_DEFAULT)
    whole = {"type": "object", "properties": schemas, "required": list(required), "additionalProperties": False}
    return _with_shared(whole, shared)


def _shown(default: Any) -> Any:
    """Return a default as JSON has it; :data:`_UNKNOWN` for none, or one that JSON cannot have."""
    if default is NO_DEFAULT or default is _UNKNOWN:
        return _UNKNOWN
    try:
        return _plain(msgspec.to_builtins(default, str_keys=True, enc_hook=_path_text))
    except Exception:
        return _UNKNOWN


def _schemas(hints: Sequence[Any]) -> tuple[list[JsonSchema], JsonSchema]:
    """Return the schema of each type, and what they share; one that cannot be described accepts everything."""
    try:
        return _made(hints)
    except Exception:
        problems = {number: _reason(error) for number, hint in enumerate(hints) if (error := _error_of(hint))}
    good = [Any if number in problems else hint for number, hint in enumerate(hints)]
    made, shared = _made(good)
    for number, problem in problems.items():
        made[number]["description"] = f"not described: {problem}"
    return made, shared


def _error_of(hint: Any) -> Exception | None:
    try:
        _made([hint])
    except Exception as error:
        return error
    return None


def _made(hints: Sequence[Any]) -> tuple[list[JsonSchema], JsonSchema]:
    made, shared = msgspec.json.schema_components(hints, schema_hook=_path_schema)
    plain, plain_shared = _plain([made, shared])
    for schema in (*plain, *plain_shared.values()):
        _name_references(schema)
    return plain, plain_shared


def _name_references(schema: Any) -> None:
    """Set the name of a shared schema as the title of each reference to it, so that it has another key."""
    if not isinstance(schema, dict):
        return
    if [*schema] == ["$ref"]:
        schema["title"] = schema["$ref"].rpartition("/")[2]
    for key in ("items", "additionalProperties", "propertyNames"):
        _name_references(schema.get(key))
    for key in ("anyOf", "prefixItems"):
        for one in schema.get(key, ()):
            _name_references(one)
    for one in schema.get("properties", {}).values():
        _name_references(one)


def _path_schema(kind: type) -> JsonSchema:
    if issubclass(kind, Path):
        return {"type": "string"}
    # The error that msgspec expects from a hook for an unknown type.
    raise NotImplementedError


def _path_text(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    # Likewise.
    raise NotImplementedError


def _with_shared(schema: JsonSchema, shared: JsonSchema) -> JsonSchema:
    return {**schema, "$defs": shared} if shared else schema


def _limited(schema: JsonSchema) -> JsonSchema:
    size = len(_as_json(schema))
    if size <= MAX_SCHEMA:
        return schema
    return {"description": f"not described: the schema has {size} bytes; the limit is {MAX_SCHEMA}"}


def _plain(value: Any) -> Any:
    """Return a value as it is after a way through JSON.

    Raises:
        ValueError, TypeError: JSON cannot have it, such as an infinite bound.
    """
    import json  # takes time, and most plugin hosts never need it

    return json.loads(_as_json(value))


def _as_json(value: Any) -> bytes:
    import json

    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()


def _reason(error: Exception) -> str:
    lines = str(error).split("\n")
    return (lines[-1] or type(error).__name__)[:200]
