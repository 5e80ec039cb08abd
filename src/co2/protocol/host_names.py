"""How many names of methods and plugins one host may have: everybody is told of them, and keeps them."""

from collections.abc import Sequence

from co2.errors import BadRequest

__all__ = ["MAX_NAMES", "MAX_NAMES_SIZE", "check_names", "fitting_names", "names_size"]

MAX_NAMES = 4096
"""Methods, and plugins, of one host."""

MAX_NAMES_SIZE = 64 * 1024
"""Bytes of all these names together, in UTF-8."""


def names_size(names: Sequence[str]) -> int:
    """Return how many bytes names have together."""
    return sum(len(name) if name.isascii() else len(name.encode("utf-8", "replace")) for name in names)


def check_names(methods: Sequence[str], plugins: Sequence[str]) -> None:
    """Refuse the names of a host that has too many.

    Raises:
        BadRequest: over :data:`MAX_NAMES` or :data:`MAX_NAMES_SIZE`; it says how many there are.
    """
    if (count := max(len(methods), len(plugins))) > MAX_NAMES:
        raise BadRequest(f"{count} names of methods or plugins; one host may have {MAX_NAMES}")
    if (size := names_size(methods) + names_size(plugins)) > MAX_NAMES_SIZE:
        raise BadRequest(
            f"names of methods and plugins of {size} bytes together; one host may have {MAX_NAMES_SIZE}"
        )


def fitting_names(methods: Sequence[str], plugins: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return as many of a host's own names, from the first on, as may be told: those of plugins before methods."""
    left = MAX_NAMES_SIZE
    told: list[list[str]] = []
    for names in (plugins, methods):
        kept: list[str] = []
        for name in names[:MAX_NAMES]:
            left -= names_size([name])
            if left < 0:
                break
            kept.append(name)
        told.append(kept)
    return told[1], told[0]
