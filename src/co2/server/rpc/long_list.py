"""Long results of methods, produced in steps: the event loop does other work in between."""

import asyncio
from collections.abc import Callable, Generator, Iterator
from typing import Any

from co2.server.rpc.answer_turns import AnswerTurns
from co2.xmlrpc.writer import LazyArray

__all__ = ["LongList"]


class LongList(LazyArray):
    """A list for a caller over XML-RPC or over a link.

    For XML-RPC each element is encoded when it is produced. Others await the whole list; only one of these is
    produced at a time, so that many calls at once do not fill the memory with lists.

    Args:
        produce: yields the elements; called once for each caller.
        turns: of the event loop.
        lock: shared by the lists of which one is produced at a time.
    """

    def __init__(self, produce: Callable[[], Iterator[Any]], turns: AnswerTurns, lock: asyncio.Lock) -> None:
        self._produce = produce
        self._turns = turns
        self._lock = lock

    def __iter__(self) -> Iterator[Any]:
        return self._produce()

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._collect().__await__()

    async def _collect(self) -> list[Any]:
        async with self._lock:
            return await self._turns.collect(self._produce())
