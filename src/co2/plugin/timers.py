"""Calls that come again and again: one thread for all timers of a package, the calls in their plugins' threads."""

import heapq
import math
import threading
import time
from collections.abc import Callable

from co2.errors import CallRefused

__all__ = ["MAX_TIMERS", "SHORTEST", "Timer", "Timers"]

MAX_TIMERS = 1000
"""Timers of one package."""

SHORTEST = 0.001
"""Seconds between two calls of a timer, at least."""


class Timer:
    """A call that comes again and again; ``every`` makes them.

    Args:
        seconds: between two calls.
        due: when the first one comes.
        put: has the call made in the plugin's thread, then :meth:`done`.

    Attributes:
        seconds: between two calls.
        missed: times at which no call was made, because the one before was not done.
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
        """Whether no further call comes."""
        return self._cancelled

    def cancel(self) -> None:
        """Let no further call come; from any thread. One that runs now runs to its end."""
        self._cancelled = True

    def fire(self, now: float) -> float:
        """Have the call made, unless the one before is not done; give when the next is due.

        Times are counted from the first: what comes late does not move those after it, and what was missed is
        not made up for.
        """
        if self._busy:
            self.missed += 1
        else:
            self._busy = True
            self._put(self)
        self._number = max(self._number + 1, math.floor((now - self._first) / self.seconds) + 1)
        return self._first + self._number * self.seconds

    def begin(self, first: float) -> None:
        """Count from now on."""
        self._first, self._number = first, 0

    def done(self) -> None:
        """The call has been made."""
        self._busy = False


class Timers:
    """The timers of one package; from any thread. Nothing is called before :meth:`start`.

    Args:
        now: gives seconds, monotonic.
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
        """Make a timer; its first call comes in so many seconds.

        Raises:
            ValueError: seconds below :data:`SHORTEST`, or no number.
            CallRefused: there are too many timers.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not SHORTEST <= seconds < math.inf:
            raise ValueError(f"every: seconds, a number from {SHORTEST:g} up, are wanted, found {seconds!r:.80}")
        with self._lock:
            self._forget_cancelled()
            if len(self._queue) >= MAX_TIMERS:
                raise CallRefused(f"{MAX_TIMERS} timers of this package run already: cancel some")
            due = self._now() + seconds
            timer = Timer(float(seconds), due, put)
            self._add(due, timer)
            if self._running:
                self._work()
            return timer

    def start(self) -> None:
        """Begin to call: times count from now; or go on after :meth:`hold`: what is due is called once."""
        with self._lock:
            self._running = True
            if not self._begun:
                self._begun = True
                self._begin(self._now())
            if self._queue:
                self._work()

    def hold(self) -> None:
        """Call nothing until :meth:`start`."""
        with self._lock:
            self._running = False

    def close(self) -> None:
        """Call nothing any more."""
        with self._lock:
            self._closed = True
            self._queue.clear()
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
        """See that the thread runs and knows what is first."""
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
                    self._changed.wait(due - now)
                else:
                    heapq.heappop(self._queue)
                    self._add(timer.fire(now), timer)
