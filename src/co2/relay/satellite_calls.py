"""Calls over links, both ways: of satellites' methods by the relay, and of the relay's methods by satellites."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any

from co2.errors import AnswerTooBig, BadParams, CallTimeout, RemoteFault, TooBig, Unreachable, ValueRefused
from co2.protocol.relay.core import RelayCore
from co2.protocol.relay.cursors import Peer
from co2.protocol.wire.link_frames import MAX_ASKER, Call, Result
from co2.protocol.wire.relay_requests import MAX_ANSWER, RelayRequest
from co2.relay.call_turns import CallTurns
from co2.relay.pending_calls import PendingCalls
from co2.server.rpc.link_calls import MAX_TEXT, answer_call
from co2.server.rpc.results import Results
from co2.tasks import TaskSet
from co2.values import pack_value

__all__ = ["MAX_ANSWERS", "SatelliteCalls"]

MAX_ANSWERS = 1000
"""Calls of one satellite that may be under way; further calls are refused."""

_REQUESTS = "requests"
"""The caller of all requests of the relay itself, for the limits of :class:`PendingCalls`."""

_logger = logging.getLogger("co2.relay")


class SatelliteCalls:
    """All calls over links. Used in the event loop in which it is made.

    Args:
        core: of the links.
        flush: writes waiting frames.
        called: calls a method of this relay for a satellite: (its link, method, argument).
    """

    def __init__(
        self,
        core: RelayCore,
        flush: Callable[[], None],
        called: Callable[[Peer, str, Any], Awaitable[Any]],
    ) -> None:
        self._core = core
        self._flush = flush
        self._called = called
        self._pending = PendingCalls()
        self._results = Results()
        self._turns = CallTurns(asyncio.get_running_loop(), self._begin)
        self._answering: Counter[Peer] = Counter()
        self._answers: dict[Peer, set[asyncio.Task[None]]] = {}
        self._tasks = TaskSet(_logger, "a call")

    async def call(
        self, peer: Peer, method: str, argument: Any, timeout: float,
        *, caller: Hashable = None, who: str = "it", written: bool = False,
    ) -> Any:  # fmt: skip
        """Call a method of a satellite.

        Args:
            peer: its link.
            method: name of the method.
            argument: for the method.
            timeout: seconds until CallTimeout.
            caller: key of the caller, for the limits of :class:`PendingCalls`.
            who: the caller's name, for error messages.
            written: the result is passed on as XML, see :meth:`Results.value_of`.

        Raises:
            BadParams: the argument cannot be packed.
            RemoteFault: the satellite answered with a Fault.
            Unreachable: its link has ended, or too many calls are under way.
            CallTimeout: no answer in time.
            AnswerTooBig: see :meth:`Results.value_of`.
        """
        # Without an asker, whoever calls: the satellite takes only the relay's own requests for such.
        value = await self._value_of_call(peer, method, argument, timeout, caller=caller, who=who, asker="")
        return await self._results.value_of(value, str(peer.host_id), written=written)

    async def ask(self, peer: Peer, request: RelayRequest, argument: dict[str, Any], asker: str) -> Any:
        """Make a request of the relay itself to a satellite; the caller has checked who asks.

        Args:
            peer: its link.
            request: to make.
            argument: of the request.
            asker: who asks, for the satellite's log; not empty.

        Raises:
            PeerError: see :meth:`call`.
            AnswerTooBig: the answer is over :data:`~co2.protocol.wire.relay_requests.MAX_ANSWER`.
        """
        value = await self._value_of_call(
            peer,
            request.name,
            argument,
            request.timeout,
            caller=_REQUESTS,
            who="this relay",
            asker=asker[:MAX_ASKER],
        )
        if len(value) > MAX_ANSWER:
            raise AnswerTooBig(f"{peer.host_id} answered with {len(value)} bytes; the limit is {MAX_ANSWER}")
        return await self._results.value_of(value, str(peer.host_id), written=False)

    async def _value_of_call(
        self, peer: Peer, method: str, argument: Any, timeout: float,
        *, caller: Hashable, who: str, asker: str,
    ) -> bytes:  # fmt: skip
        """Call a method of a satellite and return its encoded result, see :meth:`call`."""
        if peer.state != "open":
            raise Unreachable(f"{peer.label}: its link has ended")
        try:
            packed = pack_value(argument)
        except (ValueRefused, TooBig) as error:
            raise BadParams(str(error)) from None
        pending = self._pending.add(peer, caller, who)
        self._core.call(peer, Call(pending.number, method, packed, timeout, asker))
        self._flush()
        try:
            async with asyncio.timeout(timeout):
                result = await pending.answer
        except TimeoutError:
            raise CallTimeout(f"{method} on {peer.label}", timeout) from None
        finally:
            self._pending.remove(pending)
        if result.code:
            raise RemoteFault(result.code, result.error[:MAX_TEXT])
        return result.value

    def answered(self, peer: Peer, result: Result) -> bool:
        """Complete a call with a satellite's result; return whether a caller was waiting."""
        return self._pending.answered(peer, result)

    def take(self, peer: Peer, call: Call) -> None:
        """Queue a satellite's call for its turn, or refuse it."""
        if self._answering[peer] >= MAX_ANSWERS:
            why = f"{call.method}: {MAX_ANSWERS} calls of this satellite are already in progress"
            self._core.answer(peer, Result(call.call_id, b"", Unreachable.code, why))
        else:
            self._answering[peer] += 1
            self._turns.add(peer, call)

    def forget(self, peer: Peer) -> None:
        """Cancel the calls of a link that has ended; calls to it have failed."""
        self._pending.left(peer)
        self._turns.forget(peer)
        self._answering.pop(peer, None)
        # Otherwise a satellite that calls and reconnects endlessly would have any number of calls under way.
        for task in self._answers.pop(peer, ()):
            task.cancel()

    async def stop(self) -> None:
        """Cancel all calls under way."""
        await self._tasks.stop()
        self._results.close()

    def _begin(self, peer: Peer, call: Call) -> None:
        task = self._tasks.start(self._answer(peer, call))
        self._answers.setdefault(peer, set()).add(task)
        task.add_done_callback(partial(self._answered_one, peer))

    def _answered_one(self, peer: Peer, task: asyncio.Task[None]) -> None:
        if (tasks := self._answers.get(peer)) is not None:
            tasks.discard(task)
            if not tasks:
                del self._answers[peer]

    async def _answer(self, peer: Peer, call: Call) -> None:
        try:
            result = await answer_call(call, partial(self._called, peer))
        finally:
            if peer in self._answering:  # else its link has ended
                self._answering[peer] -= 1
        self._core.answer(peer, result)
        self._flush()
