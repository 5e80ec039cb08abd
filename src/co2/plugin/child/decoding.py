"""A batch that has arrived, decoded: in one go, and message by message where that fails."""

import sys
from typing import Any, NoReturn

from co2.errors import BadRequest, ValueRefused
from co2.protocol.wire.batch import batch_count, split_batch
from co2.values import RECURSION_LIMIT, Message, unpack, unpack_batch

__all__ = ["MAX_PREVIEW", "Unreadable", "open_batch", "pieces", "preview", "unpack_deep"]

MAX_PREVIEW = 512
"""Characters of a message that are shown in the log."""


class Unreadable(Message):
    """Stands where a message cannot be decoded: empty, and whoever sets a key in it gets its error.

    Args:
        error: why.
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
    """Decode a message, also one that is nested deeper than Python likes.

    Raises:
        ValueRefused: it cannot be decoded.
    """
    try:
        return unpack(packed)
    except ValueRefused:
        # A sender nests as deep as its recursion limit lets it; a few frames more must do for us.
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, RECURSION_LIMIT))
        try:
            return unpack(packed)
        finally:
            sys.setrecursionlimit(limit)


def preview(packed: bytes) -> str:
    """Show a message, shortened."""
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
    """Take a batch apart, even a broken one."""
    try:
        return split_batch(batch)
    except (BadRequest, MemoryError):
        # Not taken apart: so many messages that nobody can read. Each is told, none is left out in silence.
        return [b""] * batch_count(batch)
