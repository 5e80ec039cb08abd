"""Reads of last values from the log, in their own thread: at the start for the index, then for whoever asks."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

from co2.errors import Unreachable
from co2.protocol.relay.last_values import Answer, Head, LastValues, Question, answer, entry_at
from co2.protocol.relay.log import Reading
from co2.thread_priority import short_turns

__all__ = ["HEADS_AT_ONCE", "MAX_PAUSE", "MAX_RESTORE", "ValueReads"]

HEADS_AT_ONCE = 1_000
"""Heads of entries in one step of the start: about 3 milliseconds."""

MAX_RESTORE = 60.0
"""Seconds after which the start ends, with the channels that were found; a full log takes about ten."""

MAX_PAUSE = 1.0
"""Seconds of the longest pause after a read, which is as long as the read: half of the time is left to others."""

_logger = logging.getLogger("co2.relay")

T = TypeVar("T")


class ValueLog(Protocol):
    """A log on disk whose entries can be read one by one."""

    @property
    def last(self) -> int:
        """Position of the last message appended."""

    def read_disk(self, after: int, max_bytes: int) -> Reading:
        """Read on from a cursor; blocks."""

    def read_heads(self, before: int, limit: int) -> list[Head]:
        """Return the heads of the newest entries before a position, newest first; blocks."""


class ValueReads:
    """The thread that reads last values.

    Args:
        log: of the relay.
        values: the index of the last values.
        restored: called when the index is complete.
    """

    def __init__(
        self,
        log: ValueLog,
        values: LastValues,
        restored: Callable[[], None] = lambda: None,
    ) -> None:
        self._log = log
        self._values = values
        self._restored = restored
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="last-values")
        self._complete = asyncio.Event()
        self._before = log.last + 1
        values.begin_restore()

    async def restore(self) -> None:
        """Take what the log has from earlier runs into the index, step by step."""
        began = time.monotonic()
        before = self._before
        while heads := await self._run(self._log.read_heads, before, HEADS_AT_ONCE):
            self._values.restore(heads)
            before = heads[-1].position
            if time.monotonic() - began > MAX_RESTORE:
                _logger.warning(
                    "channels whose last message is before position %d of the log have no last value: "
                    "looking for them took longer than %g s", before, MAX_RESTORE,
                )  # fmt: skip
                break
        self._values.end_restore()
        self._complete.set()
        self._restored()

    async def complete(self) -> None:
        """Wait until the index is complete."""
        await self._complete.wait()

    async def answer(self, question: Question, now: float) -> Answer:
        """Answer a question whose positions are on disk.

        Args:
            question: of the index.
            now: by the clock of messages, seconds since 1970.

        Raises:
            Unreachable: the relay stops.
        """
        entry_of = partial(entry_at, self._log.read_disk)
        return await self._run(answer, question, entry_of, now)

    def close(self) -> None:
        """Begin no more reads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, _with_pause, work, args)
        except RuntimeError:  # the pool is closed
            raise Unreachable("the relay is stopping") from None


def _with_pause(work: Callable[..., T], args: tuple[object, ...]) -> T:
    began = time.monotonic()
    try:
        with short_turns():
            return work(*args)
    finally:
        time.sleep(min(MAX_PAUSE, time.monotonic() - began))
