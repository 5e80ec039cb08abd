"""SQLite as the stores use it: a commit that has returned survives a power cut.

WAL with synchronous=FULL. The system's SQLite may be old and broken there, so APSW brings its own.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

import apsw

__all__ = ["open_database", "set_aside"]

PAGE_SIZE = 16_384
"""Bytes of a page: a full frame takes a handful of them."""

BUSY_TIMEOUT = 10_000
"""Milliseconds that a connection waits for another one of ours."""


def open_database(path: Path, vfs: str | None = None) -> apsw.Connection:
    """Open a database file, or make it.

    Args:
        path: of the file.
        vfs: name of an APSW VFS, None for the platform's.

    Raises:
        apsw.Error: it cannot be opened, is no database, or is damaged.
    """
    db = apsw.Connection(str(path), vfs=vfs)
    db.set_busy_timeout(BUSY_TIMEOUT)
    for pragma in (
        f"page_size = {PAGE_SIZE}",
        "journal_mode = WAL",
        "synchronous = FULL",
        f"fullfsync = {int(sys.platform == 'darwin')}",
        "temp_store = MEMORY",
    ):
        db.execute(f"PRAGMA {pragma}").fetchall()
    return db


def set_aside(path: Path) -> Path:
    """Give a file that cannot be read another name, with what belongs to it; nothing is deleted."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    for suffix in ("", "-wal", "-shm"):
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(path.with_name(f"{path.name}.bad-{stamp}{suffix}"))
    return path.with_name(f"{path.name}.bad-{stamp}")
