"""Growth rates of counters, from one view of a page to the next."""

import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["SPAN", "Rates"]

SPAN = 2.0
"""Seconds between two views that a new rate needs: until then the old one is shown."""


class Rates:
    """Remembers the counters of the last view; all viewers share it.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock()
        self._before: dict[str, float] = {}
        self._rates: dict[str, float] = {}

    def look(self, counters: Mapping[str, Any]) -> Mapping[str, float]:
        """Return the growth per second of each counter since the last view, without those that did not grow."""
        now = self._clock()
        passed = now - self._at
        if passed >= SPAN or not self._before:
            numbers = {key: float(value) for key, value in counters.items() if isinstance(value, int | float)}
            self._rates = {
                key: (value - self._before[key]) / passed
                for key, value in numbers.items()
                if key in self._before and value > self._before[key]
            }
            self._before, self._at = numbers, now
        return self._rates
