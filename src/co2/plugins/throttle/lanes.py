"""The state of each channel of each sender: the time since its last message, and the latest message that waits."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["MAX_HANDED_OVER", "MAX_KEPT_BYTES", "MAX_KEPT_MESSAGE", "MAX_KEYS", "Key", "Lane", "Lanes"]

MAX_KEYS = 4096
"""Channels, of all senders, that are throttled at the same time; messages of further ones pass unthrottled."""

MAX_KEPT_MESSAGE = 256 * 1024
"""Bytes of a kept message; bigger messages pass unthrottled."""

MAX_KEPT_BYTES = 16 * 1024 * 1024
"""Bytes of all kept messages together; a message for which there is no room passes unthrottled."""

MAX_HANDED_OVER = 512 * 1024
"""Bytes that are handed over at a reload; further kept messages are sent at once."""

_OVERHEAD = 32

Key = tuple[str, str]
"""Sender and channel."""


@dataclass(slots=True)
class Lane:
    """One channel of one sender.

    Attributes:
        age: whole ticks since its last message passed or was sent.
        kept: the latest message since then, encoded; None for none.
        sent: whether its last message was a kept one, which the throttle has sent itself.
    """

    age: int = 0
    kept: bytes | None = None
    sent: bool = False


class Lanes:
    """The lanes of all channels of all senders, within limits.

    Attributes:
        by_key: the lanes, by sender and channel.
        bytes: of all kept messages.
    """

    def __init__(self) -> None:
        self.by_key: dict[Key, Lane] = {}
        self.bytes = 0

    @property
    def kept(self) -> int:
        """Number of kept messages."""
        return sum(lane.kept is not None for lane in self.by_key.values())

    def keep(self, lane: Lane, packed: bytes | None) -> bool:
        """Keep a message instead of the one before; return whether there is room. If not, none is kept.

        Args:
            lane: of the message.
            packed: the encoded message; None if it cannot be encoded.
        """
        self.take(lane)
        if packed is None or len(packed) > MAX_KEPT_MESSAGE or self.bytes + len(packed) > MAX_KEPT_BYTES:
            return False
        lane.kept = packed
        self.bytes += len(packed)
        return True

    def take(self, lane: Lane) -> bytes | None:
        """Remove the kept message of a lane and return it; None for none."""
        packed, lane.kept = lane.kept, None
        self.bytes -= len(packed or b"")
        return packed

    def handover(self) -> tuple[list[list[Any]], list[Lane]]:
        """Return the state for the new code, and the lanes whose kept messages have no room in it."""
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
        """Restore the state of the old code. Each lane's waiting time begins again.

        Args:
            rows: of :meth:`handover`.
        """
        for sender, channel, sent, kept in rows:
            lane = self.by_key[sender, channel] = Lane(sent=sent)
            if kept is not None:
                self.keep(lane, kept)

    def __iter__(self) -> Iterator[tuple[Key, Lane]]:
        return iter(list(self.by_key.items()))
