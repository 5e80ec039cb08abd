"""What the C library does with memory that is free again: large pieces go back to the system at once.

Left alone, glibc raises the size from which on it asks the system for each piece, up to 32 MiB, as soon as one of
them is freed. Then frames and answers of megabytes lie between small things, and the process stays as large as it
ever was: fifteen minutes of attack left a relay 80 MiB larger than it had to be.
"""

import sys

__all__ = ["ARENAS", "LARGE", "give_back_large_pieces"]

LARGE = 512 * 1024
"""Bytes from which on a piece of memory is the system's own, and goes back to it."""

ARENAS = 2
"""Places from which threads take memory; each keeps what is free in it for itself."""

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""As in glibc's malloc.h; see mallopt(3)."""


def give_back_large_pieces() -> bool:
    """Return whether the C library does so in this process from now on: not every one can be told."""
    if sys.platform != "linux":
        return False
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # there is none in musl
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, LARGE)) and bool(mallopt(_M_ARENA_MAX, ARENAS))
