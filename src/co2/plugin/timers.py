"""Repeated calls: one thread watches all timers of a package; each plugin's own thread makes its calls."""

import heapq
import math
import threading
import time
from collections.abc import Callable

from co2.errors import CallRefused

__all__ = ["MAX_TIMERS", "SHORTEST", "Timer", "Timers"]

MAX_TIMERS = 1000
"""Timers that one package may have."""

SHORTEST = 0.001
"""Seconds between two calls of a timer, at least."""

LONGEST_WAIT = 3600.0
"""Seconds for which the thread waits at once; a lock refuses to wait for centuries."""


class Timer:
    """A repeated call, as ``every`` starts it.

    Args:
        seconds: between two calls.
        due: when the first call is due, in seconds of the monotonic clock.
        put: queues one call for the plugin's thread, which calls :meth:`done` afterwards.

    Attributes:
        seconds: between two calls.
        missed: calls that were left out, because the one before was not finished.
    """

    def __init__(self, seconds: float, due: float, put: Callable[["Timer"], None]) -> None:
        self.seconds = seconds
        self.missed = 0
        self._first = due
        self._put = put
        self._number = 0
        self._busy = False
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether the timer has been cancelled."""
        return self._cancelled

    def cancel(self) -> None:
        """End the timer. May be called from any thread; a call that runs now is not interrupted."""
        self._cancelled = True

    def fire(self, now: float) -> float:
        """Queue the call, unless the one before is not finished, and return when the next one is due.

        Due times are multiples of the interval after the first one: a late call does not delay the following ones,
        and a missed call is left out.

        Args:
            now: the time, in seconds of the monotonic clock, as is the result.
        """
        if self._busy:
            self.missed += 1
        else:
            self._busy = True
            self._put(self)
        self._number = max(self._number + 1, math.floor((now - self._first) / self.seconds) + 1)
        return self._first + self._number * self.seconds

    def begin(self, first: float) -> None:
        """Start to count.

        Args:
            first: when the first call is due, in seconds of the monotonic clock.
        """
        self._first, self._number = first, 0

    def done(self) -> None:
        """Note that the queued call has been made."""
        self._busy = False


class Timers:
    """The timers of one package. Its methods may be called from any thread; no call is made before :meth:`start`.

    Args:
        now: returns the time, in seconds of a monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._queue: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._running = self._begun = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def every(self, seconds: float, put: Callable[[Timer], None]) -> Timer:
        """Start a timer and return it.

        Args:
            seconds: from now, or from the first :meth:`start`, to the first call, and between two calls.
            put: see :class:`Timer`.

        Raises:
            ValueError: ``seconds`` is below :data:`SHORTEST`, or not a number.
            CallRefused: the package has :data:`MAX_TIMERS` timers already.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not SHORTEST <= seconds < math.inf:
            raise ValueError(f"every: expected a number of seconds from {SHORTEST:g} up, found {seconds!r:.80}")
        with self._lock:
            self._forget_cancelled()
            if len(self._queue) >= MAX_TIMERS:
                raise CallRefused(f"{MAX_TIMERS} timers of this package are already running: cancel some")
            due = self._now() + seconds
            timer = Timer(float(seconds), due, put)
            self._add(due, timer)
            if self._running:
                self._work()
            return timer

    def start(self) -> None:
        """Start the calls: at first the intervals count from now; after :meth:`hold` overdue calls come once."""
        with self._lock:
            self._running = True
            if not self._begun:
                self._begun = True
                self._begin(self._now())
            if self._queue:
                self._work()

    def hold(self) -> None:
        """Pause all calls until :meth:`start`."""
        with self._lock:
            self._running = False

    def close(self) -> None:
        """End all timers."""
        with self._lock:
            self._closed = True
            self._changed.notify()

    def _begin(self, now: float) -> None:
        waiting, self._queue = self._queue, []
        for _, _, timer in waiting:
            timer.begin(now + timer.seconds)
            self._add(now + timer.seconds, timer)

    def _forget_cancelled(self) -> None:
        queue = [entry for entry in self._queue if not entry[2].cancelled]
        if len(queue) < len(self._queue):
            heapq.heapify(queue)
            self._queue = queue

    def _add(self, due: float, timer: Timer) -> None:
        self._count += 1
        heapq.heappush(self._queue, (due, self._count, timer))

    def _work(self) -> None:
        """Start the thread if it does not run, and let it look at the first timer again."""
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="co2-timers", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        with self._lock:
            while not self._closed:
                if not self._running or not self._queue:
                    self._changed.wait()
                    continue
                due, _, timer = self._queue[0]
                now = self._now()
                if timer.cancelled:
                    heapq.heappop(self._queue)
                elif due > now:
                    self._changed.wait(min(due - now, LONGEST_WAIT))
                else:
                    heapq.heappop(self._queue)
                    self._add(timer.fire(now), timer)
