"""A batch: several encoded messages as one MessagePack array, moved as a whole and decoded at once.

It always has an array32 header, so that the number of its messages is read without parsing them. Hosts join and
count batches; a batch is parsed only to split it for a reader of single messages.

A message that was dropped on its way through the relay is replaced by :data:`DROPPED`, so that all others keep
their numbers.
"""

from collections.abc import Sequence

import msgspec

from co2.errors import BadRequest

__all__ = [
    "DROPPED",
    "MAX_BATCH_BYTES",
    "MAX_BATCH_MESSAGES",
    "batch_count",
    "join_batches",
    "make_batch",
    "split_batch",
]

MAX_BATCH_MESSAGES = 2048
"""Messages in one batch."""

MAX_BATCH_BYTES = 1024 * 1024
"""Bytes of one batch."""

DROPPED = b"\xc0"
"""Stands for a message that is not delivered."""

_split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode

_ARRAY32 = 0xDD
_HEADER = 5


def make_batch(messages: Sequence[bytes]) -> bytes:
    """Join encoded messages to a batch."""
    return b"\xdd" + len(messages).to_bytes(4, "big") + b"".join(messages)


def batch_count(batch: bytes) -> int:
    """Return the number of messages in a batch.

    Raises:
        BadRequest: not a batch, or it holds no message or more than :data:`MAX_BATCH_MESSAGES`.
    """
    if len(batch) < _HEADER or batch[0] != _ARRAY32:
        raise BadRequest("malformed batch")
    count = int.from_bytes(batch[1:_HEADER], "big")
    if not 0 < count <= MAX_BATCH_MESSAGES or len(batch) > MAX_BATCH_BYTES + _HEADER:
        raise BadRequest(
            f"a batch of {count} messages and {len(batch)} bytes; the limits are "
            f"{MAX_BATCH_MESSAGES} and {MAX_BATCH_BYTES}"
        )
    return count


def join_batches(batches: Sequence[bytes]) -> bytes:
    """Join batches to one; the caller checks the limits.

    Raises:
        BadRequest: one of them is not a batch.
    """
    count = sum(map(batch_count, batches))
    bodies = (memoryview(batch)[_HEADER:] for batch in batches)
    return b"".join((b"\xdd", count.to_bytes(4, "big"), *bodies))


def split_batch(batch: bytes, *, patient: bool = True) -> list[bytes]:
    """Split a batch into its encoded messages.

    Args:
        batch: as it was sent.
        patient: also split a message that nests deeper than any sender of ours can write, which takes 0.1 s per
            MiB.

    Raises:
        BadRequest: the bytes are not as many MessagePack values as the header says; or splitting needs
            ``patient``.
    """
    count = batch_count(batch)
    try:
        # Five times as fast, but one message that it cannot parse, such as one nested too deep, fails the whole
        # batch.
        return [*map(bytes, _split(batch))]
    except (msgspec.MsgspecError, RecursionError) as error:
        if not patient:
            raise BadRequest("malformed batch") from error
        return _split_by_hand(batch, count)


def _split_by_hand(batch: bytes, count: int) -> list[bytes]:
    messages = []
    start = _HEADER
    try:
        for _ in range(count):
            end = _skip(batch, start)
            messages.append(batch[start:end])
            start = end
    except IndexError:
        raise BadRequest("truncated batch") from None
    if start != len(batch):
        raise BadRequest("bytes after the last message of a batch")
    return messages


def _skip(data: bytes, at: int) -> int:
    """Return the end of the value that begins at ``at``; without recursion, whatever its depth."""
    left = 1
    size = len(data)
    while left:
        left -= 1
        first = data[at]
        at += 1
        if first < 0x80 or first >= 0xE0:
            continue
        if first < 0x90:
            left += 2 * (first & 0x0F)
        elif first < 0xA0:
            left += first & 0x0F
        elif first < 0xC0:
            at += first & 0x1F
        else:
            length_bytes, payload, items = _FORMATS[first]
            if length_bytes:
                length = int.from_bytes(data[at : at + length_bytes], "big")
                at += length_bytes
                payload += length if not items else 0
                left += length * items
            at += payload
        if at > size:
            raise IndexError
    return at


def _formats() -> dict[int, tuple[int, int, int]]:
    """Return MessagePack's formats from 0xc0 on: bytes of the length, other bytes, values per unit of length."""
    table = {0xC0: (0, 0, 0), 0xC1: (0, 0, 0), 0xC2: (0, 0, 0), 0xC3: (0, 0, 0)}
    for number, width in enumerate((1, 2, 4)):
        table[0xC4 + number] = (width, 0, 0)  # bin
        table[0xC7 + number] = (width, 1, 0)  # ext
        table[0xD9 + number] = (width, 0, 0)  # str
    table |= {0xCA: (0, 4, 0), 0xCB: (0, 8, 0)}
    for number, width in enumerate((1, 2, 4, 8)):
        table[0xCC + number] = table[0xD0 + number] = (0, width, 0)
    for number, width in enumerate((1, 2, 4, 8, 16)):
        table[0xD4 + number] = (0, 1 + width, 0)  # fixext
    table |= {0xDC: (2, 0, 1), 0xDD: (4, 0, 1), 0xDE: (2, 0, 2), 0xDF: (4, 0, 2)}
    return table


_FORMATS = _formats()
