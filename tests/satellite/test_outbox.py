"""The outbox: order, ids, bounds."""

import asyncio

from co2.protocol.batch import make_batch
from co2.satellite.outbox import Outbox

A, B, C, D = (bytes([0xA1, letter]) for letter in b"abcd")


def long(letter: bytes, size: int) -> bytes:
    """A message of this size."""
    return b"\xda" + (size - 3).to_bytes(2, "big") + letter * (size - 3)


def test_messages_keep_their_order_and_get_ids_that_never_repeat() -> None:
    outbox = Outbox(10**6, full=lambda: None, room=lambda: None)
    outbox.put(make_batch([A, B, C]))
    batch = outbox.head(2, 10**6)
    assert [packed for _, packed in batch] == [A, B]
    outbox.done(2)
    outbox.put(make_batch([D]))
    rest = outbox.head(10, 10**6)
    assert [packed for _, packed in rest] == [C, D]
    assert len({message_id for message_id, _ in batch + rest}) == 4


def test_ids_of_two_runs_differ() -> None:
    first, second = (Outbox(10**6, full=lambda: None, room=lambda: None) for _ in range(2))
    first.put(make_batch([A]))
    second.put(make_batch([A]))
    assert first.head(1, 1)[0][0] != second.head(1, 1)[0][0]


def test_a_batch_is_cut_by_bytes_but_never_empty() -> None:
    outbox = Outbox(10**6, full=lambda: None, room=lambda: None)
    outbox.put(make_batch([long(b"x", 100), long(b"y", 100)]))
    assert len(outbox.head(10, 150)) == 1
    assert len(outbox.head(10, 1)) == 1


def test_senders_wait_at_the_bound_and_go_on_at_half_of_it() -> None:
    told: list[str] = []
    outbox = Outbox(10_000, full=lambda: told.append("full"), room=lambda: told.append("room"))
    outbox.put(make_batch([long(b"x", 800)] * 11))
    assert told == ["full"]
    outbox.done(5)
    assert told == ["full"]
    outbox.done(2)
    assert told == ["full", "room"]
    outbox.done(4)
    assert told == ["full", "room"]
    assert outbox.bytes == 0
    assert outbox.emptied.is_set()
    assert not outbox.filled.is_set()


def test_a_flush_waits_for_what_was_there_and_not_for_what_comes_later() -> None:
    async def scenario() -> None:
        outbox = Outbox(10_000, full=lambda: None, room=lambda: None)
        await outbox.flushed()
        outbox.put(make_batch([A, B]))
        first = asyncio.create_task(outbox.flushed())
        given_up = asyncio.create_task(outbox.flushed())
        await asyncio.sleep(0)
        given_up.cancel()
        outbox.put(make_batch([C]))
        second = asyncio.create_task(outbox.flushed())
        await asyncio.sleep(0)
        outbox.done(1)
        await asyncio.sleep(0)
        assert not first.done()
        outbox.done(1)
        await first
        assert not second.done()
        outbox.done(1)
        await second

    asyncio.run(scenario())
