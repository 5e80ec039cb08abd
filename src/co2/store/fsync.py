"""Have a file on disk, whatever the system calls that."""

import os
import sys
from pathlib import Path

__all__ = ["sync_data", "sync_file", "sync_folder"]


def sync_file(descriptor: int) -> None:
    """Return when all of a file is on disk.

    On macOS ``fsync`` leaves it in the cache of the drive, which a power cut empties; F_FULLFSYNC does not: see
    fsync(2) there. SQLite is told the same in ``sqlite.py``.

    Args:
        descriptor: of the file.

    Raises:
        OSError: the disk has not taken it.
    """
    if not _is_flushed(descriptor):
        os.fsync(descriptor)


def sync_data(descriptor: int) -> None:
    """Return when what is in a file is on disk; when it was written need not be.

    Args:
        descriptor: of the file.

    Raises:
        OSError: the disk has not taken it.
    """
    if not _is_flushed(descriptor):
        getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_folder(path: Path) -> None:
    """Return when the names in a folder are on disk: of a file that is new, or has got another name.

    Args:
        path: of the folder.

    Raises:
        OSError: the disk has not taken them.
    """
    if os.name == "posix":  # elsewhere folders cannot be opened
        descriptor = os.open(path, os.O_RDONLY)
        try:
            sync_file(descriptor)
        finally:
            os.close(descriptor)


def _is_flushed(descriptor: int) -> bool:
    """Have the drive of a Mac write its cache; return whether it has."""
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:
            return False  # a disk that does not know it, as over the network
        return True
    return False
