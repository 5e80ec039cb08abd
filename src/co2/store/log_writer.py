"""Write the relay's log to disk: many entries in one commit, so that they share one fsync.

A large commit goes into the database; one of few messages goes into the journal in front of it, and from there
into the database together with others: a half of the journal at a time, while commits go into the other half.

This class has no thread: ``log_thread.py`` has three. The caller of :meth:`LogWriter.turn` writes, another may
:meth:`~LogWriter.move` what is in the journal; entries are handed over from a third one.
"""

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw

from co2.logs import open_private
from co2.protocol.relay.log import Entry
from co2.store.commit import Commit, together
from co2.store.journal import HALF, Journal
from co2.store.log_file import LogFile
from co2.store.running_time import RunningTime
from co2.store.sqlite import mark_damaged

__all__ = ["AWAITED", "MUCH", "RESERVE", "SMALL", "LogWriter", "reserve_of"]

MUCH = 1024 * 1024
"""Waiting bytes that are committed without delay."""

RESERVE = 16 * 1024 * 1024
"""Bytes of a file that is deleted when the disk is full: that makes room for the entries already accepted."""

MARGIN = 4 * 1024 * 1024
"""Free bytes required on a full disk beyond those known to be needed: for pages of tables and indexes that
SQLite writes with the waiting entries, and to continue with."""

SMALL = 32 * 1024
"""Largest commit, in bytes, that goes to the journal: a larger one costs less where it is written once."""

AWAITED = 384 * 1024
"""The same where somebody waits for the commit: the journal takes a millisecond, the database tens of them."""

AGE_INTERVAL = 0.5
MAX_AGE_INTERVAL = 600.0
"""Seconds between two checks for old entries, at least and at most: a hundredth of the age that is kept.

Each check writes to the database, which the journal is there to avoid; the running time is stored as often.
"""

DELETE_AT_ONCE = 256
"""Old entries that a commit deletes at most; or twice as many as it adds, if that is more."""

CHECKPOINT_PAGES = 1024
"""Pages added to the WAL before they are moved into the database: 16 MiB."""

RESTART_PAGES = 8192
"""Pages in the WAL beyond which a commit waits until all are moved: 128 MiB."""

_logger = logging.getLogger("co2.relay")


def reserve_of(path: Path) -> Path:
    """Return the path of the reserve file that is deleted when the disk is full."""
    return path.with_name(f"{path.name}.reserve")


class LogWriter:
    """Writes the entries handed to it, one commit per :meth:`turn`.

    Args:
        file: the connection that writes; used by one thread at a time.
        journal: in front of it; likewise.
        path: of the file, for the reserve beside it.
        max_bytes: bytes of messages that are kept.
        max_age: seconds of running time that messages are kept.
        ran: the log's running time.
        on_commit: called with the last position that is on disk, the last one that is in the database, and the
            last one that is deleted.
        on_news: called after each commit.
        on_failed: called once when the disk fails.
        on_full: called with True when the disk is full, with False when it has room again.
        soon: calls a function a little later in the thread that hands over: waking the writer at once would delay
            the message that is being passed on.
        window: seconds that an entry waits for others to be committed with, where nobody waits for the commit.

    Attributes:
        full: the disk is full; nothing more should be handed over.
        failed: why nothing is written any more, '' for none.
        waiting_bytes: that are not on disk yet.
        bytes: of messages that are kept.
        gone: position up to which this run has deleted entries; 0 for none.
        moves_apart: another thread than that of :meth:`turn` calls :meth:`move`.
    """

    moves_apart = False

    def __init__(
        self,
        file: LogFile,
        journal: Journal,
        path: Path,
        *,
        max_bytes: int,
        max_age: float,
        ran: RunningTime,
        on_commit: Callable[[int, int, int], None],
        on_news: Callable[[], None],
        on_failed: Callable[[str], None],
        on_full: Callable[[bool], None],
        soon: Callable[[Callable[[], None]], object],
        window: float = 0.0,
    ) -> None:
        self.full = False
        self.failed = ""
        self.waiting_bytes = 0
        self.bytes = self._settled_bytes = int(file.read_meta("bytes"))
        self._file = file
        self._journal = journal
        self._in_journal: list[Commit] = []
        self._file_use = threading.RLock()
        self._moving = 0
        self._end = int(file.read_meta("end"))
        self._moved_bytes = self._growth = 0
        self._ready = False
        self._path = path
        self._reserve = reserve_of(path)
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._ran = ran
        self._on_commit = on_commit
        self._on_news = on_news
        self._on_failed = on_failed
        self._on_full = on_full
        self._soon = soon
        self._window = window
        self.gone = 0
        self._aged_at = self._ran_at = float("-inf")
        self._age_interval = min(max(AGE_INTERVAL, max_age / 100), MAX_AGE_INTERVAL)
        self._overdraft = min(HALF, max_bytes // 16)
        self._work = threading.Condition()
        self._next = Commit()
        self._taken: Commit | None = None
        self._trims = False
        self._trimmed: list[tuple[str, int, int]] = []
        self._hurry = self._hurried = False
        self._is_called = False
        self._moved = 0

    def start(self, meta: dict[str, int | str | float]) -> None:
        """Write the first commit.

        Args:
            meta: facts of the log that must be on disk before the first entry.
        """
        self._keep_reserve()
        try:
            self._journal.make()
            self._settle(self._dated(Commit(meta=meta)))
        except apsw.FullError:
            self._next.meta = meta
            self._reserve.unlink(missing_ok=True)
            self._tell_full()

    # ---- handed over -----------------------------------------------------------------------------------

    def put(self, entry: Entry, *, hurry: bool, message_id: str = "") -> None:
        """Hand over an entry and its sender's id for it, '' for none: both get to disk in the same commit."""
        with self._work:
            self._next.entries.append(entry)
            if message_id:
                self._next.ids.append((entry.position, entry.origin, message_id))
            if entry.epoch:
                self._next.marks[entry.origin, entry.epoch] = entry.seq + entry.count - 1
            self.waiting_bytes += len(entry.batch)
            self._hurry |= hurry
            is_due = self.waiting_bytes >= MUCH or self._is_due  # otherwise it becomes due very soon
            if hurry:
                self._wake()  # at once: it is passed on from the disk
        if is_due and not hurry and not self._is_called:
            self._is_called = True
            self._soon(self._call)

    def _call(self) -> None:
        """Wake the writer, a little after the entry was passed on."""
        self._is_called = False
        with self._work:
            self._wake()

    def put_mark(self, origin: str, epoch: int, seq: int) -> None:
        """Hand over the mark of a run."""
        with self._work:
            self._next.marks[origin, epoch] = seq
            self._wake()

    def drop_mark(self, origin: str, epoch: int) -> None:
        """Hand over that a run is forgotten, without waking the writer."""
        with self._work:
            self._next.marks[origin, epoch] = None

    def trim_marks(self) -> list[tuple[str, int, int]]:
        """Request the deletion of the marks of runs that were silent longest; return those deleted so far.

        Each has the number that was deleted: a run with a newer number has sent since, and is not forgotten.
        """
        self._trims = True
        with self._work:
            trimmed, self._trimmed = self._trimmed, []
        return trimmed

    def forget_ids(self, positions: list[int]) -> None:
        """Hand over positions whose ids may be deleted, without waking the writer."""
        with self._work:
            self._next.forgotten += positions

    def put_meta(self, key: str, value: int | str) -> None:
        """Hand over a fact of the log."""
        with self._work:
            self._next.meta[key] = value
            self._wake()

    def keeps(self, key: str) -> bool:
        """Return whether a fact that was handed over is on disk."""
        with self._work:
            return not any(one is not None and key in one.meta for one in (self._next, self._taken))

    def close(self, timeout: float) -> None:
        """Write the rest and end: in this call, or in the writer's thread within ``timeout`` seconds."""
        while self.something() and self.turn() and not self.full:
            pass
        self.end()

    @property
    def _is_due(self) -> bool:
        """Whether the next commit is due."""
        return True

    def _wake(self) -> None:
        """Wake the writer; called with the lock held when there is something to write."""

    def _wake_mover(self) -> None:
        """Wake the thread that moves; called with the lock held when there is something to move."""

    def _tell(self, frames: int) -> None:
        """Report that a commit of ``frames`` entries is on disk."""
        self._on_news()

    # ---- written ---------------------------------------------------------------------------------------

    def something(self) -> bool:
        """Return whether anything waits."""
        taken = self._taken
        return bool(self._next.entries or self._next.marks or self._next.meta or taken)

    def in_journal(self) -> list[Entry]:
        """Return the entries that are on disk and not in the database yet, in order; from any thread."""
        with self._work:
            return [entry for commit in self._in_journal for entry in commit.entries]

    def take(self) -> None:
        """Move the waiting entries into the next commit; later ones go into another."""
        with self._work:
            if self._taken is None:
                self._taken, self._next = self._next, Commit()
                self._hurried, self._hurry = self._hurry, False

    def turn(self) -> bool:
        """Commit what waits; return whether another turn is possible. On a full disk the next turn tries again."""
        try:
            self._ran.look()
            self._commit()
            self._checkpoint()
        except Exception as error:
            self._fail(error)
            return False
        return True

    def move(self) -> None:
        """Move a full half of the journal into the database, if there is one; on a full disk it stays."""
        try:
            self._move_half()
            self._checkpoint()
        except apsw.FullError:
            self._tell_full()
        except Exception as error:
            self._fail(error)

    def _move_half(self) -> None:
        with self._file_use:
            with self._work:
                commits = self._in_journal[: self._moving]
            if commits:
                self._to_database(commits, self._journal.filling - 1)
            self._moving = 0

    def _fail(self, error: Exception) -> None:
        """End all writing; called while the exception is handled.

        After a failed fsync the state of the disk is unknown, and a second fsync may report success wrongly: from
        here on nothing is acknowledged.
        """
        with self._work:
            is_first, self.failed = not self.failed, self.failed or f"{type(error).__name__}: {error}"
        if isinstance(error, apsw.CorruptError):
            mark_damaged(self._path)
        if is_first:
            _logger.critical("the log's disk failed, and no more messages are acknowledged: %s", self.failed)
            self._on_failed(self.failed)

    def end(self) -> None:
        """Move the journal into the database if possible, and close the files."""
        if not self.failed:
            with contextlib.suppress(apsw.Error, OSError):
                self._settle(self._dated(Commit()))
        self._journal.close()
        with contextlib.suppress(apsw.Error):
            self._file.close()

    def _commit(self) -> None:
        if self.full and not self.something():
            self._recovered()
            return
        self.take()
        assert self._taken is not None
        try:
            self._bring(self._dated(self._taken))
        except apsw.FullError:
            self._tell_full()
            return
        entries = self._taken.entries
        with self._work:
            self._taken = None
            self.waiting_bytes -= sum(len(entry.batch) for entry in entries)
        if self.full:
            self._recovered()
        with self._work:
            settled = self._in_journal[0].previous if self._in_journal else self._end
        self._on_commit(entries[-1].end if entries else 0, settled, self.gone)
        self._tell(len(entries))

    def _dated(self, commit: Commit) -> Commit:
        """Set the time of a commit and its previous position."""
        commit.previous, commit.at, commit.wall = self._end, self._ran(), self._ran.wall()
        return commit

    def _bring(self, commit: Commit) -> None:
        """Write a commit to disk: to the journal if possible, else to the database."""
        size = commit.size
        most = AWAITED if self._hurried else SMALL
        if size > most or not self._ready or self._trims or commit.at - self._aged_at >= self._age_interval:
            self._settle(commit)
            return
        if not commit and commit.at - self._ran_at < self._age_interval:
            return  # nothing but the time has changed
        record = commit.encode()
        if self.bytes + size > self._max_bytes + self._overdraft or not self._has_room(record):
            self._settle(commit)
            return
        self._journal.append(record)
        self._ran_at = commit.at
        with self._work:
            self._in_journal.append(commit)
            self._end = commit.end
            self.bytes += size

    def _has_room(self, record: bytes) -> bool:
        """Return whether the journal takes a record. If its half is full, go on in the other one if possible."""
        if self._journal.takes(record):
            return True
        if not self.moves_apart or self._moving or not self._in_journal:
            return False
        with self._work:
            self._moving = len(self._in_journal)
            self._journal.turn_over()
            self._wake_mover()
        return self._journal.takes(record)

    def _settle(self, last: Commit) -> None:
        """Write the commits of the journal, and this one behind them, into the database."""
        with self._file_use:
            self._to_database([*self._in_journal, last], self._journal.filling, last)
            self._moving = 0
            self._journal.begin(self._journal.filling)
            self._ready = True
            self._ran_at = last.at

    def _to_database(self, commits: Sequence[Commit], filling: int, last: Commit | None = None) -> None:
        """Write commits into the database, in one transaction.

        Args:
            commits: the first ones of the journal, and behind all of them ``last``, if that is one of them.
            filling: of the journal; all up to it is in the database then.
            last: was not in the journal.

        Raises:
            apsw.FullError: the disk is full; nothing was written.
        """
        whole = together(commits)
        file, now = self._file, whole.at
        size = sum(commit.size for commit in commits)
        more = last.size if last is not None else 0
        trims = self._trims and last is not None
        trimmed: list[tuple[str, int, int]] = []
        freed, up_to, is_more = 0, 0, False
        try:
            file.begin()
            file.insert(commits)
            file.write_marks(whole.marks.items())
            if trims:
                trimmed = file.forget_marks()
            file.write_ids(whole.ids, whole.forgotten)
            for key, value in whole.meta.items():
                file.write_meta(key, value)
            excess = self.bytes + more - self._max_bytes
            if is_aged := now - self._aged_at >= self._age_interval or excess > 0:
                limit = max(DELETE_AT_ONCE, 2 * sum(len(commit.entries) for commit in commits))
                up_to, freed, is_more = file.delete_oldest(limit, excess, now - self._max_age)
            file.write_meta("bytes", self._settled_bytes + size - freed)
            file.write_meta("ran", now)
            file.write_meta("wall", whole.wall)
            file.write_meta("journal", filling)
            file.commit()
        except apsw.FullError:
            file.rollback()
            raise
        if is_aged and not is_more:
            self._aged_at = now
        self.gone = up_to or self.gone
        self._settled_bytes += size - freed
        with self._work:
            del self._in_journal[: len(commits) - (last is not None)]
            self.bytes += more - freed
            if last is not None:
                self._end = last.end
            if trims:
                self._trimmed += trimmed
                self._trims = False

    @property
    def written(self) -> int:
        """Bytes written to disk for the log, in whole pages: journal, WAL and database."""
        return self._journal.written + self._file.wal_bytes + self._moved_bytes

    def _checkpoint(self) -> None:
        """Move the WAL into the database, one part at a time, so that no commit waits long.

        Not while the disk is full: that would use up the free room and free none.
        """
        pages = self._file.wal_pages
        if self.full or (pages - self._moved < CHECKPOINT_PAGES and pages >= self._moved):
            return
        if not self._file_use.acquire(blocking=False):
            return  # another thread moves the journal, and then the WAL
        try:
            self._move_wal()
        finally:
            self._file_use.release()

    def _move_wal(self) -> None:
        pages = self._file.wal_pages
        with contextlib.suppress(apsw.BusyError, apsw.FullError):  # then later: the pages are safe in the WAL
            moved = self._file.checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)[1]
            self._moved_bytes += (moved - self._moved if pages >= self._moved else moved) * self._file.page_size
            if pages > RESTART_PAGES:
                self._file.checkpoint(apsw.SQLITE_CHECKPOINT_RESTART)
        self._moved = pages

    # ---- a full disk -----------------------------------------------------------------------------------

    def _tell_full(self) -> None:
        self._reserve.unlink(missing_ok=True)
        with self._file_use:  # it is also what keeps the news in order
            if not self.full:
                self.full = True
                self._growth = self._file.growth()
                self._on_full(True)

    def _recovered(self) -> None:
        with contextlib.suppress(apsw.FullError), self._file_use:
            self._move_half()
            if self._keep_reserve() and self._keep_journal():
                self.full = False
                self._on_full(False)

    @property
    def wanted(self) -> int:
        """MiB that must be free before the log accepts messages again; at least 1.

        The figure stays sufficient while the disk is full: meanwhile waiting entries are written into the room of
        the reserve, and the WAL is moved into the database.
        """
        wanted = RESERVE + MUCH + MARGIN + self._growth + 2 * self.waiting_bytes
        return max(1, -((self._free() - wanted) // 2**20))

    def _free(self) -> int:
        try:
            return shutil.disk_usage(self._path.parent).free
        except OSError:
            return 0

    def _keep_journal(self) -> bool:
        """Extend the journal if the disk was too full for it at the start; return whether it has its length."""
        try:
            self._journal.make()
        except apsw.FullError:
            return False
        return True

    def _keep_reserve(self) -> bool:
        """Make the reserve file; return whether the disk has room for it."""
        if not self._reserve.exists() and self._free() < RESERVE + MUCH:
            return False  # repeated attempts in vain would wear out the disk
        try:
            if not self._reserve.exists() or self._reserve.stat().st_size < RESERVE:
                with open(self._reserve, "wb", opener=open_private) as file:
                    for _ in range(RESERVE // MUCH):
                        file.write(b"\0" * MUCH)
        except OSError:
            self._reserve.unlink(missing_ok=True)
            return False
        return True
