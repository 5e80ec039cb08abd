"""Where the code of a package is: a folder, a single file, or something that is installed."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BUNDLED", "Place", "place_of"]

BUNDLED = "co2.plugins"
"""Where bundled packages are imported from. Their plugins are called after the package all the same."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a package is.

    Attributes:
        module: what Python imports it by.
        path: its folder; or the file, where it is a single one.
        file: what is executed when it is imported: its ``__init__.py``, or the single file.
    """

    module: str
    path: Path
    file: Path

    @property
    def is_file(self) -> bool:
        """Whether it is a single file."""
        return self.path == self.file


def place_of(package: str, folder: str, module: str = "") -> Place:
    """Find a package; whether something is there is not looked at, but for one that is installed.

    Args:
        package: its name.
        folder: the plugin folder that holds it, '' for one that is installed.
        module: what Python imports it by, where it is installed; '' for a bundled one.

    Raises:
        ImportError: what is installed cannot be found.
    """
    if folder:
        path = Path(folder, package)
        single = path.with_name(f"{package}.py")
        if not path.is_dir() and single.is_file():
            return Place(package, single, single)
        return Place(package, path, path / "__init__.py")
    if not module:
        path = Path(__file__).parents[1] / "plugins" / package
        return Place(f"{BUNDLED}.{package}", path, path / "__init__.py")
    return _installed(module)


def _installed(module: str) -> Place:
    """Find an installed module; not by Python's own look-up, which imports what stands before a dot."""
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
