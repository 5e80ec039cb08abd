"""Long messages without a number take turns on their way to the disk, because messages behind them wait for it."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from typing import Any

from co2.errors import Busy

__all__ = ["LONG", "MAX_REST", "MAX_WAITING", "MAX_WAITING_BYTES", "REST", "LongTurns"]

LONG = 64 * 1024
"""Bytes of messages that are passed on together, above which they are long."""

REST = 20
"""Times that a long message took to the disk for which the next one waits, if other messages came behind it."""

MAX_REST = 1.0
"""Seconds that it waits at most."""

MAX_WAITING = 32
"""Long messages that wait for their turn; more are refused."""

MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Bytes of these, likewise."""


class LongTurns:
    """The turns of long messages: one is on its way to the disk at a time, the sources one after the other.

    Args:
        last: returns the position of the newest message of the log.
    """

    def __init__(self, last: Callable[[], int]) -> None:
        self._last = last
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._count = 0
        self._bytes = 0
        self._is_taken = False
        self._tasks: set[asyncio.Task[int]] = set()

    def __len__(self) -> int:
        """Return the number of messages that wait."""
        return self._count

    async def through(
        self, source: str, size: int, count: int, work: Callable[[], Coroutine[Any, Any, int]]
    ) -> int:
        """Do the work of bringing messages to disk, in turn if they are long; return its result.

        Args:
            source: of the messages, see :func:`co2.sources.source_of`.
            size: their bytes.
            count: their number.
            work: returns once they are on disk. Begun, it goes on even if the caller is cancelled.

        Raises:
            Busy: too many long messages wait.
        """
        if size <= LONG:
            return await work()
        await self._turn(source, size)
        task = asyncio.ensure_future(self._work(count, work))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def _turn(self, source: str, size: int) -> None:
        if not self._is_taken:
            self._is_taken = True
            return
        if self._count >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            raise Busy(
                f"{self._count} messages of over {LONG // 1024} KiB wait for the relay's disk; try again, or send "
                "long messages from a satellite, whose messages do not delay others"
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(source, deque()).append(turn)
        self._count += 1
        self._bytes += size
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next()  # the turn came, and nobody is there to use it
            raise
        finally:
            self._count -= 1
            self._bytes -= size

    async def _work(self, count: int, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
        loop = asyncio.get_running_loop()
        began, before = loop.time(), self._last()
        try:
            return await work()
        finally:
            rest = REST * (loop.time() - began) if self._last() > before + count else 0.0
            loop.call_later(min(MAX_REST, rest), self._next)

    def _done(self, task: "asyncio.Task[int]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the caller gets it, and may be gone

    def _next(self) -> None:
        """Pass the turn to the next source that waits."""
        while self._waiting:
            source, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[source] = turns  # behind all other sources
            if not turn.done():  # else its caller is gone
                turn.set_result(None)
                return
        self._is_taken = False
