"""Writing to a socket at once, without a release of the interpreter where that is possible."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from co2.compiled import is_of

__all__ = ["MAX_PIECES", "portable", "write_now"]

MAX_PIECES = 512
"""Pieces of one write: fewer than any system refuses."""

WriteNow = Callable[[int, list[bytes]], int]


def portable(descriptor: int, pieces: list[bytes]) -> int:
    """Do what :data:`write_now` does, where its C version is missing."""
    try:
        return os.writev(descriptor, pieces)
    except OSError:
        return 0


def _compiled() -> WriteNow | None:
    try:
        from co2.server.express import _express
    except ImportError:
        return None
    return _express.write_now if is_of(_express.SOURCE, Path(__file__).with_name("_express.c")) else None


write_now: Final[WriteNow] = _compiled() or portable
"""Write as much as a socket takes now.

While other threads compute, whoever releases the interpreter gets it back only after a while
(:data:`co2.thread_priority.INTERVAL`), and a relay writes each message to many sockets. So the C version does not
release it for a short write.

Args:
    descriptor: of a socket that does not block.
    pieces: at most :data:`MAX_PIECES`.

Returns:
    The number of bytes written; 0 if the socket is full, or broken.
"""
