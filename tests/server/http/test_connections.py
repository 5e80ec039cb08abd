"""The table of connections: what one address may have, and what is kept free for the one at the machine."""

import asyncio
import contextlib
from collections.abc import Iterator
from time import monotonic

import pytest

from co2.server.http import connections
from co2.server.http.connections import Connections
from co2.server.http.limits import Limits
from co2.xmlrpc.registry import Caller

MOST = 800


class Busy:
    """A connection as the table sees it, that is always at work."""

    def __init__(self, table: Connections, address: str, number: int) -> None:
        self.caller = Caller(address, number)
        self.deadline = 0.0
        self.idle_since: float | None = None
        self.why = ""
        self.ends = False
        self._table = table

    def check(self, now: float) -> None: ...

    def end_after_answer(self) -> None:
        self.ends = True

    def drop(self, reason: str, text: str) -> None:
        self.why = reason
        self._table.remove(self)


class Table:
    """A table, and who comes to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits, kind: type[Busy] = Busy) -> None:
        self.loop = loop
        self.table = Connections(limits, loop, lambda: None)
        self._number = 0
        self._kind = kind

    def come(self, address: str, number: int = 1) -> list[Busy]:
        """Let so many come from an address, each with a request."""
        came = []
        for _ in range(number):
            self._number += 1
            one = self._kind(self.table, address, self._number)
            self.table.add(one)
            if not one.why:
                self.table.proven(one)
            came.append(one)
        return came


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    monkeypatch.setattr(connections, "most_connections", lambda limit: limit)
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        yield Table(loop, Limits(max_connections=MOST))


@pytest.mark.parametrize(
    "addresses", [["192.0.2.1"], ["2001:db8::1", "2001:db8::2:1"]], ids=["an address", "a network of IPv6"]
)
def test_an_address_has_a_quarter(table: Table, addresses: list[str]) -> None:
    share = MOST // 4
    for number in range(share):
        assert not table.come(addresses[number % len(addresses)])[0].why
    assert [one.why for address in addresses for one in table.come(address, 5)] == ["share"] * 5 * len(addresses)
    others = [*table.come("192.0.2.2", share), *table.come("2001:db8:0:1::1", share)]
    assert {one.why for one in others} == {""}


def test_over_its_share_an_address_loses_its_own_that_is_idle_for_longest(table: Table) -> None:
    others = table.come("192.0.2.2", 10)
    mine = table.come("192.0.2.1", MOST // 4)
    for number, one in enumerate((others[0], mine[7], mine[3])):
        one.idle_since = monotonic() - 10 + number
    assert [one.why for one in table.come("192.0.2.1", 3)] == ["", "", "share"]
    assert [one for one in mine if one.why] == [mine[3], mine[7]]
    assert {one.why for one in others} == {""}


def test_the_idle_of_a_source_are_searched_seldom_however_many_sources_came_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "most_connections", lambda limit: limit)
    monkeypatch.setattr(connections, "LOOK_AGAIN", 60.0)
    looks = 0

    class Watched(Busy):
        @property
        def idle_since(self) -> float | None:
            nonlocal looks
            looks += 1
            return None

        @idle_since.setter
        def idle_since(self, _since: float | None) -> None: ...

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        table = Table(loop, Limits(max_connections=100, address_share=0.05), Watched)
        for number in range(connections.LOOK_AT + 4):
            table.come(f"192.0.2.{number}", 5)
            looks = 0
            assert [one.why for one in table.come(f"192.0.2.{number}", 20)] == ["share"] * 20
            assert looks == 5, "each of its connections once"
        assert len(table.table._idle) <= connections.LOOK_AT


def test_a_sweep_follows_one_that_failed() -> None:
    swept = 0

    def sweep() -> None:
        nonlocal swept
        swept += 1
        raise RuntimeError("a bug")

    async def run() -> None:
        loop = asyncio.get_running_loop()
        failed: list[object] = []
        loop.set_exception_handler(lambda _loop, context: failed.append(context["exception"]))
        table = Connections(Limits(idle_timeout=0.01), loop, sweep)
        with pytest.raises(RuntimeError):
            table.start()
        async with asyncio.timeout(10):
            while swept < 3:
                await asyncio.sleep(0.002)
        table.stop()
        assert {type(error) for error in failed} == {RuntimeError}

    asyncio.run(run())


def test_loopback_has_half(table: Table) -> None:
    here = [
        *table.come("127.0.0.1", MOST // 4),
        *table.come("127.0.0.2", MOST // 8),
        *table.come("::1", MOST // 8),
    ]
    assert {one.why for one in here} == {""}
    assert table.come("127.0.0.3")[0].why == "share"
    assert not table.come("192.0.2.1")[0].why


@pytest.mark.parametrize(("most", "kept"), [(MOST, 64), (80, 10)])
def test_some_are_kept_free_for_the_owner(monkeypatch: pytest.MonkeyPatch, most: int, kept: int) -> None:
    """64 of them, at most an eighth; however many come from wherever, and all of them at work."""
    monkeypatch.setattr(connections, "most_connections", lambda limit: limit)
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        table = Table(loop, Limits(max_connections=most))
        came = [one for number in range(1, 11) for one in table.come(f"192.0.2.{number}", most // 10)]
        assert [one.why for one in came] == [""] * (most - kept) + ["full"] * kept
        owner = table.come("127.0.0.1", kept)
        assert {one.why for one in owner} == {""}
        assert [one.why for one in came].count("full") == kept
        assert table.come("127.0.0.1")[0].why == "full"


def test_deadlines_are_looked_at_until_the_table_stops(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = table.loop
    clock, looks = [0.0], []
    monkeypatch.setattr(loop, "time", lambda: clock[0])
    monkeypatch.setattr(Busy, "check", lambda one, now: looks.append(one))

    def passes() -> None:
        clock[0] += 10.0
        loop.run_until_complete(asyncio.sleep(0))

    [one] = table.come("192.0.2.1")
    table.table.start()
    passes()
    assert looks == [one, one]
    table.table.stop()
    passes()
    assert looks == [one, one]
