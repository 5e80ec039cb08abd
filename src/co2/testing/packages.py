"""Find the plugins that a test names: by a class, a folder or the name of a package."""

import contextlib
import importlib
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from co2.plugin.api import Co2Plugin
from co2.plugin.packages.discovery import bundled_packages
from co2.plugin.packages.entry_points import installed_packages
from co2.plugin.packages.loader import FoundPlugin, LoadFailure, find_plugin, find_plugins, import_package
from co2.plugin.packages.locate import BUNDLED
from co2.plugin.relay_plugin import Co2RelayPlugin

__all__ = ["FoundPackage", "Source", "find_sources", "imports_undone"]

Source = type[Co2Plugin] | str | Path
"""A plugin class, the folder or file of a package, or the name of one that is bundled or installed."""


@dataclass
class FoundPackage:
    """A package, or the named classes of it.

    Attributes:
        name: of the package.
        module: that may hold its ``Config``.
        plugins: to be carried.
    """

    name: str
    module: types.ModuleType
    plugins: list[FoundPlugin]


def find_sources(sources: Sequence[Source], role: str) -> list[FoundPackage]:
    """Find the plugins to be carried; classes of one package are grouped.

    Args:
        sources: see :data:`Source`.
        role: of their host, ``satellite`` or ``relay``.

    Raises:
        LoadFailure: a real host would refuse one.
        ValueError: nothing has that name.
    """
    packages: dict[str, FoundPackage] = {}
    for source in sources:
        found = _of_class(source, role) if isinstance(source, type) else _of_package(source, role)
        known = packages.setdefault(found.name, found)
        if known is not found:
            known.plugins += found.plugins
    return list(packages.values())


@contextlib.contextmanager
def imports_undone() -> Iterator[None]:
    """Restore Python's imports at the end: modules loaded from folders are forgotten."""
    meta_path, path, modules = list(sys.meta_path), list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        places = [Path(folder) for folder in sys.path if folder not in path]
        for name in [name for name in sys.modules if name not in modules]:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and any(Path(file).is_relative_to(place) for place in places):
                del sys.modules[name]
        sys.meta_path[:], sys.path[:] = meta_path, path


def _of_class(kind: type[Co2Plugin], role: str) -> FoundPackage:
    module = kind.__module__.removeprefix(f"{BUNDLED}.")
    package, last = module.partition(".")[0], module.rpartition(".")[2]
    imported = sys.modules[kind.__module__]
    parent = sys.modules.get(kind.__module__.rpartition(".")[0], imported)
    with _told():
        found = find_plugin(kind, f"{package}.{last}")
        if issubclass(kind, Co2RelayPlugin) != (role == "relay"):
            raise LoadFailure(f"{kind.__name__} is not for a {role}", found.where)
    return FoundPackage(package, parent if hasattr(parent, "Config") else imported, [found])


def _of_package(source: str | Path, role: str) -> FoundPackage:
    with _told():
        name, module = _from_path(Path(source)) if isinstance(source, Path) else _from_name(source)
        plugins, _ = find_plugins(name, module, role=role)
    return FoundPackage(name, module, plugins)


def _from_name(name: str) -> tuple[str, types.ModuleType]:
    if name in bundled_packages():
        return name, importlib.import_module(f"{BUNDLED}.{name}")
    installed = installed_packages()
    if name not in installed:
        known = ", ".join(sorted({*installed, *bundled_packages()}))
        raise ValueError(
            f"no plugin package {name!r} is bundled or installed; known: {known}; pass a folder as a Path"
        )
    return name, importlib.import_module(installed[name].module)


def _from_path(path: Path) -> tuple[str, types.ModuleType]:
    path = path.resolve()
    if not path.exists():
        raise ValueError(f"there is no plugin package {path}")
    name = path.stem if path.is_file() else path.name
    known = sys.modules.get(name)
    file = path if path.is_file() else path / "__init__.py"
    if known is not None and known.__file__ is not None and Path(known.__file__).resolve() == file:
        return name, known  # the test has imported it, and must get the same classes
    return name, import_package(name, str(path.parent))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Add the place to a failure's text."""
    try:
        yield
    except LoadFailure as failure:
        cause = failure.__context__
        raise LoadFailure(f"{failure.where}: {failure.problem}", failure.where, failure.details) from cause
