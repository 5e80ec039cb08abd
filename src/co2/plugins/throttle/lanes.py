"""What the throttle knows of each channel of each sender: when something may go on, and what waits for that."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["MAX_HANDED_OVER", "MAX_KEPT_BYTES", "MAX_KEPT_MESSAGE", "MAX_KEYS", "Key", "Lane", "Lanes"]

MAX_KEYS = 4096
"""Channels, of all senders, that are throttled at the same time; messages of further ones pass unthrottled."""

MAX_KEPT_MESSAGE = 256 * 1024
"""Bytes of a message that is kept; bigger ones pass unthrottled."""

MAX_KEPT_BYTES = 16 * 1024 * 1024
"""Bytes of all messages that are kept; what would go beyond passes unthrottled."""

MAX_HANDED_OVER = 512 * 1024
"""Bytes that are handed over at a reload; what is kept beyond that is sent at once."""

_OVERHEAD = 32

Key = tuple[str, str]
"""Sender and channel."""


@dataclass(slots=True)
class Lane:
    """One channel of one sender.

    Attributes:
        age: ticks since a message went on; counted from the first whole one.
        kept: the latest message since, encoded.
        sent: what went on last was sent by the throttle itself, as one that was kept.
    """

    age: int = 0
    kept: bytes | None = None
    sent: bool = False


class Lanes:
    """All of them, within bounds.

    Attributes:
        by_key: they.
        bytes: of messages that are kept.
    """

    def __init__(self) -> None:
        self.by_key: dict[Key, Lane] = {}
        self.bytes = 0

    @property
    def kept(self) -> int:
        """How many messages are kept."""
        return sum(lane.kept is not None for lane in self.by_key.values())

    def keep(self, lane: Lane, packed: bytes | None) -> bool:
        """Keep a message in place of the one before; tell whether it could be. If not, none is kept."""
        self.take(lane)
        if packed is None or len(packed) > MAX_KEPT_MESSAGE or self.bytes + len(packed) > MAX_KEPT_BYTES:
            return False
        lane.kept = packed
        self.bytes += len(packed)
        return True

    def take(self, lane: Lane) -> bytes | None:
        """Take out what is kept."""
        packed, lane.kept = lane.kept, None
        self.bytes -= len(packed or b"")
        return packed

    def handover(self) -> tuple[list[list[Any]], list[Lane]]:
        """Give what can travel to new code, and those for which there was no room."""
        room = MAX_HANDED_OVER
        going: list[list[Any]] = []
        staying = []
        for (sender, channel), lane in self.by_key.items():
            room -= len(sender.encode()) + len(channel.encode()) + len(lane.kept or b"") + _OVERHEAD
            if room >= 0:
                going.append([sender, channel, lane.sent, lane.kept])
            elif lane.kept is not None:
                staying.append(lane)
        return going, staying

    def takeover(self, rows: Iterable[list[Any]]) -> None:
        """Take what the code before has given. Each waits its time from now on."""
        for sender, channel, sent, kept in rows:
            lane = self.by_key[sender, channel] = Lane(sent=sent)
            if kept is not None:
                self.keep(lane, kept)

    def __iter__(self) -> Iterator[tuple[Key, Lane]]:
        return iter(list(self.by_key.items()))
