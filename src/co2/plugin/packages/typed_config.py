"""The table ``[plugin.<package>]`` in the form that the plugins want: a dictionary, or an instance of ``Config``.

A class or the package may have an attribute ``Config``: a ``msgspec.Struct`` or a dataclass, whose fields are the
keys with their types and defaults. Then ``self.config`` is one of these; a wrong table refuses the package.
"""

import dataclasses
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from co2.errors import ConfigError
from co2.near import nearest
from co2.plugin.api import Co2Plugin
from co2.plugin.packages.locate import BUNDLED
from co2.values import pack_value, unpack_value

__all__ = ["Configs", "convert", "kind_problem"]

FORM = "Config"
"""Name of the attribute."""


class Configs:
    """The configuration of one package.

    Args:
        package: its name.
        table: as in the file.
        file: path of the file, '' for none.
        module: the package, or its single file.
        kinds: its plugin classes.
    """

    def __init__(
        self,
        package: str,
        table: Mapping[str, Any],
        file: str,
        module: types.ModuleType,
        kinds: Sequence[type[Co2Plugin]],
    ) -> None:
        self._table = pack_value(table)
        self._file = f"{file}: " if file else ""
        self._package = package
        # Of a bundled package the key of its own name is the array of tables [[NAME]] in the file.
        self._has_entries = module.__name__ == f"{BUNDLED}.{package}" and package in table
        self._of_package = getattr(module, FORM, None)
        self._kinds = kinds

    def check(self) -> None:
        """Check the table against all plugins, before any of them is made.

        Raises:
            ConfigError: a ``Config`` that is not a valid form; a key that no plugin knows; or as for :meth:`of`.
        """
        for kind in self._kinds:
            if (form := self._form(kind)) is not None and (problem := kind_problem(form)):
                raise ConfigError(f"{kind.__name__}.{FORM}", problem)
        forms = self.forms
        if None not in forms:  # a plugin that takes the dictionary may read any key
            known = [name for form in forms for name in _fields(form)]
            for key in unpack_value(self._table):
                if key not in known:
                    raise ConfigError(self._place(key), unknown(key, known))
        for kind in self._kinds:
            self.of(kind)

    def of(self, kind: type[Co2Plugin]) -> Any:
        """Return a configuration for a plugin of this class, a copy of its own: changes do not affect siblings.

        Raises:
            ConfigError: the table does not fit ``Config``; the text names table and key, what was found and
                expected.
        """
        table = unpack_value(self._table)
        form = self._form(kind)
        if form is None:
            return table
        fields = _fields(form)
        mine = {key: value for key, value in table.items() if key in fields}
        for name, field in fields.items():
            if name in mine:
                _check_nested(mine[name], field, name, self._place)
        try:
            return convert(mine, form)
        except msgspec.ValidationError as error:
            key, problem = place_and_problem(error)
            if key in mine and problem.startswith("expected") and ", got " not in problem:  # it is beyond a bound
                problem = f"{problem}, found {mine[key]!r:.80}"
            raise ConfigError(self._place(key), problem) from None

    def _place(self, key: str) -> str:
        """Return the place of a key as a user would look for it in the file.

        Args:
            key: such as ``ports[0].name``; '' for the whole table.
        """
        name, _, inner = key.partition("[")
        if not self._has_entries or name not in ("", self._package):
            return f"{self._file}[plugin.{self._package}] {key}".rstrip()
        number, _, inner = inner.partition("]")
        entry = f" entry {int(number) + 1}" if number else ""
        return ": ".join(filter(None, (f"{self._file}[[{self._package}]]{entry}", inner.removeprefix("."))))

    @property
    def forms(self) -> list[Any]:
        """The ``Config`` of each plugin; None for one that takes the dictionary."""
        return [self._form(kind) for kind in self._kinds]

    def _form(self, kind: type[Co2Plugin]) -> Any:
        return getattr(kind, FORM, self._of_package)


def kind_problem(form: object) -> str:
    """Return why a value cannot be a form of a table; '' if it can."""
    if isinstance(form, type) and (issubclass(form, msgspec.Struct) or dataclasses.is_dataclass(form)):
        try:
            msgspec.inspect.type_info(form)
        except Exception as error:
            return f"its fields cannot be checked: {error}"
        return ""
    return f"found {form!r:.80}, expected a msgspec.Struct or a dataclass, with the keys as its fields"


def convert(value: Any, kind: Any) -> Any:
    """Convert a value from outside to a type.

    Raises:
        msgspec.ValidationError: it does not fit.
    """
    return msgspec.convert(value, kind, dec_hook=_hook)


def place_and_problem(error: msgspec.ValidationError) -> tuple[str, str]:
    """Return the place of an error in a value, such as ``ports[0].name``, and the problem."""
    problem, found, place = str(error).partition(" - at `$")
    place = place.rstrip("`").removeprefix(".") if found else ""
    return place, problem[:1].lower() + problem[1:].replace("`", "'")


def unknown(key: str, known: Iterable[str]) -> str:
    """Return the problem of an unknown key, with a similar known key."""
    names = sorted(set(known))
    near = nearest(str(key), names)
    hint = f"did you mean {near!r}?" if near else f"the keys are: {', '.join(names) or 'none'}"
    return f"unknown key; {hint}"


def _hook(kind: Any, value: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, Path):
        if isinstance(value, str):
            return kind(value)
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")  # msgspec adds the place
    # The error that msgspec expects from a hook for an unknown type.
    raise NotImplementedError(f"{kind!r} cannot be read from a file")


def _fields(form: Any) -> dict[str, Any]:
    """Return the keys of a form and the type of each."""
    return {field.encode_name: field.type for field in msgspec.inspect.type_info(form).fields}  # type: ignore[attr-defined]  # forms have fields


def _check_nested(value: Any, kind: Any, key: str, place: Callable[[str], str]) -> None:
    """Refuse unknown keys further inside: msgspec ignores them."""
    inspect = msgspec.inspect
    if isinstance(kind, inspect.StructType | inspect.DataclassType) and isinstance(value, Mapping):
        fields = {field.encode_name: field.type for field in kind.fields}
        for name, item in value.items():
            if name not in fields:
                raise ConfigError(place(f"{key}.{name}"), unknown(name, fields))
            _check_nested(item, fields[name], f"{key}.{name}", place)
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType) and isinstance(value, list):
        for number, item in enumerate(value):
            _check_nested(item, kind.item_type, f"{key}[{number}]", place)
    elif isinstance(kind, inspect.DictType) and isinstance(value, Mapping):
        for name, item in value.items():
            _check_nested(item, kind.value_type, f"{key}.{name}", place)
