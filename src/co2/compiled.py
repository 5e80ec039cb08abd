"""Compiled modules: whether one was built from the C file beside it.

Each of them has a Python version with the same effect, for machines without a C compiler (``hatch_build.py``).
"""

import zlib
from pathlib import Path

__all__ = ["is_of"]


def is_of(source: int, code: Path) -> bool:
    """Return whether a module is up to date: after a pull without an install it is not.

    Args:
        source: checksum of the C that the module was built from.
        code: the C file.
    """
    try:
        return zlib.crc32(code.read_bytes()) >> 1 == source
    except OSError:
        return True  # the module is installed, and was built together with co2
