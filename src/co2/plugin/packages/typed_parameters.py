"""``x_`` methods with parameters: filled by name from ``data``, and checked against their annotations.

``def x_name(self, data_dict)``, with a dictionary or without an annotation, is the form of 2003: it gets the whole
dictionary unchanged. All other forms have parameters.
"""

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from co2.errors import BadParams
from co2.near import nearest
from co2.plugin.packages.signatures import hints_of, xml_type
from co2.plugin.packages.typed_config import convert, place_and_problem
from co2.values import Message

__all__ = ["NO_DEFAULT", "ArgumentRefused", "OneParameter", "Parameters", "ParametersRefused", "parameters_of"]

_Parameter = inspect.Parameter

NO_DEFAULT = _Parameter.empty
"""The default of a parameter that has none."""


class ParametersRefused(Exception):
    """A method whose parameters cannot be filled; the text says why.

    Not a Co2Error: it never leaves this subpackage. The loader turns it into a LoadFailure with the method's line.
    """


class ArgumentRefused(BadParams):
    """An argument that does not fit the parameters: the method was not called.

    It never leaves the plugin host: the actor answers the call with a Result, and the caller gets BadParams.
    """


@dataclass(frozen=True, slots=True)
class OneParameter:
    """One parameter.

    Attributes:
        name: its key in ``data``.
        hint: its type.
        default: used if the key is missing; :data:`NO_DEFAULT` if it must be there.
        positional: it cannot be passed by name.
    """

    name: str
    hint: Any
    default: Any
    positional: bool


class Parameters:
    """The parameters of one ``x_`` method: the one source of its checks, its signature and its schema."""

    def __init__(self, parameters: list[OneParameter]) -> None:
        self._parameters = parameters

    def __iter__(self) -> Iterator[OneParameter]:
        return iter(self._parameters)

    def bound(self, function: Callable[..., Any]) -> Callable[[Message], Any]:
        """Return a function that takes the dictionary of a call and calls the method."""

        def call(argument: Message) -> Any:
            positional, named = self.fill(argument.get("data"))
            return function(*positional, **named)

        return call

    def fill(self, data: Any) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments for the method, positional ones and those by name.

        Raises:
            ArgumentRefused: one is missing, unknown or of another type.
        """
        if data is None:
            data = {}
        if not isinstance(data, Mapping):
            raise ArgumentRefused(f"'data' should be {self.text}, found {type(data).__name__}")
        self._check_names(data)
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for one in self._parameters:
            if one.name in data:
                value = _converted(one, data[one.name])
            elif one.default is NO_DEFAULT:
                raise ArgumentRefused(f"{one.name}: is missing; 'data' should be {self.text}")
            else:
                value = one.default
            if one.positional:
                positional.append(value)
            else:
                named[one.name] = value
        return positional, named

    @property
    def text(self) -> str:
        """The form of ``data``, with names, types and defaults."""
        return f"{{{', '.join(map(_described, self._parameters))}}}"

    def _check_names(self, data: Mapping[Any, Any]) -> None:
        names = [one.name for one in self._parameters]
        for key in data:
            if key not in names:
                near = nearest(str(key), names)
                hint = f"did you mean {near!r}?" if near else f"'data' should be {self.text}"
                raise ArgumentRefused(f"{str(key)[:80]!r}: unknown parameter; {hint}")


def parameters_of(function: Callable[..., Any]) -> Parameters | None:
    """Return the parameters of a bound ``x_`` method; None for one that takes the dictionary.

    Raises:
        ParametersRefused: they cannot be filled by name, or their types cannot be checked.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    found = list(signature.parameters.values())
    annotated = [one for one in found if one.annotation is not NO_DEFAULT]
    if not annotated and (found or signature.return_annotation is NO_DEFAULT):
        return None
    hints = hints_of(function)
    if len(found) == 1 and _is_dictionary(hints.get(found[0].name)):
        return None
    return Parameters([_parameter(one, hints) for one in found])


def _parameter(one: inspect.Parameter, hints: Mapping[str, Any]) -> OneParameter:
    if one.kind in (_Parameter.VAR_POSITIONAL, _Parameter.VAR_KEYWORD):
        raise ParametersRefused(f"{one} cannot be passed by name: name each parameter")
    if one.annotation is NO_DEFAULT:
        raise ParametersRefused(
            f"parameter {one.name!r} has no annotation: write its type, such as {one.name}: float"
        )
    if one.name not in hints:
        raise ParametersRefused(
            f"parameter {one.name!r}: its annotation {one.annotation!r:.80} cannot be resolved"
        )
    hint = hints[one.name]
    try:
        info = msgspec.inspect.type_info(hint)
    except Exception as error:
        raise ParametersRefused(f"parameter {one.name!r}: {str(error)[:200]}") from None
    if isinstance(info, msgspec.inspect.CustomType) and not _is_path(info.cls):
        raise ParametersRefused(f"parameter {one.name!r}: no value of a message can be converted to {_name(hint)}")
    return OneParameter(one.name, hint, one.default, one.kind is _Parameter.POSITIONAL_ONLY)


def _is_dictionary(hint: Any) -> bool:
    """Return whether a hint, None for one that cannot be resolved, accepts the whole dictionary."""
    if hint is None or hint in (Any, object):
        return True
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _is_dictionary(typing.get_args(hint)[0])
    if origin is typing.Union or origin is types.UnionType:
        return any(map(_is_dictionary, typing.get_args(hint)))
    kind = origin or hint
    return typing.is_typeddict(kind) or (isinstance(kind, type) and issubclass(kind, Mapping))


def _is_path(kind: Any) -> bool:
    from pathlib import Path

    return isinstance(kind, type) and issubclass(kind, Path)


def _converted(one: OneParameter, value: Any) -> Any:
    try:
        return convert(value, one.hint)
    except msgspec.ValidationError as error:
        place, problem = place_and_problem(error)
        inside = place if not place or place.startswith("[") else f".{place}"
        raise ArgumentRefused(f"{one.name}{inside}: {problem}") from None


def _described(one: OneParameter) -> str:
    kind = xml_type(one.hint)
    text = f"{one.name}: {_name(one.hint) if kind == 'any' else kind}"
    return text if one.default is NO_DEFAULT else f"{text} = {one.default!r:.40}"


def _name(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
    return text[:80]
