"""Calls that wait for a reply of another process: their number, their size and the outcome of each."""

import asyncio
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Generic, TypeVar

from co2.errors import CallTimeout

__all__ = ["PendingReplies"]

Reply = TypeVar("Reply")


@dataclass(slots=True)
class _Pending(Generic[Reply]):
    method: str
    size: int
    reply: asyncio.Future[Reply]


class PendingReplies(Generic[Reply]):
    """Calls by number. Numbers are never reused, so a late reply does no harm.

    Args:
        max_calls: calls that may wait.
        max_bytes: bytes of all their arguments; None if something else limits them.
    """

    def __init__(self, max_calls: int, max_bytes: int | None = None) -> None:
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._number = 0
        self._bytes = 0
        self._pending: dict[int, _Pending[Reply]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def has_room(self, size: int = 0) -> bool:
        """Return whether one more call, with an argument of ``size`` bytes, may wait."""
        if self._max_bytes is not None and self._bytes + size > self._max_bytes:
            return False
        return len(self._pending) < self._max_calls

    def begin(self, method: str, size: int = 0) -> int:
        """Number a new call; its owner awaits :meth:`wait`."""
        self._number += 1
        self._bytes += size
        self._pending[self._number] = _Pending(method, size, asyncio.get_running_loop().create_future())
        return self._number

    async def wait(self, number: int, timeout: float, grace: float = 0.0) -> Reply:
        """Wait for the reply to a call, and forget the call.

        Args:
            number: of the call.
            timeout: seconds that the call may take.
            grace: further seconds, in which the other side may report itself that there was no reply.

        Raises:
            CallTimeout: there was no reply in time.
            Exception: the error given to :meth:`fail`.
        """
        pending = self._pending[number]
        try:
            async with asyncio.timeout(timeout + grace):
                return await pending.reply
        except TimeoutError:
            raise CallTimeout(pending.method, timeout) from None
        finally:
            del self._pending[number]
            self._bytes -= pending.size

    def answer(self, number: int, reply: Reply) -> None:
        """Set the reply to a call; one that nobody waits for is dropped."""
        pending = self._pending.get(number)
        if pending is not None and not pending.reply.done():
            pending.reply.set_result(reply)

    def fail(self, number: int, error: Exception) -> None:
        """Make a call raise an error in place of its reply."""
        pending = self._pending.get(number)
        if pending is not None and not pending.reply.done():
            pending.reply.set_exception(error)

    def fail_all(self, error: Callable[[str], Exception], but: Container[int] = ()) -> None:
        """Make all calls but some raise the result of ``error`` for their method: no reply will come."""
        for number, pending in self._pending.items():
            if number not in but:
                self.fail(number, error(pending.method))

    def method(self, number: int) -> str:
        """Return the method of a call, '' if nobody waits for it any more."""
        pending = self._pending.get(number)
        return pending.method if pending is not None else ""
