"""SQLite as the stores use it: a commit that has returned survives a power cut.

WAL with synchronous=FULL. The system's SQLite may be old and broken there, so APSW brings its own.
"""

import contextlib
import sys
from datetime import UTC, datetime
from pathlib import Path

import apsw

from co2.store.journal import SUFFIX as JOURNAL
from co2.store.journal import begins_with_record

__all__ = ["check_files", "close_database", "mark_damaged", "open_database", "set_aside"]

PAGE_SIZE = 16_384
"""Bytes of a page: a full frame takes a handful of them."""

BUSY_TIMEOUT = 10_000
"""Milliseconds that a connection waits for another one of ours."""


DAMAGED = ".damaged"
"""What is put behind a file's name for the note that it must not be written any more."""


def open_database(path: Path, vfs: str | None = None) -> apsw.Connection:
    """Open a database file, or make it.

    Args:
        path: of the file.
        vfs: name of an APSW VFS, None for the platform's.

    Raises:
        apsw.Error: it cannot be opened, is no database, or is damaged.
    """
    db = apsw.Connection(str(path), vfs=vfs)
    try:
        with contextlib.suppress(OSError):  # some file systems have no modes
            path.chmod(0o600)  # before there is anything in it; the WAL and its index get the mode of the first
        db.set_busy_timeout(BUSY_TIMEOUT)
        for pragma in (
            f"page_size = {PAGE_SIZE}",
            "journal_mode = WAL",
            "synchronous = FULL",
            f"fullfsync = {int(sys.platform == 'darwin')}",
            "temp_store = MEMORY",
        ):
            db.execute(f"PRAGMA {pragma}").fetchall()
    except apsw.Error:
        close_database(db, tidy=False)
        raise
    return db


def close_database(db: apsw.Connection, *, tidy: bool = True) -> None:
    """Close a connection.

    Args:
        db: the connection.
        tidy: the last one moves the WAL into the database, and deletes it. Not where the disk has failed, or what
            is on it cannot be read: that changes nothing for the better.
    """
    if not tidy:
        with contextlib.suppress(apsw.ConnectionClosedError):
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.close()


def mark_damaged(path: Path) -> None:
    """Leave a note that a file must not be written any more: it is set aside at the next start."""
    path.with_name(path.name + DAMAGED).touch(mode=0o600)


def check_files(path: Path) -> None:
    """Look at the files of a database before it is opened.

    Raises:
        apsw.CorruptError: it was found damaged when it was written; or SQLite would take it for a new one, though
            there is something in its WAL or its journal.
    """
    if path.with_name(path.name + DAMAGED).exists():
        raise apsw.CorruptError("it was found damaged when it was written")
    wal = path.with_name(f"{path.name}-wal")
    if (not path.exists() or not path.stat().st_size) and wal.exists() and wal.stat().st_size:
        raise apsw.CorruptError("it is empty, its WAL is not")
    if (not path.exists() or not path.stat().st_size) and begins_with_record(path):
        raise apsw.CorruptError("it is empty, its journal is not")


def set_aside(path: Path) -> Path:
    """Give a file that cannot be read another name, with what belongs to it; nothing is deleted."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    for suffix in ("", "-wal", "-shm", JOURNAL, DAMAGED):
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(path.with_name(f"{path.name}.bad-{stamp}{suffix}"))
    return path.with_name(f"{path.name}.bad-{stamp}")
