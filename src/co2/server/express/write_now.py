"""Writing to a socket at once, without a release of the interpreter where that is possible."""

import os
from pathlib import Path

from co2.compiled import is_of

__all__ = ["SMALL", "write_now"]

SMALL = 64 * 1024
"""Bytes up to which the interpreter is not released for a write: that takes the system some ten microseconds."""

try:
    from co2.server.express._express import MAX_PIECES, SOURCE
    from co2.server.express._express import write_now as _write_small

    _IS_COMPILED = is_of(SOURCE, Path(__file__).with_name("_express.c"))
except ImportError:
    _IS_COMPILED = False


def write_now(descriptor: int, pieces: list[bytes]) -> int:
    """Write as much as a socket takes now.

    While other threads compute, whoever releases the interpreter gets it back only after a while
    (:data:`co2.thread_priority.INTERVAL`). A relay writes each message to many sockets.

    Args:
        descriptor: of a socket that does not block.
        pieces: at most as many as the system accepts in one call.

    Returns:
        The number of bytes written; 0 if the socket is full, or broken.
    """
    if _IS_COMPILED and len(pieces) <= MAX_PIECES and sum(map(len, pieces)) <= SMALL:
        return _write_small(descriptor, pieces)
    try:
        return os.writev(descriptor, pieces)
    except OSError:
        return 0
