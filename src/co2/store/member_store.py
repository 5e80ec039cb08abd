"""A relay's lasting knowledge of its members: a file of its own, as the log may be set aside or replaced."""

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

import apsw
import msgspec

from co2.host_id import HostId
from co2.protocol.relay.away import MAX_AWAY, Away
from co2.protocol.relay.origins import MAX_KNOWN, KnownOrigin
from co2.store.sqlite import check_files, close_database, open_database, set_aside

__all__ = ["HERE", "MEMBERS_FILE", "MemberStore"]

HERE = "here"
"""State on disk of a satellite that had a link when it was written."""

_names = msgspec.msgpack.Decoder(tuple[tuple[str, ...], tuple[str, ...]])
_claims = msgspec.msgpack.Decoder(dict[str, Annotated[int, msgspec.Meta(ge=0, le=2**53)]])

MEMBERS_FILE = "members.db"
"""Name of the file in the state folder."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE member (
    origin TEXT PRIMARY KEY, token BLOB NOT NULL, address TEXT NOT NULL, first_seen REAL NOT NULL,
    published INTEGER NOT NULL
);
"""
# These are made where they are missing: older hosts know nothing of them.
_AWAY = """
CREATE TABLE IF NOT EXISTS away (
    origin TEXT PRIMARY KEY, host_id TEXT NOT NULL, seen_at REAL NOT NULL, state TEXT NOT NULL, names BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS alive (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), at REAL NOT NULL);
"""
_PUT_AWAY = """
INSERT INTO away (origin, host_id, seen_at, state, names, claims) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (origin) DO UPDATE SET
    host_id = excluded.host_id, seen_at = excluded.seen_at, state = excluded.state, names = excluded.names,
    claims = excluded.claims,
    rowid = CASE
        WHEN away.state = excluded.state AND away.seen_at = excluded.seen_at THEN away.rowid
        ELSE (SELECT max(rowid) + 1 FROM away)
    END
"""
# So rows are in the order in which their satellites came and went. The time in them may be that of a wrong clock:
# by it, the wrong ones would be forgotten first. Text as bytes, and numbers as such: a damaged row may hold
# anything, which must not end the whole read.
_KNOWN = """
SELECT CAST(origin AS BLOB), CAST(token AS BLOB), CAST(address AS BLOB), CAST(first_seen AS REAL), published,
    CAST(name AS BLOB)
FROM member ORDER BY published DESC, rowid
"""
_AWAY_ROWS = """
SELECT CAST(origin AS BLOB), CAST(host_id AS BLOB), CAST(state AS BLOB), CAST(seen_at AS REAL),
    CAST(names AS BLOB), CAST(claims AS BLOB)
FROM away ORDER BY rowid
"""
# Further columns, if any, stay unchanged.
_PUT = """
INSERT INTO member (origin, token, address, first_seen, published, name) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (origin) DO UPDATE SET
    token = excluded.token, address = excluded.address, first_seen = excluded.first_seen,
    published = excluded.published, name = excluded.name
"""


class MemberStore:
    """The members' file, for use by one thread at a time.

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
        """Open the file; an unreadable one is set aside under another name, and a new one begins.

        Raises:
            apsw.Error, OSError: the disk failed.
        """
        try:
            check_files(path)
            return cls(path, vfs)
        except (apsw.NotADBError, apsw.CorruptError, apsw.SQLError) as error:
            aside = set_aside(path)
            store = cls(path, vfs)
            store.replaced = f"the older file cannot be read ({error}); it is kept as {aside.name}"
            return store

    def known(self) -> list[KnownOrigin]:
        """Return at most :data:`MAX_KNOWN` origins: those that have published first, each in order of appearance.

        A damaged one is left out: it belongs to the next host that claims it, as if the file were lost.
        """
        found = []
        for origin, token, address, at, published, name in self._db.execute(f"{_KNOWN} LIMIT {MAX_KNOWN}"):
            with contextlib.suppress(UnicodeDecodeError, TypeError):  # a TypeError: NULL
                known = KnownOrigin(str(origin, "utf-8"), token, str(address, "utf-8"), at, bool(published))
                known.name = str(name or b"", "utf-8", "replace")  # whether it is a name, the book checks
                found.append(known)
        return found

    def write(self, changes: Mapping[str, KnownOrigin | None]) -> None:
        """Write changes to disk, in one commit.

        Args:
            changes: by origin; None for one that is forgotten.

        Raises:
            apsw.Error: the disk refuses them; nothing has changed there.
        """
        known = [one for one in changes.values() if one is not None]
        rows = [
            (one.origin, one.token, one.address, one.first_seen, int(one.published), one.name) for one in known
        ]
        forgotten = [(origin,) for origin, one in changes.items() if one is None]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("DELETE FROM member WHERE origin = ?", forgotten)
            self._db.executemany(_PUT, rows)
            self._db.execute("COMMIT")
        except apsw.Error:
            if self._db.in_transaction:  # a full disk has rolled it back already
                self._db.execute("ROLLBACK")
            raise

    def away(self) -> list[Away]:
        """Return all satellites that were connected before this start, in the order in which they left.

        Satellites with a link when the relay ended have the relay's last time of writing, and are last.
        """
        alive = [at for (at,) in self._db.execute("SELECT at FROM alive")]
        found: list[Away] = []
        were_here: list[Away] = []
        for *texts, seen_at, packed, packed_claims in self._db.execute(_AWAY_ROWS):
            try:
                origin, host_id, state = (str(text, "utf-8") for text in texts)
                HostId.parse(host_id)
                methods, plugins = _names.decode(packed)
            except (ValueError, TypeError, msgspec.MsgspecError):
                continue  # these are labels for people: unreadable ones are left out
            seen = alive[0] if state == HERE and alive else seen_at
            claims = _claims_in(packed_claims)
            (were_here if state == HERE else found).append(
                Away(origin, host_id, seen, state == "stopped", methods, plugins, claims)
            )
        return [*found, *were_here][-MAX_AWAY:]

    def write_away(self, changes: Mapping[str, Away | None], here: Collection[str], now: float) -> None:
        """Write to disk which satellites came and went, in one commit.

        Args:
            changes: by origin; None for one that is forgotten.
            here: origins of the satellites with a link.
            now: wall time.

        Raises:
            apsw.Error: the disk refuses them; nothing has changed there.
        """
        rows = [
            (
                one.origin,
                one.host_id,
                one.seen_at,
                HERE if one.origin in here else one.state,
                msgspec.msgpack.encode((one.methods, one.plugins)),
                msgspec.msgpack.encode(one.claims),
            )
            for one in changes.values()
            if one is not None
        ]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            forgotten = [(origin,) for origin, one in changes.items() if one is None]
            self._db.executemany("DELETE FROM away WHERE origin = ?", forgotten)
            self._db.executemany(_PUT_AWAY, rows)
            self._db.execute("INSERT OR REPLACE INTO alive (only_one, at) VALUES (1, ?)", (now,))
            self._db.execute("COMMIT")
        except apsw.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def close(self, *, tidy: bool = True) -> None:
        """Close the file."""
        close_database(self._db, tidy=tidy)


def _claims_in(packed: bytes | None) -> dict[str, int]:
    """Return claims, none if an older program has not written them; these count as older than all others."""
    try:
        return _claims.decode(packed) if packed else {}
    except (ValueError, msgspec.MsgspecError):
        return {}


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
        db.execute(_AWAY)
        for table, column in (("away", "claims BLOB"), ("member", "name TEXT")):
            if column.partition(" ")[0] not in {row[1] for row in db.execute(f"PRAGMA table_info({table})")}:
                db.execute(f"ALTER TABLE {table} ADD COLUMN {column}")  # the file is of an older program
        found = db.execute("PRAGMA quick_check").fetchall()
        if found != [("ok",)]:
            raise apsw.CorruptError(str(found[0][0])[:200])
    except apsw.Error:
        close_database(db, tidy=False)
        raise
    return db
