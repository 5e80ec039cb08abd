"""What a relay knows of its members for good: a file of its own, as the log may be set aside or replaced."""

from collections.abc import Mapping
from pathlib import Path

import apsw

from co2.protocol.origins import MAX_KNOWN, Known
from co2.store.sqlite import check_files, close_database, open_database, set_aside

__all__ = ["MEMBERS_FILE", "MemberStore"]

MEMBERS_FILE = "members.db"
"""Name of the file in the state folder."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE member (
    origin TEXT PRIMARY KEY, token BLOB NOT NULL, address TEXT NOT NULL, first_seen REAL NOT NULL,
    published INTEGER NOT NULL
);
"""
# Other columns, should there be any, stay as they are.
_PUT = """
INSERT INTO member (origin, token, address, first_seen, published) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (origin) DO UPDATE SET
    token = excluded.token, address = excluded.address, first_seen = excluded.first_seen,
    published = excluded.published
"""


class MemberStore:
    """The file. Used by one thread at a time.

    Args:
        path: of the file.
        vfs: name of an APSW VFS, None for the platform's.

    Attributes:
        replaced: why an older file was set aside, '' for none.
    """

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        self.replaced = ""
        self._db = _prepared(path, vfs)

    @classmethod
    def open(cls, path: Path, vfs: str | None = None) -> "MemberStore":
        """Open the file; one that cannot be read is set aside under another name, and a new one begins.

        Raises:
            apsw.Error, OSError: the disk does not do its work.
        """
        try:
            check_files(path)
            return cls(path, vfs)
        except (apsw.NotADBError, apsw.CorruptError, apsw.SQLError) as error:
            aside = set_aside(path)
            store = cls(path, vfs)
            store.replaced = f"the older file cannot be read ({error}); it is kept as {aside.name}"
            return store

    def known(self) -> list[Known]:
        """Return all origins, in the order in which they came first; as many as may be known."""
        query = "SELECT origin, token, address, first_seen, published FROM member ORDER BY published DESC, rowid"
        rows = self._db.execute(f"{query} LIMIT {MAX_KNOWN}")
        return [
            Known(origin, token, address, at, bool(published)) for origin, token, address, at, published in rows
        ]

    def write(self, changes: Mapping[str, Known | None]) -> None:
        """Bring changes to disk, in one commit.

        Args:
            changes: by origin; None for one that is forgotten.

        Raises:
            apsw.Error: the disk does not take them; nothing has changed there.
        """
        known = [one for one in changes.values() if one is not None]
        rows = [(one.origin, one.token, one.address, one.first_seen, int(one.published)) for one in known]
        forgotten = [(origin,) for origin, one in changes.items() if one is None]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("DELETE FROM member WHERE origin = ?", forgotten)
            self._db.executemany(_PUT, rows)
            self._db.execute("COMMIT")
        except apsw.Error:
            if self._db.in_transaction:  # a full disk has taken it back already
                self._db.execute("ROLLBACK")
            raise

    def close(self, *, tidy: bool = True) -> None:
        """Close the file."""
        close_database(self._db, tidy=tidy)


def _prepared(path: Path, vfs: str | None) -> apsw.Connection:
    db = open_database(path, vfs)
    try:
        version = db.execute("PRAGMA user_version").fetchall()[0][0]
        if version == 0:
            with db:
                db.execute(_SCHEMA)
                db.execute(f"PRAGMA user_version = {_VERSION}")
        elif version != _VERSION:
            raise apsw.NotADBError(f"its version is {version}, this program reads {_VERSION}")
        found = db.execute("PRAGMA quick_check").fetchall()
        if found != [("ok",)]:
            raise apsw.CorruptError(str(found[0][0])[:200])
    except apsw.Error:
        close_database(db, tidy=False)
        raise
    return db
