"""The roster of those who are away: bounds, and what is told of it."""

import tracemalloc

import pytest

from co2.host_id import HostId
from co2.protocol.relay import away as module
from co2.protocol.relay.away import MAX_AWAY_NAMES, Absence, Away, AwayBook, fitting_claims


def host(number: int, ip: str = "10.0.0.1") -> HostId:
    return HostId(f"{number:016x}", ip, 2004)


def book_of(number: int, ip: str = "10.0.0.1") -> AwayBook:
    book = AwayBook()
    for at in range(number):
        book.joined(host(at, ip), ["m"], [])
        book.left(host(at, ip).origin, stopped=False)
    return book


@pytest.mark.parametrize("addresses", ["10.0.0.1", "2001:db8::{:x}", "127.0.0.{}"])
def test_who_makes_up_satellites_displaces_no_others(monkeypatch: pytest.MonkeyPatch, addresses: str) -> None:
    monkeypatch.setattr(module, "MAX_AWAY_AT_ONE_ADDRESS", 5)
    monkeypatch.setattr(module, "MAX_AWAY", 8)
    book = book_of(3, "10.0.0.2")
    for at in range(100, 200):
        book.joined(host(at, addresses.format(at)), [], [])
        book.left(host(at).origin, stopped=True)
    origins = [one.origin for one in book.rows()]
    assert origins[:5] == [host(at).origin for at in (199, 198, 197, 196, 195)]
    assert origins[5:] == [host(at).origin for at in (2, 1, 0)]
    book.joined(host(7, "10.0.0.3"), [], [])
    book.left(host(7).origin, stopped=False)
    assert len(book) == 8
    assert book.get(host(0).origin) is None, "who has been away for longest goes"


def test_names_have_a_bound_and_an_index() -> None:
    book = AwayBook()
    book.joined(host(1), ["a" * 1000] * 3 + [f"{at:01000}" for at in range(100)], ["p"])
    book.left(host(1).origin, stopped=False)
    [one] = book.rows()
    assert sum(map(len, (*one.methods, *one.plugins))) <= MAX_AWAY_NAMES
    assert one.methods.count("a" * 1000) == 1
    assert book.having("a" * 1000) == [one]
    assert book.having("b") == []
    assert book.forget(one.origin) and not book.forget(one.origin)
    assert book.having("a" * 1000) == []


def test_names_of_all_have_a_bound_and_those_of_who_went_first_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_NAMES_MEMORY", 4_000_000, raising=False)
    monkeypatch.setattr(module, "MAX_NAMES_MEMORY_OF_ONE", 2_000_000, raising=False)
    book = AwayBook()
    book.joined(host(999, "10.0.0.2"), ["honest"], [])
    book.left(host(999).origin, stopped=False)
    tracemalloc.start()
    for at in range(100):
        book.joined(host(at), [f"{name:04x}" for name in range(at * 600, at * 600 + 600)], ["p"])
        book.left(host(at).origin, stopped=False)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(book) == 101, "they themselves are known"
    assert taken < 3_000_000, "names of one source, as much as is reckoned for them, and 100 satellites"
    assert [one.origin for one in book.having("honest")] == [host(999).origin]
    assert [one.origin for one in book.having(f"{99 * 600:04x}")] == [host(99).origin]
    assert not book.having("0000")
    assert book.take_changes(1000)[host(0).origin] == Away(host(0).origin, str(host(0)), 0.0, left_at=0.0)
    for at in range(100, 400):
        book.joined(host(at, f"10.1.0.{at % 200}"), [f"{name:04x}" for name in range(600)], [])
        book.left(host(at).origin, stopped=False)
    assert sum(len(book.having(f"{name:04x}")) for name in range(600)) * 130 < 4_000_000
    for one in book.rows():
        book.forget(one.origin)
    assert (book._memory, book._by_method, book._named, book._named_of) == (0, {}, {}, {})
    assert not book._memory_of


def test_only_news_go_to_disk_and_what_the_disk_refused_goes_again() -> None:
    book = AwayBook(wall=lambda: 7.0)
    assert book.joined(host(1), ["m"], [])
    assert not book.joined(host(1), ["m"], [])
    assert book.joined(host(1), ["m", "n"], [])
    changes = book.take_changes(10)
    assert [*changes] == [host(1).origin] and not book.has_changes
    book.left(host(1).origin, stopped=True, ago=2.0)
    book.give_back(changes)
    again = book.take_changes(10)[host(1).origin]
    assert again is not None and (again.stopped, again.seen_at, again.state) == (True, 5.0, "stopped")
    book.joined(host(1), [], [])
    assert book.rows() == [] and book.here == {host(1).origin}
    book.left("nobody", stopped=True)
    known = Away(host(3).origin, str(host(3)), 1.0)
    assert AwayBook([known]).rows() == [known]


def test_who_comes_and_goes_without_end_leaves_nothing_that_waits_for_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_AWAY_AT_ONE_ADDRESS", 5)
    book = AwayBook()
    on_disk: dict[str, Away] = {}

    def write(most: int, *, fails: bool = False) -> None:
        changes = book.take_changes(most)
        if fails:
            book.give_back(changes)
            return
        for origin, one in changes.items():
            on_disk.pop(origin, None)
            if one is not None:
                on_disk[origin] = one

    waited = 0
    for at in range(1000):
        book.joined(host(at), ["m"], [])
        book.left(host(at).origin, stopped=False)
        if at % 10 == 0:
            write(2, fails=at % 30 == 0)
        waited = max(waited, len(book._changes))
    assert waited < 20
    while book.has_changes:
        write(64)
    assert on_disk == {one.origin: one for one in book.rows()}
    assert book._on_disk == set(on_disk)


def test_no_clock_but_the_one_that_only_grows_says_for_how_long_somebody_is_away() -> None:
    now, wall = 100.0, 1e9
    before = Away(host(1).origin, str(host(1)), 5e8)
    book = AwayBook([before], wall=lambda: wall, now=lambda: now)
    book.joined(host(2), ["m"], [])
    now, wall = 110.0, 1e9 + 10
    book.left(host(2).origin, stopped=False, ago=3.0)
    now, wall = 120.0, 2e9
    [gone, _] = book.rows()
    assert book.absence(gone) == Absence(13.0, 2e9 - 13, before_start=False)
    assert book.absence(before) == Absence(20.0, 5e8, before_start=True)
    assert (book.since(gone), book.since(before)) == (107.0, 100.0)


def test_claims_have_a_bound_and_go_on_where_those_on_disk_end() -> None:
    kept = fitting_claims({f"{at:01000}": at for at in range(100)})
    assert [*kept.values()] == [*range(MAX_AWAY_NAMES // 1000)]
    book = AwayBook(
        [Away(host(1).origin, str(host(1)), 1.0, claims={"m": 7}), Away(host(2).origin, str(host(2)), 1.0)]
    )
    assert [book.next_claim(), book.next_claim()] == [8, 9]
    book.joined(host(3), ["m"], [], {"m": 9, "had": 8})
    book.left(host(3).origin, stopped=True)
    assert book.rows()[0].claims == {"m": 9, "had": 8}
    assert book.having("had") == [], "it has it no more"


def test_who_is_here_and_who_is_away_is_counted() -> None:
    book = book_of(2)
    assert book.states() == {"away": 2}
    book.joined(host(1), [], [])
    book.left(host(1).origin, stopped=True)
    book.joined(host(7), [], [])
    assert book.states() == {"away": 1, "stopped": 1}
    assert book.here == {host(7).origin}
    assert AwayBook().states() == {}
