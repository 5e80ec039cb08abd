"""Who has no link reads on behind a gap, and misses nothing that is there."""

import asyncio
from typing import cast

import pytest

from co2.protocol.relay.log import Entry, LogGap, Reading
from co2.protocol.wire.batch import make_batch
from co2.relay.durable_log import DurableLog
from co2.relay.message_reader import MessageReader
from co2.values import pack


class Log:
    """A log of which nothing is in memory, and whose disk gives what the test says."""

    def __init__(self, committed: int, *found: Reading) -> None:
        self.committed = committed
        self._found = list(found)

    def read(self, after: int, max_bytes: int) -> Reading:
        return Reading((), after, None, on_disk=True)

    async def read_disk(self, reader: str, after: int, max_bytes: int) -> Reading:
        return self._found.pop(0)


def entry(position: int) -> Entry:
    batch = make_batch([pack({"data": position})])
    return Entry(
        position, 1, "ham", "ham@127.0.0.1:1", ("127.0.0.1", 1), 7, position, "p", "p.m.X", None, 0, batch
    )


@pytest.mark.parametrize("reason", ["retention", "damaged"])
def test_a_gap_with_nothing_behind_it_in_the_same_look_hides_nothing(reason: str) -> None:
    """What is gone is told by itself where what follows is in memory, or was damaged in between."""

    async def test() -> None:
        gap = LogGap(3, 7, reason)
        log = Log(10, Reading((), 7, gap), Reading([entry(8), entry(9), entry(10)], 10))
        reader = MessageReader(cast(DurableLog, log), log.read_disk)
        first = await reader.read(3, 100, 2**20, "eggs")
        assert (first.gap, first.messages, first.next) == (gap, [], 7)
        then = await reader.read(first.next, 100, 2**20, "eggs")
        assert [message.position for message in then.messages] == [8, 9, 10]
        assert then.next == 10
        reader.close()

    asyncio.run(test())


def test_where_nothing_is_there_it_is_passed_over() -> None:
    async def test() -> None:
        log = Log(10, Reading((), 3))
        reader = MessageReader(cast(DurableLog, log), log.read_disk)
        read = await reader.read(3, 100, 2**20, "eggs")
        assert (read.gap, read.messages, read.next) == (None, [], 10)
        reader.close()

    asyncio.run(test())
