"""The relay's log as an SQLite file: opened, or set aside and made anew; rows written and read.

WAL with synchronous=FULL: a commit that has returned survives a power cut. The system's SQLite may be old and
broken there, so APSW brings its own.
"""

import contextlib
import logging
import secrets
import sys
import zlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import msgspec

from co2.protocol.link_frames import FIRST_POSITION
from co2.protocol.log import Entry

__all__ = ["MARK_AGE", "LogFile", "set_aside"]

PAGE_SIZE = 16_384
"""Bytes of a page: a full frame takes a handful of them."""

BUSY_TIMEOUT = 10_000
"""Milliseconds that a connection waits for another one of ours."""

MARK_AGE = 30 * 86_400
"""Seconds after which the mark of a run that was not heard of is forgotten."""

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE frame (
    position INTEGER PRIMARY KEY, count INTEGER, origin TEXT, host_id TEXT, ip TEXT, port INTEGER, epoch INTEGER,
    seq INTEGER, package TEXT, plugin TEXT, channels BLOB, crc INTEGER, head INTEGER, at REAL, batch BLOB
);
CREATE INDEX numbered ON frame (origin, epoch, seq) WHERE epoch != 0;
CREATE TABLE mark (origin TEXT, epoch INTEGER, seq INTEGER, at REAL, PRIMARY KEY (origin, epoch)) WITHOUT ROWID;
"""
_COLUMNS = "position, count, origin, host_id, ip, port, epoch, seq, package, plugin, channels, crc, head, batch"
_INSERT = "INSERT INTO frame VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_MARK = (
    "INSERT INTO mark VALUES (?, ?, ?, ?) ON CONFLICT (origin, epoch) DO UPDATE SET seq = excluded.seq, "
    "at = excluded.at"
)
_VERSION = 1

_logger = logging.getLogger("co2.relay")


class LogFile:
    """One connection to the log's file.

    Args:
        path: of the file.
        vfs: name of the APSW VFS that it is opened through, None for the platform's.

    Raises:
        apsw.Error: it cannot be opened, is no database, or is damaged.
    """

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        self._db = apsw.Connection(str(path), vfs=vfs)
        self.wal_pages = 0
        try:
            self._set_up()
        except apsw.Error:
            self.close(tidy=False)
            raise

    def _set_up(self) -> None:
        self._db.set_busy_timeout(BUSY_TIMEOUT)
        for pragma in (
            f"page_size = {PAGE_SIZE}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "wal_autocheckpoint = 0",
            f"fullfsync = {int(sys.platform == 'darwin')}",
            "temp_store = MEMORY",
        ):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        self._db.set_wal_hook(self._committed)

    def _committed(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self.wal_pages = pages
        return apsw.SQLITE_OK

    def prepare(self) -> None:
        """Make the tables in a new file; check those of an old one."""
        version = self._db.execute("PRAGMA user_version").fetchall()[0][0]
        if version == 0:
            with self._db:
                self._db.execute(_SCHEMA)
                self.write_meta("log_id", secrets.token_hex(16))
                self.write_meta("lease", FIRST_POSITION)
                self.write_meta("gone", FIRST_POSITION - 1)
                self.write_meta("bytes", 0)
                self.write_meta("runs", "[]")
                self._db.execute(f"PRAGMA user_version = {_VERSION}")
        elif version != _VERSION:
            raise apsw.NotADBError(f"its version is {version}, this program reads {_VERSION}")
        self.read_meta("log_id")

    # ---- inside a transaction --------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a write."""
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Bring it to disk."""
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Give it up."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def insert(self, entries: Sequence[Entry], at: float) -> None:
        """Write frames."""
        self._db.executemany(_INSERT, [_row(entry, at) for entry in entries])

    def write_marks(self, marks: Iterable[tuple[tuple[str, int], int]], at: float) -> None:
        """Write where runs are."""
        self._db.executemany(_MARK, [(origin, epoch, seq, at) for (origin, epoch), seq in marks])

    def write_meta(self, key: str, value: Any) -> None:
        """Write one of the log's own facts."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def delete_oldest(self, limit: int, max_bytes: int, older_than: float) -> tuple[int, int]:
        """Delete the oldest frames, as far as they are too many bytes or too old.

        Args:
            limit: at most so many.
            max_bytes: bytes that have to go.
            older_than: wall time; what is older goes too.

        Returns:
            The position up to which they are gone, 0 for none; and the bytes that this freed.
        """
        query = "SELECT position, count, length(batch), at FROM frame ORDER BY position LIMIT ?"
        up_to = freed = 0
        for position, count, size, at in self._db.execute(query, (limit,)):
            if freed >= max_bytes and at >= older_than:
                break
            up_to, freed = position + count - 1, freed + size
        if up_to:
            self._db.execute("DELETE FROM frame WHERE position <= ?", (up_to,))
            self.write_meta("gone", up_to)
        return up_to, freed

    def forget_marks(self, older_than: float) -> None:
        """Forget runs that were not heard of since."""
        self._db.execute("DELETE FROM mark WHERE at < ?", (older_than,))

    # ---- reading ---------------------------------------------------------------------------------------

    def snapshot(self) -> AbstractContextManager[Any]:
        """What is read within is all of one moment."""
        return self._db

    def read_meta(self, key: str) -> Any:
        """Read one of the log's own facts."""
        rows = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchall()
        if not rows:
            raise apsw.CorruptError(f"the log has no {key}")
        return rows[0][0]

    def last(self) -> int:
        """Give the position of the last message; 0 for none."""
        query = "SELECT position + count - 1 FROM frame ORDER BY position DESC LIMIT 1"
        rows: Any = self._db.execute(query).fetchall()
        return int(rows[0][0]) if rows else 0

    def marks(self) -> dict[tuple[str, int], int]:
        """Give where all runs are."""
        return {
            (origin, epoch): seq for origin, epoch, seq in self._db.execute("SELECT origin, epoch, seq FROM mark")
        }

    def entries(self, after: int, max_bytes: int) -> Iterable[Entry | int]:
        """Give frames that end after a position, in order; the position of a damaged one in its place.

        Args:
            after: position.
            max_bytes: stop when the batches are larger than this together; one is always given.
        """
        query = (
            f"SELECT {_COLUMNS} FROM frame WHERE position >= "  # noqa: S608 - ours
            "coalesce((SELECT max(position) FROM frame WHERE position <= ?1), ?1) ORDER BY position"
        )
        size = 0
        doubtful: int | None = None
        for row in self._db.execute(query, (after,)):
            position, whole = row[0], _is_whole(row)
            if position <= after and not whole:
                doubtful = position  # how far it went is not known: it matters if something is missing behind
                continue
            if doubtful is not None and position > after + 1:
                yield doubtful
            doubtful = None
            if position <= after and position + row[1] - 1 <= after:
                continue
            size += len(row[-1])
            yield _entry(row) if whole else position
            if size >= max_bytes:
                return
        if doubtful is not None:
            yield doubtful

    def following(self, position: int) -> int | None:
        """Give the position of the frame behind the one at a position."""
        query = "SELECT position FROM frame WHERE position > ? ORDER BY position LIMIT 1"
        rows: Any = self._db.execute(query, (position,)).fetchall()
        return int(rows[0][0]) if rows else None

    def find(self, origin: str, epoch: int, seq: int) -> int | None:
        """Give the checksum of the frame that begins with this number."""
        query = "SELECT crc FROM frame WHERE origin = ? AND epoch = ? AND seq = ? AND epoch != 0"
        rows: Any = self._db.execute(query, (origin, epoch, seq)).fetchall()
        return int(rows[0][0]) if rows else None

    def checkpoint(self, mode: int) -> tuple[int, int]:
        """Move the WAL into the database; give (pages in the WAL, pages moved)."""
        return self._db.wal_checkpoint(mode=mode)

    def close(self, *, tidy: bool = True) -> None:
        """Close the connection.

        Args:
            tidy: the last one moves the WAL into the database, and deletes it. Not where the disk has failed, or what
                is on it cannot be read: that changes nothing for the better.
        """
        if not tidy:
            with contextlib.suppress(apsw.ConnectionClosedError):
                self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._db.close()


def set_aside(path: Path) -> Path:
    """Give a file that cannot be read another name, with what belongs to it; nothing is deleted."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    for suffix in ("", "-wal", "-shm"):
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(path.with_name(f"{path.name}.bad-{stamp}{suffix}"))
    return path.with_name(f"{path.name}.bad-{stamp}")


def _row(entry: Entry, at: float) -> tuple[Any, ...]:
    channels = None if entry.channels is None else msgspec.msgpack.encode(entry.channels)
    ip, port = entry.client_address
    head = (
        *(entry.position, entry.count, entry.origin, entry.host_id, ip, port, entry.epoch, entry.seq),
        *(entry.package, entry.plugin, channels, entry.crc),
    )
    return (*head, _head_checksum(head), at, entry.batch)


def _head_checksum(head: tuple[Any, ...]) -> int:
    return zlib.crc32(msgspec.msgpack.encode(head))


def _is_whole(row: tuple[Any, ...]) -> bool:
    *head, checksum, batch = row
    try:
        return bool(zlib.crc32(batch) == head[-1] and _head_checksum(tuple(head)) == checksum)
    except (TypeError, UnicodeError):
        return False


def _entry(row: tuple[Any, ...]) -> Entry:
    position, count, origin, host_id, ip, port, epoch, seq, package, plugin, channels, crc, _, batch = row
    names = None if channels is None else tuple(msgspec.msgpack.decode(channels))
    return Entry(position, count, origin, host_id, (ip, port), epoch, seq, package, plugin, names, crc, batch)
