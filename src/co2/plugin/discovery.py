"""Which plugin packages there are to load: looked up by name, nothing is executed."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from co2.config import read_plugin_list_2003
from co2.config.private import check_private
from co2.errors import ConfigError
from co2.plugin.status import PackageSpec

__all__ = ["BUNDLED_FOLDER", "RESERVED", "PluginChoice", "bundled_packages", "find_packages"]

RESERVED = frozenset({"sys", "system", "co2", "relay", "web"})
"""Names that begin the names of the hosts' own methods."""

BUNDLED_FOLDER = Path(__file__).parents[1] / "plugins"

Problem = tuple[str, str]


class PluginChoice(Protocol):
    """What a configuration says about which plugins to load.

    Attributes:
        plugin_dir: folder that holds packages; it need not exist.
        plugin_list: their names, bundled ones included; None for all in the folder.
        plugin_config: the tables ``[plugin.<name>]``.
        plugin_limits: the tables ``[limits.<name>]``.
    """

    @property
    def plugin_dir(self) -> Path: ...
    @property
    def plugin_list(self) -> tuple[str, ...] | None: ...
    @property
    def plugin_config(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def plugin_limits(self) -> Mapping[str, Mapping[str, int]]: ...


def find_packages(
    config: PluginChoice, names: Sequence[str] | None = None
) -> tuple[list[PackageSpec], list[Problem]]:
    """Find the packages to load.

    A name in ``plugin_list`` is looked up in the plugin folder, then among the bundled plugins. Without that
    list, the one in a ``config.py`` of 2003 in the plugin folder counts; without that, every package there.

    Args:
        config: what it says about them.
        names: find these, whatever is listed.

    Returns:
        The packages, and (name, problem) for each that cannot be loaded.

    Raises:
        ConfigError: a ``config.py`` of 2003 that cannot be read.
    """
    folder = config.plugin_dir.absolute()
    names = config.plugin_list if names is None else names
    if names is None and (folder / "config.py").is_file():
        listed = read_plugin_list_2003(folder / "config.py")
        names = None if listed is None else tuple(listed)
    specs: list[PackageSpec] = []
    problems: list[Problem] = []
    folder_problem = _open_to_others(folder) if folder.is_dir() else ""

    def spec(name: str, folder: Path | None) -> PackageSpec:
        return PackageSpec(name, folder, config.plugin_config.get(name, {}), config.plugin_limits.get(name, {}))

    for name in dict.fromkeys(_all_in(folder) if names is None else names):
        if name in RESERVED:
            problems.append(
                (name, f"{name!r} is reserved: the hosts' own methods begin with it; rename the folder")
            )
        elif not name.isidentifier():
            problems.append((name, "the name of a package has letters, digits and _, and no digit first"))
        elif (folder / name).is_dir():
            problem = folder_problem or _package_problem(folder / name)
            if problem:
                problems.append((name, problem))
            else:
                specs.append(spec(name, folder))
        elif name in bundled_packages():
            specs.append(spec(name, None))
        else:
            problems.append((name, _not_found(name, folder)))
    return specs, problems


def bundled_packages() -> list[str]:
    """Give the names of the plugins that come with co2."""
    return sorted(_all_in(BUNDLED_FOLDER))


def _all_in(folder: Path) -> Sequence[str]:
    if not folder.is_dir():
        return []
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if not entry.name.startswith(("_", ".")) and (entry / "__init__.py").is_file()
    )


def _package_problem(place: Path) -> str:
    if not (place / "__init__.py").is_file():
        return f"{place} has no file __init__.py, which makes a folder a package; it may be empty"
    for path in (place, *sorted(place.rglob("*.py"))):
        if problem := _open_to_others(path):
            return problem
    return ""


def _open_to_others(path: Path) -> str:
    try:
        check_private(path)
    except ConfigError as error:
        return str(error)
    return ""


def _not_found(name: str, folder: Path) -> str:
    known: Iterable[str] = {*_all_in(folder), *bundled_packages()}
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    bundled = ", ".join(bundled_packages())
    return f"there is no package {name!r} in {folder}, nor among those that come with co2 ({bundled}){hint}"
