"""Writes the relay's knowledge of its members to disk, beside the event loop: many changes in one commit."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw

from co2.errors import StorageFailed
from co2.protocol.relay.away import AwayBook
from co2.protocol.relay.origins import OriginBook
from co2.store.member_store import MemberStore

__all__ = ["AWAY_INTERVAL", "CLOSE_TIMEOUT", "INTERVAL", "MAX_AWAY_WRITTEN", "MemberKeeper"]

INTERVAL = 0.05
"""Seconds from one commit to the next, at least: a flood of Hellos does not write more often."""

AWAY_INTERVAL = 1.0
"""Seconds after which arrivals and departures of satellites are on disk."""

AWAY_RETRY = 30.0
"""Seconds after which a disk that refused them is tried again."""

CLOSE_TIMEOUT = 1.0
"""Seconds in which the rest of them is written at the end; what is left then is as it was on disk before."""

MAX_AWAY_WRITTEN = 64
"""Satellites that are written at a time, of at most 16 KiB each."""

_logger = logging.getLogger("co2.relay")


class MemberKeeper:
    """Keeps the book of members on disk. Used in the event loop.

    Args:
        book: of the known origins.
        store: the file.
        away: book of the absent satellites.
    """

    def __init__(self, book: OriginBook, store: MemberStore, away: AwayBook | None = None) -> None:
        self.book = book
        self.away = AwayBook() if away is None else away
        self._away_timer: asyncio.TimerHandle | None = None
        self._away_task: asyncio.Task[None] | None = None
        self._store = store
        self._waiting: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "co2-members")
        self._failed = ""
        self._away_failed = ""
        self._unrecorded = 0

    @classmethod
    def open(cls, path: Path, seen_before: Callable[[str], str]) -> "MemberKeeper":
        """Open the file.

        Args:
            path: of the file.
            seen_before: see :class:`~co2.protocol.relay.origins.OriginBook`.

        Raises:
            StorageFailed: the disk failed. Without the file the owners of origins would be unknown.
        """
        try:
            store = MemberStore.open(path)
            known, away = store.known(), store.away()
        except (apsw.Error, OSError) as error:
            raise StorageFailed(f"{path} cannot be opened: {error}; check its disk") from error
        if store.replaced:
            _logger.error("the owners of origins are no longer known: %s", store.replaced)
        book = OriginBook(known, wall=time.time, seen_before=seen_before)
        return cls(book, store, AwayBook(away, wall=time.time, now=time.monotonic))

    async def kept(self) -> None:
        """Wait until all changes so far are on disk, or the disk has refused them."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self.keep()
        await done

    def keep(self) -> None:
        """Write the changes to disk, without waiting for it."""
        if self._task is None and (self._waiting or self.book.has_changes):
            self._task = asyncio.ensure_future(self._run())

    def keep_away(self, delay: float = AWAY_INTERVAL) -> None:
        """Write to disk, a little later, which satellites have come and gone."""
        if self._away_timer is None and self._away_task is None:
            self._away_timer = asyncio.get_running_loop().call_later(delay, self._write_away_soon)

    def _write_away_soon(self) -> None:
        self._away_timer = None
        self._away_task = asyncio.ensure_future(self._write_away())
        self._away_task.add_done_callback(self._away_written)

    def _away_written(self, task: "asyncio.Task[None]") -> None:
        self._away_task = None
        if task.cancelled() or task.exception() is not None:
            return
        if self.away.has_changes:
            self.keep_away(AWAY_INTERVAL if not self._away_failed else AWAY_RETRY)

    async def _write_away(self) -> None:
        changes = self.away.take_changes(MAX_AWAY_WRITTEN)
        here = self.away.here
        why = ""
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._thread, self._store.write_away, changes, here, time.time()
            )
        except Exception as error:  # also a bug of ours: the changes must not get lost
            self.away.give_back(changes)
            why = str(error) or type(error).__name__
        if why and not self._away_failed:
            _logger.error("cannot save which satellites are away, retrying: %s", why)
        self._away_failed = why

    async def close(self) -> None:
        """Write the rest to disk, and close the file."""
        if self._away_timer is not None:
            self._away_timer.cancel()
        if self._away_task is not None:
            await asyncio.wait((self._away_task,))
        until = time.monotonic() + CLOSE_TIMEOUT
        await self._write_away()
        while self.away.has_changes and not self._away_failed and time.monotonic() < until:
            await self._write_away()
        if self._task is not None:
            await self._task
        if self.book.has_changes:
            await self._write()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            await self._write()
            for done in waiting:
                if not done.done():
                    done.set_result(None)
                    # A Welcome may take milliseconds: one per turn, so that links are read in between.
                    await asyncio.sleep(0)
            await asyncio.sleep(INTERVAL)
        if self.book.has_changes:
            await self._write()
        self._task = None
        if self._waiting:
            self.keep()

    async def _write(self) -> None:
        changes = self.book.take_changes()
        why = ""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.write, changes)
        except Exception as error:  # also a bug of ours: satellites that want to join wait for this
            self.book.give_back(changes)
            why = str(error) or type(error).__name__
        if why != self._failed:
            self._failed = why
            if why:
                _logger.error("cannot save the owners of origins, retrying: %s", why)
            else:
                _logger.warning("the owners of origins are saved again")
        if self.book.unrecorded > self._unrecorded:
            if not self._unrecorded:
                _logger.warning(
                    "the table of known origins is full: new satellites take part, but the relay does not "
                    "remember who owns their origins; `co2 forget` makes room"
                )
            self._unrecorded = self.book.unrecorded
