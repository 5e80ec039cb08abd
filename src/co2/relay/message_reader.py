"""Reading of single messages from the log, for clients without a link: the log stores whole batches."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from co2.errors import BadRequest, Unreachable, ValueRefused
from co2.protocol.relay.log import Entry, LogGap, Reading
from co2.protocol.wire.batch import DROPPED, split_batch
from co2.relay.durable_log import DurableLog
from co2.thread_priority import short_turns

__all__ = ["MAX_WRITTEN", "LogMessage", "MessageReader", "Messages", "messages_in", "unreadable"]

MAX_WRITTEN = 16 * 1024 * 1024
"""Bytes of messages written as XML or JSON that are kept for the next reader."""

MAX_FORM = 8 * 1024 * 1024
"""Bytes of one message written as XML or JSON; a longer one becomes a gap."""

DEAR = 8 * 1024
"""Bytes of a message above which it is written in a thread: one byte can become 40 in XML."""

MAX_KNOWN = 10_000
"""Unreadable batches and messages that are remembered, so that each costs only once."""

MAX_PAUSE = 1.0
"""Seconds of pause after a message that was written in the thread."""

KEPT_APART = 8
"""Split batches that are kept, for readers that fetch one message at a time."""

_CHUNK = 256 * 1024
"""Bytes of one read from the log."""


_Form = Callable[["LogMessage"], bytes]
"""Writes a message, as XML or JSON."""


@dataclass(frozen=True, slots=True)
class LogMessage:
    """One message of the log.

    Attributes:
        position: its position in the log.
        host_id: of the sender.
        client_address: (ip, port) of the sender's connection.
        packed: the encoded message.
        plugin: of the sender, '' for a sender that is not a satellite.
        at: time at which the relay got it, seconds since 1970; 0.0 if that is unknown.
    """

    position: int
    host_id: str
    client_address: tuple[str, int]
    packed: bytes
    plugin: str = ""
    at: float = 0.0


@dataclass(slots=True)
class Messages:
    """The result of one read: ``messages`` without the reader's own, the cursor after it, and a gap before it."""

    next: int
    messages: list[LogMessage] = field(default_factory=list)
    gap: LogGap | None = None


class MessageReader:
    """Reads messages up to the log's last commit.

    Args:
        log: of whole batches, by position.
        read_disk: reads batches that are not in memory: (reader, after, max_bytes), as :meth:`DiskReads.read`.
    """

    def __init__(self, log: DurableLog, read_disk: Callable[[str, int, int], Awaitable[Reading]]) -> None:
        self._log = log
        self._read_disk = read_disk
        self._written: OrderedDict[tuple[_Form, int], bytes] = OrderedDict()
        self._written_bytes = 0
        self._writing: dict[tuple[_Form, int], asyncio.Future[bytes]] = {}
        self._closed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write-xml")
        self._apart: OrderedDict[int, list[bytes]] = OrderedDict()
        self._unreadable: OrderedDict[tuple[str | _Form, int], None] = OrderedDict()

    async def read(self, after: int, max_messages: int, max_bytes: int, not_from: str) -> Messages:
        """Read after a cursor.

        Args:
            after: position read last; 0 for the oldest message kept.
            max_messages: limit of their number.
            max_bytes: limit of their total size; one message is always returned.
            not_from: origin of the reader, whose messages are left out.
        """
        read = Messages(after)
        size = 0
        until = self._log.committed
        while read.next < until:
            chunk = await self.chunk(read.next, not_from)
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
                    messages = self.messages_of(entry, read.next)
                except BadRequest:
                    # Batches are not checked on their way here. A bad one becomes one gap, in its place.
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
                read.next = until  # nothing is there; after a gap the next read may find more
            read.next = max(read.next, min(chunk.next, until))
            if read.messages or read.gap is not None:
                break
        return read

    async def written(self, message: LogMessage, write: _Form) -> bytes:
        """Return a message in the form that a function writes, once for all readers that come soon.

        A large one is written in a thread, one at a time, with a pause of the same length after it.

        Raises:
            ValueRefused: it cannot be decoded, or is too long: it becomes a gap, see :func:`unreadable`.
        """
        key = write, message.position
        if (done := self._written.get(key)) is not None:
            return done
        if key in self._unreadable:
            raise ValueRefused("a message is unreadable or too long in this form")
        try:
            done = write(message) if len(message.packed) <= DEAR else await self._write_apart(message, write)
            if len(done) > MAX_FORM:
                raise ValueRefused(f"a message of {len(done)} bytes in this form; the limit is {MAX_FORM}")
        except ValueRefused:
            self._remember(*key)
            raise
        if key not in self._written:
            self._written[key] = done
            self._written_bytes += len(done)
            while self._written_bytes > MAX_WRITTEN:
                self._written_bytes -= len(self._written.popitem(last=False)[1])
        return done

    def close(self) -> None:
        """Stop the thread; waiting messages are given up."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _write_apart(self, message: LogMessage, write: _Form) -> bytes:
        """Write a message in the thread, once for all concurrent readers."""
        key = write, message.position
        writing = self._writing.get(key)
        if writing is None:
            if self._closed:
                raise Unreachable("the relay is stopping")
            loop = asyncio.get_running_loop()
            writing = self._writing[key] = loop.run_in_executor(self._pool, _slowly, write, message)
            writing.add_done_callback(lambda done: self._has_written(key, done))
        return await asyncio.shield(writing)

    def _has_written(self, key: tuple[_Form, int], done: "asyncio.Future[bytes]") -> None:
        del self._writing[key]
        if not done.cancelled():
            done.exception()  # readers get it; there may be none left

    def _remember(self, what: str | _Form, position: int) -> None:
        self._unreadable[what, position] = None
        while len(self._unreadable) > MAX_KNOWN:
            self._unreadable.popitem(last=False)

    def messages_of(self, entry: Entry, after: int) -> list[LogMessage]:
        """Split an entry into the messages that its reader has not read.

        Raises:
            BadRequest: it cannot be split.
        """
        if ("frame", entry.position) in self._unreadable:
            raise BadRequest("malformed batch")
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
        return _messages(entry, parts, after)

    async def chunk(self, after: int, reader: str, max_bytes: int = _CHUNK) -> Reading:
        """Read some entries after a cursor, from memory or disk.

        Args:
            after: position read last; 0 for the oldest message kept.
            reader: identity of the reader, which waits for each read.
            max_bytes: stop when the batches exceed this together; at least one is returned.
        """
        reading = self._log.read(after, max_bytes)
        if reading.on_disk:
            reading = await self._read_disk(reader, after, max_bytes)
        return reading


def messages_in(entry: Entry, after: int) -> list[LogMessage]:
    """Split an entry as :meth:`MessageReader.messages_of` does, in any thread.

    Raises:
        BadRequest: it cannot be split.
    """
    return _messages(entry, split_batch(entry.batch, patient=False), after)


def _messages(entry: Entry, parts: Iterable[bytes], after: int) -> list[LogMessage]:
    return [
        LogMessage(position, entry.host_id, entry.client_address, packed, entry.plugin, entry.at)
        for position, packed in enumerate(parts, entry.position)
        if position > after and packed != DROPPED
    ]


def unreadable(after: int, following: int) -> LogGap:
    """Return the gap for a part of the log that cannot be decoded."""
    return LogGap(after, following, "the messages cannot be read")


def _slowly(write: Callable[[LogMessage], bytes], message: LogMessage) -> bytes:
    """Write a message, and then sleep as long as that took, for other threads."""
    began = time.monotonic()
    try:
        with short_turns():
            return write(message)
    except ValueRefused as error:
        refused = str(error)
    finally:
        time.sleep(min(MAX_PAUSE, time.monotonic() - began))
    # A new error: the first one's traceback would keep all decoded values for as long as a reader waits.
    raise ValueRefused(refused)
