"""Frames that links have sent and the relay has not processed yet: some at a time, each link in its turn."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from co2.protocol.relay.cursors import Peer

__all__ = ["FrameTurnLoop", "FrameTurns", "Process"]

Process = Callable[[Peer, list[bytes]], int]
"""Processes some frames of a link; returns how many, at least one."""


class FrameTurnLoop(Protocol):
    """The interface of the event loop used here."""

    def time(self) -> float:
        """Return monotonic seconds."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> object:
        """Call a function after ``delay`` seconds."""


class FrameTurns:
    """Frames that wait. A link with waiting frames is not read, so at most the frames of one read wait.

    The pause between two turns is as long as the last turn: all links with waiting frames get half of the event
    loop's time together.

    Args:
        loop: of the relay.
        process: processes some of a link's; it may call :meth:`hold`, and :meth:`forget` for any link.
        emptied: called when none of a link's are left.
    """

    def __init__(self, loop: FrameTurnLoop, process: Process, emptied: Callable[[Peer], None]) -> None:
        self._loop = loop
        self._process = process
        self._emptied = emptied
        self._waiting: OrderedDict[Peer, list[bytes]] = OrderedDict()
        self._resting: dict[Peer, list[bytes]] = {}
        self._busy = False

    def __contains__(self, peer: Peer) -> bool:
        return peer in self._waiting or peer in self._resting

    def add(self, peer: Peer, frames: list[bytes], *, rests: bool) -> None:
        """Queue the frames of a link; if it ``rests``, they wait for :meth:`go_on`."""
        (self._resting if rests else self._waiting)[peer] = frames
        self._begin(0.0)

    def hold(self, peer: Peer) -> None:
        """Stop processing frames of a link until :meth:`go_on`."""
        if (frames := self._waiting.pop(peer, None)) is not None:
            self._resting[peer] = frames

    def go_on(self, peer: Peer) -> None:
        """Return a link to the turns."""
        if (frames := self._resting.pop(peer, None)) is not None:
            self._waiting[peer] = frames
            self._begin(0.0)

    def forget(self, peer: Peer) -> list[bytes]:
        """Drop the frames of a link; return them."""
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
            rest = frames[self._process(peer, frames) :]
            for kept in (self._waiting, self._resting):
                if peer in kept:  # else its link has ended
                    kept[peer] = rest
            if peer in self and not rest:
                self.forget(peer)
                self._emptied(peer)
        finally:
            self._begin(self._loop.time() - began)
