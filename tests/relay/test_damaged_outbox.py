"""A satellite's disk that does not give back a frame of the outbox: a gap is told, and all the rest goes out."""

import asyncio
from zlib import crc32

import pytest

from co2.protocol.satellite.outbox import Cut, Segment
from co2.protocol.wire.link_frames import Publish, encode_link_frame
from tests.protocol.network import batch_of
from tests.relay.linked import Relay, Satellite, network, until

EPOCH = 5


def cut_of(first: int, *values: int) -> Cut:
    batch = batch_of(*values)
    publish = Publish(EPOCH, first, "p", "p.m.X_P", [""], crc32(batch), batch)
    return Cut(EPOCH, first, first + len(values) - 1, encode_link_frame(publish))


@pytest.mark.parametrize("damaged", [{0}, {1}, {3}, {1, 2}, {0, 2}, {0, 1, 2, 3}], ids=str)
def test_what_is_damaged_is_a_gap_and_the_rest_arrives(damaged: set[int]) -> None:
    cuts = [cut_of(1, 1, 2), cut_of(3, 3), cut_of(4, 4, 5, 6), cut_of(7, 7)]
    whole = [cut for index, cut in enumerate(cuts) if index not in damaged]

    async def test(relay: Relay, ham: Satellite, spam: Satellite) -> None:
        def load(segment: Segment) -> None:
            ham.outbox.loaded(segment, whole)
            asyncio.get_running_loop().call_soon(ham.link.driver.flush)

        await ham.stop()
        ham = Satellite(relay, "ham", epoch=9, load=load)
        size = sum(cut.size for cut in cuts)
        ham.outbox.found([Segment(EPOCH, 1, 7, size, None, "stored", (1, len(cuts)))])
        ham.send(100)
        try:
            wanted = [number for cut in whole for number in range(cut.first, cut.last + 1)]
            await until(lambda: spam.got.get("p", [])[-1:] == [100])
            assert spam.got["p"] == [*wanted, 100]
            await asyncio.wait_for(ham.link.flushed(), 10)
            assert len(ham.outbox) == 0 == ham.outbox.bytes
            assert ham.outbox.lost == 7 - len(wanted)
        finally:
            await ham.stop()

    network(test, "ham", "spam")
