"""Long JSON texts: bodies are read in steps, results are written in a thread, one of each at a time."""

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from co2.errors import Busy
from co2.exact_json.reader import read_steps
from co2.exact_json.writer import is_short, write
from co2.server.rpc.answer_turns import AnswerTurns
from co2.thread_priority import short_turns

__all__ = ["LONG_BODY", "MAX_BODIES", "MAX_RESULTS", "SHORT_RESULT", "LongJson"]

LONG_BODY = 4 * 1024
"""Bytes of a body above which it is read in steps: 2,000 messages fit into 64 KiB."""

MAX_BODIES = 8 * 1024 * 1024
"""Bytes of all such bodies together that wait for their steps; more are refused."""

SHORT_RESULT = 4_096
"""Values and characters up to which a result is written at once."""

MAX_RESULTS = 16
"""Longer results that wait for the thread; more are refused."""

T = TypeVar("T")


class LongJson:
    """Reader of bodies and writer of results for one host.

    Args:
        turns: of the event loop.
    """

    def __init__(self, turns: AnswerTurns) -> None:
        self._turns = turns
        self._one_body = asyncio.Lock()
        self._waiting = 0
        self._results = 0
        self._pool: ThreadPoolExecutor | None = None

    async def read(self, body: bytes) -> Any:
        """Return the value of a body.

        Raises:
            PeerError: see :func:`co2.exact_json.reader.read`.
        """
        return await self.through(body, read_steps)

    async def through(self, body: bytes, read: Callable[[bytes], Generator[None, None, T]]) -> T:
        """Do all steps of reading a body; between two steps of a long one others have their turns.

        Raises:
            Busy: too many long bodies are waiting.
        """
        if len(body) <= LONG_BODY:
            return _at_once(read(body))
        if self._waiting and self._waiting + len(body) > MAX_BODIES:
            raise Busy("too many long requests are waiting; try again")
        self._waiting += len(body)
        try:
            async with self._one_body:  # so that only one is in memory in its parsed form
                return await self._turns.through(read(body))
        finally:
            self._waiting -= len(body)

    async def write(self, value: Any) -> bytes:
        """Return a value as JSON text.

        Raises:
            Busy: too many long results are waiting.
            ValueRefused: it cannot be written.
        """
        if is_short(value, SHORT_RESULT):
            return write(value)
        if self._results >= MAX_RESULTS:
            raise Busy("too many long results are waiting; try again")
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "co2-json")
        self._results += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, _written, value)
        finally:
            self._results -= 1

    def close(self) -> None:
        """End the thread; results that wait for it are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _at_once(steps: Generator[None, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found


def _written(value: Any) -> bytes:
    with short_turns():
        return write(value)
