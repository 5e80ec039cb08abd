"""The threads that write the relay's log to disk: two commit, one at a time; one moves what is in the journal.

One commits when the next entry comes, at most once every :data:`INTERVAL` and at the latest after :data:`LATEST`;
at once where much waits. It runs behind the threads that pass messages on. A configured window replaces both
times: fewer commits write less.

While somebody waits for commits, and for :data:`AHEAD` seconds after that, the other one commits: at once, and
with the priority of the threads that pass messages on. Messages that come behind an entry without a number wait
for its commit, too.
"""

import threading
import time
from typing import Any

from co2.store import log_writer
from co2.store.log_writer import LogWriter
from co2.thread_priority import go_behind, short_turns

__all__ = ["AHEAD", "INTERVAL", "LogThread"]

INTERVAL = 0.005
"""Seconds from one commit to the next, at least."""

LATEST = 0.01
"""Seconds from one commit to the next, at most, while something waits.

From :data:`INTERVAL` on, the next entry starts the commit: the relay has just passed it on then, so that messages
at a steady rate do not meet a commit.
"""

AHEAD = 1.0
"""Seconds after a commit that somebody has waited for in which commits have the priority of passing messages on.

The next such entry would otherwise have to wait for a commit that was begun without it.
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
    """A writer with threads of its own; see :class:`~co2.store.log_writer.LogWriter` for the rest."""

    moves_apart = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        lock = threading.RLock()
        self._work, self._work_ahead = threading.Condition(lock), threading.Condition(lock)
        self._to_move = threading.Condition(lock)
        self._closing = False
        self._is_turning = False
        self._last = self._ahead_until = 0.0
        self._thread = threading.Thread(target=self._run, name="co2-log", daemon=True)
        self._thread_ahead = threading.Thread(target=self._run_ahead, name="co2-log-ahead", daemon=True)
        self._mover = threading.Thread(target=self._run_mover, name="co2-log-move", daemon=True)

    def start(self, meta: dict[str, int | str | float]) -> None:
        """Write the first commit and start the threads.

        Args:
            meta: facts of the log that must be on disk before the first entry.
        """
        super().start(meta)
        self._last = time.monotonic() - LATEST
        self._thread.start()
        self._thread_ahead.start()
        self._mover.start()

    def close(self, timeout: float) -> None:
        """Write the rest and end, within ``timeout`` seconds."""
        with self._work:
            self._closing = True
            self._wake_both()
        self._thread.join(timeout)

    @property
    def _is_due(self) -> bool:
        if len(self._next.entries) == 1 and not self._is_turning:
            return True  # nothing has waited: the thread may sleep for long
        return time.monotonic() >= self._last + max(INTERVAL, self._window)

    @property
    def _is_ahead(self) -> bool:
        """Whether the next commit has the priority of passing messages on."""
        return not self._closing and (self._hurry or time.monotonic() < self._ahead_until)

    def _wake(self) -> None:
        if self._is_turning:
            self._wake_both()  # the one that has committed waits in _tell()
        elif self._is_ahead:
            self._work_ahead.notify()
        else:
            self._work.notify()

    def _wake_both(self) -> None:
        self._work.notify()
        self._work_ahead.notify()

    def _wake_mover(self) -> None:
        self._to_move.notify()

    def _tell(self, frames: int) -> None:
        """Wait a moment before waking the event loop for a few entries: if it runs anyway, it notices them."""
        if frames <= FEW and not self._hurried:
            with self._work:
                if not self._hurry and not self._closing:
                    is_this = threading.current_thread() is self._thread_ahead
                    (self._work_ahead if is_this else self._work).wait(COMPANY)
        super()._tell(frames)

    def _run(self) -> None:
        go_behind()
        try:
            self._write(self._work, is_ahead=False)
        finally:
            with self._work:
                self._wake_both()
                self._wake_mover()
            self._thread_ahead.join()
            self._mover.join()
            self.end()

    def _run_mover(self) -> None:
        go_behind()
        while self._is_to_move():
            self.move()
            if self.full or self.failed:
                with self._work:
                    self._wake_both()

    def _is_to_move(self) -> bool:
        """Wait until a half of the journal is to be moved; return False when the log closes: that moves all."""
        with self._work:
            while not (self._closing or self.failed or (self._moving and not self.full)):
                self._to_move.wait(RETRY if self._moving else None)  # commits try it on a full disk
            return not (self._closing or self.failed)

    def _run_ahead(self) -> None:
        while self._is_wanted_ahead():
            with short_turns():  # each step of a commit needs the interpreter, for which a busy loop lets it wait
                self._write(self._work_ahead, is_ahead=True)

    def _is_wanted_ahead(self) -> bool:
        """Wait until commits are to be made ahead; return False when the log closes."""
        with self._work:
            while not self._is_ahead:
                if self._closing or self.failed:
                    return False
                self._work_ahead.wait()
            return not self.failed

    def _write(self, work: threading.Condition, *, is_ahead: bool) -> None:
        """Commit what is due: ahead while that is wanted, else until all is written and the log closes."""
        while self._wait(work, is_ahead):
            try:
                self.turn()
            finally:
                with work:
                    self._is_turning = False
                    self._wake_both() if self.failed else self._wake()

    def _wait(self, work: threading.Condition, is_ahead: bool) -> bool:
        """Wait until this thread is to commit; return False when it has nothing more to do."""
        with work:
            is_news = False
            while not self.failed:
                now = time.monotonic()
                if self._is_turning or is_ahead != self._is_ahead:
                    if is_ahead and not self._is_ahead:
                        self._work.notify()  # from here on the other one commits what waits
                        return False
                    work.wait(max(LATEST, self._ahead_until - now))
                    continue
                if (left := self._left(now, is_news)) <= 0:
                    if self._closing and not self.something():
                        return False
                    self._begin(now)
                    return True
                was_something = self.something()
                if is_ahead:
                    left = min(left, max(LATEST, self._ahead_until - now))
                is_news = work.wait(left) and was_something
            return False

    def _begin(self, now: float) -> None:
        self._is_turning, self._last = True, now
        if self._hurry:
            self._ahead_until = now + AHEAD

    def _left(self, now: float, is_news: bool) -> float:
        """Return the seconds until the next commit is due; with ``is_news`` more has come since it was asked."""
        if self.full and self._taken is not None:
            return self._last + RETRY - now
        if self._closing or self._hurry or self.waiting_bytes >= log_writer.MUCH:
            return 0.0
        if not self.something():
            return self._last + (RETRY if self.full else _IDLE) - now
        return self._last + max(INTERVAL if is_news else LATEST, self._window) - now
