"""Flush files to disk, whatever the operating system calls that."""

import os
import sys
from pathlib import Path

__all__ = ["sync_data", "sync_file", "sync_folder"]


def sync_file(descriptor: int) -> None:
    """Return when all of a file is on disk.

    On macOS ``fsync`` leaves the data in the drive's cache, which a power cut empties; F_FULLFSYNC does not: see
    fsync(2) there. ``sqlite.py`` sets the same for SQLite.

    Args:
        descriptor: of the file.

    Raises:
        OSError: the disk refused it.
    """
    if not _is_flushed(descriptor):
        os.fsync(descriptor)


def sync_data(descriptor: int) -> None:
    """Return when the content of a file is on disk; its time of change need not be.

    Args:
        descriptor: of the file.

    Raises:
        OSError: the disk refused it.
    """
    if not _is_flushed(descriptor):
        getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_folder(path: Path) -> None:
    """Return when the names in a folder are on disk: those of new or renamed files.

    Args:
        path: of the folder.

    Raises:
        OSError: the disk refused them.
    """
    if os.name == "posix":  # elsewhere folders cannot be opened
        descriptor = os.open(path, os.O_RDONLY)
        try:
            sync_file(descriptor)
        finally:
            os.close(descriptor)


def _is_flushed(descriptor: int) -> bool:
    """Make the drive of a Mac write its cache; return whether it has."""
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:
            return False  # a disk without this command, such as a network share
        return True
    return False
