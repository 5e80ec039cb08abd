"""Reads of the log from disk: readers take turns, and few are under way."""

import asyncio
import itertools
import sys
import threading
import time
from typing import Any

import pytest

from co2.errors import Unreachable
from co2.protocol.relay.log import Entry, Reading
from co2.relay.disk_reads import (
    LATE,
    MANY,
    MAX_PAUSE,
    MAX_READING,
    PAUSE,
    PAUSE_LATE,
    DiskReads,
)
from co2.thread_priority import INTERVAL, USUAL_INTERVAL
from tests.harness import wait_for


class SlowLog:
    """Reads when it is told to."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.under_way = 0
        self.most = 0
        self.free = threading.Semaphore(0)
        self._lock = threading.Lock()

    def read_disk(self, after: int, max_bytes: int) -> Reading:
        with self._lock:
            self.order.append(after)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        assert self.free.acquire(timeout=20)
        with self._lock:
            self.under_way -= 1
        return Reading([], after + max_bytes)


def test_who_asks_for_much_waits_behind_itself_only() -> None:
    async def run() -> None:
        log = SlowLog()
        reads = DiskReads(log)
        greedy = [asyncio.ensure_future(reads.read("greedy", n, 1)) for n in range(100)]
        modest = [asyncio.ensure_future(reads.read(f"modest {n}", 1000 + n, 1)) for n in range(3)]
        await asyncio.sleep(0)
        for _ in range(103):
            log.free.release()
        assert [reading.next for reading in await asyncio.gather(*greedy, *modest)] == [
            *range(1, 101), 1001, 1002, 1003,
        ]  # fmt: skip
        assert log.most <= MAX_READING
        # Before most of the greedy reader's: on a busy machine one of the two threads may stand still for a while.
        assert max(log.order.index(1000 + n) for n in range(3)) < 50
        reads.close()

    asyncio.run(run())


def test_threads_change_places_quickly_only_while_something_is_read() -> None:
    async def run() -> None:
        log = SlowLog()
        reads = DiskReads(log)
        wanted = [asyncio.ensure_future(reads.read("one", n, 1)) for n in range(3)]
        await asyncio.sleep(0)
        wait_for(lambda: sys.getswitchinterval() == pytest.approx(INTERVAL))
        for _ in wanted:
            log.free.release()
        await asyncio.gather(*wanted)
        assert sys.getswitchinterval() == pytest.approx(USUAL_INTERVAL)
        reads.close()

    asyncio.run(run())


@pytest.mark.parametrize(("behind", "pauses"), [(0.0, PAUSE), (2 * LATE, PAUSE_LATE)])
def test_nothing_is_read_for_a_while_behind_many_small_frames(behind: float, pauses: int) -> None:
    """Threads that read take the interpreter from the event loop: where that is behind they leave it more."""
    spans: list[tuple[float, float]] = []
    entry = Entry(2, 1, "ham", "ham@h:1", ("h", 1), 7, 1, "", "", (), 0, b"")

    class Log:
        def read_disk(self, after: int, max_bytes: int) -> Reading:
            began = time.monotonic()
            time.sleep(0.02)
            spans.append((began, time.monotonic()))
            return Reading([entry] * (MANY + 1), after + 1)

    async def run() -> None:
        reads = DiskReads(Log())
        come = reads._come

        def slowly(*given: Any) -> None:
            time.sleep(behind)
            come(*given)

        reads._come = slowly  # type: ignore[method-assign]
        await asyncio.gather(*(reads.read(f"reader {n}", n, 1) for n in range(8)))
        reads.close()

    asyncio.run(run())
    spans.sort()
    for number, (before, after) in enumerate(itertools.pairwise(spans)):
        took, left = before[1] - before[0], after[0] - before[1]
        least = min(MAX_PAUSE, took * (PAUSE if number < 4 else pauses))  # it is found out with the first ones
        assert left >= 0.9 * least, "also not by the other thread"


def test_the_pool_of_everything_else_is_free_meanwhile() -> None:
    async def run() -> None:
        log = SlowLog()
        reads = DiskReads(log)
        waiting = [asyncio.ensure_future(reads.read(n, n, 1)) for n in range(200)]
        await asyncio.sleep(0)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "a page"), 10) == "a page"
        for _ in range(200):
            log.free.release()
        await asyncio.gather(*waiting)
        reads.close()

    asyncio.run(run())


def test_who_waits_when_the_relay_stops_is_told_so() -> None:
    async def run() -> None:
        log = SlowLog()
        reads = DiskReads(log)
        under_way = asyncio.ensure_future(reads.read("a", 1, 1))
        waiting = [asyncio.ensure_future(reads.read("b", n, 1)) for n in range(5)]
        await asyncio.sleep(0)
        reads.close()
        for _ in range(10):
            log.free.release()
        for wish in waiting[MAX_READING:]:
            with pytest.raises(Unreachable):
                await wish
        with pytest.raises(Unreachable):
            await reads.read("c", 1, 1)
        await asyncio.gather(under_way, *waiting, return_exceptions=True)

    asyncio.run(run())
