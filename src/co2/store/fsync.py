"""Have a file on disk, whatever the system calls that."""

import os
import sys

__all__ = ["sync_file"]


def sync_file(descriptor: int) -> None:
    """Return when all of a file is on disk.

    On macOS ``fsync`` leaves it in the cache of the drive, which a power cut empties; F_FULLFSYNC does not: see
    fsync(2) there. SQLite is told the same in ``sqlite.py``.

    Args:
        descriptor: of the file.

    Raises:
        OSError: the disk has not taken it.
    """
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:
            pass  # a disk that does not know it, as over the network
        else:
            return
    os.fsync(descriptor)
