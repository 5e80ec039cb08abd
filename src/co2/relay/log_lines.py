"""The log as JSON Lines, for a reader that takes it piece by piece: no more of it is in memory than one read."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic, sleep, time
from typing import Any

import msgspec

from co2.errors import BadParams, BadRequest, Busy, Unreachable, ValueRefused
from co2.exact_json.messages import message_out
from co2.exact_json.writer import write, write_exact
from co2.protocol.relay.log import Entry, LogGap
from co2.protocol.wire.channel_patterns import MAX_PATTERNS, Interests
from co2.protocol.wire.link_frames import BEGINNING
from co2.relay.commit_waiters import CommitWaiters
from co2.relay.durable_log import DurableLog
from co2.relay.message_reader import DEAR, LogMessage, MessageReader, messages_in, unreadable
from co2.server.rpc.answer_turns import STEP, AnswerTurns
from co2.sources import LOOPBACK, BySource, source_of
from co2.thread_priority import go_behind, short_turns

__all__ = ["HEARTBEAT", "LogLines", "LogQuery", "channel_of_packed", "gap_text", "message_text", "read_query"]

MAX_READERS = 16
"""Readers of the log at once; more are refused. Each may hold a frame, and the message of it that it reads."""

MAX_READERS_OF_ADDRESS = 8
"""The same for one address; this machine's loopback interface may have all."""

PIECE = 64 * 1024
"""Bytes of lines after which they are passed on, for a reader to take before more are made."""

SHORT = 2 * 1024
"""Bytes of messages up to which their lines are made at once. Those of more are made in a thread: the event loop
passes small messages on without the interpreter, which the thread has meanwhile, and hears at once of others."""

MAX_HELD = 8 * 1024 * 1024
"""Bytes of long lines that are kept while readers take them, of all readers together; of those beyond it only a
piece is kept, and the line is looked up, or written again, for the next one."""

REST = 1
REST_BESIDE = 19
"""Times that a step took for which the thread rests after it; the second one if messages came meanwhile, which
need the same processors."""

MAX_REST = 0.1
"""Seconds that it rests at most after a step."""

HEARTBEAT = 15.0
"""Seconds without a message after which a reader that follows gets an empty line: a dead one is noticed."""

_POSITION = re.compile(r"[0-9]{1,19}")
_AGO = re.compile(r"-([0-9]{1,9})(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_POSITION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What a reader wants of the log.

    Attributes:
        after: position before the first message; None for from now on.
        since: time of the first message, in seconds since 1970, in place of ``after``; None for none.
        to: position of the last message.
        channels: wanted ones; None for all.
        most: messages at most.
        follow: whether to wait for further messages.
    """

    after: int | None
    since: float | None
    to: int
    channels: Interests | None
    most: int
    follow: bool


def read_query(query: Mapping[str, str]) -> LogQuery:
    """Read the query of ``GET /api/log``.

    Raises:
        BadParams: an unknown key, or a malformed value; the text says which are valid.
    """
    unknown = sorted(query.keys() - _KEYS)
    if unknown:
        raise BadParams(f"unknown key {unknown[0][:40]!r} in the query; there are {', '.join(sorted(_KEYS))}")
    follow = _flag(query, "follow")
    after: int | None = None if follow else 0
    since = None
    if (ago := _AGO.fullmatch(query.get("from", ""))) is not None:
        since = time() - int(ago[1]) * _UNITS[ago[2]]
    elif "from" in query:
        after = max(0, _position(query, "from") - 1)
    to = _position(query, "to") if "to" in query else _MAX_POSITION
    most = _position(query, "max") if "max" in query else _MAX_POSITION
    channels = None
    if "channel" in query:
        patterns = query["channel"].split(",")
        if len(patterns) > MAX_PATTERNS:
            raise BadParams(f"key 'channel': {len(patterns)} patterns; at most {MAX_PATTERNS}")
        try:
            channels = Interests(patterns)
        except BadRequest as error:
            raise BadParams(f"key 'channel': {error}") from None
    return LogQuery(after, since, to, channels, most, follow)


_KEYS = frozenset(("from", "to", "channel", "max", "follow"))


def _position(query: Mapping[str, str], key: str) -> int:
    text = query[key]
    if _POSITION.fullmatch(text) is None or int(text) > _MAX_POSITION:
        ago = ", or a time such as -5m (ms, s, m, h, d)" if key == "from" else ""
        raise BadParams(f"key {key!r}: expected a number from 0 up{ago}, got {text[:40]!r}")
    return int(text)


def _flag(query: Mapping[str, str], key: str) -> bool:
    text = query.get(key, "0")
    if text not in ("0", "1"):
        raise BadParams(f"key {key!r}: expected 0 or 1, got {text[:40]!r}")
    return text == "1"


class LogLines:
    """Readers of the log.

    Args:
        log: of whole batches.
        reader: of its messages.
        waiters: wait for the next commit.
        turns: of the event loop.
    """

    def __init__(self, log: DurableLog, reader: MessageReader, waiters: CommitWaiters, turns: AnswerTurns) -> None:
        self._log = log
        self._reader = reader
        self._waiters = waiters
        self._turns = turns
        self._readers: BySource[object] = BySource()
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self._rest_until = 0.0
        self._committed = 0
        self._held = 0

    def close(self) -> None:
        """Stop the thread; readers whose lines wait for it end with an error."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def read(self, query: LogQuery, end: tuple[str, int]) -> AsyncGenerator[bytes, None]:
        """Yield lines in pieces; the first one is empty and comes once the reader is admitted.

        Args:
            query: what is wanted.
            end: (IP, port) of the reader's connection.

        Raises:
            Busy: there are too many readers.
        """
        source = source_of(end[0])
        share = MAX_READERS_OF_ADDRESS if source != LOOPBACK else MAX_READERS
        if len(self._readers) >= MAX_READERS or self._readers.count(source) >= share:
            raise Busy(f"{len(self._readers)} others read the log now; try again, or read with max")
        me = object()
        self._readers.add(source, me)
        try:
            after = await self._beginning(query, str(id(me)))
            yield b""
            async for piece in self._lines(query, after, str(id(me)), end):
                yield piece
        finally:
            self._readers.discard(me)

    async def _beginning(self, query: LogQuery, name: str) -> int:
        if query.since is None:
            return self._log.committed if query.after is None else query.after
        # Halved again and again: times rise with positions, but for corrections of the clock.
        low, high = 0, self._log.committed
        while low < high:
            middle = (low + high) // 2
            chunk = await self._reader.chunk(middle, name, 1)
            while chunk.gap is not None and not chunk.entries:
                chunk = await self._reader.chunk(chunk.gap.next, name, 1)
            if chunk.entries and chunk.entries[0].at < query.since:
                low = chunk.entries[0].end
            else:
                high = middle
        return low

    async def _lines(
        self, query: LogQuery, after: int, name: str, end: tuple[str, int]
    ) -> AsyncGenerator[bytes, None]:
        """Yield lines, and an empty one for each :data:`HEARTBEAT` in which nothing came."""
        lines = _Lines(query, after)
        if after >= self._log.lease:
            lines.gap(LogGap(after, BEGINNING, "log replaced"))
        while True:
            seen = self._waiters.committed
            until = min(self._log.committed, query.to)
            async for piece in self._up_to(until, lines, name):
                yield piece
            if not query.follow or lines.left <= 0 or lines.after >= query.to:
                return
            began = monotonic()
            if not await self._waiters.appended(seen, HEARTBEAT, end):
                if monotonic() - began < HEARTBEAT / 2:
                    return  # it gives way to another connection, or the relay stops
                yield b"\n"

    async def _up_to(self, until: int, lines: "_Lines", name: str) -> AsyncGenerator[bytes, None]:
        while lines.after < until and lines.left > 0:
            chunk = await self._reader.chunk(lines.after, name)
            before = lines.after
            if chunk.gap is not None:
                lines.gap(chunk.gap)
            steps = _steps(chunk.entries, lines, until)
            is_short = sum(len(entry.batch) for entry in chunk.entries) <= SHORT
            while (step := next(steps, None) if is_short else await self._apart(steps)) is not None:
                if isinstance(step, bytes):
                    yield step
                else:
                    async for piece in self._dear(step, lines):
                        yield piece
            if lines.left > 0 and lines.after < until:
                lines.after = max(lines.after, min(chunk.next, until))
                if lines.after == before:
                    lines.after = until  # nothing is there
        if lines.size:
            yield lines.take()

    async def _apart(self, steps: Iterator[bytes | LogMessage]) -> bytes | LogMessage | None:
        """Do the next step in the thread: meanwhile the event loop passes messages on, see :data:`SHORT`."""
        if self._closed:
            raise Unreachable("the relay is stopping")
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="log-lines", initializer=go_behind)
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._do, steps)

    def _do(self, steps: Iterator[bytes | LogMessage]) -> bytes | LogMessage | None:
        """Do a step, after the rest from the one before, whichever reader's that was."""
        sleep(max(0.0, self._rest_until - monotonic()))
        began = monotonic()
        try:
            with short_turns():
                return next(steps, None)
        finally:
            ended = monotonic()
            committed = self._waiters.committed
            rest = REST if committed == self._committed else REST_BESIDE
            self._committed = committed
            self._rest_until = ended + min(MAX_REST, rest * (ended - began))

    async def _dear(self, message: LogMessage, lines: "_Lines") -> AsyncGenerator[bytes, None]:
        """Add a message that is written elsewhere; yield a long one in parts, each in a turn of its own."""
        try:
            text = await self._reader.written(message, message_text)
        except ValueRefused:
            lines.gap(unreadable(message.position - 1, message.position))
            return
        if len(text) < PIECE:
            lines.add(text)
            return
        if lines.size:
            yield lines.take()
        lines.left -= 1
        size = len(text)
        is_held = self._held + size <= MAX_HELD
        self._held += size * is_held
        try:
            for at in range(0, size, PIECE):
                began = monotonic()
                part = text[at : at + PIECE]
                is_last = at + PIECE >= size
                if not is_held:
                    text = b""
                yield part + b"\n" if is_last else part
                await self._turns.pause(
                    max(began, monotonic() - STEP)
                )  # the other side may not have read for a while
                if not is_held and not is_last:
                    text = await self._reader.written(message, message_text)
        finally:
            self._held -= size * is_held


def _steps(entries: Iterable[Entry], lines: "_Lines", until: int) -> Iterator[bytes | LogMessage]:
    """Add the messages of entries to lines; yield whatever fills a piece, and each message that is dear to write.

    Nothing else may use the lines meanwhile, except between two steps.
    """
    for entry in entries:
        for message in _wanted(entry, lines, until):
            if len(message.packed) > DEAR:
                yield message
            else:
                try:
                    lines.add(message_text(message))
                except ValueRefused:
                    lines.gap(unreadable(message.position - 1, message.position))
            if lines.size >= PIECE:
                yield lines.take()
        lines.after = max(lines.after, min(entry.end, until))
        if lines.left <= 0 or lines.after >= until:
            return


def _wanted(entry: Entry, lines: "_Lines", until: int) -> Iterator[LogMessage]:
    channels = lines.query.channels
    if entry.position > until or (channels is not None and not channels.wants(entry.channels)):
        return
    try:
        messages = messages_in(entry, lines.after)
    except BadRequest:
        lines.gap(unreadable(max(entry.position - 1, lines.after), entry.end))
        return
    is_one = entry.channels is not None and len(entry.channels) == 1
    for message in messages:
        if message.position > until or lines.left <= 0:
            return
        if channels is None or is_one or channels.wants_one(channel_of_packed(message.packed)):
            yield message


class _Lines:
    """The lines that one reader has not been given yet.

    Attributes:
        query: what it wants.
        after: position up to which it has been given all.
        left: messages that it may still get.
        size: bytes of the lines.
    """

    def __init__(self, query: LogQuery, after: int) -> None:
        self.query = query
        self.after = after
        self.left = query.most
        self.size = 0
        self._lines: list[bytes] = []

    def add(self, text: bytes) -> None:
        """Add a message."""
        self._lines.append(text)
        self.size += len(text) + 1
        self.left -= 1

    def gap(self, gap: LogGap) -> None:
        """Add a gap, in its place, and go on behind it."""
        text = gap_text(gap)
        self._lines.append(text)
        self.size += len(text) + 1
        self.after = gap.next

    def take(self) -> bytes:
        """Return all lines, and forget them."""
        taken = b"\n".join(self._lines) + b"\n"
        self._lines.clear()
        self.size = 0
        return taken


def gap_text(gap: LogGap) -> bytes:
    """Return a gap as JSON."""
    return write({"gap": {"after": gap.after, "next": gap.next, "reason": gap.reason}})


def message_text(message: LogMessage) -> bytes:
    """Return a message as JSON; a live one, which has a position below 0, has ``live`` in place of it.

    Raises:
        ValueRefused: it cannot be decoded, or written as JSON.
    """
    told: dict[str, Any] = {"live": True} if message.position < 0 else {"position": message.position}
    if message.at:
        told["at"] = message.at
    told |= {"host_id": message.host_id, "plugin": message.plugin}
    return write_exact(message_out(message.packed, told))


class _Channel(msgspec.Struct):
    channel: Any = ""


_decode_channel = msgspec.msgpack.Decoder(_Channel).decode


def channel_of_packed(packed: bytes) -> str:
    """Return the channel of an encoded message, '' for none or for a message that cannot be decoded."""
    try:
        channel = _decode_channel(packed).channel
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return channel if isinstance(channel, str) else ""
