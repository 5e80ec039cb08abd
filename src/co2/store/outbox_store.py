"""The part of a satellite's outbox that is on disk: frames that wait for the relay and must survive.

One thread writes: all that waits goes into one commit. Readers use a connection of their own. This class has no
thread: ``outbox_thread.py`` has one.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import apsw

from co2.protocol.satellite.outbox import SEGMENT, Cut, Moves, Segment
from co2.protocol.wire.batch import MAX_BATCH_MESSAGES
from co2.protocol.wire.checksum import crc32
from co2.store.sqlite import check_files, close_database, open_database, set_aside

__all__ = ["OutboxStore"]

_VERSION = 1
_SCHEMA = """
CREATE TABLE frame (
    id INTEGER PRIMARY KEY, epoch INTEGER, first INTEGER, last INTEGER, crc INTEGER, data BLOB
);
"""
# Made for the first row: an older program ignores these tables and still reads the file.
_MOVES = "CREATE TABLE IF NOT EXISTS moved (epoch INTEGER PRIMARY KEY, other INTEGER, shift INTEGER)"
_ENDED = "CREATE TABLE IF NOT EXISTS ended (epoch INTEGER PRIMARY KEY, last INTEGER)"
# Damaged text, in the place of a number or of bytes, may not be valid UTF-8, which must not end the whole read.
_NUMBERS = "CAST(epoch AS INTEGER), CAST(first AS INTEGER), CAST(last AS INTEGER)"
_OVERHEAD = 200

_DAMAGED = (apsw.CorruptError, apsw.NotADBError)

OnStored = Callable[[Segment, tuple[int, int]], None]

_logger = logging.getLogger("co2.satellite")


class OutboxStore:
    """Rows of frames in the order in which they are sent.

    Args:
        path: of the file.
        on_stored: called by the caller of :meth:`turn` with a segment and its rows, once it is on disk.
        vfs: name of an APSW VFS, None for the platform's.

    Attributes:
        replaced: why an older file was set aside, '' for none.
        failed: why nothing is written any more, '' for none.
        full: the disk is full.
    """

    def __init__(self, path: Path, on_stored: OnStored, vfs: str | None = None) -> None:
        self.replaced = self.failed = ""
        self.full = False
        self._db = self._prepared(path, vfs)
        self._reader = open_database(path, vfs)
        self._reading = threading.Lock()
        self._check_left()
        self._on_stored = on_stored
        self._work = threading.Condition()
        self._segments: list[Segment] = []
        self._forget = 0
        self._moves: Moves = {}
        self._ended: dict[int, int] = {}
        self._taken: tuple[list[Segment], int] | None = None
        self._next = self._last_id() + 1

    @classmethod
    def open(cls, path: Path, on_stored: OnStored, vfs: str | None = None) -> Self:
        """Open the file; an unreadable one is set aside under another name, and a new one begins."""
        try:
            check_files(path)
            return cls(path, on_stored, vfs)
        except (apsw.NotADBError, apsw.CorruptError, apsw.SQLError) as error:
            aside = set_aside(path)
            store = cls(path, on_stored, vfs)
            store.replaced = f"the older outbox cannot be read ({error}); it is kept as {aside.name}"
            return store

    @staticmethod
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
        except apsw.Error:
            close_database(db, tidy=False)
            raise
        return db

    def _check_left(self) -> None:
        """Read the head of every row once: what cannot be read is found now, when the file can be set aside."""
        try:
            self._reader.execute("SELECT sum(length(data)) FROM frame").fetchall()
            self.moves()
            self.ends()
        except apsw.Error:
            close_database(self._reader, tidy=False)
            close_database(self._db, tidy=False)
            raise

    def _last_id(self) -> int:
        rows: Any = self._db.execute("SELECT max(id) FROM frame").fetchall()
        return int(rows[0][0] or 0)

    def left(self) -> list[Segment]:
        """Return the segments that earlier runs have left, oldest first; damaged rows are left out."""
        segments: list[Segment] = []
        damaged = 0
        query = f"SELECT id, {_NUMBERS}, length(data) FROM frame ORDER BY id"  # noqa: S608 - ours
        with self._reading:
            for row, epoch, first, last, length in self._reader.execute(query):
                if not _are_numbers(epoch, first, last):
                    damaged += 1
                    continue
                size = (length or 0) + _OVERHEAD
                end = segments[-1] if segments else None
                if end is None or end.epoch != epoch or end.size + size > SEGMENT or end.last + 1 != first:
                    end = Segment(epoch, first, last, 0, None, "stored", (row, row))
                    segments.append(end)
                end.last, end.size, end.rows = last, end.size + size, (end.rows[0], row)
        if damaged:
            _logger.error("%d frames of messages in the outbox are damaged on disk and lost", damaged)
        return segments

    def moves(self) -> Moves:
        """Return which remaining runs are sent in another run, without damaged rows; none if nothing remains."""
        query = "SELECT epoch, CAST(other AS INTEGER), CAST(shift AS INTEGER) FROM moved"
        rows = self._told_of_left("moved", query)
        return {epoch: (other, shift) for epoch, other, shift in rows if other > 0 and other != epoch}

    def ends(self) -> dict[int, int]:
        """Return the last number of each run that ended in good order, likewise."""
        return dict(self._told_of_left("ended", "SELECT epoch, CAST(last AS INTEGER) FROM ended"))

    def _told_of_left(self, table: str, query: str) -> list[Any]:
        with self._reading:
            if not self._reader.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchall():
                return []
            if not self._reader.execute("SELECT 1 FROM frame LIMIT 1").fetchall():
                return []
            return [row for row in self._reader.execute(query) if None not in row]

    def ended(self, epoch: int, last: int) -> None:
        """Write, with the next commit, that a run ended in good order with this number."""
        if self.failed:
            return
        with self._work:
            self._ended[epoch] = last
            self._wake()

    def move(self, epoch: int, other: int, shift: int) -> None:
        """Write, with the next commit, that the rest of a run is sent in another, its numbers less ``shift``."""
        if self.failed:
            return
        with self._work:
            self._moves[epoch] = (other, shift)
            self._wake()

    def put(self, segment: Segment) -> None:
        """Queue a segment for writing, behind all before it; ignored once writing has failed."""
        if self.failed:
            return
        with self._work:
            self._segments.append(segment)
            self._wake()

    def forget(self, row: int) -> None:
        """Queue the deletion of all rows up to this one."""
        with self._work:
            self._forget = max(self._forget, row)
            self._wake()

    def load(self, rows: tuple[int, int]) -> list[Cut]:
        """Read frames, without damaged ones. From any thread; takes milliseconds.

        Raises:
            apsw.Error: the disk fails at the moment; the frames need not be damaged.
        """
        query = (
            f"SELECT {_NUMBERS}, CAST(crc AS INTEGER), CAST(data AS BLOB) FROM frame "  # noqa: S608 - ours
            "WHERE id BETWEEN ? AND ? ORDER BY id"
        )
        found: list[Cut] = []
        try:
            with self._reading:
                for epoch, first, last, crc, data in self._reader.execute(query, rows):
                    if _are_numbers(epoch, first, last) and isinstance(data, bytes) and crc32(data) == crc:
                        found.append(Cut(epoch, first, last, data))
        except _DAMAGED as error:
            _logger.error("a part of the outbox cannot be read back: %s", error)
        return found

    def close(self, timeout: float) -> None:
        """Write the rest and end: in this call, or in the store's thread within ``timeout`` seconds."""
        while self.something() and self.turn() and not self.full:
            pass
        self.end()

    def _wake(self) -> None:
        """Wake the writer; called with the lock held when there is something to write."""

    # ---- written ---------------------------------------------------------------------------------------

    def something(self) -> bool:
        """Return whether anything waits."""
        return bool(self._segments or self._forget or self._taken or self._moves or self._ended)

    def turn(self) -> bool:
        """Commit what waits; return whether another turn is possible. On a full disk the next turn tries again."""
        try:
            self._commit()
        except Exception as error:
            self.failed = f"{type(error).__name__}: {error}"
            with self._work:
                self._segments, self._taken = [], None
            _logger.critical("the outbox cannot be written to disk, messages wait in memory only: %s", self.failed)
            return False
        return True

    def end(self) -> None:
        """Close the file."""
        with contextlib.suppress(apsw.Error):
            self._db.close()

    def _commit(self) -> None:
        with self._work:
            if self._taken is None:
                self._taken, self._segments = (self._segments, 0), []
            # Frames that were acknowledged while the disk was full need not be written.
            segments = [segment for segment in self._taken[0] if segment.first <= segment.last]
            forget = max(self._taken[1], self._forget)
            self._taken, self._forget = (segments, forget), 0
        try:
            rows = self._write(segments, forget)
        except apsw.FullError:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if not self.full:
                self.full = True
                _logger.error("the disk is full: messages for the relay wait in memory until there is room")
            return
        self._taken = None
        if self.full:
            self.full = False
            _logger.warning("the disk has room again: messages for the relay are written to it")
        for segment, own in zip(segments, rows, strict=True):
            self._on_stored(segment, own)

    def _write(self, segments: Sequence[Segment], forget: int) -> list[tuple[int, int]]:
        written: list[tuple[int, int]] = []
        row = self._next
        with self._work:
            moves, ended = dict(self._moves), dict(self._ended)
        self._db.execute("BEGIN IMMEDIATE")
        if moves:
            self._db.execute(_MOVES)
            rows = [(epoch, *move) for epoch, move in moves.items()]
            self._db.executemany("INSERT OR REPLACE INTO moved VALUES (?, ?, ?)", rows)
        if ended:
            self._db.execute(_ENDED)
            self._db.execute("DELETE FROM ended WHERE NOT EXISTS (SELECT 1 FROM frame)")
            self._db.executemany("INSERT OR REPLACE INTO ended VALUES (?, ?)", list(ended.items()))
        if forget:
            self._db.execute("DELETE FROM frame WHERE id <= ?", (forget,))
        for segment in segments:
            cuts = list(segment.cuts or ())
            begun = row
            for cut in cuts:
                self._db.execute(
                    "INSERT INTO frame VALUES (?, ?, ?, ?, ?, ?)",
                    (row, cut.epoch, cut.first, cut.last, crc32(cut.data), cut.data),
                )
                row += 1
            written.append((begun, row - 1))
        self._db.execute("COMMIT")
        with self._work:
            for epoch in moves:
                self._moves.pop(epoch, None)
            for epoch in ended:
                self._ended.pop(epoch, None)
        self._next = row
        return written


def _are_numbers(epoch: int | None, first: int | None, last: int | None) -> bool:
    """Return whether these can be the numbers of a frame's messages: damaged ones are not, or are NULL."""
    if epoch is None or first is None or last is None:
        return False
    return epoch > 0 and 0 < first <= last < first + MAX_BATCH_MESSAGES
