"""A clock that stands still until a test advances it, and timers that use it."""

import heapq
from collections.abc import Callable

from co2.plugin.timers import Timers

__all__ = ["Clock", "TurnedTimers"]

START = 1000.0


class TurnedTimers(Timers):
    """The timers of one package, without a thread of their own.

    Args:
        now: returns seconds.
    """

    def due(self) -> float | None:
        """Return when the first call is due; None for never."""
        with self._lock:
            return self._first()

    def fire(self) -> None:
        """Make the calls that are due now."""
        with self._lock:
            now = self._now()
            while (due := self._first()) is not None and due <= now:
                _, _, timer = heapq.heappop(self._queue)
                self._add(timer.fire(now), timer)

    def _first(self) -> float | None:
        self._forget_cancelled()
        return self._queue[0][0] if self._running and not self._closed and self._queue else None

    def _work(self) -> None:
        """Do nothing: only the clock serves the timers."""


class Clock:
    """The time of the networks in memory: it passes only when a test advances it.

    ``self.every(…)`` of plugins uses it; ``time`` and threads of plugins do not.
    """

    def __init__(self) -> None:
        self._now = START
        self._timers: list[TurnedTimers] = []
        self._settle: list[Callable[[], None]] = []

    @property
    def now(self) -> float:
        """Seconds, as from ``time.monotonic``; also the time ``at`` of messages that come now."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Advance the clock. Each timer is called when its time comes, in order, and all that results is done
        before the next one.

        Raises:
            ValueError: time cannot go back.
        """
        if seconds < 0:
            raise ValueError(f"time cannot go back: {seconds!r}")
        end = self._now + seconds
        while (due := self._next()) is not None and due <= end:
            self._now = max(self._now, due)
            for timers in tuple(self._timers):
                timers.fire()
            self._all_settle()
        self._now = end
        self._all_settle()

    def make_timers(self) -> TurnedTimers:
        """Return new timers for one package."""
        timers = TurnedTimers(lambda: self._now)
        self._timers.append(timers)
        return timers

    def attach(self, settle: Callable[[], None]) -> None:
        """Settle a network whenever the clock has advanced."""
        self._settle.append(settle)

    def _next(self) -> float | None:
        return min((due for timers in self._timers if (due := timers.due()) is not None), default=None)

    def _all_settle(self) -> None:
        for settle in self._settle:
            settle()
