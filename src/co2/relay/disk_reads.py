"""Reads of the log from disk, for readers that have fallen behind: in a thread of their own, and in turns.

asyncio's default pool stays free for pages and other work. A reader with many reads waits only behind itself:
readers take turns, one read each.
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
"""Reads that are running, or done and not yet taken, for all readers together.

They hold at most this many times 1 MiB and one frame. One read runs at a time; the other one is handed over
meanwhile.
"""

MANY = 100
"""Entries in one read above which a pause follows: small ones are expensive to read."""

PAUSE = 1
PAUSE_LATE = 3
"""Length of the pause, in times of the read, if the event loop keeps up, and if not."""

LATE = 0.005
"""Seconds until the loop took the last read, above which it does not keep up."""

MAX_PAUSE = 0.1
"""Seconds of the longest pause."""


class DiskLog(Protocol):
    """A log that can be read from disk."""

    def read_disk(self, after: int, max_bytes: int) -> Reading:
        """Read on from a cursor; takes milliseconds."""


@dataclass(slots=True)
class _DiskRead:
    after: int
    max_bytes: int
    found: asyncio.Future[Reading]


class DiskReads:
    """Reads from disk, one reader after the other.

    Args:
        log: to read.
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
        """Return the number of reads that wait for their turn."""
        return sum(map(len, self._wishes.values()))

    async def read(self, reader: Hashable, after: int, max_bytes: int) -> Reading:
        """Read on from a cursor when it is the reader's turn.

        Args:
            reader: identity of the reader. The caller limits the number of its reads.
            after: position read last; 0 for the oldest that is kept.
            max_bytes: stop when the batches exceed this together.

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
        """Cancel the waiting reads of a reader that has left."""
        for wish in self._wishes.pop(reader, ()):
            wish.found.cancel()

    def close(self) -> None:
        """Start no more reads; the waiting ones fail."""
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
                self._wishes[reader] = wishes  # behind all other readers
            if wish.found.done():  # its reader has left
                continue
            self._reading += 1
            loop = asyncio.get_running_loop()
            read = loop.run_in_executor(self._pool, self._read, wish.after, wish.max_bytes)
            read.add_done_callback(lambda done, wish=wish: self._come(wish, done))  # type: ignore[misc]

    def _read(self, after: int, max_bytes: int) -> tuple[Reading, float]:
        """Read, one thread at a time; return the reading and the time of its end."""
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
    return Unreachable("the relay is stopping")
