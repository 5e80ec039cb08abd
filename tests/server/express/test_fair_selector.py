"""Two ranks of descriptors: the first is served in each turn, of the second as much as there is time for."""

from __future__ import annotations

import asyncio
import itertools
import os
import selectors
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from co2.server.express import fair_selector
from co2.server.express.fair_selector import LATE, MAX_AT_ONCE, TURN, FairSelector, is_late, put_behind, put_first
from co2.server.http.limits import Limits
from co2.server.http.server import HttpServer, bind_socket
from co2.xmlrpc.registry import Registry

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a second rank")

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Clock:
    """Time that passes when somebody works."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(fair_selector, "monotonic", clock)
    return clock


@pytest.fixture
def selector() -> Iterator[FairSelector]:
    selector = FairSelector()
    yield selector
    selector.close()


@pytest.fixture
def sockets() -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    made: list[socket.socket] = []

    def pair() -> tuple[socket.socket, socket.socket]:
        made.extend(socket.socketpair())
        return made[-2], made[-1]

    yield pair
    for sock in made:
        sock.close()


Pair = Callable[[], tuple[socket.socket, socket.socket]]


def ready(pair: Pair) -> socket.socket:
    """Return a socket at which something can be read for ever: nobody does."""
    ours, theirs = pair()
    theirs.send(b"x")
    return ours


def register_behind(selector: FairSelector, pair: Pair, count: int) -> None:
    """Register so many sockets of the second rank, at each of which something can be read."""
    for n in range(count):
        behind = ready(pair)
        selector.put_behind(behind.fileno())
        selector.register(behind, READ, f"behind {n}")


def served(selector: FairSelector) -> list[str]:
    return [key.data for key, _ in selector.select(0)]


def test_what_is_ready_comes_first_of_the_first_rank(selector: FairSelector, sockets: Pair) -> None:
    register_behind(selector, sockets, 5)
    for n in range(5):
        selector.register(ready(sockets), READ, f"first {n}")
    names = served(selector)
    assert sorted(names[:5]) == [f"first {n}" for n in range(5)]
    assert sorted(names[5:]) == [f"behind {n}" for n in range(5)]


def test_behind_is_served_as_much_as_a_turn_has_time_for_and_everybody_in_turn(
    clock: Clock, selector: FairSelector, sockets: Pair
) -> None:
    register_behind(selector, sockets, 20)
    selector.register(ready(sockets), READ, "first")
    times: Counter[str] = Counter()
    longest: list[float] = []
    for _ in range(300):
        names = served(selector)
        assert names[0] == "first"
        times.update(names)
        clock.now += (took := TURN / 2 * (len(names) - 1))
        longest.append(took)
    assert max(longest[10:]) <= 2 * TURN, "after a few turns none is much longer than it may be"
    del times["first"]
    assert len(times) == 20
    assert max(times.values()) - min(times.values()) <= 2


def test_a_turn_serves_at_least_one_of_those_behind(clock: Clock, selector: FairSelector, sockets: Pair) -> None:
    register_behind(selector, sockets, 1)
    for _ in range(20):
        assert served(selector) == ["behind 0"]
        clock.now += 100 * TURN


def test_with_time_to_spare_all_are_served_at_once_again(
    clock: Clock, selector: FairSelector, sockets: Pair
) -> None:
    register_behind(selector, sockets, 50)
    for _ in range(20):
        served(selector)
        clock.now += 2 * TURN
    assert len(served(selector)) == 1
    for _ in range(50):
        served(selector)
    assert len(served(selector)) == 50


def test_a_loop_is_late_where_it_hardly_sleeps(clock: Clock, selector: FairSelector, sockets: Pair) -> None:
    selector.register(ready(sockets), READ, "first")

    def live(works: float, sleeps: float) -> float:
        for _ in range(100):
            selector.end_turn()
            clock.now += sleeps
            selector.select(0)
            clock.now += works
        return selector.load

    assert live(0.01, 0.01) <= LATE
    assert live(0.01, 0.001) > LATE
    assert live(0.001, 0.1) <= LATE
    selector.end_turn()
    clock.now += 0.2  # one long turn, as where a host starts
    selector.select(0)
    assert live(0.001, 0.01) <= LATE


def test_ranks_change_while_it_is_registered_and_nothing_else_does(selector: FairSelector, sockets: Pair) -> None:
    ours, theirs = sockets()
    selector.register(ours, READ | WRITE, "it")
    for change in (selector.put_behind, selector.put_first) * 2:
        change(ours.fileno())
        change(ours.fileno())
        assert selector.get_key(ours) == selector.get_map()[ours.fileno()]
        assert selector.get_key(ours).data == "it"
        assert [mask for _, mask in selector.select(0)] == [WRITE]
        theirs.send(b"x")
        assert [mask for _, mask in selector.select(0)] == [READ | WRITE]
        selector.modify(ours, READ, "it")
        assert [mask for _, mask in selector.select(0)] == [READ]
        ours.recv(10)
        assert selector.select(0) == []
        selector.modify(ours, READ | WRITE, "it")
    selector.put_behind(ours.fileno())
    selector.unregister(ours)
    with pytest.raises(KeyError):
        selector.unregister(ours)
    assert ours.fileno() not in selector.get_map()
    selector.register(ours, WRITE, "again")
    with pytest.raises(KeyError):
        selector.register(ours, WRITE, "twice")
    assert [(key.data, mask) for key, mask in selector.select(0)] == [("again", WRITE)]


def test_what_ends_behind_is_told(selector: FairSelector, sockets: Pair) -> None:
    ours, theirs = sockets()
    selector.put_behind(ours.fileno())
    selector.register(ours, READ, "it")
    theirs.close()
    assert served(selector) == ["it"]
    descriptor = ours.fileno()
    ours.close()
    selector.unregister(descriptor)
    selector.put_first(descriptor)
    assert served(selector) == []


def test_in_an_event_loop_work_behind_does_not_hold_up_what_goes_first() -> None:
    """Fifty connections always have something that takes a millisecond: the fifty-first waits for few of them."""
    assert MAX_AT_ONCE > 50

    class Loop(asyncio.SelectorEventLoop):
        def __init__(self) -> None:
            self.fair = FairSelector()
            super().__init__(self.fair)

    loop = Loop()
    pairs = [socket.socketpair() for _ in range(51)]
    waited: list[int] = []
    works = 0

    def work() -> None:
        nonlocal works
        works += 1
        end = loop.time() + 0.001
        while loop.time() < end:
            pass

    def come() -> None:
        waited.append(works)
        pairs[0][0].recv(1)
        if len(waited) < 300:
            pairs[0][1].send(b"x")
        else:
            loop.stop()

    try:
        loop.add_reader(pairs[0][0], come)
        for ours, theirs in pairs[1:]:
            theirs.send(b"x")
            put_behind(loop, ours.fileno())
            loop.add_reader(ours, work)
        pairs[0][1].send(b"x")
        loop.run_forever()
        assert is_late(loop)
        put_first(loop, pairs[1][0].fileno())
    finally:
        loop.close()
        for ours, theirs in pairs:
            ours.close()
            theirs.close()
    between = sorted(after - before for before, after in itertools.pairwise(waited))
    assert between[50] <= 5, "in a turn there is time for few of them"


def test_who_gets_the_number_of_a_socket_that_listens_no_more_is_not_behind_for_it(sockets: Pair) -> None:
    class Loop(asyncio.SelectorEventLoop):
        def __init__(self) -> None:
            self.fair = FairSelector()
            super().__init__(self.fair)

    async def main() -> None:
        one, other = ready(sockets), ready(sockets)
        server = HttpServer(registry=Registry(), pages={}, limits=Limits(), allowed_hosts=(), access_log=None)
        sock = bind_socket("127.0.0.1", 0, next_free=False)
        number = sock.fileno()
        await server.start(sock)
        await server.stop()
        selector = asyncio.get_running_loop().fair  # type: ignore[attr-defined]
        selector.put_behind(other.fileno())
        selector.register(other, READ, "behind")
        os.dup2(one.fileno(), number)
        try:
            selector.register(number, READ, "first")
            assert [name for name in served(selector) if isinstance(name, str)] == ["first", "behind"]
            selector.unregister(number)
        finally:
            selector.unregister(other)
            os.close(number)

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())
