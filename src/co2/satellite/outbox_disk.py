"""Stores messages that wait too long in the outbox, and loads those that the link needs again."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import apsw

from co2.protocol.satellite.outbox import Cut, Outbox, Segment
from co2.store.outbox_thread import OutboxThread

__all__ = ["LOAD_TRIES", "RETRY", "TICK", "OutboxDisk"]

TICK = 0.02
"""Seconds between two looks at the outbox, while messages wait."""

LOAD_TRIES = 10
RETRY = 1.0
"""Attempts to read messages from a disk that fails, and seconds between two; then they count as damaged."""

CLOSE_TIMEOUT = 1.0
"""Seconds within which waiting messages are stored when the satellite stops."""

_logger = logging.getLogger("co2.satellite")


class OutboxDisk:
    """The outbox's disk. Used in the event loop.

    Args:
        outbox: to store.
        path: of the file.
        work: called when requested messages are back in memory.
    """

    def __init__(self, outbox: Outbox, path: Path, work: Callable[[], None]) -> None:
        self._outbox = outbox
        self._work = work
        self._folder = path.parent
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loads: set[asyncio.Task[None]] = set()
        self._store = OutboxThread.open(path, self._stored_in_thread)
        if self._store.replaced:
            _logger.error("messages that waited for the relay will not be sent: %s", self._store.replaced)
        outbox.found(self._store.left(), self._store.moves(), self._store.ends())
        if len(outbox):
            _logger.info("%d messages of earlier runs wait for the relay", len(outbox))

    @property
    def problem(self) -> str:
        """Why waiting messages do not get to disk, and what to do; '' if they do."""
        if self._store.failed:
            return f"messages for the relay wait in memory only, because the disk failed: {self._store.failed}"
        if self._store.full:
            wanted = (self._outbox.bytes - self._outbox.stored_bytes) // 2**20 + 1
            return (
                f"the disk of {self._folder} is full: free {wanted} MiB there. Until then messages for "
                "the relay wait in memory only, and are lost if this satellite dies"
            )
        return ""

    def start(self) -> None:
        """Start, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self.watch()

    def watch(self) -> None:
        """Check the outbox regularly from now on: messages may wait."""
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(TICK, self._look)

    def load(self, segment: Segment) -> None:
        """Load a segment back to memory."""
        task = asyncio.ensure_future(self._load(segment))
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    def moved(self, epoch: int, other: int, shift: int) -> None:
        """Record for the next process that the rest of a run is sent in another one."""
        self._store.move(epoch, other, shift)

    async def close(self) -> None:
        """Store all waiting messages, and end."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop = None
        if len(self._outbox) and self._outbox.last:
            self._store.ended(self._outbox.epoch, self._outbox.last)
        self._hand_over(everything=True)
        await asyncio.to_thread(self._store.close, CLOSE_TIMEOUT)

    def _look(self) -> None:
        self._timer = None
        self._hand_over()
        if len(self._outbox):
            self.watch()

    def _hand_over(self, everything: bool = False) -> None:
        for segment in self._outbox.to_store(everything):
            self._store.put(segment)
        if row := self._outbox.to_forget():
            self._store.forget(row)

    async def _load(self, segment: Segment) -> None:
        cuts = await self._read_back(segment.rows)
        if self._loop is None:
            return  # closed meanwhile: the messages on disk stay there for the next run
        lost = self._outbox.lost
        self._outbox.loaded(segment, cuts)
        if self._outbox.lost > lost:
            _logger.error("%d messages of the outbox are damaged on disk and lost", self._outbox.lost - lost)
        self._work()

    async def _read_back(self, rows: tuple[int, int]) -> list[Cut]:
        """Read frames; a disk that fails at the moment may recover: nothing is given up at once."""
        for left in range(LOAD_TRIES - 1, -1, -1):
            try:
                return await asyncio.to_thread(self._store.load, rows)
            except apsw.Error as error:
                if self._loop is None:
                    break
                _logger.error("a part of the outbox cannot be read back now: %s", error)
            await asyncio.sleep(RETRY if left else 0)
        return []

    def _stored_in_thread(self, segment: Segment, rows: tuple[int, int]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stored, segment, rows)

    def _stored(self, segment: Segment, rows: tuple[int, int]) -> None:
        self._outbox.stored(segment, rows)
        self.watch()
