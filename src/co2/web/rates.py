"""How fast counters grow, from one look at a page to the next."""

import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["SPAN", "Rates"]

SPAN = 2.0
"""Seconds that must lie between two looks for a rate: until then that of before is shown."""


class Rates:
    """Remembers the counters of the last look; two people who look share it.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock()
        self._before: dict[str, float] = {}
        self._rates: dict[str, float] = {}

    def look(self, counters: Mapping[str, Any]) -> Mapping[str, float]:
        """Return how much each has grown per second since the last look; those that have not are left out."""
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
