"""Long answers take turns: otherwise hundreds of calls that end together would all be encoded at once."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from co2.xmlrpc.writer import Written

__all__ = ["LONG", "LongAnswers", "written_size"]

LONG = 128 * 1024
"""Bytes above which an answer waits for its turn."""

STEP = 0.002
"""Seconds from one turn to the next: the answer has been written by then, as far as the other side reads it."""

PATIENCE = 0.05
"""Seconds that a turn waits at most while too much is unsent: then the connection unread for longest is ended."""

_DEPTH = 4
"""Levels of a value that are searched: an answer of system.multicall with one of relay.fetch in it."""


class LongAnswers:
    """The queue of long answers.

    Args:
        loop: of all of them.
        unsent: returns the bytes of answers that have not been read.
        limit: of these bytes; above half of it turns wait.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, unsent: Callable[[], int], limit: int) -> None:
        self._loop = loop
        self._unsent = unsent
        self._limit = limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.Handle | None = None
        self._until = 0.0

    def __len__(self) -> int:
        """Return the number of waiting answers."""
        return sum(not waiting.done() for waiting in self._waiting)

    async def turn(self) -> None:
        """Wait until an answer may be encoded."""
        waiting: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(waiting)
        if self._timer is None:
            self._until = self._loop.time() + PATIENCE
            self._next()
        await waiting

    def _next(self) -> None:
        self._timer = None
        while self._waiting and self._waiting[0].done():  # the caller has hung up
            self._waiting.popleft()
        if not self._waiting:
            return
        now = self._loop.time()
        if self._unsent() <= self._limit // 2 or now >= self._until:
            self._waiting.popleft().set_result(None)
            self._until = now + PATIENCE
        # Also if nobody waits now: the next answer waits until this one has been written.
        self._timer = self._loop.call_later(STEP, self._next)


def written_size(value: Any, depth: int = _DEPTH) -> int:
    """Return the bytes of all encoded parts of a value."""
    if isinstance(value, Written):
        return len(value.xml)
    if not depth or not isinstance(value, dict | list | tuple):
        return 0
    return sum(written_size(one, depth - 1) for one in (value.values() if isinstance(value, dict) else value))
