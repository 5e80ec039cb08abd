"""Checks of a plugin class's attributes, and of attributes without effect."""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType

from co2.plugin.api import Co2Plugin
from co2.plugin.channels import patterns_problem
from co2.plugin.relay_plugin import Co2RelayPlugin

__all__ = ["CHANNELS_EXAMPLE", "attribute_problem", "line_of", "mentions", "without_effect"]

CHANNELS_EXAMPLE = '("stage.*", "lab.>")'
"""Patterns of channels, for the texts of errors."""

_EXAMPLES = {"channels": CHANNELS_EXAMPLE, "live": '("meter.*",)'}


def attribute_problem(kind: type[Co2Plugin]) -> tuple[str, str]:
    """Return the problem of a class's attributes, and ``file:line`` of the wrong one; '' for none."""
    for attribute, example in _EXAMPLES.items():
        if problem := patterns_problem(getattr(kind, attribute), example):
            return f"{kind.__name__}.{attribute}: {problem}", _place_of(kind, attribute)
    if isinstance(kind.sends, Mapping) and kind.sends:
        from co2.plugin.packages.schemas import sends_problem  # not in the hosts, which only use other functions

        if problem := sends_problem(kind.sends):
            return f"{kind.__name__}.sends: {problem}", _place_of(kind, "sends")
    if not isinstance(kind.snapshot, bool) and (problem := patterns_problem(kind.snapshot, '("stage.>",)')):
        told = f"{kind.__name__}.snapshot: {problem}; or True or False"
        return told, _place_of(kind, "snapshot")
    for attribute in ("durable", "exclusive", "times"):
        if not isinstance(value := getattr(kind, attribute), bool):
            problem = f"{kind.__name__}.{attribute}: found {value!r:.80}, expected True or False"
            return problem, _place_of(kind, attribute)
    return "", ""


def without_effect(kind: type[Co2Plugin]) -> Iterator[tuple[str, str, str]]:
    """Yield the attributes of a class that have no effect on its host: the problem, ``file:line``, and what to do.

    A method ``relay`` of a satellite's plugin counts only if no method of the class mentions it: some switch
    relays.
    """
    name = kind.__name__
    if not issubclass(kind, Co2RelayPlugin):
        if callable(getattr(kind, "relay", None)) and not mentions(kind.__mro__, "relay"):
            problem = f"{name}.relay: never called, because {name} is a plugin for satellites"
            yield problem, _place_of(kind, "relay"), f"for a relay write class {name}(plugin.Co2RelayPlugin)"
        return
    if kind.durable is True:
        problem = f"{name}.durable: a relay plugin cannot be durable: messages that it misses are not repeated"
        yield problem, _place_of(kind, "durable"), "remove it"
    if kind.times is True:
        problem = f"{name}.times: messages pass a relay plugin before the relay notes their time"
        yield problem, _place_of(kind, "times"), "remove it"
    if kind.snapshot:
        problem = f"{name}.snapshot: a relay plugin gets no last values, only messages on their way"
        yield problem, _place_of(kind, "snapshot"), "remove it, or call relay.last"
    if isinstance(kind.live, list | tuple) and kind.live:
        problem = f"{name}.live: messages of a relay plugin are never live"
        yield problem, _place_of(kind, "live"), "remove it"


def mentions(kinds: Iterable[type], attribute: str) -> bool:
    """Return whether the code of methods of these classes uses an attribute."""
    codes = [code for kind in kinds for one in vars(kind).values() if (code := getattr(one, "__code__", None))]
    while codes:
        code = codes.pop()
        if attribute in code.co_names:
            return True
        codes += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
    return False


def _place_of(kind: type, attribute: str) -> str:
    """Return ``file:line`` where a class, or one that it inherits from, has an attribute; '' for unknown."""
    owner = next((base for base in kind.__mro__ if attribute in vars(base)), kind)
    file = getattr(sys.modules.get(owner.__module__), "__file__", None) or ""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == owner.__name__:
            for line in node.body:
                if attribute in _names_of(line):
                    return f"{file}:{line.lineno}"
    return ""


def _names_of(line: ast.stmt) -> list[str]:
    """Return the names that a statement defines."""
    if isinstance(line, ast.FunctionDef | ast.AsyncFunctionDef):
        return [line.name]
    targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def line_of(value: object) -> str:
    """Return ``file:line`` of a function, '' for other values."""
    function = getattr(value, "__func__", value)
    code = getattr(getattr(function, "__wrapped__", function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""
