"""Calls of satellites over their links: the links take turns, and messages pass between the calls."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Protocol

from co2.protocol.relay.cursors import Peer
from co2.protocol.wire.link_frames import Call

__all__ = ["CALLS_AT_ONCE", "CallTurnLoop", "CallTurns"]

CALLS_AT_ONCE = 4
"""Calls that are started together. For as long as these took, other work is done before the next ones."""

LONG = 0.001
"""Seconds after which calls that were started together are long: the next one is started alone."""


class CallTurnLoop(Protocol):
    """The interface of the event loop used here."""

    def time(self) -> float:
        """Return monotonic seconds."""

    def call_soon(self, callback: Callable[..., object], *args: object) -> object:
        """Call a function in the loop's next turn."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> object:
        """Call a function after ``delay`` seconds."""


class CallTurns:
    """Calls that wait to be started.

    A link that calls endlessly gets at most half of the loop's time, and others wait for only a few of its calls.

    Args:
        loop: of the relay.
        begin: starts a call: makes a task for it. The task's first step is measured.
    """

    def __init__(self, loop: CallTurnLoop, begin: Callable[[Peer, Call], None]) -> None:
        self._loop = loop
        self._begin = begin
        self._waiting: OrderedDict[Peer, deque[Call]] = OrderedDict()
        self._busy = False
        self._at_once = CALLS_AT_ONCE

    def add(self, peer: Peer, call: Call) -> None:
        """Queue a call, and start it at once if none waits."""
        self._waiting.setdefault(peer, deque()).append(call)
        if not self._busy:
            self._busy = True
            self._turn()

    def forget(self, peer: Peer) -> None:
        """Drop the calls of a link that has ended."""
        self._waiting.pop(peer, None)

    def _turn(self) -> None:
        began = self._loop.time()
        for _ in range(self._at_once):
            if not self._waiting:
                break
            peer, calls = self._waiting.popitem(last=False)
            self._begin(peer, calls.popleft())
            if calls:
                self._waiting[peer] = calls  # behind all other links
        # The tasks' first steps come next in the loop, and this right after them.
        self._loop.call_soon(self._done, began)

    def _done(self, began: float) -> None:
        spent = self._loop.time() - began
        self._at_once = CALLS_AT_ONCE if spent < LONG else 1
        if self._waiting:
            self._loop.call_later(spent, self._turn)
        else:
            self._busy = False
