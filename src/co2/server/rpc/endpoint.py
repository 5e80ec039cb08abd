"""From the body of a request to that of its answer: parse, call, encode; a Fault for every error."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from co2.errors import PeerError, RemoteFault
from co2.server.rpc.answer_turns import AnswerTurns
from co2.server.rpc.long_answers import LONG, LongAnswers, written_parts
from co2.xmlrpc.faults import as_fault
from co2.xmlrpc.reader import call_steps, read_call
from co2.xmlrpc.registry import Caller, Registry
from co2.xmlrpc.writer import LazyArray, Steps, response_steps, write_fault

__all__ = ["LONG_CALL", "MAX_WAITING", "Encoding", "Endpoint", "RpcAnswer"]

LONG_CALL = 64 * 1024
"""Bytes of a request above which it is parsed and answered in steps."""

MAX_WAITING = 8 * 1024 * 1024
"""Bytes of all such requests together that wait for their steps; one beyond that is answered at once."""


@dataclass(slots=True)
class RpcAnswer:
    """The answer to a request.

    Attributes:
        pieces: XML, in pieces that are not joined: the longest of them may be part of many answers.
        method: that was called; '' if none could be parsed.
        fault: its code; 0 for none.
    """

    pieces: Sequence[bytes]
    method: str
    fault: int

    @property
    def size(self) -> int:
        """Bytes of the XML."""
        return sum(map(len, self.pieces))


class Encoding:
    """The result of a call that is being encoded: a long one takes many steps of half a millisecond.

    Args:
        endpoint: counts the answer.
        method: that was called.
        begin: begins the encoding.
        error: to answer with instead, None for none.
    """

    def __init__(
        self, endpoint: "Endpoint", method: str, begin: Callable[[], Steps], error: Exception | None = None
    ) -> None:
        self._endpoint = endpoint
        self._method = method
        self._begin = begin
        self._error = error
        self._steps: Steps | None = None

    @property
    def is_begun(self) -> bool:
        """Whether a step was done."""
        return self._steps is not None

    def begin_anew(self) -> None:
        """Drop what was encoded: of many long answers that wait not even the first steps are kept."""
        self._steps = self._begin()

    def step(self) -> RpcAnswer | None:
        """Encode some more; return the answer, None if there is more to do."""
        if self._error is not None:
            # Not raised here: in a cycle with its traceback it would wait for the garbage collector.
            return self._endpoint.fault(self._method, self._error)
        if self._steps is None:
            self._steps = self._begin()
        try:
            next(self._steps)
        except StopIteration as end:
            return self._endpoint.success(self._method, end.value)
        except Exception as error:
            return self._endpoint.fault(self._method, error)
        return None


class Endpoint:
    """Calls the methods of a registry.

    Args:
        registry: of the host.

    Attributes:
        calls: number of calls by outcome, ``ok`` or ``fault``.
        faults: number of faults by code; those passed on from other hosts count as -32500.
        long: queue of long answers, None for no queue.
        turns: of the event loop, for the steps of long requests; None for no steps.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.calls = {"ok": 0, "fault": 0}
        self.faults: dict[int, int] = {}
        self.long: LongAnswers | None = None
        self.turns: AnswerTurns | None = None
        self._one_long_call = asyncio.Lock()
        self._waiting = 0

    def answer(
        self, body: bytes, caller: Caller, charset: str = ""
    ) -> RpcAnswer | Encoding | Awaitable[Encoding | RpcAnswer]:
        """Answer a request: at once, or with what is still to be encoded, or with an awaitable of that.

        The awaited result is encoded when the answer is sent: one message may end hundreds of calls in the same
        turn of the event loop, and their answers are megabytes each.

        Args:
            body: of the request.
            caller: sender of the request.
            charset: the codec that the request's Content-Type names, '' for none.
        """
        if len(body) > LONG_CALL and self.turns is not None and self._waiting + len(body) <= MAX_WAITING:
            return self._in_steps(self.turns, body, caller, charset)
        method = ""
        try:
            call = read_call(body, charset)
            method = call.method
            result = self._registry.call(method, call.params, caller)
            if isinstance(result, LazyArray):
                return self._encoding(method, result)
            if hasattr(result, "__await__"):
                return self._awaited(method, result)
        except Exception as error:
            return self.fault(method, error)
        # At once: it is short, or as long as the request; and if many of them waited, they would all be kept.
        answer = None
        encoding = self._encoding(method, result)
        while answer is None:
            answer = encoding.step()
        return answer

    async def _in_steps(
        self, turns: AnswerTurns, body: bytes, caller: Caller, charset: str
    ) -> Encoding | RpcAnswer:
        """Answer a long request: one at a time, so that only one is in memory in its parsed form."""
        method = ""
        self._waiting += len(body)
        try:
            async with self._one_long_call:
                call = await turns.through(call_steps(body, charset))
                method = call.method
                result = self._registry.call(method, call.params, caller)
                if isinstance(result, LazyArray):
                    return self._encoding(method, result)
                if not hasattr(result, "__await__"):
                    return self.success(method, await turns.through(response_steps(result)))
        except Exception as error:
            return self.fault(method, error)
        finally:
            self._waiting -= len(body)
        return await self._awaited(method, result)

    async def _awaited(self, method: str, result: Awaitable[Any]) -> Encoding:
        try:
            value = await result
            if self.long is not None and sum(map(len, (parts := written_parts(value)).values())) > LONG:
                await self.long.turn(parts)
            return self._encoding(method, value)
        except Exception as error:
            return Encoding(self, method, partial(response_steps, None), error)

    def _encoding(self, method: str, value: Any) -> Encoding:
        return Encoding(self, method, partial(response_steps, value))

    def success(self, method: str, pieces: Sequence[bytes]) -> RpcAnswer:
        """Count an answer with a result and return it."""
        self.calls["ok"] += 1
        return RpcAnswer(pieces, method, 0)

    def fault(self, method: str, error: Exception) -> RpcAnswer:
        """Count an error and return its Fault; the HTTP status is always 200, as XML-RPC wants it."""
        told = as_fault(error, method or "a request")
        self.calls["fault"] += 1
        # Another host's code may be any number; counting each one would let it fill our memory and metrics.
        code = PeerError.code if isinstance(told, RemoteFault) else told.code
        self.faults[code] = self.faults.get(code, 0) + 1
        return RpcAnswer([write_fault(told.code, str(told))], method, told.code)
