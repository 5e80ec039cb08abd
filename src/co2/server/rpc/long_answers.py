"""Long answers take turns: otherwise hundreds of calls that end together would all be encoded at once."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from co2.errors import BadRequest
from co2.xmlrpc.writer import Written

__all__ = ["LONG", "MAX_WAITING", "LongAnswers", "written_parts"]

LONG = 128 * 1024
"""Bytes above which an answer waits for its turn."""

MAX_WAITING = 64 * 1024 * 1024
"""Bytes of the encoded parts of all answers that wait; a part of several answers counts once. Above it, further
long answers are refused."""

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
        self._users: dict[int, int] = {}  # number of waiting answers by the identity of a part
        self._size = 0

    def __len__(self) -> int:
        """Return the number of waiting answers."""
        return sum(not waiting.done() for waiting in self._waiting)

    async def turn(self, parts: Mapping[int, bytes]) -> None:
        """Wait until an answer may be encoded.

        Args:
            parts: of the answer, see :func:`written_parts`.

        Raises:
            BadRequest: answers with too many bytes are waiting already.
        """
        more = sum(len(part) for key, part in parts.items() if key not in self._users)
        if self._size and self._size + more > MAX_WAITING:
            raise BadRequest("too many long answers are waiting; try again")
        waiting: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(waiting)
        self._hold(parts)
        try:
            if self._timer is None:
                self._until = self._loop.time() + PATIENCE
                self._next()
            await waiting
        finally:
            self._release(parts)

    def _hold(self, parts: Mapping[int, bytes]) -> None:
        for key, part in parts.items():
            users = self._users[key] = self._users.get(key, 0) + 1
            if users == 1:
                self._size += len(part)

    def _release(self, parts: Mapping[int, bytes]) -> None:
        for key, part in parts.items():
            users = self._users[key] = self._users[key] - 1
            if not users:
                del self._users[key]
                self._size -= len(part)

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


def written_parts(value: Any) -> dict[int, bytes]:
    """Return the encoded parts of a value, each once, by its identity."""
    return {id(part): part for part in _parts(value, _DEPTH)}


def _parts(value: Any, depth: int) -> Iterator[bytes]:
    if isinstance(value, Written):
        yield value.xml
    elif depth and isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _parts(one, depth - 1)
