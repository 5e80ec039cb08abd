"""The relay's log as an SQLite file: rows are written and read."""

import logging
import secrets
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from co2.protocol.relay.last_values import Head
from co2.protocol.relay.log import Entry
from co2.protocol.wire.checksum import crc32
from co2.protocol.wire.link_frames import FIRST_POSITION
from co2.store.commit import Commit
from co2.store.sqlite import close_database, open_database

__all__ = ["FRAME", "MAX_MARKS", "LogFile", "size_read"]

MAX_MARKS = 100_000
"""Runs whose marks are kept; those that were silent longest are forgotten. Not by age: the wall clock may jump."""

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value, checksum INTEGER) WITHOUT ROWID;
CREATE TABLE frame (
    position INTEGER PRIMARY KEY, count INTEGER, previous INTEGER, origin TEXT, host_id TEXT, ip TEXT,
    port INTEGER, epoch INTEGER, seq INTEGER, package TEXT, plugin TEXT, channels BLOB, crc INTEGER, at REAL,
    came REAL, checksum INTEGER, batch BLOB
);
CREATE INDEX numbered ON frame (origin, epoch, seq) WHERE epoch != 0;
CREATE TABLE mark (
    origin TEXT, epoch INTEGER, seq INTEGER, at REAL, checksum INTEGER, PRIMARY KEY (origin, epoch)
) WITHOUT ROWID;
"""
# Made for the first id: an older program ignores this table and still reads the file.
_IDS = """
CREATE TABLE IF NOT EXISTS relayed (position INTEGER PRIMARY KEY, origin TEXT, id TEXT, checksum INTEGER)
"""
# `at` is the running time of the commit, by which entries age; `came` is when the relay got the entry.
_SINCE_2 = "ALTER TABLE frame ADD COLUMN came REAL"
_NUMBERS = ("count", "previous", "port", "epoch", "seq", "crc", "checksum")


def _cast(column: str) -> str:
    kind = "INTEGER" if column in _NUMBERS else "REAL" if column in ("at", "came") else "BLOB"
    return f"CAST({column} AS {kind})"


# Text as bytes, and numbers as such: damaged text may not be valid UTF-8, which must not end the whole read. The
# checksum decides whether a row is as it was written.
_COLUMNS = (
    *("count", "previous", "origin", "host_id", "ip", "port", "epoch", "seq", "package", "plugin", "channels"),
    *("crc", "at", "came", "checksum"),
)
_HEAD = ", ".join(("position", *map(_cast, _COLUMNS)))
_INSERT = (
    f"INSERT INTO frame (position, {', '.join(_COLUMNS)}, batch) "  # noqa: S608 - ours
    f"VALUES ({', '.join('?' * (len(_COLUMNS) + 2))})"
)
_MARK = "INSERT OR REPLACE INTO mark VALUES (?, ?, ?, ?, ?)"
_FACTS = ("log_id", "lease", "gone", "end", "bytes", "runs")
_VERSION = 3
_AT, _CAME = 13, 14  # in a head

FRAME = 2048
"""Bytes that an entry counts for in a read besides its batch: to make and free thousands of objects takes tens
of milliseconds."""

_WAL_FRAME = 24
"""Bytes of the WAL before each page."""

_encode = msgspec.msgpack.Encoder().encode
_decode_names = msgspec.msgpack.Decoder(tuple[str, ...]).decode
_logger = logging.getLogger("co2.relay")


class LogFile:
    """One connection to the log's file.

    Args:
        path: of the file.
        vfs: name of an APSW VFS, None for the platform's.

    Raises:
        apsw.Error: the file cannot be opened, is not a database, or is damaged.
    """

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        self._db = open_database(path, vfs)
        self._db.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
        self.wal_pages = self.wal_bytes = 0
        sizes: Any = self._db.execute("PRAGMA page_size").fetchall()
        self.page_size = int(sizes[0][0])
        self._end: int | None = None
        self._undated: tuple[int, float] = (0, 0.0)
        self._db.set_wal_hook(self._committed)

    def _committed(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        new = pages - self.wal_pages if pages > self.wal_pages else pages
        self.wal_bytes += new * (self.page_size + _WAL_FRAME)
        self.wal_pages = pages
        return apsw.SQLITE_OK

    def prepare(self) -> None:
        """Make the tables of a new file; check those of an old one.

        Raises:
            apsw.Error: the tables are damaged, or of another version.
        """
        version = self._db.execute("PRAGMA user_version").fetchall()[0][0]
        if version == 0:
            with self._db:
                self._db.execute(_SCHEMA)
                self.write_meta("log_id", secrets.token_hex(16))
                self.write_meta("lease", FIRST_POSITION)
                self.write_meta("gone", FIRST_POSITION - 1)
                self.write_meta("end", FIRST_POSITION - 1)
                self.write_meta("bytes", 0)
                self.write_meta("runs", "[]")
                self._db.execute(f"PRAGMA user_version = {_VERSION}")
            # A file without tables has never held a message, whatever became of its WAL.
            self.checkpoint(apsw.SQLITE_CHECKPOINT_RESTART)
        elif version == 2:
            with self._db:
                self._db.execute(_SINCE_2)
                self._db.execute(f"PRAGMA user_version = {_VERSION}")
        elif version != _VERSION:
            raise apsw.NotADBError(f"its version is {version}, this program reads {_VERSION}")
        for table in ("meta", "mark", *(("relayed",) if self._has_ids() else ())):
            found = self._db.execute(f"PRAGMA integrity_check({table})").fetchall()
            if found != [("ok",)]:
                raise apsw.CorruptError(f"its table {table}: {str(found[0][0])[:200]}")
        for key in _FACTS:  # before the first write: a file that is set aside stays unchanged
            self.read_meta(key)
        self.marks()

    def growth(self) -> int:
        """Return the bytes by which the file will grow when the whole WAL is moved into it."""
        pages: Any = self._db.execute("PRAGMA page_count").fetchall()
        return max(0, int(pages[0][0]) * self.page_size - Path(self._db.filename).stat().st_size)

    # ---- inside a transaction --------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a transaction."""
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit the transaction to disk."""
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Roll the transaction back."""
        self._end = None
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def date(self, up_to: int, at: float) -> None:
        """Date entries up to a position as if they were written at this running time.

        Their own date is a wall clock's: the program that wrote them did not count running time.
        """
        self._undated = (up_to, at)

    def insert(self, commits: Iterable[Commit]) -> None:
        """Insert the entries of commits. Each row has the end of the entry before it: a missing row is noticed."""
        rows = []
        end = 0
        for commit in commits:
            end = commit.previous
            for entry in commit.entries:
                rows.append(_row(entry, end, commit.at))
                end = entry.end
        if not rows:
            return
        self._db.executemany(_INSERT, rows)
        self.write_meta("end", end)
        self._end = end

    def _last_end(self) -> int:
        """Position where the last entry ends; no other connection writes."""
        if self._end is None:
            self._end = int(self.read_meta("end"))
        return self._end

    def write_marks(self, marks: Collection[tuple[tuple[str, int], int | None]]) -> None:
        """Write the marks of runs with the current end of the log, which is their age; None deletes a mark."""
        if not marks:
            return
        at = self._last_end()
        kept = [(origin, epoch, seq) for (origin, epoch), seq in marks if seq is not None]
        self._db.executemany(_MARK, [(*row, at, _checksum(*row)) for row in kept])
        if len(kept) < len(marks):
            forgotten = [key for key, seq in marks if seq is None]
            self._db.executemany("DELETE FROM mark WHERE origin = ? AND epoch = ?", forgotten)

    def write_ids(self, ids: Sequence[tuple[int, str, str]], forgotten: Sequence[int]) -> None:
        """Write (position, origin, id) of messages that have an id; delete the ids at the forgotten positions."""
        if not ids and not forgotten:
            return
        self._db.execute(_IDS)
        self._db.executemany("INSERT INTO relayed VALUES (?, ?, ?, ?)", [(*row, _checksum(*row)) for row in ids])
        self._db.executemany("DELETE FROM relayed WHERE position = ?", [(position,) for position in forgotten])

    def write_meta(self, key: str, value: Any) -> None:
        """Write one of the log's own facts."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, value, _checksum(key, value)))

    def delete_oldest(self, limit: int, max_bytes: int, older_than: float) -> tuple[int, int, bool]:
        """Delete the oldest entries: as many as exceed the bytes or are too old.

        Args:
            limit: limit of their number.
            max_bytes: bytes to free.
            older_than: running time; entries written before it are deleted too.

        Returns:
            The position up to which entries are deleted, 0 for none; the bytes that this freed; and whether there
            may be more to delete.
        """
        query = f"SELECT {_HEAD}, length(batch) FROM frame ORDER BY position LIMIT ?"  # noqa: S608 - ours
        up_to = freed = passed = seen = 0
        undated, begun = self._undated
        for *row, size in self._db.execute(query, (limit,)):
            seen += 1
            head = _whole_head(row)
            if head is None:  # it is deleted together with the next one
                passed += size if isinstance(size, int) else 0
                continue
            at = begun if head[0] <= undated else head[_AT]
            if freed >= max_bytes and at >= older_than:
                seen = 0
                break
            up_to, freed, passed = head[0] + head[1] - 1, freed + passed + size, 0
        if up_to:
            self._db.execute("DELETE FROM frame WHERE position <= ?", (up_to,))
            self.write_meta("gone", up_to)
        return up_to, freed, seen == limit

    def forget_marks(self) -> list[tuple[str, int, int]]:
        """Delete the marks beyond :data:`MAX_MARKS`, those of the runs that were silent longest; return them."""
        found: Any = self._db.execute("SELECT count(*) FROM mark").fetchall()
        too_many = found[0][0] - MAX_MARKS
        if too_many <= 0:
            return []
        rows: Any = self._db.execute(
            "SELECT origin, epoch, seq FROM mark ORDER BY at LIMIT ?", (too_many,)
        ).fetchall()
        self._db.executemany("DELETE FROM mark WHERE origin = ? AND epoch = ?", [row[:2] for row in rows])
        return list(rows)

    # ---- reading ---------------------------------------------------------------------------------------

    def snapshot(self) -> AbstractContextManager[Any]:
        """Return a context in which all reads see the same state."""
        return self._db

    def read_meta(self, key: str, default: Any = None) -> Any:
        """Read one of the log's own facts.

        Args:
            key: its name.
            default: value for a missing fact; None where the fact must exist.

        Raises:
            apsw.CorruptError: the fact is missing or damaged.
        """
        try:
            rows = self._db.execute("SELECT value, checksum FROM meta WHERE key = ?", (key,)).fetchall()
        except UnicodeDecodeError as error:  # the fact is text
            raise apsw.CorruptError(f"its {key} is damaged") from error
        if not rows and default is not None:
            return default
        if not rows or _checksum(key, rows[0][0]) != rows[0][1]:
            raise apsw.CorruptError(f"its {key} is missing or damaged")
        return rows[0][0]

    def newest(self) -> tuple[int, float] | None:
        """Return position and running time of the newest entry, None if there is none or it is damaged."""
        query = f"SELECT {_HEAD} FROM frame ORDER BY position DESC LIMIT 1"  # noqa: S608 - ours
        rows: Any = self._db.execute(query).fetchall()
        head = _whole_head(rows[0]) if rows else None
        return None if head is None else (head[0], float(head[_AT]))

    def marks(self) -> dict[tuple[str, int], int]:
        """Return the marks of all runs, the run that was silent longest first.

        Raises:
            apsw.CorruptError: a mark is damaged.
        """
        marks = {}
        try:
            for origin, epoch, seq, checksum in self._db.execute(
                "SELECT origin, epoch, seq, checksum FROM mark ORDER BY at"
            ):
                if _checksum(origin, epoch, seq) != checksum:
                    raise apsw.CorruptError("a mark is damaged")
                marks[origin, epoch] = seq
        except UnicodeDecodeError as error:
            raise apsw.CorruptError("a mark is damaged") from error
        return marks

    def ids(self) -> Iterable[tuple[int, str, str]]:
        """Yield (position, origin, id) of messages that have an id, in order, without damaged rows."""
        if not self._has_ids():
            return
        query = "SELECT position, CAST(origin AS BLOB), CAST(id AS BLOB), checksum FROM relayed ORDER BY position"
        for position, *texts, checksum in self._db.execute(query):
            try:
                origin, message_id = (str(text, "utf-8") for text in texts)
            except (TypeError, ValueError):
                continue
            if _checksum(position, origin, message_id) == checksum:
                yield position, origin, message_id

    def _has_ids(self) -> bool:
        return bool(self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'relayed'").fetchall())

    def entries(self, after: int, max_bytes: int) -> Iterable[Entry | int]:
        """Yield entries that end after a position, in order; at a gap, yield its last position and stop.

        Args:
            after: position.
            max_bytes: stop when the batches, and :data:`FRAME` for each, exceed this; at least one entry is
                yielded.
        """
        query = (
            f"SELECT {_HEAD}, CAST(batch AS BLOB) FROM frame WHERE position >= "  # noqa: S608 - ours
            "coalesce((SELECT max(position) FROM frame WHERE position <= ?1), ?1) ORDER BY position"
        )
        size = 0
        for *row, batch in self._db.execute(query, (after,)):
            head = _whole_head(row)
            if head is None or not isinstance(batch, bytes) or crc32(batch) != head[12]:
                continue  # the next row shows that this one is missing
            position, count, previous = head[:3]
            if position + count - 1 <= after:
                continue
            if previous > after:
                yield position - 1
                return
            yield _entry(head, batch)
            after = position + count - 1
            size += size_read(batch)
            if size >= max_bytes:
                return
        end = self.read_meta("end")
        if after < end:
            yield end

    def heads(self, before: int, limit: int) -> list[Head]:
        """Return the heads of the newest entries before a position, newest first; damaged ones name nothing."""
        query = (
            "SELECT position, CAST(ip AS BLOB), CAST(channels AS BLOB), length(batch) FROM frame "
            "WHERE position < ? ORDER BY position DESC LIMIT ?"
        )
        heads = []
        for position, ip, channels, size in self._db.execute(query, (before, limit)):
            try:
                names = None if channels is None else _decode_names(channels)
                heads.append(Head(position, str(ip, "utf-8"), names, int(size)))
            except (TypeError, ValueError, msgspec.MsgspecError):  # whoever reads the entry finds the damage
                heads.append(Head(position, "", (), 0))
        return heads

    def find(self, origin: str, epoch: int, seq: int) -> int | None:
        """Return the checksum of the entry that begins with this number, None if there is none."""
        query = f"SELECT {_HEAD} FROM frame WHERE origin = ? AND epoch = ? AND seq = ? AND epoch != 0"  # noqa: S608
        rows: Any = self._db.execute(query, (origin, epoch, seq)).fetchall()
        head = _whole_head(rows[0]) if rows else None
        return None if head is None or head[7:9] != (epoch, seq) else int(head[12])

    def position_of(self, origin: str, epoch: int, seq: int) -> int | None:
        """Return the position of the message with this number, None if there is none."""
        where = "origin = ? AND epoch = ? AND seq <= ? AND epoch != 0 ORDER BY seq DESC LIMIT 1"
        query = f"SELECT {_HEAD} FROM frame WHERE {where}"  # noqa: S608 - ours
        rows: Any = self._db.execute(query, (origin, epoch, seq)).fetchall()
        head = _whole_head(rows[0]) if rows else None
        if head is None or (head[3], head[7]) != (origin, epoch) or not head[8] <= seq < head[8] + head[1]:
            return None
        return int(head[0]) + seq - int(head[8])

    def address_of(self, origin: str) -> str:
        """Return the address that some numbered entry of an origin came from, '' for none."""
        query = f"SELECT {_HEAD} FROM frame WHERE origin = ? AND epoch != 0 LIMIT 1"  # noqa: S608 - ours
        rows: Any = self._db.execute(query, (origin,)).fetchall()
        head = _whole_head(rows[0]) if rows else None
        return "" if head is None or head[3] != origin else str(head[5])

    def checkpoint(self, mode: int) -> tuple[int, int]:
        """Move the WAL into the database; return (pages in the WAL, pages moved)."""
        return self._db.wal_checkpoint(mode=mode)

    def close(self, *, tidy: bool = True) -> None:
        """Close the connection.

        Args:
            tidy: the last connection moves the WAL into the database and deletes it. False where the disk has
                failed or the file cannot be read: then the files stay unchanged.
        """
        close_database(self._db, tidy=tidy)


def size_read(batch: bytes) -> int:
    """Return the bytes that an entry counts for in a read."""
    return len(batch) + FRAME


def _row(entry: Entry, previous: int, at: float) -> tuple[Any, ...]:
    channels = None if entry.channels is None else _encode(entry.channels)
    ip, port = entry.client_address
    head = (
        *(entry.position, entry.count, previous, entry.origin, entry.host_id, ip, port, entry.epoch, entry.seq),
        *(entry.package, entry.plugin, channels, entry.crc, at, entry.at),
    )
    return (*head, crc32(_encode(head)), entry.batch)


def _checksum(*values: Any) -> int:
    return crc32(_encode(values))


def _whole_head(row: Sequence[Any]) -> tuple[Any, ...] | None:
    """Return the columns of an entry up to its checksum, as they were written; None if they are damaged."""
    try:
        position, count, previous, origin, host_id, ip, port, epoch, seq, package, plugin, *rest, checksum = row
        head = (
            *(
                position,
                count,
                previous,
                str(origin, "utf-8"),
                str(host_id, "utf-8"),
                str(ip, "utf-8"),
                port,
                epoch,
            ),
            *(seq, str(package, "utf-8"), str(plugin, "utf-8"), *rest),
        )
        summed = head if head[_CAME] is not None else head[:_CAME]  # as a program before version 3 has written it
        return head if crc32(_encode(summed)) == checksum else None
    except (TypeError, ValueError, OverflowError):
        return None


def _entry(head: tuple[Any, ...], batch: bytes) -> Entry:
    position, count, _, origin, host_id, ip, port, epoch, seq, package, plugin, channels, crc, _, came = head
    names = None if channels is None else tuple(msgspec.msgpack.decode(channels))
    return Entry(
        position, count, origin, host_id, (ip, port), epoch, seq, package, plugin, names, crc, batch, came or 0.0
    )
