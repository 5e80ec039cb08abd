"""The place of a package's code: a folder, a single file, or an installed module."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BUNDLED", "Place", "place_of"]

BUNDLED = "co2.plugins"
"""Parent of the bundled packages for imports. Their plugins are named after the package only."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a package.

    Attributes:
        module: its import name.
        path: its folder; or the file of a single one.
        file: executed by the import: its ``__init__.py``, or the single file.
    """

    module: str
    path: Path
    file: Path

    @property
    def is_file(self) -> bool:
        """Whether it is a single file."""
        return self.path == self.file


def place_of(package: str, folder: str, module: str = "") -> Place:
    """Return the place of a package; whether it exists is only checked for an installed one.

    Args:
        package: its name.
        folder: the plugin folder that holds it, '' for an installed package.
        module: import name of an installed package; '' for a bundled one.

    Raises:
        ImportError: an installed module cannot be found.
    """
    if folder:
        path = Path(folder, package)
        single = path.with_name(f"{package}.py")
        if not path.is_dir() and single.is_file():
            return Place(package, single, single)
        return Place(package, path, path / "__init__.py")
    if not module:
        path = Path(__file__).parents[2] / "plugins" / package
        return Place(f"{BUNDLED}.{package}", path, path / "__init__.py")
    return _installed(module)


def _installed(module: str) -> Place:
    """Find an installed module; not by Python's own look-up, which imports the parents of a dotted name."""
    top, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin:
        raise ImportError(f"the module {top!r} cannot be found")
    path = Path(spec.origin)
    if spec.submodule_search_locations is not None:
        path = path.parent.joinpath(*inner)
    for found, file in ((path, path / "__init__.py"), (path.with_suffix(".py"), path.with_suffix(".py"))):
        if file.is_file():
            return Place(module, found, file)
    raise ImportError(f"the module {module!r} cannot be found, or is not written in Python")
