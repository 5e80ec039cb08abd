"""What comes next, and what it becomes: the same bytes as the state machines write, but for checksum and messages.

A host that has nothing to do knows how the next frame of a sender begins, if it is the one that follows the last:
its number, its channels. It knows too what it will write then, and to whom. Told before the frame has come, that
can be passed on without the host's own work on the way (``server/express.py``); the work is done right after it.
"""

from collections.abc import Hashable, Iterator
from typing import Generic, NamedTuple, TypeVar

import msgspec

from co2.protocol.frames import Deliver as HostDeliver
from co2.protocol.frames import Publish as HostPublish
from co2.protocol.link_frames import Deliver, Publish

__all__ = ["CRC", "LOOKS", "MAX_STREAMS", "SMALL", "Outline", "Recent", "host_outline", "link_outline"]

CRC = 0xFFFFFFFF
"""In the place of a checksum: its form is the one that all but 65,536 of them have."""

SMALL = 16
"""Messages in a frame that may be followed by one like it; whoever sends more at a time is not in a hurry."""

MAX_STREAMS = 8
"""Streams of small frames that are remembered, the latest ones."""

LOOKS = 128
"""Times that a stream is looked at without anything coming, until it is forgotten."""

_encode = msgspec.msgpack.Encoder().encode

K = TypeVar("K", bound=Hashable)


class Outline(NamedTuple):
    """A frame, but for its checksum and messages.

    Attributes:
        head: bytes before these.
        checked: whether a checksum stands before the messages.
        tail: bytes behind them.
    """

    head: bytes
    checked: bool
    tail: bytes

    @property
    def size(self) -> int:
        """Bytes that are known of it."""
        return len(self.head) + len(self.tail)


class Recent(Generic[K]):
    """Streams of which small frames came lately."""

    def __init__(self) -> None:
        self._looks: dict[K, int] = {}

    def note(self, stream: K, count: int) -> None:
        """A frame of so many messages has come."""
        looks = self._looks
        looks.pop(stream, None)  # so that the latest is the last
        if count <= SMALL:
            looks[stream] = LOOKS
            if len(looks) > MAX_STREAMS:
                del looks[next(iter(looks))]

    def __bool__(self) -> bool:
        return bool(self._looks)

    def __iter__(self) -> Iterator[K]:
        """Give them, the latest first, each as often as it may be looked at."""
        for stream, left in list(self._looks.items())[::-1]:
            if left:
                self._looks[stream] = left - 1
                yield stream
            else:
                del self._looks[stream]


def link_outline(frame: Publish | Deliver) -> Outline:
    """Give the outline of a frame of the link that has no messages yet, and :data:`CRC` for a checksum."""
    return Outline(_encode(frame)[:-7], True, b"")


def host_outline(frame: HostPublish | HostDeliver) -> Outline:
    """Give the outline of a frame between host and plugin host that has no messages yet."""
    data = _encode(frame)
    behind = (frame.live,) if isinstance(frame, HostPublish) else (frame.sender, frame.skip)
    tail = b"".join(map(_encode, behind))
    return Outline(data[: -len(tail) - 2], False, tail)
