"""The queue of a plugin's sent messages until they are written, and the quick path into it.

``send`` costs a plugin one encoding and one append: no lock, no clock, no change of threads. A queue is a list,
because appending and slicing its front off are each one step that no other thread can interrupt. Only one thread
at a time takes from it, with the lock of ``writer.py``.
"""

import threading
from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Any, Protocol

import msgspec

from co2.errors import TooBig
from co2.plugin.child.speedups import Level, make_fast_send
from co2.protocol.wire.batch import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES, make_batch
from co2.protocol.wire.channel_patterns import MAX_CHANNEL, Interests, channels_of_frame, check_channel
from co2.protocol.wire.message_keys import with_keys
from co2.protocol.wire.plugin_frames.frames import Flush, Publish, encode_frame
from co2.values import MAX_MESSAGE_SIZE, channel_of, is_cause, pack, unpack

__all__ = [
    "FULL",
    "MAX_QUEUED",
    "MAX_QUEUED_MESSAGES",
    "SMALL",
    "QueueWriter",
    "QueuedEntry",
    "SendQueue",
    "make_send",
    "size_of",
]

MAX_QUEUED = 4 * 1024 * 1024
"""Bytes of messages over :data:`SMALL`, of all plugins of a package, that wait to be written; then senders
wait."""

MAX_QUEUED_MESSAGES = 16 * 1024
"""Messages of one plugin that wait to be written; then its senders wait."""

FULL = 2 * MAX_BATCH_MESSAGES
"""Messages of one plugin that its sender writes itself: two frames, since each write wakes every process on the
way, and their data displaces each other's in the caches."""

SMALL = MAX_BATCH_BYTES // MAX_BATCH_MESSAGES
"""Bytes up to which a message is counted, not measured: as many as fit a batch by number also fit it by size."""

_FAST_CHANNEL = MAX_CHANNEL // 4
"""Characters up to which no channel can have too many bytes."""

_Sent = tuple[bytes, str, bool]

QueuedEntry = bytes | _Sent | Flush
"""A small message without a channel; any other with its channel and whether it is live; or a flush."""

MAX_CAUSE = 25
"""Bytes of the key ``cause`` in a message. One that has no room for it goes without."""

_NO_CHANNEL = [""]

_MAX_LONE_HEADS = 512
"""Cached heads of frames in a queue: one for each size and channel of single small messages."""

_NOT_LIVE = b"\xc2"
"""The end of a Publish."""


def size_of(entry: QueuedEntry) -> int:
    """Return the measured bytes of an entry; 0 for one that is only counted."""
    if type(entry) is tuple and len(entry[0]) > SMALL:
        return len(entry[0])
    return 0


class SendQueue(Level):
    """The messages of one plugin, in the order of its sends.

    Args:
        name: of the plugin.
        live: patterns of the channels whose messages are worthless a second later.

    Attributes:
        limit: entries that may wait; 0 when nothing may be sent any more.
        alert: entries that may wait before their sender writes them itself; 0 likewise.
        entries: that wait.
        is_live: returns whether messages of a channel are live; None if no channel is.
    """

    def __init__(self, name: str, live: tuple[str, ...] = ()) -> None:
        self.name = name
        self.limit = MAX_QUEUED_MESSAGES
        self.alert = FULL - 1
        self.entries: list[QueuedEntry] = []
        self.is_live = Interests(live).wants_one if live else None
        self._lone_heads: dict[tuple[int, str], bytes] = {}

    def close(self) -> None:
        """Accept no more entries."""
        self.limit = self.alert = 0

    @property
    def is_inside(self) -> bool:
        """Whether this thread is in a message that has a position: the cause of what it sends."""
        return self.cause != 0 and self.thread == threading.get_ident()

    def cut(self) -> tuple[Publish | Flush, int]:
        """Remove and return the next frame, and the measured bytes freed. Not when empty."""
        entries = self.entries[:MAX_BATCH_MESSAGES]
        freed = 0
        frame: Publish | Flush
        try:
            # Joining is also the quickest check that there are only small messages without a channel.
            frame = Publish(self.name, _NO_CHANNEL, make_batch(entries))  # type: ignore[arg-type]
        except TypeError:
            if type(flush := entries[0]) is Flush:
                frame, entries = flush, entries[:1]
            else:
                frame, freed, entries = self._publish(_as_tuples(entries))
        del self.entries[: len(entries)]
        return frame, freed

    def cut_lone(self) -> bytes:
        """Return the whole frame of a single waiting small message; b'' in any other case.

        The same bytes as from :meth:`cut`, assembled at once: most messages outside a stream come alone.
        """
        entries = self.entries
        if len(entries) != 1:
            return b""
        entry, channel, live = entries[0], "", False
        if type(entry) is tuple:
            entry, channel, live = entry
        if type(entry) is not bytes or len(entry) > SMALL or live:
            return b""
        head = self._lone_heads.get((len(entry), channel)) or self._lone_head(entry, channel)
        del entries[:1]  # only this one: another may have been appended behind it
        if self.limit:
            self.alert = FULL - 1
        return head + entry + _NOT_LIVE

    def _lone_head(self, packed: bytes, channel: str) -> bytes:
        """Return the head of a small message's frame, and cache it for the next one of that size."""
        if len(self._lone_heads) >= _MAX_LONE_HEADS:
            self._lone_heads.clear()
        frame = encode_frame(Publish(self.name, [channel], make_batch([packed])))
        head = self._lone_heads[len(packed), channel] = frame[: -len(packed) - len(_NOT_LIVE)]
        return head

    def _publish(self, sent: list[_Sent]) -> tuple[Publish, int, list[Any]]:
        """Return a frame of as many messages as fit, their measured bytes, and these messages."""
        packed, channels, lives = zip(*sent, strict=True)
        sizes = [*map(len, packed)]
        if sum(sizes) > MAX_BATCH_BYTES or len(set(lives)) > 1:
            fit = _fitting(sizes, lives)
            sent, sizes, packed, channels = sent[:fit], sizes[:fit], packed[:fit], channels[:fit]
        freed = sum(size for size in sizes if size > SMALL) if max(sizes) > SMALL else 0
        return Publish(self.name, channels_of_frame(set(channels)), make_batch(packed), lives[0]), freed, sent


def _as_tuples(entries: list[QueuedEntry]) -> list[_Sent]:
    """Convert all entries up to the next flush to tuples."""
    if set(map(type, entries)) == {tuple}:
        return entries  # type: ignore[return-value]  # all of them are
    return [
        entry if type(entry) is tuple else (entry, "", False)  # type: ignore[misc]  # bytes: flushes end it
        for entry in takewhile(lambda entry: type(entry) is not Flush, entries)
    ]


def _fitting(sizes: list[int], lives: tuple[bool, ...]) -> int:
    """Return how many of these messages fit one frame: the bytes of a batch, all of one kind."""
    size = 0
    for index, (more, live) in enumerate(zip(sizes, lives, strict=True)):
        size += more
        if index and (size > MAX_BATCH_BYTES or live != lives[0]):
            return index
    return len(sizes)


class QueueWriter(Protocol):
    """The interface of the writer behind the queues.

    Attributes:
        asleep: nobody writes now, and a sender must call :meth:`attend`.
    """

    asleep: bool

    def attend(self) -> None:
        """Write the appended messages, or have them written."""

    def add(self, queue: SendQueue, entry: QueuedEntry, timeout: float) -> None:
        """Append an entry that the quick path does not accept."""


def make_send(queue: SendQueue, writer: QueueWriter, timeout: float) -> Callable[[Mapping[str, Any]], None]:
    """Return the function that sends a message of a plugin.

    Args:
        queue: the plugin's.
        writer: behind the queue.
        timeout: seconds to wait for room.
    """
    entries, is_live = queue.entries, queue.is_live

    def place(packed: bytes, channel: str | None) -> None:
        """Append a message that the quick path cannot check, or for which there is no room."""
        if queue.cause and len(packed) <= MAX_MESSAGE_SIZE - MAX_CAUSE and queue.is_inside:
            packed = with_keys(packed, {"cause": [queue.run, queue.cause] if queue.run else queue.cause})
        append(packed, channel)

    def append(packed: bytes, channel: str | None) -> None:
        """Append a message as it is, checked."""
        size = len(packed)
        entry: QueuedEntry = packed
        if channel is not None or size > SMALL:
            channel = channel or ""
            if len(channel) > _FAST_CHANNEL:
                check_channel(channel)
            if size > MAX_MESSAGE_SIZE:
                raise TooBig(size, MAX_MESSAGE_SIZE)
            entry = (packed, channel, is_live is not None and channel != "" and is_live(channel))
        if size > SMALL or len(entries) >= queue.alert:
            writer.add(queue, entry, timeout)
            return
        entries.append(entry)
        if writer.asleep:
            writer.attend()

    def send(data_dict: Mapping[str, Any]) -> None:
        """Send a message of any other form; pack() raises for an invalid one."""
        put = place
        if isinstance(data_dict, Mapping) and "cause" in data_dict:
            if not is_cause(data_dict["cause"]):
                put = append  # a key of the plugin's own, which means something else
            elif queue.is_inside:
                data_dict = {key: value for key, value in data_dict.items() if key != "cause"}
        packed = pack(data_dict)
        # An Enum, a UUID: it may arrive as text.
        put(packed, channel_of(unpack(packed)) if "channel" in data_dict else None)

    encode = msgspec.msgpack.Encoder().encode
    return make_fast_send(queue, entries, writer, encode, place, send, SMALL, -1 if is_live else _FAST_CHANNEL)
