"""Frames that wait: every link has its turn, and between two turns others have as long as the last one took."""

from collections.abc import Callable

from co2.protocol.relay.core import RelayCore
from co2.protocol.relay.cursors import Peer
from co2.relay.frame_turns import FrameTurns
from tests.protocol.network import FakeLog


class Loop:
    """A clock, and what is to be called."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        self.calls.append((delay, callback))

    def run(self) -> list[float]:
        """Run until nothing is to be done; give the pauses."""
        pauses = []
        while self.calls:
            delay, callback = self.calls.pop(0)
            pauses.append(delay)
            callback()
        return pauses


class Taker:
    """Takes two frames at a time, each in a second."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.got: list[tuple[str, bytes]] = []
        self.done: list[str] = []
        self.turns = FrameTurns(self.loop, self.take, lambda peer: self.done.append(peer.address[0]))
        self.instead: Callable[[Peer], None] | None = None

    def take(self, peer: Peer, frames: list[bytes]) -> int:
        self.loop.now += len(frames[:2])
        self.got += [(peer.address[0], frame) for frame in frames[:2]]
        if self.instead is not None:
            self.instead(peer)
        return len(frames[:2])


def peer(name: str) -> Peer:
    core = RelayCore(FakeLog(), "relay@h:1", max_peers=lambda: 9, now=lambda: 0.0, wall=lambda: 0.0)
    return core.opened((name, 1))


def test_links_take_turns_and_others_have_as_long() -> None:
    taker = Taker()
    ham, spam = peer("ham"), peer("spam")
    taker.turns.add(ham, [b"1", b"2", b"3", b"4", b"5"], rests=False)
    taker.turns.add(spam, [b"a", b"b", b"c"], rests=False)
    assert ham in taker.turns
    assert taker.loop.run() == [0.0, 2.0, 2.0, 2.0, 1.0]
    assert [name for name, _ in taker.got] == ["ham"] * 2 + ["spam"] * 2 + ["ham"] * 2 + ["spam"] + ["ham"]
    assert [frame for name, frame in taker.got if name == "ham"] == [b"1", b"2", b"3", b"4", b"5"]
    assert taker.done == ["spam", "ham"]
    assert ham not in taker.turns
    assert spam not in taker.turns


def test_a_link_rests_until_it_may_go_on() -> None:
    taker = Taker()
    ham = peer("ham")
    taker.turns.add(ham, [b"1", b"2", b"3"], rests=True)
    assert taker.loop.run() == []
    taker.instead = taker.turns.hold
    taker.turns.go_on(ham)
    taker.loop.run()
    assert [frame for _, frame in taker.got] == [b"1", b"2"]
    assert ham in taker.turns
    taker.instead = None
    taker.turns.go_on(ham)
    taker.loop.run()
    assert [frame for _, frame in taker.got] == [b"1", b"2", b"3"]
    assert taker.done == ["ham"]


def test_a_link_that_has_ended_is_forgotten() -> None:
    taker = Taker()
    ham = peer("ham")
    taker.turns.add(ham, [b"1", b"2", b"3"], rests=False)
    taker.instead = lambda one: taker.turns.forget(one) and None
    taker.loop.run()
    assert len(taker.got) == 2
    assert taker.done == []
    assert taker.turns.forget(ham) == []
