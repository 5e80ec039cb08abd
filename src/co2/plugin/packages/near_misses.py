"""Code that looks meant for co2 without effect.

A class without ``X_``, a folder without ``__init__.py``, an uncalled method, an idle plugin.

Base classes, imported classes, and methods that a class calls itself are not reported.
"""

import ast
import functools
import itertools
import re
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path

from co2.near import nearest
from co2.plugin.api import Co2Plugin
from co2.plugin.method_marks import Marks, marks_of
from co2.plugin.packages.class_checks import line_of, mentions
from co2.plugin.relay_plugin import Co2RelayPlugin

__all__ = ["IDLE", "near_misses_of", "near_packages", "unnamed_classes", "without_x"]

MAX_READ = 2000
"""Files that are searched for imports of another one: a plugin folder may be somebody's home folder."""

_PLUGINS = ("Co2Plugin", "Co2RelayPlugin")

_HOOKS = ("receive", "gap", "joined", "left", "handover", "takeover")
_RELAY_HOOKS = ("relay", "register", "gap", "joined", "left", "handover", "takeover")

IDLE = "nothing: it has no"
"""Part of the text about a plugin that does nothing."""

_SHORT = 4
"""Letters of a name up to which only other capitals count as an error: ``map`` is not meant as ``gap``."""

_DOES = frozenset(("send", "every", "call", "call_async", "flush"))
"""Attributes that a plugin uses to do something by itself."""


def without_x(name: str) -> str:
    """Return the text that a class is not loaded, with the name it should have."""
    bare = name[2:] if name.startswith("x_") else name
    return f"{name} is a Co2Plugin whose name does not begin with X_, so it is not loaded; rename it to X_{bare}"


def unnamed_classes(module: types.ModuleType) -> Iterator[type[Co2Plugin]]:
    """Yield the plugin classes of a module that are not loaded because of their name, and have no subclasses."""
    for value in list(vars(module).values()):
        if (
            isinstance(value, type)
            and issubclass(value, Co2Plugin)
            and value.__module__ == module.__name__
            and not value.__name__.startswith(("X_", "_"))
            and not value.__subclasses__()
            and not getattr(value, "__abstractmethods__", None)
        ):
            yield value


def near_packages(folder: Path) -> dict[Path, str]:
    """Return what in a plugin folder only lacks a name or a file to be a package, each with a text.

    These are files with a plugin class without ``X_``, and folders with a plugin and without ``__init__.py``. They
    are parsed, not executed. What others import holds base classes.
    """
    found: dict[Path, str] = {}
    for file in sorted(folder.glob("*.py")):
        names = _unnamed_in(file)
        if names and not file.name.startswith((".", "_")):
            found[file] = "; ".join(f"{file.name}: {without_x(name)}" for name in names)
    for file in itertools.islice(sorted(folder.glob("*/*.py")), MAX_READ):
        if file.parent not in found and (name := _without_init(file)):
            found[file.parent] = (
                f"{file.parent.name}/{file.name} has a plugin, {name}, but the folder has no file __init__.py, so "
                "it is not loaded; make one (it may be empty)"
            )
    return {path: text for path, text in found.items() if not _is_imported(path, folder)}


def _without_init(file: Path) -> str:
    """Return the first plugin for satellites in a module whose folder lacks ``__init__.py``; '' for none."""
    folder = file.parent
    if (
        not folder.name.isidentifier()
        or folder.name.startswith("_")
        or folder.name in ("test", "tests")
        or file.name.startswith(("_", ".", "test_", "conftest."))
        or (folder / "__init__.py").exists()
    ):
        return ""
    return next(
        (name for name, bases in _classes_in(file).items() if name[:2] == "X_" and _PLUGINS[0] in bases), ""
    )


def _classes_in(file: Path) -> dict[str, set[str]]:
    """Return the classes of a file that has a word of plugins in it, each with the names of its bases."""
    try:
        source = file.read_bytes()
        if not any(name.encode() in source for name in _PLUGINS):
            return {}
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    return {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


def _unnamed_in(file: Path) -> list[str]:
    kinds = _classes_in(file)
    if any(name.startswith("X_") for name in kinds):
        return []
    plugins = {name for name, bases in kinds.items() if bases & {*_PLUGINS}}
    while more := {name for name, bases in kinds.items() if bases & plugins} - plugins:
        plugins |= more
    bases = set().union(*kinds.values())
    return [
        name for name in kinds if name in plugins - bases and not name.startswith("_") and "ABC" not in kinds[name]
    ]


def _is_imported(path: Path, folder: Path) -> bool:
    """Return whether code elsewhere in a folder imports a file, or from a folder."""
    imports = re.compile(rb"^\s*(?:import|from)\b[^#\n]*\b" + path.stem.encode() + rb"\b", re.MULTILINE)
    for other in itertools.islice(folder.rglob("*.py"), MAX_READ):
        try:
            if path not in (other, other.parent) and imports.search(other.read_bytes()):
                return True
        except OSError:
            continue
    return False


def near_misses_of(kind: type[Co2Plugin]) -> Iterator[tuple[str, str]]:
    """Yield the methods of a plugin class without effect, or that it is idle: problem and ``file:line``."""
    hooks = _RELAY_HOOKS if issubclass(kind, Co2RelayPlugin) else _HOOKS
    own = [base for base in kind.__mro__ if base not in Co2RelayPlugin.__mro__]
    written = {name: value for base in reversed(own) for name, value in vars(base).items()}
    missing = [hook for hook in hooks if hook not in written]
    slipped = False
    for name, value in written.items():
        if not isinstance(value, types.FunctionType):
            continue
        if not name.startswith("x_") and marks_of(value) != Marks():
            yield f"{kind.__name__}.{name}: plugin.marks has no effect: it is for x_ methods", line_of(value)
        if name.startswith("__") or hasattr(Co2Plugin, name):
            continue
        meant = f"x_{name[2:]}" if name.startswith("X_") else _meant(name, missing)
        if meant and meant not in written and not mentions(own, name):
            slipped = True
            yield f"{kind.__name__}.{name} is never called; did you mean {meant}?", line_of(value)
    if not isinstance(kind.sends, Mapping):
        found, expected = type(kind.sends).__name__, 'a dictionary such as {"stage.*": float}'
        yield f"{kind.__name__}.sends has no effect: found {found}, expected {expected}", line_of(kind.sends)
    if not slipped and not _does_anything(kind, written, own):
        yield f"{kind.__name__} does {IDLE} {hooks[0]}, no x_ method, and never sends", ""


def _meant(name: str, hooks: list[str]) -> str:
    near = nearest(name, [hook for hook in hooks if len(hook) > _SHORT])
    return near or next((hook for hook in hooks if hook == name.lower()), "")


def _does_anything(kind: type[Co2Plugin], written: dict[str, object], own: list[type]) -> bool:
    if any(name.startswith("x_") or name in _HOOKS or name in _RELAY_HOOKS for name in written):
        return True
    if any(mentions(own, name) for name in _DOES):
        return True
    # It may have passed itself to other code: self that stands alone, not before a dot.
    return any(base.__module__ != kind.__module__ for base in own) or _passes_itself(kind)


def _passes_itself(kind: type) -> bool:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    try:
        return _passes_self(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return True


@functools.lru_cache(maxsize=4)
def _passes_self(source: bytes) -> bool:
    """Return whether some code passes a ``self``, or a method of it, to other code."""
    nodes = [*ast.walk(ast.parse(source))]
    before_dots = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Name) and node.id == "self" and id(node) not in before_dots:
            return True
        if isinstance(node, ast.Call):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            if any(map(_is_of_self, given)):
                return True
    return False


def _is_of_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
