"""The thread that writes the relay's log to disk.

It commits when the next entry comes, at most once every :data:`INTERVAL` and at the latest after :data:`LATEST`;
at once where much waits or somebody waits for the commit. A configured window replaces both times: fewer commits
write less.
"""

import threading
import time
from typing import Any

from co2.store import log_writer
from co2.store.log_writer import LogWriter
from co2.thread_priority import go_behind

__all__ = ["INTERVAL", "LogThread"]

INTERVAL = 0.005
"""Seconds from one commit to the next, at least."""

LATEST = 0.01
"""Seconds from one commit to the next, at most, while something waits.

From :data:`INTERVAL` on, the next entry starts the commit: the relay has just passed it on then, so that messages
at a steady rate do not meet a commit.
"""

FEW = 16
"""Entries of a commit up to which the event loop is not woken at once."""

COMPANY = 0.005
"""Seconds that the news of such a commit waits for the event loop to run anyway: longer than a run of the express.

Otherwise each of 200 commits a second wakes relay and sender at a moment when a message may be on its way.
"""

RETRY = 0.5
"""Seconds between two attempts on a full disk."""

_IDLE = 30.0
"""Seconds after which the age of entries is checked again though nothing comes."""


class LogThread(LogWriter):
    """A writer with its own thread; see :class:`~co2.store.log_writer.LogWriter` for the rest."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle = False
        self._closing = False
        self._last = 0.0
        self._thread = threading.Thread(target=self._run, name="co2-log", daemon=True)

    def start(self, meta: dict[str, int | str | float]) -> None:
        """Write the first commit and start the thread.

        Args:
            meta: facts of the log that must be on disk before the first entry.
        """
        super().start(meta)
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Write the rest and end, within ``timeout`` seconds."""
        with self._work:
            self._closing = True
            self._work.notify()
        self._thread.join(timeout)

    @property
    def _is_due(self) -> bool:
        return self._idle or time.monotonic() >= self._last + max(INTERVAL, self._window)

    def _wake(self) -> None:
        self._work.notify()

    def _tell(self, frames: int) -> None:
        """Wait a moment before waking the event loop for a few entries: if it runs anyway, it notices them."""
        if frames <= FEW and not self._hurried:
            with self._work:
                if not self._hurry and not self._closing:
                    self._work.wait(COMPANY)
        super()._tell(frames)

    def _run(self) -> None:
        go_behind()
        try:
            while self._wait():
                self._last = time.monotonic()
                if not self.turn():
                    break
        finally:
            self.end()

    def _wait(self) -> bool:
        """Wait until the next commit is due; return False when all is written and the log closes."""
        with self._work:
            if self.full and self._taken is not None:
                self._work.wait(RETRY)
                return True
            if not self.something() and not self._closing:
                self._idle = True
                self._work.wait(RETRY if self.full else _IDLE)
                self._idle = False
            while not self._closing and not self._hurry and self.waiting_bytes < log_writer.MUCH:
                left = self._last + max(LATEST, self._window) - time.monotonic()
                if left <= 0:
                    break
                self._work.wait(left)
                if self._is_due:
                    break
            return self.something() or not self._closing
