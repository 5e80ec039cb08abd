"""The outbox: order, ids, bounds."""

from co2.satellite.outbox import Outbox


def test_messages_keep_their_order_and_get_ids_that_never_repeat() -> None:
    outbox = Outbox(10**6, full=lambda: None, room=lambda: None)
    outbox.put([b"a", b"b", b"c"])
    batch = outbox.head(2, 10**6)
    assert [packed for _, packed in batch] == [b"a", b"b"]
    outbox.done(2)
    outbox.put([b"d"])
    rest = outbox.head(10, 10**6)
    assert [packed for _, packed in rest] == [b"c", b"d"]
    assert len({message_id for message_id, _ in batch + rest}) == 4


def test_ids_of_two_runs_differ() -> None:
    first, second = (Outbox(10**6, full=lambda: None, room=lambda: None) for _ in range(2))
    first.put([b"a"])
    second.put([b"a"])
    assert first.head(1, 1)[0][0] != second.head(1, 1)[0][0]


def test_a_batch_is_cut_by_bytes_but_never_empty() -> None:
    outbox = Outbox(10**6, full=lambda: None, room=lambda: None)
    outbox.put([b"x" * 100, b"y" * 100])
    assert len(outbox.head(10, 150)) == 1
    assert len(outbox.head(10, 1)) == 1


def test_senders_wait_at_the_bound_and_go_on_at_half_of_it() -> None:
    told: list[str] = []
    outbox = Outbox(10_000, full=lambda: told.append("full"), room=lambda: told.append("room"))
    outbox.put([b"x" * 800] * 11)
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
