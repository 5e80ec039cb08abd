"""Calls over links are begun in turns, and other things are done between them."""

import itertools

from co2.protocol.relay.cursors import Peer
from co2.protocol.wire.link_frames import Call
from co2.relay.call_turns import CALLS_AT_ONCE, LONG, CallTurns


class Loop:
    """A loop by hand, in which beginning a call takes 10 ms."""

    def __init__(self) -> None:
        self.now = 0.0
        self.soon: list[tuple[float, object, tuple[object, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: object, *args: object) -> None:
        self.soon.append((self.now, callback, args))

    def call_later(self, delay: float, callback: object, *args: object) -> None:
        self.soon.append((self.now + delay, callback, args))

    def turn(self) -> None:
        (at, callback, args), *self.soon = sorted(self.soon, key=lambda one: one[0])
        self.now = max(self.now, at)
        callback(*args)  # type: ignore[operator]


def call(number: int) -> Call:
    return Call(number, "ping", b"\x80", 1.0)


def test_links_take_turns_and_calls_take_half_of_the_time() -> None:
    loop = Loop()
    begun: list[tuple[Peer, int]] = []

    def begin(peer: Peer, call: Call) -> None:
        begun.append((peer, call.call_id))
        loop.now += 0.01

    turns = CallTurns(loop, begin)
    greedy, honest, gone = (Peer(None, ("192.0.2.1", n)) for n in range(3))  # type: ignore[arg-type]
    for number in range(100):
        turns.add(greedy, call(number))
    assert len(begun) == 1, "the first is begun at once, the others when it is"
    turns.add(honest, call(7))
    turns.add(gone, call(8))
    turns.forget(gone)
    while loop.soon:
        loop.turn()
    assert (honest, 7) in begun[: CALLS_AT_ONCE + 1]
    assert [number for peer, number in begun if peer is greedy] == list(range(100))
    assert gone not in [peer for peer, _ in begun]
    busy = 101 * 0.01
    assert loop.now >= 1.4 * busy, "as long as calls took, other things are done"


def test_calls_that_take_long_are_begun_one_at_a_time() -> None:
    loop = Loop()
    begun: list[float] = []

    def begin(_peer: Peer, _call: Call) -> None:
        begun.append(loop.now)
        loop.now += took

    turns = CallTurns(loop, begin)
    peer = Peer(None, ("192.0.2.1", 1))  # type: ignore[arg-type]
    for took, together in ((LONG / 100, CALLS_AT_ONCE), (LONG * 2, 1)):
        for number in range(20):
            turns.add(peer, call(number))
        while loop.soon:
            loop.turn()
        # What came in one turn lies no further apart than a call takes.
        gaps = [later - earlier for earlier, later in itertools.pairwise(begun)]
        longest, at_once = 1, 1
        for gap in gaps[-10:]:
            at_once = at_once + 1 if gap <= took * 1.01 else 1
            longest = max(longest, at_once)
        assert longest == together
        begun.clear()
