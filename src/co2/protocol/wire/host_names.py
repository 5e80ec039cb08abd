"""Limits on the names of methods, plugins and packages of one host: other hosts receive and keep them."""

import re
from collections.abc import Sequence

from co2.errors import BadRequest

__all__ = [
    "MAX_METHOD_NAME",
    "MAX_NAME",
    "MAX_NAMES",
    "MAX_NAMES_SIZE",
    "MAX_PACKAGES",
    "check_names",
    "fitting_names",
    "fitting_packages",
    "is_method_name",
    "names_size",
]

MAX_NAME = 512
"""Characters of a package's, plugin's or method's name."""

MAX_METHOD_NAME = 128
"""Characters of the name of a callable method."""

MAX_NAMES = 4096
"""Methods, and plugins, of one host."""

MAX_NAMES_SIZE = 64 * 1024
"""Bytes of all these names together, in UTF-8; and of the names of a satellite's packages."""

MAX_PACKAGES = 1000
"""Packages of one satellite."""

_METHOD_NAME = re.compile(rf"[A-Za-z0-9_.:/-]{{1,{MAX_METHOD_NAME}}}")


def is_method_name(name: str) -> bool:
    """Return whether a method of this name can be called, over XML-RPC too."""
    return _METHOD_NAME.fullmatch(name) is not None


def names_size(names: Sequence[str]) -> int:
    """Return the total number of bytes of names."""
    return sum(len(name) if name.isascii() else len(name.encode("utf-8", "replace")) for name in names)


def check_names(methods: Sequence[str], plugins: Sequence[str]) -> None:
    """Refuse the names of a host that has too many.

    Raises:
        BadRequest: over :data:`MAX_NAMES` or :data:`MAX_NAMES_SIZE`; the text has the number.
    """
    if (count := max(len(methods), len(plugins))) > MAX_NAMES:
        raise BadRequest(f"{count} names of methods or plugins; one host may have {MAX_NAMES}")
    if (size := names_size(methods) + names_size(plugins)) > MAX_NAMES_SIZE:
        raise BadRequest(
            f"names of methods and plugins of {size} bytes together; one host may have {MAX_NAMES_SIZE}"
        )


def fitting_names(methods: Sequence[str], plugins: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return as many of a host's names as the limits allow, from the first on: those of plugins before methods.

    A name that is longer than :data:`MAX_NAME` is left out.
    """
    left = MAX_NAMES_SIZE
    told: list[list[str]] = []
    for names in (plugins, methods):
        kept: list[str] = []
        for name in names:
            if len(name) > MAX_NAME:
                continue
            if len(kept) == MAX_NAMES or (left := left - names_size([name])) < 0:
                break
            kept.append(name)
        told.append(kept)
    return told[1], told[0]


def fitting_packages(names: Sequence[str]) -> int:
    """Return the number of packages with these names, from the first on, that one satellite may have.

    Its Hello names all of them, and a relay must accept it, however many patterns they have.
    """
    left = MAX_NAMES_SIZE
    for count, name in enumerate(names[:MAX_PACKAGES]):
        left -= names_size([name])
        if left < 0:
            return count
    return min(len(names), MAX_PACKAGES)
