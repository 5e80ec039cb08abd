"""A satellite's reports to its relay about its plugin packages, sent when something has changed."""

import time
from collections.abc import Iterable

from co2.plugin.parent.status import PackageStatus
from co2.protocol.wire.package_health import MAX_ERROR, Health, fitting
from co2.web.text import brief

__all__ = ["SAME_ERROR", "HealthNews", "health_of"]

SAME_ERROR = 1.0
"""Seconds within which the same error of a package is reported once."""


def health_of(packages: Iterable[PackageStatus], letters_kept: int) -> list[Health]:
    """Return the health of packages, as others may know it.

    Args:
        packages: all of the satellite's.
        letters_kept: dead letters that are kept now; a package's own number only grows.
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
    """Notices changes since the last report to the relay."""

    def __init__(self) -> None:
        self._told: list[tuple[object, float]] | None = None

    def forget(self) -> None:
        """Forget the last report: a new link has none."""
        self._told = None

    def is_new(self, packages: Iterable[Health]) -> bool:
        """Return whether this differs from the last report, and remember it. Time alone is no change."""
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
            # The same error again is a change, a difference of milliseconds in its time is none.
            pairs = zip(before, found, strict=True)
            if all(then[0] == row[0] and row[1] - then[1] < SAME_ERROR for then, row in pairs):
                return False
        self._told = found
        return True
