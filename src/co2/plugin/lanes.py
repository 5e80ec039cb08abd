"""What each plugin has sent and nobody has written yet, and the quick way into it.

``send`` costs a plugin's engine one encoding and one append: no lock, no clock, no change of threads. A lane is
a list, because appending to it and slicing its front off are each one step that no other thread can get between.
Only one thread at a time takes from it, with the lock of ``outgoing.py``.
"""

from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Any, Protocol

import msgspec

from co2.errors import TooBig
from co2.protocol.batch import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES, make_batch
from co2.protocol.frames import Flush, Publish
from co2.protocol.interests import Interests, channels_of_frame
from co2.values import MAX_MESSAGE_SIZE, pack, unpack

__all__ = ["MAX_QUEUED", "MAX_QUEUED_MESSAGES", "SMALL", "Entry", "Lane", "Road", "make_send", "size_of"]

MAX_QUEUED = 4 * 1024 * 1024
"""Bytes of messages over :data:`SMALL` of all plugins of a package that wait to be written; then senders wait."""

MAX_QUEUED_MESSAGES = 16 * 1024
"""Messages of one plugin that wait to be written; then its senders wait."""

SMALL = MAX_BATCH_BYTES // MAX_BATCH_MESSAGES
"""Bytes up to which a message is counted, not measured: as many as fit a batch by number fit it by size."""

Entry = bytes | tuple[bytes, str, bool] | Flush
"""A small message without a channel; any other with its channel and whether it is live; or a flush."""

_NO_CHANNEL = [""]


def size_of(entry: Entry) -> int:
    """Give the bytes that an entry is measured with; 0 for what is counted only."""
    if type(entry) is tuple and len(entry[0]) > SMALL:
        return len(entry[0])
    return 0


class Lane:
    """The messages of one plugin, in the order of its sends.

    Args:
        name: of the plugin.
        live: patterns over the channels whose messages are worthless a second later.

    Attributes:
        limit: entries that may wait; 0 when nothing may be sent any more.
    """

    def __init__(self, name: str, live: tuple[str, ...] = ()) -> None:
        self.name = name
        self.limit = MAX_QUEUED_MESSAGES
        self.entries: list[Entry] = []
        self._live = Interests(live) if live else None

    def is_live(self, channel: str) -> bool:
        """Tell whether messages of this channel are live."""
        return self._live is not None and self._live.wants_one(channel)

    def cut(self) -> tuple[Publish | Flush, int]:
        """Take the next frame off the front; also give the measured bytes that this freed. Not when empty."""
        entries = self.entries[:MAX_BATCH_MESSAGES]
        kinds = set(map(type, entries))
        if kinds == {bytes}:
            frame, freed = Publish(self.name, _NO_CHANNEL, make_batch(entries)), 0  # type: ignore[arg-type]
        elif isinstance(flush := entries[0], Flush):
            entries, frame, freed = entries[:1], flush, 0  # type: ignore[assignment]
        else:
            frame, freed = self._mixed(entries)
        del self.entries[: len(entries)]
        return frame, freed

    def _mixed(self, entries: list[Entry]) -> tuple[Publish, int]:
        """Make a frame of as many entries as fit; the others are taken off the list."""
        messages: list[tuple[bytes, str, bool]] = [
            entry if type(entry) is tuple else (entry, "", False)  # type: ignore[misc]
            for entry in takewhile(lambda entry: type(entry) is not Flush, entries)
        ]
        live = messages[0][2]
        fit = self._fitting(messages, live)
        del messages[fit:], entries[fit:]
        packed, channels, _ = zip(*messages, strict=True)
        batch = make_batch(packed)
        freed = sum(len(one) for one in packed if len(one) > SMALL) if len(batch) > SMALL else 0
        return Publish(self.name, channels_of_frame(set(channels)), batch, live), freed

    @staticmethod
    def _fitting(messages: list[tuple[bytes, str, bool]], live: bool) -> int:
        size = 0
        for index, (packed, _, is_live) in enumerate(messages):
            size += len(packed)
            if index and (size > MAX_BATCH_BYTES or is_live != live):
                return index
        return len(messages)


class Road(Protocol):
    """Where lanes lead.

    Attributes:
        asleep: nobody writes now, and who appends must call :meth:`attend`.
    """

    asleep: bool

    def attend(self) -> None:
        """See that what was appended is written."""

    def add(self, lane: Lane, entry: Entry, timeout: float) -> None:
        """Append what the quick way does not take."""


def make_send(lane: Lane, road: Road, timeout: float) -> Callable[[Mapping[str, Any]], None]:
    """Make the function that sends a message of a plugin.

    Args:
        lane: the plugin's.
        road: where it leads.
        timeout: seconds to wait for room.
    """
    encode = msgspec.msgpack.Encoder().encode
    entries, append, is_live = lane.entries, lane.entries.append, lane.is_live

    def send(message: Mapping[str, Any]) -> None:
        channel = ""
        if type(message) is dict and len(message) == 1 and "data" in message:
            # The most common form needs no other check; what the encoder refuses gets its error from pack().
            try:
                packed = encode(message)
            except Exception:
                packed = pack(message)
        else:
            packed = pack(message)
            if "channel" in message:
                channel = _channel_of(message, packed)
        size = len(packed)
        entry: Entry = packed
        if channel or size > SMALL:
            if size > MAX_MESSAGE_SIZE:
                raise TooBig(size, MAX_MESSAGE_SIZE)
            entry = (packed, channel, is_live(channel))
        if size > SMALL or len(entries) >= lane.limit:
            road.add(lane, entry, timeout)
            return
        append(entry)
        if road.asleep:
            road.attend()

    return send


def _channel_of(message: Mapping[str, Any], packed: bytes) -> str:
    channel = message.get("channel", "")
    if type(channel) is not str:
        # An Enum, a UUID: what arrives may be text all the same.
        channel = unpack(packed).get("channel", "")
    return channel if isinstance(channel, str) else ""
