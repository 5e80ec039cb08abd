"""One heap of events and a clock that jumps from one to the next; processes that die, and that stand still."""

import hashlib
import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

__all__ = ["Engine", "Process", "Timer"]

WALL_AT_START = 1_700_000_000.0
"""Wall time at the beginning; it may jump, the engine's own clock does not."""

KEPT_LINES = 400
"""Lines of the trace that are kept for the report, when nobody wants all of it."""

Timer = list[Any]
"""An event that is to come: [time, number, process, function, arguments]."""


class Process:
    """A process of the operating system: what it was to do is gone when it is dead, and waits while it stands.

    Attributes:
        name: for the trace.
        alive: it has not ended.
        standing: it is stopped, as by SIGSTOP.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.standing = False
        self.stood_since = 0.0
        self.deferred: list[Timer] = []


class Engine:
    """The clock, the events, the dice, the trace.

    Args:
        seed: of all dice.
        keep_all: keep every line of the trace.
    """

    def __init__(self, seed: int | str, *, keep_all: bool = False) -> None:
        self.now = 0.0
        self.wall_offset = WALL_AT_START
        self.dice = random.Random(f"co2 {seed}")
        self.events = 0
        self.counts: Counter[str] = Counter()
        self.lines: deque[str] = deque(maxlen=None if keep_all else KEPT_LINES)
        self._hash = hashlib.blake2b(digest_size=16)
        self._heap: list[Timer] = []
        self._number = 0

    def wall(self) -> float:
        """Wall time: a label, which may jump."""
        return self.wall_offset + self.now

    # ---- events ----------------------------------------------------------------------------------------

    def after(self, delay: float, process: Process | None, function: Callable[..., Any], *args: Any) -> Timer:
        """Have something done in a process, so many seconds from now; None for what is in no process."""
        self._number += 1
        timer: Timer = [self.now + delay, self._number, process, function, args]
        heapq.heappush(self._heap, timer)
        return timer

    @staticmethod
    def cancel(timer: Timer | None) -> None:
        """Have it not done."""
        if timer is not None:
            timer[3] = None

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Do what is due, up to a time, or until ``stop`` says so."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            timer = heapq.heappop(heap)
            time, _, process, function, args = timer
            if function is None:
                continue
            self.now = time
            if process is not None:
                if not process.alive:
                    continue
                if process.standing:
                    process.deferred.append(timer)
                    continue
            self.events += 1
            function(*args)
            if stop():
                return
        self.now = max(self.now, until)

    # ---- processes -------------------------------------------------------------------------------------

    def stand(self, process: Process) -> None:
        """Stop a process, as by SIGSTOP."""
        process.standing, process.stood_since = True, self.now

    def go_on(self, process: Process) -> None:
        """Let it go on; what was due meanwhile is done at once, in its order."""
        process.standing = False
        deferred, process.deferred = process.deferred, []
        for timer in deferred:
            self._number += 1
            timer[0], timer[1] = self.now, self._number
            heapq.heappush(self._heap, timer)

    # ---- the trace -------------------------------------------------------------------------------------

    def trace(self, text: str) -> None:
        """Write down what happens."""
        line = f"{self.now:.6f} {text}"
        self._hash.update(line.encode())
        self.lines.append(line)

    def count(self, what: str, number: int = 1) -> None:
        """Count that something rare was seen."""
        self.counts[what] += number

    @property
    def digest(self) -> str:
        """The trace so far, as a hash."""
        return self._hash.hexdigest()
