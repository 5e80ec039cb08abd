"""Single messages out of the log, for whoever speaks XML-RPC: the log holds whole frames."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from co2.errors import BadRequest, Unreachable, ValueRefused
from co2.protocol.relay.log import Entry, LogGap, Reading
from co2.protocol.wire.batch import DROPPED, split_batch
from co2.relay.durable_log import DurableLog
from co2.thread_priority import short_turns

__all__ = ["MAX_WRITTEN", "LogMessage", "MessageReader", "Messages", "unreadable"]

MAX_WRITTEN = 16 * 1024 * 1024
"""Bytes of messages in their written form that are kept for the next reader."""

MAX_XML = 8 * 1024 * 1024
"""Bytes of one message in its written form; a longer one is a gap to whoever speaks XML-RPC."""

DEAR = 8 * 1024
"""Bytes of a message above which it is written in a thread: a value of one byte becomes one of 40 in XML."""

MAX_KNOWN = 10_000
"""Frames and messages that cannot be read, or written, that are remembered, so that each costs once."""

MAX_PAUSE = 1.0
"""Seconds of pause behind a message that was written in the thread."""

KEPT_APART = 8
"""Frames that are kept taken apart: who reads one message at a time comes back for the next one."""

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
        self._writing: dict[int, asyncio.Future[bytes]] = {}
        self._closed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write-xml")
        self._apart: OrderedDict[int, list[bytes]] = OrderedDict()
        self._unreadable: OrderedDict[tuple[str, int], None] = OrderedDict()

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
                    messages = self._messages(entry, read.next)
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
            if chunk.gap is None and not chunk.entries and chunk.next <= read.next:
                read.next = until  # nothing is there; behind a gap the next look may find what is
            read.next = max(read.next, min(chunk.next, until))
            if read.messages or read.gap is not None:
                break
        return read

    async def written(self, message: LogMessage, write: Callable[[LogMessage], bytes]) -> bytes:
        """Give a message in its written form, which is made once for all readers that come soon.

        A large one is written in a thread, one after the other, and with as long a pause behind it.

        Raises:
            ValueRefused: it cannot be decoded, or is too long: it is a gap, see :func:`unreadable`.
        """
        position = message.position
        if (done := self._written.get(position)) is not None:
            return done
        if ("message", position) in self._unreadable:
            raise ValueRefused("a message that cannot be read or is too long in XML")
        try:
            done = write(message) if len(message.packed) <= DEAR else await self._write_apart(message, write)
            if len(done) > MAX_XML:
                raise ValueRefused(f"a message of {len(done)} bytes in XML; the limit is {MAX_XML}")
        except ValueRefused:
            self._remember("message", position)
            raise
        if position not in self._written:
            self._written[position] = done
            self._written_bytes += len(done)
            while self._written_bytes > MAX_WRITTEN:
                self._written_bytes -= len(self._written.popitem(last=False)[1])
        return done

    def close(self) -> None:
        """End the thread; what waits for it is given up."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _write_apart(self, message: LogMessage, write: Callable[[LogMessage], bytes]) -> bytes:
        """Write a message in the thread, once for all who want it at the same time."""
        writing = self._writing.get(message.position)
        if writing is None:
            if self._closed:
                raise Unreachable("the relay stops")
            loop = asyncio.get_running_loop()
            writing = self._writing[message.position] = loop.run_in_executor(self._pool, _slowly, write, message)
            writing.add_done_callback(lambda done: self._has_written(message.position, done))
        return await asyncio.shield(writing)

    def _has_written(self, position: int, done: "asyncio.Future[bytes]") -> None:
        del self._writing[position]
        if not done.cancelled():
            done.exception()  # those who wait are told; there may be none any more

    def _remember(self, what: str, position: int) -> None:
        self._unreadable[what, position] = None
        while len(self._unreadable) > MAX_KNOWN:
            self._unreadable.popitem(last=False)

    def _messages(self, entry: Entry, after: int) -> list[LogMessage]:
        """Take an entry apart, as far as its reader has not read it.

        Raises:
            BadRequest: it cannot be taken apart.
        """
        if ("frame", entry.position) in self._unreadable:
            raise BadRequest("a batch that cannot be taken apart")
        parts = self._apart.get(entry.position)
        if parts is None:
            try:
                parts = split_batch(entry.batch, patient=False)
            except BadRequest:
                self._remember("frame", entry.position)
                raise
            if len(entry.batch) > DEAR:
                self._apart[entry.position] = parts
                if len(self._apart) > KEPT_APART:
                    self._apart.popitem(last=False)
        return [
            LogMessage(position, entry.host_id, entry.client_address, packed)
            for position, packed in enumerate(parts, entry.position)
            if position > after and packed != DROPPED
        ]

    async def _chunk(self, after: int, reader: str) -> Reading:
        reading = self._log.read(after, _CHUNK)
        if reading.on_disk:
            reading = await self._read_disk(reader, after, _CHUNK)
        return reading


def unreadable(after: int, following: int) -> LogGap:
    """Give the gap in the place of what is in the log, and cannot be decoded."""
    return LogGap(after, following, "what was sent cannot be read")


def _slowly(write: Callable[[LogMessage], bytes], message: LogMessage) -> bytes:
    """Write a message, and leave others as much of the interpreter's time as it took."""
    began = time.monotonic()
    try:
        with short_turns():
            return write(message)
    except ValueRefused as error:
        refused = str(error)
    finally:
        time.sleep(min(MAX_PAUSE, time.monotonic() - began))
    # Another one: whoever waited would hold on to all that was decoded by the traceback of the first.
    raise ValueRefused(refused)
