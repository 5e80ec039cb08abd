"""Pending calls to satellites, with limits per satellite, per caller, and in total."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from co2.errors import Unreachable
from co2.protocol.relay.cursors import Peer
from co2.protocol.wire.link_frames import Result

__all__ = ["MAX_CALLS", "MAX_CALLS_OF_CALLER", "MAX_CALLS_TO_CALLEE", "PendingCall", "PendingCalls"]

MAX_CALLS_OF_CALLER = 100
"""Pending calls of one caller; one more is refused. A caller is a link, or an address."""

MAX_CALLS_TO_CALLEE = 200
"""Pending calls to one satellite; for one more, the caller with the most loses its oldest."""

MAX_CALLS = 1000
"""Pending calls to all satellites together; for one more, likewise."""


@dataclass(slots=True, eq=False)
class PendingCall:
    """One call.

    Attributes:
        number: of the Call frame.
        callee: the called satellite.
        caller: of the call.
        answer: the received result, or the error in its place.
    """

    number: int
    callee: Peer
    caller: Hashable
    answer: asyncio.Future[Result]


class _Shares:
    """Calls by caller, oldest first."""

    def __init__(self) -> None:
        self.count = 0
        self._of: dict[Hashable, dict[PendingCall, None]] = {}

    def add(self, call: PendingCall) -> None:
        self._of.setdefault(call.caller, {})[call] = None
        self.count += 1

    def remove(self, call: PendingCall) -> None:
        calls = self._of[call.caller]
        del calls[call]
        self.count -= 1
        if not calls:
            del self._of[call.caller]

    def number_of(self, caller: Hashable) -> int:
        return len(self._of.get(caller, ()))

    def oldest_of_most(self) -> PendingCall:
        most = max(self._of, key=self.number_of)
        return next(iter(self._of[most]))

    def __iter__(self) -> "itertools.chain[PendingCall]":
        return itertools.chain.from_iterable(list(calls) for calls in list(self._of.values()))


class PendingCalls:
    """The table. When it is full, the caller with the most calls makes room for a caller with few."""

    def __init__(self) -> None:
        self.displaced = 0
        self._numbers = itertools.count(1)
        self._calls: dict[tuple[Peer, int], PendingCall] = {}
        self._callers: Counter[Hashable] = Counter()
        self._all = _Shares()
        self._to: dict[Peer, _Shares] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, callee: Peer, caller: Hashable, who: str) -> PendingCall:
        """Add a call.

        Args:
            callee: the called satellite.
            caller: of the call.
            who: the caller, for texts.

        Raises:
            Unreachable: there are too many; the text names the limit.
        """
        if self._callers[caller] >= MAX_CALLS_OF_CALLER:
            raise Unreachable(
                f"{callee.label}: {who} has {MAX_CALLS_OF_CALLER} calls to satellites in progress, "
                "the limit for one caller; wait for some of them"
            )
        to = self._to.get(callee) or _Shares()
        if to.count >= MAX_CALLS_TO_CALLEE:
            self._make_room(
                to,
                caller,
                callee,
                (f"{MAX_CALLS_TO_CALLEE} calls to it are in progress, the limit for one satellite"),
            )
        if len(self._calls) >= MAX_CALLS:
            self._make_room(
                self._all, caller, callee,
                f"{MAX_CALLS} calls to satellites are in progress, the limit of this relay",
            )  # fmt: skip
        call = PendingCall(next(self._numbers), callee, caller, asyncio.get_running_loop().create_future())
        self._calls[callee, call.number] = call
        self._callers[caller] += 1
        self._all.add(call)
        self._to.setdefault(callee, _Shares()).add(call)
        return call

    def remove(self, call: PendingCall) -> None:
        """Forget a call that is done, if it is still in the table."""
        if self._calls.pop((call.callee, call.number), None) is None:
            return
        self._callers[call.caller] -= 1
        if not self._callers[call.caller]:
            del self._callers[call.caller]
        self._all.remove(call)
        to = self._to[call.callee]
        to.remove(call)
        if not to.count:
            del self._to[call.callee]

    def answered(self, callee: Peer, result: Result) -> bool:
        """Process an answer; return whether a call waited for it."""
        call = self._calls.get((callee, result.call_id))
        if call is None or call.answer.done():
            return False
        call.answer.set_result(result)
        return True

    def left(self, callee: Peer) -> None:
        """Answer all calls to a satellite whose link has ended."""
        for call in self._to.get(callee, ()):
            _tell(call, f"{callee.label}: its link has ended")

    def _make_room(self, shares: _Shares, caller: Hashable, callee: Peer, why: str) -> None:
        oldest = shares.oldest_of_most()
        if shares.number_of(oldest.caller) <= shares.number_of(caller) + 1:
            raise Unreachable(f"{callee.label}: {why}; try again")
        self.displaced += 1
        _tell(oldest, f"{oldest.callee.label}: {why}, and its caller has most of them; try again")
        self.remove(oldest)


def _tell(call: PendingCall, why: str) -> None:
    if not call.answer.done():
        call.answer.set_result(Result(call.number, b"", Unreachable.code, why))
