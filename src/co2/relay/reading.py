"""Single messages out of the log, for whoever speaks XML-RPC: the log holds whole frames."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from co2.errors import BadRequest
from co2.protocol.batch import DROPPED, split_batch
from co2.protocol.log import Entry, LogGap, Reading
from co2.relay.links import DurableLog

__all__ = ["MAX_WRITTEN", "LogMessage", "MessageReader", "Messages", "unreadable"]

MAX_WRITTEN = 4 * 1024 * 1024
"""Bytes of messages in their written form that are kept for the next reader."""

_CHUNK = 256 * 1024
"""Bytes that are read from the log at once."""


@dataclass(frozen=True, slots=True)
class LogMessage:
    """One message.

    Attributes:
        position: its place in the log.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection.
        packed: the message, encoded.
    """

    position: int
    host_id: str
    client_address: tuple[str, int]
    packed: bytes


@dataclass(slots=True)
class Messages:
    """What one read gave: ``messages`` without the reader's own, the cursor after it, and a gap before it."""

    next: int
    messages: list[LogMessage] = field(default_factory=list)
    gap: LogGap | None = None


class MessageReader:
    """Reads messages, as far as the log is on disk.

    Args:
        log: whole frames by position.
        read_disk: reads what is not in memory: (reader, after, max_bytes), as :meth:`DiskReads.read`.
    """

    def __init__(self, log: DurableLog, read_disk: Callable[[str, int, int], Awaitable[Reading]]) -> None:
        self._log = log
        self._read_disk = read_disk
        self._written: OrderedDict[int, bytes] = OrderedDict()
        self._written_bytes = 0

    async def read(self, after: int, max_messages: int, max_bytes: int, not_from: str) -> Messages:
        """Read on from a cursor.

        Args:
            after: position read last; 0 for the oldest that is kept.
            max_messages: at most so many.
            max_bytes: stop before the messages are larger than this together; one is always given.
            not_from: the reader's origin, whose messages are left out.
        """
        read = Messages(after)
        size = 0
        until = self._log.committed
        while read.next < until:
            chunk = await self._chunk(read.next, not_from)
            if chunk.gap is not None:
                read.gap = chunk.gap
                read.next = chunk.gap.next
            for entry in chunk.entries:
                if entry.end > until:
                    return read
                if entry.origin == not_from:
                    read.next = entry.end
                    continue
                try:
                    messages = _messages(entry, read.next)
                except BadRequest:
                    # Nobody looks into frames on their way here. All of it is one gap, in its place.
                    if not read.messages and read.gap is None:
                        read.gap = unreadable(max(entry.position - 1, read.next), entry.end)
                        read.next = entry.end
                    return read
                for message in messages:
                    size += len(message.packed)
                    if read.messages and (size > max_bytes or len(read.messages) == max_messages):
                        return read
                    read.messages.append(message)
                    read.next = message.position
            if chunk.next <= read.next and not chunk.entries:
                read.next = max(read.next, until)
            read.next = max(read.next, min(chunk.next, until))
            if read.messages or read.gap is not None:
                break
        return read

    def written(self, message: LogMessage, write: Callable[[LogMessage], bytes]) -> bytes:
        """Give a message in its written form, which is made once for all readers that come soon.

        Raises:
            ValueRefused: it cannot be decoded: it is a gap, see :func:`unreadable`.
        """
        done = self._written.get(message.position)
        if done is None:
            done = self._written[message.position] = write(message)
            self._written_bytes += len(done)
            while self._written_bytes > MAX_WRITTEN:
                self._written_bytes -= len(self._written.popitem(last=False)[1])
        return done

    async def _chunk(self, after: int, reader: str) -> Reading:
        reading = self._log.read(after, _CHUNK)
        if reading.on_disk:
            reading = await self._read_disk(reader, after, _CHUNK)
        return reading


def unreadable(after: int, following: int) -> LogGap:
    """Give the gap in the place of what is in the log, and cannot be decoded."""
    return LogGap(after, following, "what was sent cannot be read")


def _messages(entry: Entry, after: int) -> list[LogMessage]:
    return [
        LogMessage(position, entry.host_id, entry.client_address, packed)
        for position, packed in enumerate(split_batch(entry.batch), entry.position)
        if position > after and packed != DROPPED
    ]
