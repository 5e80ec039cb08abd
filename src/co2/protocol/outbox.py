"""What a satellite has sent and its relay has not yet acknowledged: frames, cut and numbered once."""

import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from co2.errors import BadRequest
from co2.protocol.batch import batch_count
from co2.protocol.link_frames import Publish, encode_link_frame

__all__ = ["Cut", "Outbox"]

_OVERHEAD = 200
"""Bytes that a waiting frame takes besides itself, roughly."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One frame, as it goes out and, after a lost connection, goes out again.

    Attributes:
        epoch: run of the satellite.
        first: number of its first message.
        last: number of its last message.
        data: the encoded Publish.
    """

    epoch: int
    first: int
    last: int
    data: bytes


class Outbox:
    """Frames in order; those up to a pointer have been given to the link of now.

    Args:
        epoch: run of the satellite: 63 random bits.
        max_bytes: above it senders are told to wait; what was already taken in is kept.
        full: called when the bound is passed.
        room: called when half of it is free again.
    """

    def __init__(self, epoch: int, max_bytes: int, full: Callable[[], None], room: Callable[[], None]) -> None:
        self.epoch = epoch
        self.bytes = 0
        self.acked = 0
        self.acked_messages = 0
        self._next = 1
        self._max_bytes = max_bytes
        self._full = full
        self._room = room
        self._is_full = False
        self._frames: deque[Cut] = deque()
        self._given = 0

    def __len__(self) -> int:
        return sum(cut.last - cut.first + 1 for cut in self._frames)

    @property
    def last(self) -> int:
        """Number of the last message that was cut."""
        return self._next - 1

    def put(self, package: str, plugin: str, channels: Sequence[str] | None, batch: bytes) -> None:
        """Cut a frame: number it, checksum it, keep it."""
        count = batch_count(batch)
        names = None if channels is None else list(channels)
        publish = Publish(self.epoch, self._next, package, plugin, names, zlib.crc32(batch), batch)
        data = encode_link_frame(publish)
        self._frames.append(Cut(self.epoch, self._next, self._next + count - 1, data))
        self._next += count
        self.bytes += len(data) + _OVERHEAD
        if not self._is_full and self.bytes > self._max_bytes:
            self._is_full = True
            self._full()

    def unacknowledged(self) -> list[tuple[int, int]]:
        """Give (epoch, first unacknowledged number), oldest first, the run of now always last."""
        firsts: dict[int, int] = {}
        for cut in self._frames:
            firsts.setdefault(cut.epoch, cut.first)
        current = firsts.pop(self.epoch, self._next)
        return [*firsts.items(), (self.epoch, current)]

    def again(self) -> None:
        """A new link: all of it is to be given once more."""
        self._given = 0

    def give(self, max_bytes: int) -> list[bytes]:
        """Give the next frames for the link.

        Those of a later run wait until all of the one before is acknowledged.
        """
        given: list[bytes] = []
        while self._given < len(self._frames) and max_bytes > 0:
            cut = self._frames[self._given]
            if cut.epoch != self._frames[0].epoch:
                break
            given.append(cut.data)
            max_bytes -= len(cut.data)
            self._given += 1
        return given

    def acknowledged(self, epoch: int, seq: int) -> None:
        """Forget what the relay has on disk.

        Raises:
            BadRequest: it was never sent.
        """
        if epoch == self.epoch and seq >= self._next:
            raise BadRequest(f"message {seq} was acknowledged, the last one was {self._next - 1}")
        frames = self._frames
        while frames and frames[0].epoch == epoch and frames[0].last <= seq:
            cut = frames.popleft()
            self.bytes -= len(cut.data) + _OVERHEAD
            self.acked_messages += cut.last - cut.first + 1
            self._given = max(0, self._given - 1)
        if epoch == self.epoch:
            self.acked = max(self.acked, seq)
        if self._is_full and self.bytes <= self._max_bytes // 2:
            self._is_full = False
            self._room()
