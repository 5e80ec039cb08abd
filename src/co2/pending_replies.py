"""Calls that another process is to answer: which wait, how much of them, and what comes of each."""

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
    """Calls by number. Numbers are never used twice, so a late reply harms nobody.

    Args:
        max_calls: so many may wait.
        max_bytes: so many bytes may their arguments have together; None where something else bounds them.
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
        """Number a call; who begins one awaits :meth:`wait`."""
        self._number += 1
        self._bytes += size
        self._pending[self._number] = _Pending(method, size, asyncio.get_running_loop().create_future())
        return self._number

    async def wait(self, number: int, timeout: float, grace: float = 0.0) -> Reply:
        """Wait for the reply to a call, and forget it.

        Args:
            number: of the call.
            timeout: seconds that the call may take.
            grace: seconds beyond them, in which the other side may say itself that there was no answer.

        Raises:
            CallTimeout: there was none in time.
            Exception: what :meth:`fail` was given.
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
        """Take the reply to a call; one that nobody waits for is dropped."""
        pending = self._pending.get(number)
        if pending is not None and not pending.reply.done():
            pending.reply.set_result(reply)

    def fail(self, number: int, error: Exception) -> None:
        """Have a call raise an error in place of its reply."""
        pending = self._pending.get(number)
        if pending is not None and not pending.reply.done():
            pending.reply.set_exception(error)

    def fail_all(self, error: Callable[[str], Exception], but: Container[int] = ()) -> None:
        """Have all calls but some raise what ``error`` makes of their method: no reply will come."""
        for number, pending in self._pending.items():
            if number not in but:
                self.fail(number, error(pending.method))

    def method(self, number: int) -> str:
        """Return the method that was called, '' where nobody waits for it any more."""
        pending = self._pending.get(number)
        return pending.method if pending is not None else ""
