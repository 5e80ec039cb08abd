"""Flushes that wait for their acknowledgement."""

import itertools
import threading

from co2.errors import FlushTimeout, NotRunning

__all__ = ["MAX_FLUSHES", "Flushes"]

MAX_FLUSHES = 1024
"""Flushes of one package that may wait at a time."""

_numbers = itertools.count(1)
"""Numbers of the flushes of this process. They outlive a load, whose late answers may come in the next one."""


class _PendingFlush:
    def __init__(self) -> None:
        self.answered = threading.Event()
        self.error: str | None = None
        self.closed = False


class Flushes:
    """The flushes of one package; from any thread. Numbers are never reused, so a late answer does no harm."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[int, _PendingFlush] = {}
        self._closed = False

    def new(self, timeout: float) -> int:
        """Number a flush.

        Raises:
            FlushTimeout: too many wait already.
            NotRunning: no answer can come any more.
        """
        with self._lock:
            if self._closed:
                raise NotRunning("the satellite has ended, so nothing can be flushed")
            if len(self._pending) >= MAX_FLUSHES:
                raise FlushTimeout(timeout, f"{MAX_FLUSHES} flushes of this package are already waiting")
            number = next(_numbers)
            self._pending[number] = _PendingFlush()
            return number

    def wait(self, flush_id: int, left: float, timeout: float) -> None:
        """Wait for the answer.

        Args:
            flush_id: its number.
            left: seconds.
            timeout: seconds that the whole flush may take, for the error.

        Raises:
            FlushTimeout: the answer did not come in time, or says that not all is acknowledged.
            NotRunning: no answer can come any more.
        """
        pending = self._pending[flush_id]
        pending.answered.wait(left)
        if pending.closed:
            raise NotRunning("the satellite has ended: the last messages may be lost")
        if pending.error is None:
            raise FlushTimeout(timeout)
        if pending.error:
            raise FlushTimeout(timeout, pending.error)

    def forget(self, flush_id: int) -> None:
        """Forget a flush that nobody waits for."""
        self._pending.pop(flush_id, None)

    def answer(self, flush_id: int, error: str) -> None:
        """Set the answer; ``error`` is '' if all is acknowledged."""
        if (pending := self._pending.get(flush_id)) is not None:
            pending.error = error
            pending.answered.set()

    def close(self) -> None:
        """Wake all waiting flushes: no answer will come any more."""
        with self._lock:
            self._closed = True
            for pending in self._pending.values():
                pending.closed = True
                pending.answered.set()
