"""Which batches travel together, and what each source takes of the room."""

import msgspec
import pytest

from co2.plugin.parent import delivery_queue
from co2.plugin.parent.delivery_queue import OVERHEAD, FairQueue, GapRange, QueuedBatch, Window
from co2.protocol.wire.plugin_frames.frames import Deliver, Snapshot
from tests.plugin.parent.test_bookkeeping import A, B, queued


def counts(queue: FairQueue, room: int = 10**6) -> list[int]:
    found = []
    while isinstance(taken := queue.take(room), QueuedBatch):
        found.append(taken.count)
    return found


def placed(count: int, position: int, log_id: str = "log") -> QueuedBatch:
    return msgspec.structs.replace(queued(A, *[b"x"] * count), position=position, log_id=log_id)


@pytest.mark.parametrize(
    ("batches", "joined"),
    [
        ([placed(2, 10), placed(3, 12), placed(1, 15)], [6]),
        ([placed(2, 10), placed(3, 13)], [2, 3]),
        ([placed(2, 10), placed(3, 11)], [2, 3]),
        ([placed(2, 10), placed(3, 12, "other")], [2, 3]),
        ([placed(2, 0, ""), placed(3, 0, "")], [5]),
        ([placed(2, 10), placed(3, 0, "")], [2, 3]),
    ],
)
def test_batches_of_the_log_are_joined_where_one_follows_the_other(
    batches: list[QueuedBatch], joined: list[int]
) -> None:
    queue = FairQueue()
    for one in batches:
        queue.put("", one)
    assert counts(queue) == joined


def test_batches_are_joined_up_to_the_bounds_and_not_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_queue, "MAX_BATCH_MESSAGES", 4)
    two = queued(A, b"1", b"2")
    queue = FairQueue()
    for _ in range(5):
        queue.put("", two)
    assert counts(queue) == [4, 4, 2]
    monkeypatch.setattr(delivery_queue, "MAX_BATCH_MESSAGES", 100)
    for room, joined in ((2 * len(two.batch), [4, 4, 2]), (2 * len(two.batch) - 1, [2] * 5)):
        for _ in range(5):
            queue.put("", two)
        assert counts(queue, room) == joined
    monkeypatch.setattr(delivery_queue, "MAX_BATCH_BYTES", 3 * len(two.batch))
    for _ in range(5):
        queue.put("", two)
    assert counts(queue) == [6, 4]


def test_what_a_source_holds_is_known_to_the_byte() -> None:
    queue = FairQueue()
    one, other = queued(A, b"1"), queued(B, b"22", b"3")
    assert queue.held("ham") == 0
    queue.put("ham", one)
    queue.put("ham", other)
    queue.put("spam", one)
    assert queue.held("ham") == len(one.batch) + len(other.batch) + 2 * OVERHEAD
    assert queue.held("spam") == one.size
    queue.take(1)
    assert queue.held("ham") == other.size
    queue.clear(but="spam")
    assert (queue.held("ham"), queue.held("spam"), queue.bytes, len(queue)) == (0, one.size, one.size, 1)
    queue.clear()
    assert (queue.bytes, len(queue)) == (0, 0)


def test_the_source_with_the_most_bytes_loses_and_a_gap_never_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = queued(A, b"1")
    monkeypatch.setattr(delivery_queue, "MAX_WAITING", 5 * one.size)
    queue = FairQueue()
    for source in ("ham", "spam", "spam", "spam", "ham"):
        assert queue.put(source, one) == 0
    assert queue.put("ham", one) > 0
    assert queue.held("spam") < 3 * one.size or queue.held("ham") < 3 * one.size
    assert queue.bytes <= 5 * one.size
    queue.clear()
    for number in range(100):
        queue.put_gap("ham", GapRange(number, number + 1, (f"reason {number}",)))
    assert queue.bytes == OVERHEAD, "gaps that follow one another are one"
    gap = queue.take(1)
    assert gap == GapRange(0, 100, tuple(f"reason {number}" for number in range(delivery_queue.MAX_REASONS)))


def test_the_window_says_where_in_the_log_it_stands() -> None:
    window = Window()
    assert (window.position, window.log_id) == (0, "")
    window.give(placed(3, 10))
    window.give(GapRange(12, 20, ("retention",), log_id="log"))
    window.give(GapRange(dropped=1))
    window.give(placed(2, 0, ""))
    window.give(msgspec.structs.replace(placed(3, 30, "next"), skip=1))
    assert window.last == 10
    stands = []
    for number in range(1, 11):
        window.done(number)
        stands.append((window.position, window.log_id))
    assert stands == [
        *((10, "log"), (11, "log"), (12, "log")),
        *[(19, "log")] * 4,
        *((30, "next"), (31, "next"), (32, "next")),
    ]


def test_the_bytes_of_the_window_are_those_of_what_is_not_done() -> None:
    window = Window()
    first, second = queued(A, b"1", b"2"), queued(B, b"3")
    window.give(first)
    window.give(second)
    window.give(GapRange(dropped=1))
    assert window.bytes == first.size + second.size + OVERHEAD
    assert window.room == delivery_queue.WINDOW - window.bytes
    lefts = [(window.done(number), window.bytes, len(window)) for number in (1, 2, 3, 4)]
    assert lefts == [
        (1, first.size + second.size + OVERHEAD, 2),
        (1, second.size + OVERHEAD, 1),
        (1, OVERHEAD, 0),
        (0, 0, 0),
    ]


def test_a_message_that_is_not_done_is_found_by_its_number() -> None:
    window = Window()
    window.give(queued(A, b"1", b"2"))
    window.give(GapRange(dropped=1))
    window.give(queued(B, b"3"))
    found = {number: window.find(number) for number in range(6)}
    assert [number for number, one in found.items() if one] == [1, 2, 4]
    assert [one[0] for one in found.values() if one] == [A, A, B]
    assert [one[1][-1:] for one in found.values() if one] == [b"1", b"2", b"3"]


def test_what_a_child_says_of_numbers_that_it_never_got_is_cut_down() -> None:
    window = Window()
    window.give(queued(A, b"1"))
    assert window.done(99) == 1
    window.give(queued(A, b"2", b"3"))
    assert [window.done(number) for number in (2, 3)] == [1, 1]


def test_last_values_come_in_a_frame_of_their_own() -> None:
    window = Window()
    snapshot = msgspec.structs.replace(queued(A, b"1"), envelope=msgspec.structs.replace(A, is_snapshot=True))
    assert [type(window.give(one)) for one in (queued(A, b"1"), snapshot)] == [Deliver, Snapshot]
