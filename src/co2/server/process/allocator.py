"""The C library's handling of freed memory: large pieces are returned to the system at once.

By default glibc raises the size above which it asks the system for each piece, up to 32 MiB, as soon as such a
piece is freed. Then frames and answers of megabytes lie between small objects, and the process stays at its
largest size: fifteen minutes of attack left a relay 80 MiB larger than necessary.
"""

import sys

__all__ = ["ARENAS", "LARGE", "give_back_large_pieces"]

LARGE = 512 * 1024
"""Bytes from which on a piece of memory comes from the system directly, and is returned to it."""

ARENAS = 2
"""Pools from which threads take memory; each keeps its own free memory."""

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""Constants of glibc's malloc.h; see mallopt(3)."""


def give_back_large_pieces() -> bool:
    """Set that for this process; return whether the C library supports it."""
    if sys.platform != "linux":
        return False
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, LARGE)) and bool(mallopt(_M_ARENA_MAX, ARENAS))
