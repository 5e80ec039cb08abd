"""SQLite with the settings of the stores: a commit that has returned survives a power cut.

WAL with synchronous=FULL. The system's SQLite may be old and have bugs there, so APSW brings its own.
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
"""Suffix of the note beside a file that must not be written any more."""


def open_database(path: Path, vfs: str | None = None) -> apsw.Connection:
    """Open a database file, or make it.

    Args:
        path: of the file.
        vfs: name of an APSW VFS, None for the platform's.

    Raises:
        apsw.Error: it cannot be opened, is not a database, or is damaged.
    """
    db = apsw.Connection(str(path), vfs=vfs)
    try:
        with contextlib.suppress(OSError):  # some file systems have no modes
            path.chmod(0o600)  # before there is anything in it; the WAL and its index get the same mode
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
        tidy: the last connection moves the WAL into the database and deletes it. False where the disk has failed
            or the file cannot be read: then the files stay unchanged.
    """
    if not tidy:
        with contextlib.suppress(apsw.ConnectionClosedError):
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.close()


def mark_damaged(path: Path) -> None:
    """Mark a file as not to be written any more: the next start sets it aside."""
    path.with_name(path.name + DAMAGED).touch(mode=0o600)


def check_files(path: Path) -> None:
    """Check the files of a database before it is opened.

    Raises:
        apsw.CorruptError: the file was found damaged when it was written; or SQLite would take it for a new one,
            though there is something in its WAL or its journal.
    """
    if path.with_name(path.name + DAMAGED).exists():
        raise apsw.CorruptError("it was already found damaged")
    wal = path.with_name(f"{path.name}-wal")
    if (not path.exists() or not path.stat().st_size) and wal.exists() and wal.stat().st_size:
        raise apsw.CorruptError("it is empty, but its WAL is not")
    if (not path.exists() or not path.stat().st_size) and begins_with_record(path):
        raise apsw.CorruptError("it is empty, but its journal is not")


def set_aside(path: Path) -> Path:
    """Rename an unreadable file and the files beside it; nothing is deleted."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    for suffix in ("", "-wal", "-shm", JOURNAL, DAMAGED):
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(path.with_name(f"{path.name}.bad-{stamp}{suffix}"))
    return path.with_name(f"{path.name}.bad-{stamp}")
