"""Newer links of an origin take the older one's place; two clones would do so for ever."""

from collections import deque
from collections.abc import Callable

__all__ = ["MAX_ORIGINS", "MAX_TAKEOVERS", "WITHIN", "Takeovers"]

MAX_TAKEOVERS = 3
WITHIN = 60.0
"""More takeovers of one origin than this within so many seconds: a cloned state folder."""

MAX_ORIGINS = 10_000
"""Origins that are remembered; the one that was taken over longest ago goes first."""


class Takeovers:
    """Counts takeovers by origin.

    Args:
        now: monotonic seconds.

    Attributes:
        count: of all origins, since the start.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.count = 0
        self._now = now
        self._times: dict[str, deque[float]] = {}

    def too_many(self, origin: str) -> bool:
        """Count one takeover; tell whether it is one too many."""
        self.count += 1
        now = self._now()
        times = self._times.pop(origin, deque())
        self._times[origin] = times
        while times and times[0] < now - WITHIN:
            times.popleft()
        times.append(now)
        if len(self._times) > MAX_ORIGINS:
            del self._times[next(iter(self._times))]
        return len(times) > MAX_TAKEOVERS
