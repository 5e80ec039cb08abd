"""Decode received batches: at once, and message by message if that fails."""

import sys
from typing import Any, NoReturn

from co2.errors import BadRequest, ValueRefused
from co2.protocol.wire.batch import batch_count, split_batch
from co2.values import RECURSION_LIMIT, Message, unpack, unpack_batch

__all__ = ["MAX_PREVIEW", "Unreadable", "open_batch", "pieces", "preview", "unpack_deep"]

MAX_PREVIEW = 512
"""Characters of a message that are shown in the log."""


class Unreadable(Message):
    """Stands for a message that cannot be decoded: empty, and setting a key in it raises its error.

    Args:
        error: of the decoder.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __setitem__(self, key: str, value: Any) -> NoReturn:
        raise self.error


def open_batch(batch: bytes) -> list[Message]:
    """Decode all messages of a batch."""
    try:
        return unpack_batch(batch)
    except (ValueRefused, MemoryError):
        return [_opened(packed) for packed in pieces(batch)]


def unpack_deep(packed: bytes) -> Message:
    """Decode a message, also one that is nested deeper than the recursion limit.

    Raises:
        ValueRefused: it cannot be decoded.
    """
    try:
        return unpack(packed)
    except ValueRefused:
        # The sender could encode it within its recursion limit; decoding needs a few stack frames more.
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, RECURSION_LIMIT))
        try:
            return unpack(packed)
        finally:
            sys.setrecursionlimit(limit)


def preview(packed: bytes) -> str:
    """Return a message as text, shortened."""
    try:
        return repr(unpack_deep(packed))[:MAX_PREVIEW]
    except BaseException:
        return f"{len(packed)} bytes that cannot be shown"


def _opened(packed: bytes) -> Message:
    try:
        return unpack_deep(packed)
    except (ValueRefused, MemoryError) as error:
        return Unreadable(error)


def pieces(batch: bytes) -> list[bytes]:
    """Split a batch, even a broken one."""
    try:
        return split_batch(batch)
    except (BadRequest, MemoryError):
        # It cannot be split. Each of its messages is reported as unreadable, so that none is lost in silence.
        return [b""] * batch_count(batch)
