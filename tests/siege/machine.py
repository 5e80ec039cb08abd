"""What a process had of the machine: processor time, and how long it stood ready and got none."""

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Share", "Watch"]


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
        """Give what it had since the beginning; nothing where it has ended."""
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
