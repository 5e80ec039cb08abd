"""What a satellite tells its relay of its plugin packages, when that is news."""

import time
from collections.abc import Iterable

from co2.plugin.parent.status import PackageStatus
from co2.protocol.wire.package_health import MAX_ERROR, Health, fitting
from co2.web.text import brief

__all__ = ["SAME_ERROR", "HealthNews", "health_of"]

SAME_ERROR = 1.0
"""Seconds within which the same error of a package is told once."""


def health_of(packages: Iterable[PackageStatus], letters_kept: int) -> list[Health]:
    """Return how packages are, as others may know it.

    Args:
        packages: all of the satellite's.
        letters_kept: dead letters that are there now; a package's own number only grows.
    """
    return fitting(
        Health(
            row.name[:64],
            row.state[:16],
            row.load,
            row.hangs,
            min(row.dead_letters, letters_kept),
            row.refused,
            brief(row.last_error)[:MAX_ERROR],
            row.last_error_age or 0.0,
        )
        for row in packages
    )


class HealthNews:
    """Finds out whether something has changed since the relay was told."""

    def __init__(self) -> None:
        self._told: list[tuple[object, float]] | None = None

    def forget(self) -> None:
        """Another link has begun: nothing was told there."""
        self._told = None

    def is_new(self, packages: Iterable[Health]) -> bool:
        """Return whether this is not what was told last, and note that it is told now. Time alone is no news."""
        now = time.monotonic()
        found: list[tuple[object, float]] = [
            (
                (row.name, row.state, row.load, row.hangs > 0, row.dead_letters, row.refused, row.error),
                now - row.error_age if row.error else 0.0,
            )
            for row in packages
        ]
        before = self._told
        if before is not None and len(before) == len(found):
            # The same error again is news, a millisecond's difference in when it was is none.
            pairs = zip(before, found, strict=True)
            if all(then[0] == row[0] and row[1] - then[1] < SAME_ERROR for then, row in pairs):
                return False
        self._told = found
        return True
