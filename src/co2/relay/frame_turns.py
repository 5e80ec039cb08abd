"""What links have brought and the relay has not taken yet: some at a time, each link in its turn."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from co2.protocol.relay.cursors import Peer

__all__ = ["FrameTurnLoop", "FrameTurns", "Take"]

Take = Callable[[Peer, list[bytes]], int]
"""Takes some frames of a link; gives how many, at least one."""


class FrameTurnLoop(Protocol):
    """What is used of the event loop."""

    def time(self) -> float:
        """Return monotonic seconds."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> object:
        """Have a function called after so many seconds."""


class FrameTurns:
    """Frames that wait. A link whose frames do is not read, so there is what one read gave, at most.

    Between two turns others have as long as the last turn took: all links whose frames wait have half of the event
    loop's time together.

    Args:
        loop: that the relay runs in.
        take: takes some of a link's; it may call :meth:`hold`, and :meth:`forget` for any link.
        taken: told when none of a link's are left.
    """

    def __init__(self, loop: FrameTurnLoop, take: Take, taken: Callable[[Peer], None]) -> None:
        self._loop = loop
        self._take = take
        self._taken = taken
        self._waiting: OrderedDict[Peer, list[bytes]] = OrderedDict()
        self._resting: dict[Peer, list[bytes]] = {}
        self._busy = False

    def __contains__(self, peer: Peer) -> bool:
        return peer in self._waiting or peer in self._resting

    def add(self, peer: Peer, frames: list[bytes], *, rests: bool) -> None:
        """Keep what a link has brought; where it ``rests``, until :meth:`go_on`."""
        (self._resting if rests else self._waiting)[peer] = frames
        self._begin(0.0)

    def hold(self, peer: Peer) -> None:
        """Take nothing of a link until :meth:`go_on`."""
        if (frames := self._waiting.pop(peer, None)) is not None:
            self._resting[peer] = frames

    def go_on(self, peer: Peer) -> None:
        """Let a link have its turns again."""
        if (frames := self._resting.pop(peer, None)) is not None:
            self._waiting[peer] = frames
            self._begin(0.0)

    def forget(self, peer: Peer) -> list[bytes]:
        """Keep nothing of a link any more; give what was kept."""
        return self._waiting.pop(peer, None) or self._resting.pop(peer, None) or []

    def _begin(self, pause: float) -> None:
        if not self._busy and self._waiting:
            self._busy = True
            self._loop.call_later(pause, self._turn)

    def _turn(self) -> None:
        self._busy = False
        if not self._waiting:
            return
        began = self._loop.time()
        peer, frames = next(iter(self._waiting.items()))
        self._waiting.move_to_end(peer)  # behind all other links
        try:
            rest = frames[self._take(peer, frames) :]
            for kept in (self._waiting, self._resting):
                if peer in kept:  # else its link has ended
                    kept[peer] = rest
            if peer in self and not rest:
                self.forget(peer)
                self._taken(peer)
        finally:
            self._begin(self._loop.time() - began)
