"""Forecasts of the next frame and its results: the bytes of the state machines, except checksum and messages.

An idle host knows how the next frame of a sender begins, if it follows the last one: its number, its channels. It
also knows which frames it will then write, and to whom. With that forecast the frame can be passed on before the
host has done its own work on it (``loop.py``); the work is done right after.

The numbers in these frames are kept apart from the rest: so the results of the frame after the next one, and of
further ones, are known too, and several can be passed on before the work on any of them is done.
"""

from collections.abc import Hashable
from typing import NamedTuple

import msgspec

from co2.protocol.wire.link_frames import Deliver, Publish
from co2.protocol.wire.plugin_frames.frames import Deliver as HostDeliver
from co2.protocol.wire.plugin_frames.frames import Publish as HostPublish
from co2.protocol.wire.plugin_frames.frames import Transit, Transited

__all__ = ["CRC", "POSITION", "RUN_BYTES", "TIME_SIZE", "Number", "Outline", "host_outline", "link_outline"]

CRC = 0xFFFFFFFF
"""Placeholder of a checksum, encoded in as many bytes as all checksums but the 65,536 smallest."""

RUN_BYTES = 64 * 1024
"""Bytes of memory for the frames that are passed on before the work on any of them is done; their receivers
must have room for all of them."""

TIME_SIZE = 9
"""Bytes of a time in MessagePack."""

POSITION = "position"
"""Counter of the positions in the log."""

_UINT_8 = 0xCC
"""The first of MessagePack's formats of a number that begin with a byte for its length."""

_encode = msgspec.msgpack.Encoder().encode

_TAGS = {kind: 1 + len(_encode(kind.__name__)) for kind in (Publish, Deliver, HostDeliver, Transit, Transited)}
"""Bytes before the first field: the number of fields, and the frame's name."""


class Number(NamedTuple):
    """A number in a frame.

    Attributes:
        at: bytes of the head before it.
        counter: the counter that it shows. With each frame that passes, a counter grows by the frame's messages.
        value: in the next frame.
        is_free: it may also be larger; the frame's results show the number that has come.
    """

    at: int
    counter: Hashable
    value: int
    is_free: bool = False


class Outline(NamedTuple):
    """A frame without its numbers, checksum and messages.

    Attributes:
        head: bytes before the checksum, without the numbers.
        checked: whether a checksum stands before the messages.
        tail: bytes behind them.
        numbers: in the head, in their order.
        timed: whether a time stands at the end. That of a frame that comes is copied into what it becomes; if it
            has none, that gets the time at which the frame came.
    """

    head: bytes
    checked: bool
    tail: bytes
    numbers: tuple[Number, ...] = ()
    timed: bool = False

    @property
    def size(self) -> int:
        """Bytes of its known parts."""
        return len(self.head) + len(self.tail) + (TIME_SIZE if self.timed else 0)

    @property
    def whole_head(self) -> bytes:
        """The head of the next frame, with its numbers."""
        pieces: list[bytes] = []
        done = 0
        for number in self.numbers:
            pieces += (self.head[done : number.at], _encode(number.value))
            done = number.at
        return b"".join((*pieces, self.head[done:]))

    def after(self, count: int) -> "Outline":
        """Return the outline of the frame that follows this one, if this has ``count`` messages."""
        return self._replace(numbers=tuple(one._replace(value=one.value + count) for one in self.numbers))


def link_outline(frame: Publish | Deliver, whose: Hashable = "", *, is_free: bool = False) -> Outline:
    """Return the outline of a frame of the link without messages, and with :data:`CRC` as its checksum.

    Args:
        frame: the next one.
        whose: sender of the numbers; those of two senders are counted apart.
        is_free: positions and numbers may be larger, after messages that are not for the reader.
    """
    timed = isinstance(frame, Deliver)
    data, at = _encode(frame)[: -7 - (TIME_SIZE if timed else 0)], _TAGS[type(frame)]
    before: tuple[object, ...] = (frame.epoch,)
    numbers: tuple[Number, ...] = ()
    if isinstance(frame, Deliver):
        before = (frame.package, frame.host_id, frame.client_address, frame.epoch)
        numbers = (Number(at, POSITION, frame.position, is_free),)
        data = _without(data, at)
    at += sum(len(_encode(value)) for value in before)
    numbers += (Number(at, (whose, frame.epoch), frame.seq, is_free),)
    return Outline(_without(data, at), True, b"", numbers, timed)


def host_outline(
    frame: HostPublish | HostDeliver | Transit | Transited,
    whose: Hashable = "",
    place: Hashable = POSITION,
    *,
    timed: bool = False,
) -> Outline:
    """Return the outline of a frame between host and plugin host without messages.

    Args:
        frame: the next one.
        whose: package of the number.
        place: counter of the position of a Deliver.
        timed: whether the package wants to know when messages came.
    """
    behind: tuple[object, ...] = ()
    if isinstance(frame, HostPublish):
        behind = (frame.live,)
    elif isinstance(frame, HostDeliver):
        behind = (frame.sender, frame.skip, frame.at)
    elif isinstance(frame, Transited):
        behind = (frame.channels, frame.dropped, frame.changed, frame.failed)
    tail = b"".join(map(_encode, behind))
    data = _encode(frame)[: -len(tail) - 2]
    if isinstance(frame, HostPublish):
        return Outline(data, False, tail)
    at = _TAGS[type(frame)]
    number = frame.first if isinstance(frame, HostDeliver) else frame.number
    numbers: tuple[Number, ...] = (Number(at, whose, number),)
    data = _without(data, at)
    if isinstance(frame, HostDeliver) and frame.position:
        numbers += (Number(at, place, frame.position),)
        data = _without(data, at)
    if timed:
        tail = tail[:-TIME_SIZE]
    return Outline(data, False, tail, numbers, timed)


def _without(data: bytes, at: int) -> bytes:
    """Return the data without the number at an offset."""
    first = data[at]
    size = 1 if first < _UINT_8 else 1 + (1 << first - _UINT_8)
    return data[:at] + data[at + size :]
