"""Live messages for those who fetch: in order, in bounds, and counted where they are missing."""

import asyncio
import itertools
from collections.abc import Callable

import pytest

from co2.protocol.relay.log import Entry
from co2.protocol.wire.batch import make_batch
from co2.relay import live_ring
from co2.relay.live_ring import PACE, LiveRing
from co2.values import pack

BIG = 2**20


def entry(*numbers: int, origin: str = "ham", batch: bytes | None = None) -> Entry:
    batch = make_batch([pack({"data": number}) for number in numbers]) if batch is None else batch
    return Entry(
        0, len(numbers), origin, f"{origin}@10.0.0.1:1", ("10.0.0.1", 1), 0, 0, "p", "p.m.X", None, 0, batch
    )


class Rig:
    """A ring with a clock, and what it has asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.woken = 0
        self.wanted: list[bool] = []
        self.ring = LiveRing(lambda: self.now, self._wake, self._listen, 60.0)

    def _wake(self) -> None:
        self.woken += 1

    def _listen(self, take: Callable[[Entry], None] | None) -> None:
        self.wanted.append(take is not None)

    def got(
        self, after: int, most: int = 100, size: int = BIG, not_from: str = "me"
    ) -> tuple[list[bytes], int, int]:
        read = self.ring.read(after, most, size, not_from)
        return [message.packed for message in read.messages], read.next, read.missed


def packed(*numbers: int) -> list[bytes]:
    return [pack({"data": number}) for number in numbers]


def test_each_reader_gets_each_message_once_and_in_order() -> None:
    async def test() -> None:
        rig = Rig()
        first = rig.ring.watch()
        assert rig.wanted == [True]
        rig.ring.take(entry(1, 2, 3))
        second = rig.ring.watch()
        rig.ring.take(entry(4, origin="me"))
        rig.ring.take(entry(5, 6))
        assert rig.got(first, most=2) == (packed(1, 2), 2, 0)
        assert rig.got(2, most=2) == (packed(3, 5), 5, 0), "one's own are left out"
        assert rig.got(5) == (packed(6), 6, 0)
        assert rig.got(second) == (packed(5, 6), 6, 0)
        assert rig.got(6) == ([], 6, 0)
        assert rig.got(first, size=1) == (packed(1), 1, 0), "one is always given"
        assert rig.woken == 0
        for _ in range(40):
            rig.ring.take(entry(7))
        await asyncio.sleep(3 * PACE)
        assert rig.woken == 1, "many wake once"
        rig.ring.stop()

    asyncio.run(test())


def test_what_has_gone_or_cannot_be_read_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_ring, "KEPT_FRAMES", 3)

    async def test() -> None:
        rig = Rig()
        rig.ring.watch()
        for number in range(10):
            rig.ring.take(entry(number))
        assert rig.got(0) == (packed(7, 8, 9), 10, 7)
        assert rig.got(8) == (packed(8, 9), 10, 0)
        rig.ring.take(entry(1, 2, batch=b"\xc1"))
        assert rig.got(10) == ([], 12, 2)
        monkeypatch.setattr(live_ring, "KEPT_BYTES", len(entry(1).batch))
        rig.ring.take(entry(1))
        assert len(rig.ring._frames) == 1
        rig.ring.stop()

    asyncio.run(test())


def test_nothing_is_kept_where_nobody_fetches() -> None:
    async def test() -> None:
        rig = Rig()
        rig.ring.watch()
        rig.ring.take(entry(1))
        for rig.now in itertools.accumulate([50.0] * 3):
            rig.ring.watch()
        assert rig.wanted == [True]
        rig.now += 61
        rig.ring.take(entry(2))
        assert (rig.wanted, len(rig.ring._frames), rig.ring._bytes) == ([True, False], 0, 0)
        assert rig.ring.watch() == rig.ring.head
        assert rig.wanted == [True, False, True]
        rig.ring.stop()

    asyncio.run(test())
