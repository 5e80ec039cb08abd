"""Find the plugin packages to load: by name, without executing anything.

In the plugin folder a package is a folder with an ``__init__.py`` or a single file; then come those bundled with
co2, then those installed with pip. The first one with the name is used.
"""

import ast
import contextlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from co2.config import read_plugin_list_2003
from co2.config.private import Trust, open_code
from co2.config.schema import ENTRIES
from co2.near import nearest
from co2.plugin.packages.entry_points import installed_packages
from co2.plugin.packages.near_misses import near_packages
from co2.plugin.packages.spec import PackageSpec

__all__ = [
    "BUNDLED_FOLDER",
    "RESERVED",
    "OpenCode",
    "PluginChoice",
    "bundled_packages",
    "find_packages",
    "name_problem",
    "package_problem",
    "packages_in",
    "stray_tables",
]

RESERVED = frozenset({"sys", "system", "co2", "relay", "web"})
"""Names that begin the names of the hosts' own methods."""

CONFIG_2003 = "config.py"
"""In a plugin folder this is the configuration of a co2 of 2003, not a plugin."""

BUNDLED_FOLDER = Path(__file__).parents[2] / "plugins"

Problem = tuple[str, str]


class PluginChoice(Protocol):
    """The part of a configuration that selects plugins.

    Attributes:
        plugin_dir: folder that holds packages; the default one need not exist.
        plugin_list: their names, bundled ones included; None for all in the folder.
        plugin_config: the tables ``[plugin.<name>]``.
        plugin_limits: the tables ``[limits.<name>]``.
        trusted_users: ids of users whose packages are loaded, beside our own and root's.
        trusted_groups: ids of groups whose members may write packages.
    """

    @property
    def plugin_dir(self) -> Path: ...
    @property
    def plugin_list(self) -> tuple[str, ...] | None: ...
    @property
    def plugin_config(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def plugin_limits(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def trusted_users(self) -> tuple[int, ...]: ...
    @property
    def trusted_groups(self) -> tuple[int, ...]: ...


def find_packages(
    config: PluginChoice, names: Sequence[str] | None = None
) -> tuple[list[PackageSpec], list[Problem]]:
    """Find the packages to load.

    A name in ``plugin_list`` is looked up in the plugin folder, then among the bundled plugins, then among the
    installed ones. Without that list, the one in a ``config.py`` of 2003 in the plugin folder is used; without
    that, all packages in the folder except those clearly for relays. Beside them, the package that carries the
    entries ``[[map]]``, if there are any.

    Args:
        config: the selection.
        names: find these instead of the listed ones.

    Returns:
        The packages, and (name, problem) for each that cannot be loaded.

    Raises:
        ConfigError: a ``config.py`` of 2003 that cannot be read.
    """
    folder = config.plugin_dir.absolute()
    wanted, names = names, config.plugin_list if names is None else names
    trust = Trust(config.trusted_users, config.trusted_groups)
    if names is None and (folder / CONFIG_2003).is_file():
        listed = read_plugin_list_2003(folder / CONFIG_2003, trust)
        names = None if listed is None else tuple(listed)
    specs: list[PackageSpec] = []
    problems: list[Problem] = []
    open_to_others = OpenCode(folder, trust)
    if names is None:
        names = [name for name in packages_in(folder) if not _is_for_relays(_place(folder, name))]
        problems += [(file.stem, text) for file, text in near_packages(folder).items()]
    if wanted is None and ENTRIES in config.plugin_config.get(ENTRIES, {}):
        names = [*names, ENTRIES]
    for name in dict.fromkeys(names):
        try:
            spec = _find(name, folder, open_to_others)
        except _NotFoundError as error:
            problems.append((name, str(error)))
        else:
            table, limits = config.plugin_config.get(name, {}), {**config.plugin_limits.get(name, {})}
            env = limits.pop("env", getattr(config, "plugin_env", ()))
            file = getattr(config, "config_file", None)
            specs.append(replace(spec, config=table, limits=limits, config_file=file, env=env))
    return specs, problems


def stray_tables(config: PluginChoice) -> list[str]:
    """Return a text for each table ``[plugin.NAME]`` and ``[limits.NAME]`` whose name no package here has."""
    named = [("plugin", name) for name in config.plugin_config]
    named += [("limits", name) for name in config.plugin_limits]
    known = {*packages_in(config.plugin_dir.absolute()), *bundled_packages(), *(config.plugin_list or ())}
    if all(name in known for _, name in named):
        return []
    known |= set(installed_packages())
    return [
        f"[{table}.{name}] is not used: there is no package {name!r}{_did_you_mean(name, known)}"
        for table, name in named
        if name not in known
    ]


def name_problem(name: str) -> str:
    """Return why a package cannot have a name; '' if it can."""
    if name in RESERVED:
        return f"{name!r} is reserved: the hosts' own methods begin with it; rename it"
    if not name.isidentifier():
        return "a package name consists of letters, digits and _, and does not begin with a digit"
    return ""


def bundled_packages() -> list[str]:
    """Return the names of the plugins that come with co2."""
    return packages_in(BUNDLED_FOLDER)


def packages_in(folder: Path) -> list[str]:
    """Return the names of all packages in a folder, single files included."""
    if not folder.is_dir():
        return []
    return sorted({name for entry in folder.iterdir() if (name := _package_name(entry))})


class OpenCode:
    """Code in a plugin folder that others may write, and the packages that are not loaded for it.

    Args:
        folder: the plugin folder.
        trust: owners whose code is used, beside ourselves and root.
    """

    def __init__(self, folder: Path, trust: Trust) -> None:
        found = open_code(folder, trust) if folder.is_dir() else {}
        self._packages = {_stem(name): problem for name, problem in found.items() if _package_name(folder / name)}
        # Each package can import all other files there.
        self._for_all = next((problem for name, problem in found.items() if _stem(name) not in self._packages), "")

    def problem_of(self, package: Path) -> str:
        """Return why a package is not loaded: others may write it or its imports; '' for no reason."""
        if self._for_all or not self._packages:
            return self._for_all
        if own := self._packages.get(_stem(package.name), ""):
            return own
        imports = re.compile(
            rb"^[^#\n]*\b(?:import|from)\b.*?\b(" + b"|".join(map(str.encode, self._packages)) + rb")\b", re.M
        )
        for file in [package] if package.suffix == ".py" else package.rglob("*.py"):
            with contextlib.suppress(OSError):
                if found := imports.search(file.read_bytes()):
                    return f"{file} imports {found[1].decode()}: {self._packages[found[1].decode()]}"
        return ""


def _stem(name: str) -> str:
    return name.partition(".")[0]


class _NotFoundError(Exception):
    """Why a package cannot be loaded. It never leaves this module: the search returns it as a problem."""


def _find(name: str, folder: Path, open_to_others: OpenCode) -> PackageSpec:
    if problem := name_problem(name):
        raise _NotFoundError(problem)
    single = folder / f"{name}.py"
    if _is_listed(package := _place(folder, name)):
        if problem := open_to_others.problem_of(package) or package_problem(package):
            raise _NotFoundError(problem)
        return PackageSpec(name, folder, note=_clash(name, package, single))
    if name in bundled_packages():
        return PackageSpec(name, None)
    installed = installed_packages()
    if name not in installed:
        raise _NotFoundError(_not_found(name, folder, installed))
    if installed[name].problem:
        raise _NotFoundError(installed[name].problem)
    return PackageSpec(name, None, module=installed[name].module)


def _is_listed(package: Path) -> bool:
    """Return whether there is a file or folder of exactly this name.

    On macOS and Windows ``exists`` also finds ``Ham`` for ``ham``, and Python's import does not.
    """
    try:
        return package.name in os.listdir(package.parent)  # noqa: PTH208 - names are wanted
    except OSError:
        return False


def _place(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_dir() else folder / f"{name}.py"


def _clash(name: str, package: Path, single: Path) -> str:
    """Return what else has the name of a package in the plugin folder."""
    if package != single and single.is_file():
        return f"{package} and {single} have the same name, and only the first is loaded: remove one of them"
    if name in bundled_packages():
        return f"{package} is loaded instead of the package of the same name that comes with co2"
    return ""


def _package_name(entry: Path) -> str:
    """Return the package name of an entry in a plugin folder, '' if it is not a package."""
    if entry.name.startswith(("_", ".")) or entry.name == CONFIG_2003:
        return ""
    if (entry / "__init__.py").is_file():
        return entry.name
    return entry.stem if entry.suffix == ".py" and entry.is_file() and _holds_plugin(entry) else ""


def _holds_plugin(file: Path) -> bool:
    """Return whether a single file has a class ``X_…``: a plugin folder may hold other files too."""
    try:
        source = file.read_bytes()
        if b"X_" not in source:
            return False
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return b"class X_" in source  # loading it reports what is wrong
    except OSError:
        return False
    return any(isinstance(node, ast.ClassDef) and node.name.startswith("X_") for node in tree.body)


def _is_for_relays(package: Path) -> bool:
    """Return whether a package has relay plugins and, as far as its source shows, no others."""
    bases: set[str] = set()
    for file in [package] if package.suffix == ".py" else package.glob("*.py"):
        try:
            tree = ast.parse(file.read_bytes() if file.is_file() else b"")
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            return False  # loading it reports what is wrong
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("X_"):
                bases |= {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    return bases == {"Co2RelayPlugin"}


def package_problem(place: Path) -> str:
    """Return why a folder or single file cannot be a package, without importing it; '' if it can."""
    if place.suffix != ".py" and not (place / "__init__.py").is_file():
        return f"{place} is not a package: it has no file __init__.py (an empty one is enough)"
    return ""


def _not_found(name: str, folder: Path, installed: Iterable[str]) -> str:
    known = {*packages_in(folder), *bundled_packages(), *installed}
    hint = _did_you_mean(name, known)
    bundled = ", ".join(bundled_packages())
    others = ", ".join(sorted(installed))
    return (
        f"there is no package {name!r} in {folder}, bundled with co2 ({bundled}) "
        f"or installed ({others or 'none'}){hint}"
    )


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else ""
