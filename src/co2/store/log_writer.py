"""How the relay's log gets to disk: many frames in one commit, so that one fsync does for all.

Without a thread: ``log_thread.py`` says when. Whoever calls :meth:`LogWriter.turn` is the one that writes; what is
handed over comes from another thread.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import apsw

from co2.logs import open_private
from co2.protocol.log import Entry
from co2.store.log_file import LogFile
from co2.store.running_time import RunningTime
from co2.store.sqlite import mark_damaged

__all__ = ["MUCH", "RESERVE", "LogWriter"]

MUCH = 1024 * 1024
"""Waiting bytes that are committed without delay."""

RESERVE = 16 * 1024 * 1024
"""Bytes of a file that is given up when the disk is full: with them what was taken in still gets there."""

AGE_INTERVAL = 0.5
"""Seconds between two looks for what is too old."""

DELETE_AT_ONCE = 256
"""Old frames that one commit deletes at most."""

CHECKPOINT_PAGES = 1024
"""Pages that come to the WAL before they are moved into the database: 16 MiB."""

RESTART_PAGES = 8192
"""Pages in the WAL after which a commit waits until all are moved: 128 MiB."""

_logger = logging.getLogger("co2.relay")

_Batch = tuple[
    list[Entry],
    dict[tuple[str, int], int | None],
    dict[str, int | str | float],
    list[tuple[int, str, str]],
    list[int],
]


class LogWriter:
    """Writes what is handed to it, a commit at each :meth:`turn`.

    Args:
        file: the connection that writes; used by whoever calls :meth:`turn` only.
        path: of the file, for the reserve beside it.
        max_bytes: bytes of messages that are kept.
        max_age: seconds of running time that they are kept.
        ran: the log's running time.
        on_commit: called with the position that is on disk, and the one up to which none is kept.
        on_failed: called once when the disk does not do its work.
        soon: calls a function a little later in the thread that hands over: waking ours at once would hold up what
            is just being passed on.

    Attributes:
        full: the disk is; nothing more should be handed over.
        failed: why nothing is written any more, '' for none.
        waiting_bytes: that are not on disk yet.
        bytes: of messages that are kept.
    """

    def __init__(
        self,
        file: LogFile,
        path: Path,
        *,
        max_bytes: int,
        max_age: float,
        ran: RunningTime,
        on_commit: Callable[[int, int], None],
        on_news: Callable[[], None],
        on_failed: Callable[[str], None],
        soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self.full = False
        self.failed = ""
        self.waiting_bytes = 0
        self.bytes = int(file.read_meta("bytes"))
        self._file = file
        self._path = path
        self._reserve = path.with_name(f"{path.name}.reserve")
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._ran = ran
        self._on_commit = on_commit
        self._on_news = on_news
        self._on_failed = on_failed
        self._soon = soon
        self._gone = 0
        self._aged_at = float("-inf")
        self._work = threading.Condition()
        self._entries: list[Entry] = []
        self._marks: dict[tuple[str, int], int | None] = {}
        self._trims = False
        self._trimmed: list[tuple[str, int]] = []
        self._meta: dict[str, int | str | float] = {}
        self._ids: list[tuple[int, str, str]] = []
        self._forgotten: list[int] = []
        self._taken: _Batch | None = None
        self._hurry = self._hurried = False
        self._is_called = False
        self._moved = 0

    def start(self, meta: dict[str, int | str | float]) -> None:
        """Begin to write.

        Args:
            meta: facts of the log that are on disk before anything is taken.
        """
        self._keep_reserve()
        try:
            self.bytes = self._write([], {}, meta, [], [])
        except apsw.FullError:
            self._file.rollback()
            self._meta = meta
            self._tell_full()

    # ---- handed over -----------------------------------------------------------------------------------

    def put(self, entry: Entry, *, hurry: bool, message_id: str = "") -> None:
        """Hand over a frame, and the id that its sender gave it: neither gets to disk without the other."""
        with self._work:
            self._entries.append(entry)
            if message_id:
                self._ids.append((entry.position, entry.origin, message_id))
            if entry.epoch:
                self._marks[entry.origin, entry.epoch] = entry.seq + entry.count - 1
            self.waiting_bytes += len(entry.batch)
            self._hurry |= hurry
            is_due = hurry or self.waiting_bytes >= MUCH or self._is_due  # else it comes by itself, very soon
        if is_due and not self._is_called:
            self._is_called = True
            self._soon(self._call)

    def _call(self) -> None:
        """Whoever writes should not wait now."""
        self._is_called = False
        with self._work:
            self._wake()

    def put_mark(self, origin: str, epoch: int, seq: int) -> None:
        """Hand over where a run is."""
        with self._work:
            self._marks[origin, epoch] = seq
            self._wake()

    def drop_mark(self, origin: str, epoch: int) -> None:
        """Hand over that a run is forgotten; that has time until the next commit."""
        with self._work:
            self._marks[origin, epoch] = None

    def trim_marks(self) -> list[tuple[str, int]]:
        """Have the marks of runs that were not heard of for longest forgotten; return those that are by now."""
        self._trims = True
        with self._work:
            trimmed, self._trimmed = self._trimmed, []
        return trimmed

    def forget_ids(self, positions: list[int]) -> None:
        """Hand over where ids may go; that has time until the next commit."""
        with self._work:
            self._forgotten += positions

    def put_meta(self, key: str, value: int | str) -> None:
        """Hand over one of the log's own facts."""
        with self._work:
            self._meta[key] = value
            self._wake()

    def close(self, timeout: float) -> None:
        """Write what waits, and end: here and now, or in a thread of one's own, within so many seconds."""
        while self.something() and self.turn() and not self.full:
            pass
        self.end()

    @property
    def _is_due(self) -> bool:
        """Whether it is time for the next commit."""
        return True

    def _wake(self) -> None:
        """Called, with the lock held, when there is something to write."""

    def _tell(self, frames: int) -> None:
        """Tell that so many frames have come to disk."""
        self._on_news()

    # ---- written ---------------------------------------------------------------------------------------

    def something(self) -> bool:
        """Tell whether anything waits."""
        return bool(self._entries or self._marks or self._meta or self._taken)

    def take(self) -> None:
        """Take what waits for the next commit; what comes later is for another one."""
        with self._work:
            if self._taken is None:
                self._taken = (self._entries, self._marks, self._meta, self._ids, self._forgotten)
                self._entries, self._marks, self._meta, self._ids, self._forgotten = [], {}, {}, [], []
                self._hurried, self._hurry = self._hurry, False

    def turn(self) -> bool:
        """Commit what waits; tell whether there may be another turn. On a full disk it is tried again there."""
        try:
            self._ran.look()
            self._commit()
            self._checkpoint()
        except Exception as error:
            # A failed fsync says nothing about what is on disk, and a second one that succeeds says it wrongly:
            # from here on nothing is acknowledged any more.
            self.failed = f"{type(error).__name__}: {error}"
            if isinstance(error, apsw.CorruptError):
                mark_damaged(self._path)
            _logger.critical("the log's disk does not do its work, nothing more is acknowledged: %s", self.failed)
            self._on_failed(self.failed)
            return False
        return True

    def end(self) -> None:
        """Close the file."""
        with contextlib.suppress(apsw.Error):
            self._file.close()

    def _commit(self) -> None:
        if self.full and not self.something():
            self._recovered()
            return
        self.take()
        assert self._taken is not None
        try:
            self.bytes = self._write(*self._taken)
        except apsw.FullError:
            self._file.rollback()
            if not self.full:
                self._tell_full()
            self._reserve.unlink(missing_ok=True)
            return
        entries = self._taken[0]
        with self._work:
            self._taken = None
            self.waiting_bytes -= sum(len(entry.batch) for entry in entries)
        if self.full:
            self._recovered()
        self._on_commit(entries[-1].end if entries else 0, self._gone)
        self._tell(len(entries))

    def _write(
        self,
        entries: list[Entry],
        marks: dict[tuple[str, int], int | None],
        meta: dict[str, int | str | float],
        ids: list[tuple[int, str, str]],
        forgotten: list[int],
    ) -> int:
        """Write one transaction; give the bytes of messages that are kept after it."""
        file, now = self._file, self._ran()
        file.begin()
        file.insert(entries, now)
        file.write_marks(marks.items())
        trims, trimmed = self._trims, file.forget_marks() if self._trims else []
        file.write_ids(ids, forgotten)
        for key, value in meta.items():
            file.write_meta(key, value)
        size = self.bytes + sum(len(entry.batch) for entry in entries)
        up_to = 0
        if size > self._max_bytes or now - self._aged_at >= AGE_INTERVAL:
            up_to, freed = file.delete_oldest(DELETE_AT_ONCE, size - self._max_bytes, now - self._max_age)
            size -= freed
            if not up_to:
                self._aged_at = now
        file.write_meta("bytes", size)
        file.write_meta("ran", now)
        file.write_meta("wall", self._ran.wall())
        file.commit()
        if trims:
            with self._work:
                self._trimmed += trimmed
                self._trims = False
        if up_to:
            self._gone = up_to
        return size

    def _checkpoint(self) -> None:
        """Move the WAL into the database, a part at a time, so that no commit waits long."""
        pages = self._file.wal_pages
        if pages - self._moved < CHECKPOINT_PAGES and pages >= self._moved:
            return
        with contextlib.suppress(apsw.BusyError, apsw.FullError):  # then later: it is all in the WAL
            self._file.checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
            if pages > RESTART_PAGES:
                self._file.checkpoint(apsw.SQLITE_CHECKPOINT_RESTART)
        self._moved = pages

    # ---- a full disk -----------------------------------------------------------------------------------

    def _tell_full(self) -> None:
        self.full = True
        _logger.error("the disk is full: new messages are refused until there is room; old ones are served")

    def _recovered(self) -> None:
        if self._keep_reserve():
            self.full = False
            _logger.warning("the disk has room again: messages are taken")

    def _keep_reserve(self) -> bool:
        """Keep a file that can be given up; tell whether there is room for it."""
        try:
            if not self._reserve.exists() or self._reserve.stat().st_size < RESERVE:
                with open(self._reserve, "wb", opener=open_private) as file:
                    for _ in range(RESERVE // MUCH):
                        file.write(b"\0" * MUCH)
        except OSError:
            self._reserve.unlink(missing_ok=True)
            return False
        return True
