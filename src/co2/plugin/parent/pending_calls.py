"""Calls of ``x_`` methods that wait for their results."""

import asyncio
from collections.abc import Container
from dataclasses import dataclass

from co2.errors import BadParams, CallTimeout, PluginFailed

__all__ = ["MAX_CALLS", "MAX_CALL_BYTES", "PluginCalls"]

MAX_CALLS = 256
MAX_CALL_BYTES = 8 * 1024 * 1024
"""Calls of one package that may wait, and the bytes of their arguments."""


@dataclass(slots=True)
class _PluginCall:
    method: str
    size: int
    answer: asyncio.Future[bytes]


class PluginCalls:
    """The calls of one package. Numbers are never used twice, so a late result harms nobody."""

    def __init__(self) -> None:
        self._number = 0
        self._bytes = 0
        self._pending: dict[int, _PluginCall] = {}

    def new(self, method: str, size: int) -> tuple[int, asyncio.Future[bytes]]:
        """Number a call whose argument has ``size`` bytes.

        Raises:
            PluginFailed: too many wait already.
        """
        if len(self._pending) >= MAX_CALLS or self._bytes + size > MAX_CALL_BYTES:
            raise PluginFailed(f"{method}: {len(self._pending)} calls of this package wait already; try later")
        self._number += 1
        self._bytes += size
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[self._number] = _PluginCall(method, size, answer)
        return self._number, answer

    async def wait(self, call_id: int, answer: asyncio.Future[bytes], timeout: float) -> bytes:
        """Wait for the result, encoded.

        Raises:
            CallTimeout: it did not come within ``timeout`` seconds.
            PluginFailed: the method raised, or its plugin host died.
            BadParams: it does not take this argument.
        """
        pending = self._pending[call_id]
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise CallTimeout(pending.method, timeout) from None
        finally:
            if self._pending.pop(call_id, None) is not None:
                self._bytes -= pending.size

    def answer(self, call_id: int, value: bytes, error: str, *, refused: bool = False) -> None:
        """Take a result; ``refused`` where the argument was wrong."""
        pending = self._pending.get(call_id)
        if pending is None or pending.answer.done():
            return
        if error:
            pending.answer.set_exception(BadParams(error) if refused else PluginFailed(error))
        else:
            pending.answer.set_result(value)

    def method(self, call_id: int) -> str:
        """Give the name of the method called, '' when nobody waits for it any more."""
        pending = self._pending.get(call_id)
        return pending.method if pending is not None else ""

    def fail(self, why: str, but: Container[int] = ()) -> None:
        """No result will come any more, for any call but these."""
        for call_id, pending in self._pending.items():
            if call_id not in but and not pending.answer.done():
                pending.answer.set_exception(PluginFailed(f"{pending.method}: {why}"))
