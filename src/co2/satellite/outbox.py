"""What this satellite has sent and its relay has not yet acknowledged. In memory, bounded."""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable

from co2.protocol.batch import split_batch

__all__ = ["Outbox"]

_OVERHEAD = 200
"""Bytes that a waiting message takes besides itself, roughly."""


class Outbox:
    """Messages waiting for the relay, in order, each with an id that makes a repeat harmless.

    Args:
        max_bytes: above it senders are told to wait; what was already taken in is kept.
        full: called when the bound is passed.
        room: called when half of it is free again.
    """

    def __init__(self, max_bytes: int, full: Callable[[], None], room: Callable[[], None]) -> None:
        self.bytes = 0
        self.filled = asyncio.Event()
        self.emptied = asyncio.Event()
        self.emptied.set()
        self._max_bytes = max_bytes
        self._full = full
        self._room = room
        self._is_full = False
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._run = secrets.token_hex(8)
        self._number = 0
        self._flushes: deque[tuple[int, asyncio.Future[None]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, batch: bytes) -> None:
        """Take a batch in, number its messages.

        Raises:
            BadRequest: it is none.
        """
        for packed in split_batch(batch):
            self._number += 1
            self._waiting.append((f"{self._run}-{self._number}", packed))
            self.bytes += len(packed) + _OVERHEAD
        if self._waiting:
            self.filled.set()
            self.emptied.clear()
        if not self._is_full and self.bytes > self._max_bytes:
            self._is_full = True
            self._full()

    async def flushed(self) -> None:
        """Wait until all that was taken in so far is done with."""
        if self._waiting:
            flush = asyncio.get_running_loop().create_future()
            self._flushes.append((self._number, flush))
            await flush

    def head(self, max_messages: int, max_bytes: int) -> list[tuple[str, bytes]]:
        """Look at the oldest (id, message) pairs; at least one where there is any."""
        batch: list[tuple[str, bytes]] = []
        size = 0
        for item in self._waiting:
            size += len(item[1])
            if batch and (size > max_bytes or len(batch) == max_messages):
                break
            batch.append(item)
        return batch

    def done(self, count: int) -> None:
        """Forget the oldest ``count``: the relay has them, or refused them for good."""
        for _ in range(count):
            _, packed = self._waiting.popleft()
            self.bytes -= len(packed) + _OVERHEAD
        acknowledged = self._number - len(self._waiting)
        while self._flushes and self._flushes[0][0] <= acknowledged:
            _, flush = self._flushes.popleft()
            if not flush.done():
                flush.set_result(None)
        if not self._waiting:
            self.filled.clear()
            self.emptied.set()
        if self._is_full and self.bytes <= self._max_bytes // 2:
            self._is_full = False
            self._room()
