"""Messages that their plugins did not accept, kept on disk for inspection and repetition.

When there are too many, the oldest are deleted. Each method may take milliseconds and may be called from any
thread.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from co2.store.sqlite import open_database, set_aside

__all__ = ["MAX_KEPT", "MAX_KEPT_BYTES", "DeadLetterStore", "StoredLetter"]

MAX_KEPT = 10_000
MAX_KEPT_BYTES = 64 * 1024 * 1024
"""Dead letters that are kept, and their bytes; beyond either limit the oldest are deleted."""

OVERHEAD = 200
"""Bytes that a letter takes besides its message, roughly."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE letter (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL, package TEXT, plugin TEXT, host_id TEXT, ip TEXT, port INTEGER,
    reason TEXT, message BLOB
);
"""
_ADD = "INSERT INTO letter VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)"
# Text as bytes, and numbers as such: a damaged row may hold anything, which must not end the whole read.
_LETTERS = """
SELECT id, CAST(at AS REAL), CAST(package AS BLOB), CAST(plugin AS BLOB), CAST(host_id AS BLOB), CAST(ip AS BLOB),
    CAST(port AS INTEGER), CAST(reason AS BLOB), CAST(message AS BLOB)
FROM letter
"""
_READ = f"{_LETTERS} WHERE id > ?1 AND (?2 IS NULL OR package = ?2) ORDER BY id LIMIT ?3"
_LAST = f"{_LETTERS} WHERE package = ? ORDER BY id DESC LIMIT ?"
_FIND = f"{_LETTERS} WHERE id = ?"
_SIZES = "SELECT id, coalesce(length(message), 0) FROM letter ORDER BY id"
_DROP = "DELETE FROM letter WHERE id <= ?1 AND (?2 IS NULL OR package = ?2) RETURNING coalesce(length(message), 0)"
_REMOVE = "DELETE FROM letter WHERE id = ? RETURNING coalesce(length(message), 0)"

_DAMAGED = (apsw.NotADBError, apsw.CorruptError)

_logger = logging.getLogger("co2.satellite")


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """One dead letter.

    Attributes:
        at: when it was made, in seconds since 1970.
        package: of the plugin.
        plugin: that did not accept the message.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection.
        reason: why the plugin did not accept it, on one line.
        message: as received, encoded.
        id: counts up and is never reused; 0 before the letter is stored.
    """

    at: float
    package: str
    plugin: str
    host_id: str
    client_address: tuple[str, int]
    reason: str
    message: bytes
    id: int = 0


class DeadLetterStore:
    """A file of dead letters. It is made for the first letter.

    An unreadable file is set aside under another name, and a new one begins.

    Args:
        path: of the file.
        max_kept: letters that are kept.
        max_bytes: bytes that are kept.

    Attributes:
        kept: number of letters in the file.
        bytes: of these letters.
        gone: letters that were deleted because there were too many.
    """

    def __init__(self, path: Path, max_kept: int = MAX_KEPT, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self.kept = self.bytes = self.gone = 0
        self._path = path
        self._max_kept = max_kept
        self._max_bytes = max_bytes
        self._db: apsw.Connection | None = None
        self._lock = threading.Lock()

    def open(self) -> None:
        """Open the file that earlier runs have left, if any.

        Raises:
            apsw.Error: the disk failed.
        """
        with self._lock:
            self._there()

    def add(self, letters: Sequence[StoredLetter]) -> None:
        """Store all of these letters or none; the oldest in the file make room.

        Raises:
            apsw.FullError: the disk is full.
            apsw.Error: the disk failed.
        """
        with self._lock:
            try:
                self._add(letters)
            except _DAMAGED as error:
                self._set_aside(error)
                self._add(letters)

    def read(self, after: int, max_letters: int, max_bytes: int, package: str | None = None) -> list[StoredLetter]:
        """Return letters, oldest first.

        Args:
            after: only those with a higher id.
            max_letters: limit of their number.
            max_bytes: stop before their total exceeds this; at least one letter is returned.
            package: only those of this package.

        Raises:
            apsw.Error: the disk failed.
        """
        return self._select(_READ, (after, package, max_letters), max_bytes)

    def last(self, max_letters: int, package: str) -> list[StoredLetter]:
        """Return the newest letters of a package, newest first.

        Raises:
            apsw.Error: the disk failed.
        """
        return self._select(_LAST, (package, max_letters))

    def find(self, letter_id: int) -> StoredLetter | None:
        """Return a letter, None if it is not in the file.

        Raises:
            apsw.Error: the disk failed.
        """
        return next(iter(self._select(_FIND, (letter_id,))), None)

    def drop(self, up_to: int, package: str | None = None) -> int:
        """Delete all letters up to an id; return their number.

        Args:
            up_to: the highest id to delete.
            package: only those of this package.

        Raises:
            apsw.Error: the disk failed.
        """
        return self._delete(_DROP, (up_to, package))

    def remove(self, letter_id: int) -> None:
        """Delete one letter.

        Raises:
            apsw.Error: the disk failed.
        """
        self._delete(_REMOVE, (letter_id,))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._let_go()

    # ---- with the lock ---------------------------------------------------------------------------------

    def _there(self) -> apsw.Connection | None:
        """Return the database, None if there is no file."""
        return self._opened() if self._db is not None or self._path.exists() else None

    def _opened(self) -> apsw.Connection:
        if self._db is None:
            try:
                self._db = self._prepared()
            except (*_DAMAGED, apsw.SQLError) as error:  # an SQLError: the tables are not ours
                self._set_aside(error)
                self._db = self._prepared()
        return self._db

    def _prepared(self) -> apsw.Connection:
        db = open_database(self._path)
        try:
            version = db.execute("PRAGMA user_version").fetchall()[0][0]
            if version == 0:
                with _transaction(db):
                    db.execute(_SCHEMA)
                    db.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                raise apsw.NotADBError(f"its version is {version}, this program reads {_VERSION}")
            sizes: Any = [length + OVERHEAD for _, length in db.execute(_SIZES)]
            self.kept, self.bytes = len(sizes), sum(sizes)
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, error: Exception) -> None:
        self._let_go()
        self.kept = self.bytes = 0  # also where no new file can be opened
        aside = set_aside(self._path)
        _logger.error("earlier dead letters cannot be read (%s); they are kept as %s", error, aside.name)

    def _let_go(self) -> None:
        if self._db is not None:
            with contextlib.suppress(apsw.Error):
                self._db.close()
            self._db = None

    def _add(self, letters: Sequence[StoredLetter]) -> None:
        db = self._opened()
        with _transaction(db):
            db.executemany(
                _ADD,
                [
                    (one.at, one.package, one.plugin, one.host_id, *one.client_address, one.reason, one.message)
                    for one in letters
                ],
            )
            kept = self.kept + len(letters)
            size = self.bytes + sum(len(one.message) + OVERHEAD for one in letters)
            gone, freed = self._make_room(db, kept, size)
        self.kept, self.bytes, self.gone = kept - gone, size - freed, self.gone + gone

    def _make_room(self, db: apsw.Connection, kept: int, size: int) -> tuple[int, int]:
        """Delete the oldest letters beyond the limits; return their number and their bytes."""
        gone = freed = last = 0
        if kept > self._max_kept or size > self._max_bytes:
            for letter_id, length in db.execute(_SIZES):
                if kept - gone <= self._max_kept and size - freed <= self._max_bytes:
                    break
                gone, freed, last = gone + 1, freed + length + OVERHEAD, letter_id
            db.execute(_DROP, (last, None)).fetchall()
        return gone, freed

    # ---- each takes the lock ---------------------------------------------------------------------------

    def _select(self, query: str, values: tuple[Any, ...], max_bytes: int = MAX_KEPT_BYTES) -> list[StoredLetter]:
        found: list[StoredLetter] = []
        size = 0
        with self._lock:
            db = self._there()
            rows: Any = db.execute(query, values) if db is not None else ()
            for letter_id, at, *texts, port, reason, message in rows:
                if message is None:
                    continue  # damaged: there is nothing to show or repeat
                size += len(message) + OVERHEAD
                if found and size > max_bytes:
                    break
                package, plugin, host_id, ip, why = map(_readable, (*texts, reason))
                address = (ip, port or 0)
                found.append(StoredLetter(at or 0.0, package, plugin, host_id, address, why, message, letter_id))
        return found

    def _delete(self, query: str, values: tuple[Any, ...]) -> int:
        with self._lock:
            db = self._there()
            if db is None:
                return 0
            with _transaction(db):
                sizes: Any = [length + OVERHEAD for (length,) in db.execute(query, values)]
            self.kept -= len(sizes)
            self.bytes -= sum(sizes)
            return len(sizes)


def _readable(text: bytes | None) -> str:
    """Return a text of a row as far as it can be read: these are labels for people."""
    return str(text or b"", "utf-8", "replace")


@contextlib.contextmanager
def _transaction(db: apsw.Connection) -> Iterator[None]:
    """Commit all or nothing. (APSW's own ``with`` fails on a full disk, where SQLite has rolled back already.)"""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
