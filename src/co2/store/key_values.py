"""A small file of keys and values for one plugin package: data that its plugins keep.

The plugin host opens the file itself, so that a value is on disk when the assignment returns, whatever happens to
the satellite. During a reload of a package two plugin hosts have the file open; each reads the file every time.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import apsw

from co2.errors import NotRunning, StorageFailed, StorageFull, StoreLimit, ValueRefused
from co2.store.sqlite import check_files, close_database, mark_damaged, open_database, set_aside
from co2.values import pack_value, unpack_value

__all__ = ["MAX_KEY", "STORE_MAX", "KeyValues"]

STORE_MAX = 16 * 1024 * 1024
"""Bytes of all keys and encoded values of one package."""

MAX_KEY = 256
"""Bytes of one key."""

_ENTRY = 16
"""Bytes that an entry counts for besides its key and value, so that the number of empty ones is limited too."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE entry (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE total (bytes INTEGER NOT NULL);
INSERT INTO total VALUES (0);
"""
_DAMAGED = (apsw.CorruptError, apsw.NotADBError)

_absent: Any = object()


class KeyValues(MutableMapping[str, Any]):
    """A dictionary on disk, for use from any thread. Keys are text, values may be all that a message may hold.

    A value that is read is a copy: to change a stored list, store it again. Each call takes effect whole or not at
    all, and is on disk when it returns.

    Args:
        path: of the file; it is made at the first access, and so is its folder.
        tell: logs a line.
    """

    def __init__(self, path: Path, tell: Callable[[str], None] = lambda text: None) -> None:
        self._path = path
        self._tell = tell
        self._lock = threading.Lock()
        self._db: apsw.Connection | None = None
        self._closed = False

    def __getitem__(self, key: str) -> Any:
        with self._open() as db:
            packed = _find(db, _checked(key))
        if packed is None:
            raise KeyError(key)
        return unpack_value(packed)

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        with self._changing() as db:
            if _delete(db, _checked(key)) is None:
                raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        with self._open() as db:
            return _find(db, _checked(key)) is not None

    def __iter__(self) -> Iterator[str]:
        with self._open() as db:
            rows = db.execute("SELECT key FROM entry ORDER BY key").fetchall()
        return iter([str(key) for (key,) in rows])

    def __len__(self) -> int:
        with self._open() as db:
            return _number(db, "SELECT count(*) FROM entry")

    def __repr__(self) -> str:
        return f"<store {self._path.stem}>"

    @property
    def bytes(self) -> int:
        """Size of all entries, as :data:`STORE_MAX` counts."""
        with self._open() as db:
            return _total(db)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Store several values, all or none.

        Raises:
            StoreLimit: more than :data:`STORE_MAX` bytes in all, or a key over :data:`MAX_KEY`.
            ValueRefused, TooBig: a value that cannot travel in a message.
            StorageFull, StorageFailed: the disk is full, or failed.
        """
        pairs = {**dict(other), **more}
        packed = {_checked(key): pack_value(value) for key, value in pairs.items()}
        with self._changing() as db:
            _put(db, packed)

    def pop(self, key: str, default: Any = _absent) -> Any:
        """Remove a key and return its value."""
        with self._changing() as db:
            packed = _delete(db, _checked(key))
        if packed is not None:
            return unpack_value(packed)
        if default is _absent:
            raise KeyError(key)
        return default

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of a key; store the default first where there is none."""
        packed = pack_value(default)
        with self._changing() as db:
            found = _find(db, _checked(key))
            if found is None:
                _put(db, {key: packed})
        return unpack_value(packed if found is None else found)

    def clear(self) -> None:
        """Remove all keys."""
        with self._changing() as db:
            db.execute("DELETE FROM entry")
            db.execute("UPDATE total SET bytes = 0")

    def close(self) -> None:
        """Close the file; every later access fails."""
        with self._lock:
            self._closed = True
            if self._db is not None:
                with contextlib.suppress(apsw.Error):
                    close_database(self._db)
                self._db = None

    # ---- the file ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _changing(self) -> Iterator[apsw.Connection]:
        """Run the block in a transaction: all or nothing."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(apsw.Error):  # some errors have rolled it back already
                    db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _open(self) -> Iterator[apsw.Connection]:
        """Open the file for this thread alone; convert errors of the disk to ours."""
        with self._lock:
            try:
                if self._db is None:
                    self._db = self._opened()
                yield self._db
            except apsw.FullError:
                raise StorageFull(f"no room on the disk for {self._path}; nothing was stored") from None
            except (apsw.Error, OSError) as error:
                if isinstance(error, _DAMAGED):
                    mark_damaged(self._path)  # the next start sets the file aside
                raise StorageFailed(f"{self._path} failed: {error}") from None

    def _opened(self) -> apsw.Connection:
        if self._closed:
            raise NotRunning("the plugin has stopped: its store is closed")
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            check_files(self._path)
            return _prepared(self._path)
        except _DAMAGED as error:
            aside = set_aside(self._path)
            self._tell(f"the store cannot be read ({error}): it is kept as {aside.name}, and a new one is created")
            return _prepared(self._path)


def _prepared(path: Path) -> apsw.Connection:
    db = open_database(path)
    try:
        db.execute("BEGIN IMMEDIATE")
        version = db.execute("PRAGMA user_version").fetchall()[0][0]
        if version == 0:
            db.execute(_SCHEMA)
            db.execute(f"PRAGMA user_version = {_VERSION}")
        elif version != _VERSION:
            raise apsw.CantOpenError(f"its version is {version}, this program reads {_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        close_database(db, tidy=False)
        raise
    return db


def _checked(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the keys of a store must be text, not {type(key).__name__}")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise ValueRefused(f"key {key[:40]!r}: text that is not valid Unicode ({error.reason})") from None
    if size > MAX_KEY:
        raise StoreLimit(f"key {key[:40]!r}…: {size} bytes; the limit is {MAX_KEY}")
    return key


def _number(db: apsw.Connection, question: str) -> int:
    number = db.execute(question).fetchall()[0][0]
    assert isinstance(number, int)
    return number


def _total(db: apsw.Connection) -> int:
    return _number(db, "SELECT bytes FROM total")


def _find(db: apsw.Connection, key: str) -> bytes | None:
    for (packed,) in db.execute("SELECT value FROM entry WHERE key = ?", (key,)).fetchall():
        assert isinstance(packed, bytes)
        return packed
    return None


def _size(key: str, packed: bytes) -> int:
    return len(key.encode()) + len(packed) + _ENTRY


def _put(db: apsw.Connection, packed: Mapping[str, bytes]) -> None:
    older = {key: found for key in packed if (found := _find(db, key)) is not None}
    total = _total(db) + _sum(packed) - _sum(older)
    if total > STORE_MAX:
        raise StoreLimit(f"the store would hold {total} bytes; the limit is {STORE_MAX}: delete something")
    db.executemany("INSERT OR REPLACE INTO entry VALUES (?, ?)", packed.items())
    db.execute("UPDATE total SET bytes = ?", (total,))


def _sum(entries: Mapping[str, bytes]) -> int:
    return sum(_size(key, packed) for key, packed in entries.items())


def _delete(db: apsw.Connection, key: str) -> bytes | None:
    packed = _find(db, key)
    if packed is not None:
        db.execute("DELETE FROM entry WHERE key = ?", (key,))
        db.execute("UPDATE total SET bytes = bytes - ?", (_size(key, packed),))
    return packed
