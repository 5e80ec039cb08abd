"""Calls that wait for the next message, or for one to be on disk."""

import asyncio
from collections import deque

from co2.sources import BySource, source_of

__all__ = ["WOKEN_AT_ONCE", "CommitWaiters"]

WOKEN_AT_ONCE = 8
"""Calls waiting for the next message that are answered before others have their turn: about 2 milliseconds."""


class CommitWaiters:
    """Waiting calls of the relay. Used in one event loop."""

    def __init__(self) -> None:
        self.committed = 0
        self._ended = False
        self._next: BySource[asyncio.Future[bool]] = BySource()
        self._ends: dict[asyncio.Future[bool], tuple[str, int]] = {}
        self._live: set[asyncio.Future[bool]] = set()
        self._disk: dict[int, list[asyncio.Future[None]]] = {}
        self._to_wake: deque[asyncio.Future[bool]] = deque()

    def __len__(self) -> int:
        return len(self._next)

    def on_commit(self, position: int) -> None:
        """Wake the calls that wait for this position, or for anything new."""
        position = self.committed = max(position, self.committed)
        for done in [waited for waited in self._disk if waited <= position]:
            for waiting in self._disk.pop(done):
                if not waiting.done():
                    waiting.set_result(None)
        self._wake()

    async def on_disk(self, position: int) -> None:
        """Wait until a message is on disk."""
        if position > self.committed:
            waiting = asyncio.get_running_loop().create_future()
            self._disk.setdefault(position, []).append(waiting)
            await waiting

    def live_came(self) -> None:
        """Wake the calls that wait for live messages, too."""
        for waiting in self._live:
            if not waiting.done():
                waiting.set_result(True)

    async def appended(
        self, seen: int, timeout: float, end: tuple[str, int] = ("", 0), *, live: bool = False
    ) -> bool:
        """Wait until something more is on disk; return whether that happened.

        Args:
            seen: ``committed`` before the caller looked. Messages that came while it looked count.
            timeout: seconds to wait at most.
            end: (IP, port) of the connection that waits, for :meth:`give_way`.
            live: live messages count, too.
        """
        if self.committed != seen:
            return not self._ended
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._next.add(source_of(end[0]), waiting)
        self._ends[waiting] = end
        if live:
            self._live.add(waiting)
        try:
            async with asyncio.timeout(timeout):
                return await waiting and not self._ended
        except TimeoutError:
            return False
        finally:
            self._next.discard(waiting)
            self._ends.pop(waiting, None)
            self._live.discard(waiting)

    def give_way(self, source: str) -> tuple[str, int] | None:
        """End the longest wait of a source; return (IP, port) of its connection, None for none."""
        waiting = self._next.oldest(source)
        if waiting is None:
            return None
        self._next.discard(waiting)
        if not waiting.done():
            waiting.set_result(False)
        return self._ends.pop(waiting)

    def fail(self, error: Exception) -> None:
        """Fail all calls that wait for the disk."""
        for waiting in [waiting for several in self._disk.values() for waiting in several]:
            if not waiting.done():
                waiting.set_exception(error)
        self._disk.clear()

    def end(self) -> None:
        """End all waits: the relay stops."""
        self._ended = True
        self._wake()
        while self._to_wake:
            self._wake_some()

    def _wake(self) -> None:
        waiting, self._next = self._next, BySource()
        goes_on = bool(self._to_wake)
        self._to_wake.extend(waiting)
        if not goes_on:
            self._wake_some()

    def _wake_some(self) -> None:
        """Wake some waiters, and the rest in later turns: hundreds of answers at once would delay all others."""
        for _ in range(min(WOKEN_AT_ONCE, len(self._to_wake))):
            future = self._to_wake.popleft()
            if not future.done():
                future.set_result(True)
        if self._to_wake and not self._ended:
            asyncio.get_running_loop().call_soon(self._wake_some)
