"""From the body of a request to that of its answer: parse, call, encode; a Fault for every error."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from co2.errors import PeerError, RemoteFault
from co2.server.rpc.long_answers import LONG, LongAnswers, written_size
from co2.xmlrpc.faults import as_fault
from co2.xmlrpc.reader import read_call
from co2.xmlrpc.registry import Caller, Registry
from co2.xmlrpc.writer import response_pieces, write_fault

__all__ = ["Endpoint", "RpcAnswer"]


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


class Endpoint:
    """Calls the methods of a registry.

    Args:
        registry: of the host.

    Attributes:
        calls: number of calls by outcome, ``ok`` or ``fault``.
        faults: number of faults by code; those passed on from other hosts count as -32500.
        long: queue of long answers, None for no queue.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.calls = {"ok": 0, "fault": 0}
        self.faults: dict[int, int] = {}
        self.long: LongAnswers | None = None

    def answer(
        self, body: bytes, caller: Caller, charset: str = ""
    ) -> RpcAnswer | Awaitable[Callable[[], RpcAnswer]]:
        """Answer a request: at once, or with an awaitable if the handler is a coroutine.

        The awaited function encodes the answer. It is called when the answer is sent: one message may end hundreds
        of calls in the same turn of the event loop, and their answers are megabytes each.

        Args:
            body: of the request.
            caller: sender of the request.
            charset: the codec that the request's Content-Type names, '' for none.
        """
        method = ""
        try:
            call = read_call(body, charset)
            method = call.method
            result = self._registry.call(method, call.params, caller)
            if hasattr(result, "__await__"):
                return self._awaited(method, result)
            return self._result(method, result)
        except Exception as error:
            return self.fault(method, error)

    async def _awaited(self, method: str, result: Awaitable[Any]) -> Callable[[], RpcAnswer]:
        try:
            value = await result
            if self.long is not None and written_size(value) > LONG:
                await self.long.turn()
            return partial(self._written, method, value)
        except Exception as error:
            return partial(self.fault, method, error)

    def _written(self, method: str, value: Any) -> RpcAnswer:
        try:
            return self._result(method, value)
        except Exception as error:
            return self.fault(method, error)

    def _result(self, method: str, value: Any) -> RpcAnswer:
        pieces = response_pieces(value)
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
