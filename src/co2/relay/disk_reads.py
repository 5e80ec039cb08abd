"""Reads of the log from disk, for everybody who has fallen behind: in a thread of their own, and in turns.

The pool that asyncio keeps for everything else stays free for pages and for whatever else needs a thread. Who asks
for many reads waits behind itself only: readers take turns, one read each.
"""

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from co2.errors import Unreachable
from co2.protocol.relay.log import Reading
from co2.thread_priority import short_turns

__all__ = ["MAX_READING", "DiskLog", "DiskReads"]

MAX_READING = 2
"""Reads that are under way or have come and are not taken yet, for all readers together.

They hold this many times 1 MiB and one frame at most. One read is done at a time; the other one is handed over
meanwhile.
"""

MANY = 250
"""Frames in one read above which nothing is read for a while behind it: small ones are dear to read."""

PAUSE = 1
PAUSE_LATE = 3
"""Times as long as the read took for which nothing is read then, where the event loop keeps up, and where not."""

LATE = 0.005
"""Seconds that the loop took to come for the last read above which it does not keep up."""

MAX_PAUSE = 0.1
"""Seconds for which nothing is read at most."""


class DiskLog(Protocol):
    """A log that can be read from disk."""

    def read_disk(self, after: int, max_bytes: int) -> Reading:
        """Read on from a cursor; takes its time."""


@dataclass(slots=True)
class _DiskRead:
    after: int
    max_bytes: int
    found: asyncio.Future[Reading]


class DiskReads:
    """Reads from disk, one reader after the other.

    Args:
        log: to be read.
    """

    def __init__(self, log: DiskLog) -> None:
        self._log = log
        self._pool = ThreadPoolExecutor(MAX_READING, thread_name_prefix="log-read")
        self._wishes: OrderedDict[Hashable, deque[_DiskRead]] = OrderedDict()
        self._reading = 0
        self._one = threading.Lock()
        self._late = False
        self._closed = False

    def __len__(self) -> int:
        """Return how many reads wait for their turn."""
        return sum(map(len, self._wishes.values()))

    async def read(self, reader: Hashable, after: int, max_bytes: int) -> Reading:
        """Read on from a cursor when it is the reader's turn.

        Args:
            reader: who reads. The number of wishes of one reader is the caller's to bound.
            after: position read last; 0 for the oldest that is kept.
            max_bytes: stop when the batches are larger than this together.

        Raises:
            Unreachable: the relay stops.
        """
        if self._closed:
            raise _stopping()
        wish = _DiskRead(after, max_bytes, asyncio.get_running_loop().create_future())
        self._wishes.setdefault(reader, deque()).append(wish)
        self._start()
        return await wish.found

    def forget(self, reader: Hashable) -> None:
        """Cancel the reads of somebody who is gone that are not under way: others wait for their turn."""
        for wish in self._wishes.pop(reader, ()):
            wish.found.cancel()

    def close(self) -> None:
        """Begin no more reads; those that wait are given up, and their readers told so."""
        self._closed = True
        for wishes in self._wishes.values():
            for wish in wishes:
                if not wish.found.done():
                    wish.found.set_exception(_stopping())
        self._wishes.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        while self._reading < MAX_READING and self._wishes:
            reader, wishes = self._wishes.popitem(last=False)
            wish = wishes.popleft()
            if wishes:
                self._wishes[reader] = wishes  # behind everybody else
            if wish.found.done():  # its reader is gone
                continue
            self._reading += 1
            loop = asyncio.get_running_loop()
            read = loop.run_in_executor(self._pool, self._read, wish.after, wish.max_bytes)
            read.add_done_callback(lambda done, wish=wish: self._come(wish, done))  # type: ignore[misc]

    def _read(self, after: int, max_bytes: int) -> tuple[Reading, float]:
        """Read, one thread at a time; give also when it was done."""
        with self._one:
            began = time.monotonic()
            with short_turns():
                reading = self._log.read_disk(after, max_bytes)
            if len(reading.entries) > MANY:
                pauses = PAUSE_LATE if self._late else PAUSE
                time.sleep(min(MAX_PAUSE, pauses * (time.monotonic() - began)))
            return reading, time.monotonic()

    def _come(self, wish: _DiskRead, done: asyncio.Future[tuple[Reading, float]]) -> None:
        self._reading -= 1
        if done.cancelled():
            wish.found.cancel()
        elif (error := done.exception()) is not None:
            if not wish.found.done():
                wish.found.set_exception(error)
        else:
            reading, at = done.result()
            self._late = time.monotonic() - at > LATE
            if not wish.found.done():
                wish.found.set_result(reading)
        self._start()


def _stopping() -> Unreachable:
    return Unreachable("the relay stops")
