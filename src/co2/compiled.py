"""Compiled modules: whether one is made of the C that lies beside it.

There is Python for each of them, to the same effect, for machines without a C compiler (``hatch_build.py``).
"""

import zlib
from pathlib import Path

__all__ = ["is_of"]


def is_of(source: int, code: Path) -> bool:
    """Tell whether a module is up to date: it is not after a pull without an install.

    Args:
        source: of which C the module says that it is made.
        code: the C file.
    """
    try:
        return zlib.crc32(code.read_bytes()) >> 1 == source
    except OSError:
        return True  # installed: the two have come together, and the source has stayed behind
