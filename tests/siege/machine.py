"""What a process had of the machine: processor time, and how long it stood ready and got none.

``python -m tests.siege.machine`` is a process that has nothing to do, and tells how late it was woken.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["STEP", "Share", "Watch", "lateness", "percentile"]

STEP = 0.005
"""Seconds from one look to the next."""


def percentile(ordered: list[float], part: float) -> float:
    """Return a percentile of what is sorted; 0.0 of nothing."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


@dataclass(frozen=True)
class Share:
    """Parts of one processor, over some time.

    Attributes:
        busy: seconds of processor time per second, of all its threads.
        queued: seconds per second that its main thread, where its event loop is, was ready to run and had no
            processor; 0 where the system does not tell.
    """

    busy: float = 0.0
    queued: float = 0.0

    def __str__(self) -> str:
        return f"{self.busy:.2f} busy, {self.queued:.2f} queued"


class Watch:
    """Begins when it is made.

    Args:
        pid: of the process.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._queue = Path(f"/proc/{pid}/task/{pid}/schedstat")
        self._began = time.monotonic(), self._busy(), self._queued()

    def share(self) -> Share:
        """Return what it had since the beginning; nothing where it has ended."""
        began, busy, queued = self._began
        seconds = max(1e-6, time.monotonic() - began)
        try:
            return Share((self._busy() - busy) / seconds, (self._queued() - queued) / seconds)
        except psutil.Error:
            return Share()

    def _busy(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _queued(self) -> float:
        try:
            return int(self._queue.read_text().split()[1]) / 1e9
        except OSError:  # only Linux has it
            return 0.0


def lateness(stop: Callable[[], bool]) -> list[float]:
    """Sleep again and again until told to stop; give how late a message due at any time would have been, sorted.

    Where it was woken late by much, all that was due meanwhile was late too: each :data:`STEP` counts.
    """
    late: list[float] = []
    while not stop():
        due = time.perf_counter() + STEP
        time.sleep(STEP)
        over = time.perf_counter() - due
        while over > 0:
            late.append(over)
            over -= STEP
    return sorted(late)


def main() -> None:
    """Print the 99th percentile of :func:`lateness`, and the largest, in seconds, when stdin ends."""
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    late = lateness(ended.is_set)
    print(json.dumps([percentile(late, 0.99), late[-1] if late else 0.0]))


if __name__ == "__main__":
    main()
