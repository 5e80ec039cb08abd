"""The journal: a small file in front of the log's database, for commits of few messages.

A commit of SQLite writes each page that it touches: of the table, an index, the marks and the log's own facts, 64
KiB for a single message. A commit to the journal is one write, behind the previous record and of as many bytes as
it needs, and one sync: one page of the disk. The file has two halves. When one is full, its records go into the
database in one transaction; meanwhile the other one is filled. The file has its full length from the start, so
that a sync writes nothing but new data.

Each record carries the number of its filling and a keyed hash. So leftovers of earlier fillings, a record that a
power cut has torn, and damaged records are told apart from valid ones; valid records behind a damaged one are
still found. The key is the log's secret: a message that looks like a record cannot pass as one, even where the
record around it is torn or partly overwritten.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import apsw

from co2.store.fsync import sync_data, sync_folder

__all__ = ["DISK_PAGE", "HALF", "SUFFIX", "Journal", "begins_with_record", "new_key"]

HALF = 512 * 1024
"""Bytes of each half of the file: room for some 1,400 single messages."""

SUFFIX = ".journal"
"""Suffix of the log's file name."""

DISK_PAGE = 4096
"""Bytes of a page of the operating system."""

_MAGIC = b"co2j"
_HEAD = struct.Struct(">4sQII8s")
"""Magic, filling, number within the filling, length of the data, hash."""

_KEY = 16
"""Bytes of a key."""

_PIECE = 65_536

_NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class Journal:
    """The journal's file, open for the next record.

    Args:
        path: of the log.
        key: of this log (:func:`new_key`): records written with another key do not count.
        done: number of the last filling that is in the database.
        vfs: name of an APSW VFS, None for the platform's files.

    Attributes:
        key: of this log.
        filling: number of the current one.
        written: bytes written to disk, in whole pages.

    Raises:
        apsw.FullError: the disk is full.
        apsw.Error, OSError: the disk failed.
    """

    def __init__(self, path: Path, key: bytes, done: int, vfs: str | None = None) -> None:
        self.filling = done + 1
        self.written = 0
        self.key = key
        self._at = self._begin_of(self.filling)
        self._number = 0
        place = path.with_name(path.name + SUFFIX)
        self._file: _File = _SystemFile(place) if vfs is None else _VfsFile(place, vfs)
        self._size = self._file.size()

    def records(self) -> list[tuple[int, bytes]]:
        """Return the records that are not in the database, in order, each with its filling."""
        found = [one for one in _found(self._file.read(self._size), self.key) if one[0] >= self.filling]
        return [(filling, data) for filling, _, data in sorted(found)]

    def make(self) -> None:
        """Extend the file to its full length."""
        if self._size < 2 * HALF:
            self._file.lengthen(self._size, 2 * HALF)
            self._file.sync()
            self._size = 2 * HALF

    @staticmethod
    def _begin_of(filling: int) -> int:
        """Return where a filling begins: fillings take turns in the two halves."""
        return filling % 2 * HALF

    def takes(self, data: bytes) -> bool:
        """Return whether the current filling has room for a record."""
        end = self._at + _HEAD.size + len(data)
        return end <= min(self._begin_of(self.filling) + HALF, self._size)

    def append(self, data: bytes) -> None:
        """Write a record to disk.

        Raises:
            apsw.FullError: the disk is full, and the file system needs room even to overwrite.
            apsw.Error, OSError: the disk failed.
        """
        keyed = _hash(self.key, self.filling, self._number, data)
        record = _HEAD.pack(_MAGIC, self.filling, self._number, len(data), keyed) + data
        self._file.write(record, self._at)
        self._file.sync()
        first, self._at = self._at, self._at + len(record)
        self._number += 1
        self.written += ((self._at - 1) // DISK_PAGE - first // DISK_PAGE + 1) * DISK_PAGE

    def begin(self, done: int) -> None:
        """Begin the next filling: the records up to this one are in the database."""
        self.filling = done + 1
        self._at = self._begin_of(self.filling)
        self._number = 0

    def turn_over(self) -> None:
        """Begin the next filling before this one is in the database; the one before this must be there."""
        self.begin(self.filling)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(apsw.Error, OSError):
            self._file.close()


def new_key() -> bytes:
    """Return a key for the records of a log."""
    return secrets.token_bytes(_KEY)


def begins_with_record(path: Path) -> bool:
    """Return whether a log has a journal beside it that holds a record."""
    try:
        with path.with_name(path.name + SUFFIX).open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except FileNotFoundError:
        return False


def _found(content: bytes, key: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the whole records of a file: (filling, number, data)."""
    at = content.find(_MAGIC)
    while at >= 0:
        after = at + 1
        if at + _HEAD.size <= len(content):
            _, filling, number, length, keyed = _HEAD.unpack_from(content, at)
            data = content[at + _HEAD.size : at + _HEAD.size + length]
            if len(data) == length and _hash(key, filling, number, data) == keyed:
                yield filling, number, data
                after = at + _HEAD.size + length
        at = content.find(_MAGIC, after)


def _hash(key: bytes, filling: int, number: int, data: bytes) -> bytes:
    keyed = hashlib.blake2b(filling.to_bytes(8, "big"), digest_size=8, key=key)
    keyed.update(number.to_bytes(4, "big"))
    keyed.update(data)
    return keyed.digest()


class _File(Protocol):
    """The file operations of a journal."""

    def size(self) -> int: ...
    def read(self, size: int) -> bytes: ...
    def lengthen(self, size: int, wanted: int) -> None: ...
    def write(self, data: bytes, at: int) -> None: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...


class _SystemFile:
    """A file of the operating system. Its calls release the interpreter, as SQLite's do and a VFS's do not."""

    def __init__(self, path: Path) -> None:
        with _full():
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        self._folder: Path | None = path.parent

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def read(self, size: int) -> bytes:
        os.lseek(self._fd, 0, os.SEEK_SET)
        parts = []
        while size > 0 and (part := os.read(self._fd, size)):
            parts.append(part)
            size -= len(part)
        if sys.platform == "linux":  # as in lengthen(): the system must not cache it in larger pieces
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return b"".join(parts)

    def lengthen(self, size: int, wanted: int) -> None:
        # The system may cache data written at once as one piece, and write that piece to disk again as a whole.
        for at in range(size, wanted, DISK_PAGE):
            self.write(bytes(min(DISK_PAGE, wanted - at)), at)

    def write(self, data: bytes, at: int) -> None:
        with _full():
            os.lseek(self._fd, at, os.SEEK_SET)
            left = memoryview(data)
            while left:
                left = left[os.write(self._fd, left) :]

    def sync(self) -> None:
        with _full():
            sync_data(self._fd)
            if self._folder is not None:  # another process may have made the file and not synced its folder
                sync_folder(self._folder)
                self._folder = None

    def close(self) -> None:
        os.close(self._fd)


class _VfsFile:
    """A file on an SQLite VFS, such as a disk that fails, is full or loses power. It takes 64 KiB at a time."""

    def __init__(self, path: Path, vfs: str) -> None:
        flags = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        self._file = apsw.VFSFile(vfs, str(path), [flags, 0])

    def size(self) -> int:
        return int(self._file.xFileSize())

    def read(self, size: int) -> bytes:
        return b"".join(bytes(self._file.xRead(min(_PIECE, size - at), at)) for at in range(0, size, _PIECE))

    def lengthen(self, size: int, wanted: int) -> None:
        self.write(bytes(wanted - size), size)

    def write(self, data: bytes, at: int) -> None:
        for start in range(0, len(data), _PIECE):
            self._file.xWrite(data[start : start + _PIECE], at + start)

    def sync(self) -> None:
        self._file.xSync(apsw.SQLITE_SYNC_NORMAL | apsw.SQLITE_SYNC_DATAONLY)

    def close(self) -> None:
        self._file.xClose()


@contextlib.contextmanager
def _full() -> Iterator[None]:
    """Convert the error of a full disk to SQLite's."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise apsw.FullError(f"no room for the journal: {error.strerror}") from error
        raise
