"""Calls that satellites make over their links: each link has its turn, and messages go between them."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Protocol

from co2.protocol.relay.cursors import Peer
from co2.protocol.wire.link_frames import Call

__all__ = ["CALLS_AT_ONCE", "CallTurnLoop", "CallTurns"]

CALLS_AT_ONCE = 4
"""Calls that are begun together. As long as these took, other things are done before the next ones are."""


class CallTurnLoop(Protocol):
    """What is used of the event loop."""

    def time(self) -> float:
        """Return monotonic seconds."""

    def call_soon(self, callback: Callable[..., object], *args: object) -> object:
        """Have a function called in the loop's next turn."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> object:
        """Have a function called after so many seconds."""


class CallTurns:
    """Calls that wait to be begun.

    So a link that calls without end takes half of the loop's time at most, and others wait for few of its calls.

    Args:
        loop: that the relay runs in.
        begin: begins a call: makes a task for it. Its first step is what is measured.
    """

    def __init__(self, loop: CallTurnLoop, begin: Callable[[Peer, Call], None]) -> None:
        self._loop = loop
        self._begin = begin
        self._waiting: OrderedDict[Peer, deque[Call]] = OrderedDict()
        self._busy = False

    def add(self, peer: Peer, call: Call) -> None:
        """Take a call, and begin it at once where none waits."""
        self._waiting.setdefault(peer, deque()).append(call)
        if not self._busy:
            self._busy = True
            self._turn()

    def forget(self, peer: Peer) -> None:
        """Drop the calls of a link that has ended."""
        self._waiting.pop(peer, None)

    def _turn(self) -> None:
        began = self._loop.time()
        for _ in range(CALLS_AT_ONCE):
            if not self._waiting:
                break
            peer, calls = self._waiting.popitem(last=False)
            self._begin(peer, calls.popleft())
            if calls:
                self._waiting[peer] = calls  # behind all other links
        # The tasks' first steps come next in the loop, and right behind them this.
        self._loop.call_soon(self._done, began)

    def _done(self, began: float) -> None:
        if self._waiting:
            self._loop.call_later(self._loop.time() - began, self._turn)
        else:
            self._busy = False
