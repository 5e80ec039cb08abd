"""The newest part of the log in memory: what is kept, and what is found in it."""

import pytest

from co2.protocol.relay.log import Entry
from co2.store import memory_tail
from co2.store.memory_tail import OVERHEAD, MemoryTail

SIZE = 10
"""Bytes of the messages of an entry."""


def entry(position: int, count: int = 1, *, size: int = SIZE, origin: str = "ham", epoch: int = 7) -> Entry:
    return Entry(
        position, count, origin, "ham@h:1", ("h", 1), epoch, position * 10, "", "", (), position % 97, bytes(size)
    )


def kept(tail: MemoryTail, after: int = 0) -> list[int]:
    return [one.position for one in tail.read(after, 2**30)]


def test_at_first_there_is_nothing() -> None:
    tail = MemoryTail(5)
    assert (tail.gone, kept(tail), tail.find("ham", 7, 10), tail.position_of("ham", 7, 10)) == (5, [], None, None)


@pytest.mark.parametrize(("spare", "gone"), [(0, 1), (-1, 2)])
def test_as_much_is_kept_as_may_be_and_no_byte_more(
    monkeypatch: pytest.MonkeyPatch, spare: int, gone: int
) -> None:
    sizes = [100, 30, 50, 20]
    monkeypatch.setattr(memory_tail, "KEPT", sum(sizes[1:]) + 3 * OVERHEAD + spare)
    tail = MemoryTail(0)
    for position, size in enumerate(sizes, 1):
        tail.append(entry(position, size=size), 100)
    assert tail.gone == gone
    assert kept(tail) == [*range(gone + 1, 5)]
    for position in range(5, 49):  # what goes makes room for what comes, for as long as it runs
        tail.append(entry(position, size=sizes[(position - 1) % 4]), 100)
    assert tail.gone == 44 + gone


@pytest.mark.parametrize(("committed", "left"), [(0, 5), (3, 5), (4, 4), (5, 4), (6, 3), (100, 1)])
def test_what_is_not_on_disk_stays(monkeypatch: pytest.MonkeyPatch, committed: int, left: int) -> None:
    monkeypatch.setattr(memory_tail, "KEPT", OVERHEAD + SIZE)
    tail = MemoryTail(2)
    for position in (3, 5, 7, 9, 11):  # two messages each: the first ends at 4
        tail.append(entry(position, 2), committed)
    assert kept(tail) == [3, 5, 7, 9, 11][5 - left :]
    assert tail.gone == (2, 4, 6, 8, 10)[5 - left]


@pytest.mark.parametrize(
    ("after", "max_bytes", "found"),
    [
        (0, 1, [1]),
        (0, SIZE, [1]),
        (0, SIZE + 1, [1, 3]),
        (0, 3 * SIZE, [1, 3, 5]),
        (1, 100, [1, 3, 5]),
        (2, 100, [3, 5]),
        (5, 100, [5]),
        (6, 100, []),
        (0, 0, []),
    ],
)
def test_a_read_begins_behind_a_position_and_ends_when_it_is_enough(
    after: int, max_bytes: int, found: list[int]
) -> None:
    tail = MemoryTail(0)
    for position in (1, 3, 5):
        tail.append(entry(position, 2), 0)
    assert [one.position for one in tail.read(after, max_bytes)] == found


def test_numbers_are_found_in_what_is_kept_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_tail, "KEPT", 3 * (OVERHEAD + SIZE))
    tail = MemoryTail(0)
    for position in (1, 4, 7, 10, 13):
        tail.append(entry(position, 3), 12)
    tail.append(entry(16, origin="spam"), 12)  # those before 13 go
    tail.append(entry(17, epoch=0), 12)
    tail.append(entry(18, epoch=8), 12)
    assert (kept(tail), tail.gone) == ([13, 16, 17, 18], 12)
    for position in kept(tail):
        one = tail.read(position - 1, 1)[0]
        for number in range(one.count):
            assert tail.position_of(one.origin, one.epoch, one.seq + number) == position + number
        assert tail.position_of(one.origin, one.epoch, one.seq + one.count) is None
        assert tail.find(one.origin, one.epoch, one.seq) == (one.crc if one.epoch else None)
        assert tail.find(one.origin, one.epoch, one.seq + 1) is None
    for origin, epoch, seq in (("ham", 7, 10), ("ham", 7, 40), ("spam", 7, 130), ("ham", 8, 130), ("eggs", 7, 1)):
        assert tail.position_of(origin, epoch, seq) is None
        assert tail.find(origin, epoch, seq) is None


def test_the_places_of_what_is_gone_are_freed_and_all_is_found_before_and_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_tail, "KEPT", 20 * (OVERHEAD + SIZE))
    tail = MemoryTail(0)
    longest = 0
    for position in range(1, 1000):
        tail.append(entry(position), 10_000)
        longest = max(longest, len(tail._ends))
        first = max(1, position - 19)
        assert (tail.gone, kept(tail, first - 1)[0]) == (first - 1, first)
        if position % 3 == 0:
            for one in (first, position):
                assert tail.find("ham", 7, 10 * one) == one % 97
                assert tail.position_of("ham", 7, 10 * one) == one
        if first > 1:
            assert tail.position_of("ham", 7, 10 * (first - 1)) is None
    assert longest < 300
