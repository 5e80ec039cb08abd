"""The last live messages, kept briefly for clients that fetch, because they are in no log."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from co2.errors import BadRequest
from co2.protocol.relay.log import Entry
from co2.protocol.wire.batch import DROPPED, split_batch
from co2.relay.message_reader import LogMessage

__all__ = ["KEPT_BYTES", "KEPT_FRAMES", "PACE", "LiveRead", "LiveRing"]

KEPT_BYTES = 4 * 1024 * 1024
"""Bytes of live messages that are kept for all clients; beyond it the oldest are dropped."""

KEPT_FRAMES = 4_096
"""Entries of live messages that are kept."""

PACE = 0.05
"""Seconds after which waiting clients learn of live messages: those that come meanwhile are included."""


@dataclass(slots=True)
class LiveRead:
    """The result of one read.

    Attributes:
        next: where the next one continues.
        messages: without the reader's own; their positions are numbers below 0 that no other message has.
        missed: messages that were dropped already, or cannot be decoded.
    """

    next: int
    messages: list[LogMessage] = field(default_factory=list)
    missed: int = 0


class LiveRing:
    """Keeps live messages while clients fetch them. Used in one event loop.

    Args:
        now: monotonic seconds.
        wake: called when messages have come, at most once in :data:`PACE` seconds.
        listen: called with :meth:`take` when live messages are wanted, with None when not.
        watched_for: seconds after the last :meth:`watch` for which live messages are wanted.
    """

    def __init__(
        self,
        now: Callable[[], float],
        wake: Callable[[], None],
        listen: Callable[[Callable[[Entry], None] | None], None],
        watched_for: float,
    ) -> None:
        self._now = now
        self._wake = wake
        self._listen = listen
        self._watched_for = watched_for
        self._watched_until = 0.0
        self._frames: deque[tuple[int, Entry]] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self.head = 0

    def watch(self) -> int:
        """Keep live messages from now on; return the start for a new reader."""
        if not self._watched_until:
            self._listen(self.take)
        self._watched_until = self._now() + self._watched_for
        return self.head

    def take(self, entry: Entry) -> None:
        """Keep an entry; or stop keeping any if nobody has fetched for long."""
        if self._now() > self._watched_until:
            self._watched_until = 0.0
            self._frames.clear()
            self._bytes = 0
            self._listen(None)
            return
        self._frames.append((self.head, entry))
        self.head += entry.count
        self._bytes += len(entry.batch)
        while self._bytes > KEPT_BYTES or len(self._frames) > KEPT_FRAMES:
            self._bytes -= len(self._frames.popleft()[1].batch)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PACE, self._tell)

    def read(self, after: int, max_messages: int, max_bytes: int, not_from: str) -> LiveRead:
        """Read on.

        Args:
            after: ``next`` of the read before, or the result of :meth:`watch`.
            max_messages: limit of their number.
            max_bytes: stop before the messages exceed this together; at least one is returned.
            not_from: the reader's origin, whose messages are left out.
        """
        read = LiveRead(after)
        oldest = self._frames[0][0] if self._frames else self.head
        if after < oldest:
            read.missed, read.next = oldest - after, oldest
        size = 0
        for first, entry in self._frames:
            if first + entry.count <= read.next:
                continue
            if entry.origin == not_from:
                read.next = first + entry.count
                continue
            try:
                packed = split_batch(entry.batch, patient=False)
            except BadRequest:  # nobody parses frames on their way here
                read.missed += entry.count
                read.next = first + entry.count
                continue
            for number, message in enumerate(packed, first):
                if number < read.next:
                    continue
                size += len(message)
                if read.messages and (size > max_bytes or len(read.messages) >= max_messages):
                    return read
                read.next = number + 1
                if message != DROPPED:
                    read.messages.append(
                        LogMessage(
                            -1 - number, entry.host_id, entry.client_address, message, entry.plugin, entry.at
                        )
                    )
        return read

    def stop(self) -> None:
        """Cancel the timer: the relay ends."""
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self) -> None:
        self._timer = None
        self._wake()
