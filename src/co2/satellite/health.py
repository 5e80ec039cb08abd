"""What a satellite tells its relay of its plugin packages, when that is news."""

import time
from collections.abc import Iterable

from co2.plugin.status import PackageStatus
from co2.protocol.health import MAX_ERROR, Health, fitting
from co2.web.text import brief

__all__ = ["HealthNews", "health_of"]


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
        self._told: object = None

    def forget(self) -> None:
        """Another link has begun: nothing was told there."""
        self._told = None

    def is_new(self, packages: Iterable[Health]) -> bool:
        """Return whether this is not what was told last, and note that it is told now. Time alone is no news."""
        now = time.monotonic()
        key = [
            (
                row.name,
                row.state,
                row.load,
                row.hangs > 0,
                row.dead_letters,
                row.refused,
                row.error,
                round(now - row.error_age) // 2 if row.error else 0,
            )
            for row in packages
        ]
        if key == self._told:
            return False
        self._told = key
        return True
