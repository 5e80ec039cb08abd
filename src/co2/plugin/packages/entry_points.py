"""Plugin packages that were installed with pip: those with an entry point of the group ``co2.plugins``."""

import re
from dataclasses import dataclass

__all__ = ["GROUP", "Installed", "installed_packages"]

GROUP = "co2.plugins"

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed package.

    Attributes:
        name: of the package.
        module: its import name.
        distribution: its name for pip, with its version.
        problem: why it cannot be loaded, '' for none.
    """

    name: str
    module: str
    distribution: str
    problem: str = ""


def installed_packages() -> dict[str, Installed]:
    """Return all installed packages by name, without importing any of them; takes tens of milliseconds."""
    from importlib.metadata import entry_points

    found: dict[str, Installed] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        distribution = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "?"
        problem = ""
        if point.name in found:
            problem = f"{found[point.name].distribution} and {distribution} both provide it: uninstall one of them"
        elif not _MODULE.fullmatch(point.value):
            problem = f"its entry point in {distribution} should be the name of a package, found {point.value!r}"
        found[point.name] = Installed(point.name, point.value, distribution, problem)
    return found
