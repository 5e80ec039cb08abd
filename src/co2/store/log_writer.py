"""How the relay's log gets to disk: many frames in one commit, so that one fsync does for all.

A commit of much goes into the database; one of few messages into the journal in front of it, and from there into
the database with many others.

Without a thread: ``log_thread.py`` says when. Whoever calls :meth:`LogWriter.turn` is the one that writes; what is
handed over comes from another thread.
"""

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import apsw

from co2.logs import open_private
from co2.protocol.relay.log import Entry
from co2.store.commit import Commit, together
from co2.store.journal import SIZE as JOURNAL
from co2.store.journal import Journal
from co2.store.log_file import LogFile
from co2.store.running_time import RunningTime
from co2.store.sqlite import mark_damaged

__all__ = ["MUCH", "RESERVE", "SMALL", "LogWriter", "reserve_of"]

MUCH = 1024 * 1024
"""Waiting bytes that are committed without delay."""

RESERVE = 16 * 1024 * 1024
"""Bytes of a file that is given up when the disk is full: with them what was taken in still gets there."""

MARGIN = 4 * 1024 * 1024
"""Bytes that are asked for on a full disk beyond what is known to be needed: for the pages of tables and indexes
that SQLite writes with what waits, and to go on with."""

SMALL = 32 * 1024
"""Bytes up to which a commit goes to the journal: what is more costs less where it is written once."""

AGE_INTERVAL = 0.5
MAX_AGE_INTERVAL = 600.0
"""Seconds between two looks for what is too old, at least and at most: a hundredth of the age that is kept.

Each writes to the database, which the journal is there to avoid; the running time is written down as often.
"""

DELETE_AT_ONCE = 256
"""Old frames that one commit deletes at most, or twice as many as it brings."""

CHECKPOINT_PAGES = 1024
"""Pages that come to the WAL before they are moved into the database: 16 MiB."""

RESTART_PAGES = 8192
"""Pages in the WAL after which a commit waits until all are moved: 128 MiB."""

_logger = logging.getLogger("co2.relay")


def reserve_of(path: Path) -> Path:
    """Return where the file is that is given up when the disk is full."""
    return path.with_name(f"{path.name}.reserve")


class LogWriter:
    """Writes what is handed to it, a commit at each :meth:`turn`.

    Args:
        file: the connection that writes; used by whoever calls :meth:`turn` only.
        journal: in front of it; likewise.
        path: of the file, for the reserve beside it.
        max_bytes: bytes of messages that are kept.
        max_age: seconds of running time that they are kept.
        ran: the log's running time.
        on_commit: called with the position that is on disk, the one up to which it is in the database, and the one
            up to which none is kept.
        on_failed: called once when the disk does not do its work.
        window: seconds that a frame waits for others to be committed with, where nobody waits for it.
        on_full: called when the disk is full, and when it has room again: whether it is.
        soon: calls a function a little later in the thread that hands over: waking ours at once would hold up what
            is just being passed on.

    Attributes:
        full: the disk is; nothing more should be handed over.
        failed: why nothing is written any more, '' for none.
        waiting_bytes: that are not on disk yet.
        bytes: of messages that are kept.
        gone: position up to which none is kept, where this run has deleted any; else 0.
        written: bytes that were written to disk; of those that go from the WAL into the database each page counts.
    """

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
        self.bytes = int(file.read_meta("bytes"))
        self._file = file
        self._journal = journal
        self._in_journal: list[Commit] = []
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
        self._overdraft = min(JOURNAL, max_bytes // 16)
        self._work = threading.Condition()
        self._next = Commit()
        self._taken: Commit | None = None
        self._trims = False
        self._trimmed: list[tuple[str, int, int]] = []
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
            self._journal.make()
            self._settle(self._dated(Commit(meta=meta)))
        except apsw.FullError:
            self._file.rollback()
            self._next.meta = meta
            self._reserve.unlink(missing_ok=True)
            self._tell_full()

    # ---- handed over -----------------------------------------------------------------------------------

    def put(self, entry: Entry, *, hurry: bool, message_id: str = "") -> None:
        """Hand over a frame, and the id that its sender gave it: neither gets to disk without the other."""
        with self._work:
            self._next.entries.append(entry)
            if message_id:
                self._next.ids.append((entry.position, entry.origin, message_id))
            if entry.epoch:
                self._next.marks[entry.origin, entry.epoch] = entry.seq + entry.count - 1
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
            self._next.marks[origin, epoch] = seq
            self._wake()

    def drop_mark(self, origin: str, epoch: int) -> None:
        """Hand over that a run is forgotten; that has time until the next commit."""
        with self._work:
            self._next.marks[origin, epoch] = None

    def trim_marks(self) -> list[tuple[str, int, int]]:
        """Have the marks of runs that were not heard of for longest forgotten; return those that are by now.

        Each with the seq that it had: a run that was heard of since has another one, and is not forgotten.
        """
        self._trims = True
        with self._work:
            trimmed, self._trimmed = self._trimmed, []
        return trimmed

    def forget_ids(self, positions: list[int]) -> None:
        """Hand over where ids may go; that has time until the next commit."""
        with self._work:
            self._next.forgotten += positions

    def put_meta(self, key: str, value: int | str) -> None:
        """Hand over one of the log's own facts."""
        with self._work:
            self._next.meta[key] = value
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
        taken = self._taken
        return bool(self._next.entries or self._next.marks or self._next.meta or taken)

    def in_journal(self) -> list[Entry]:
        """Return the frames that are on disk and not in the database yet, in order; from any thread."""
        with self._work:
            return [entry for commit in self._in_journal for entry in commit.entries]

    def take(self) -> None:
        """Take what waits for the next commit; what comes later is for another one."""
        with self._work:
            if self._taken is None:
                self._taken, self._next = self._next, Commit()
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
        """Bring what is in the journal into the database, where that can be done, and close the files."""
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
            self._file.rollback()
            self._reserve.unlink(missing_ok=True)
            if not self.full:
                self._tell_full()
            return
        entries = self._taken.entries
        with self._work:
            self._taken = None
            self.waiting_bytes -= sum(len(entry.batch) for entry in entries)
        if self.full:
            self._recovered()
        settled = self._in_journal[0].previous if self._in_journal else self._end
        self._on_commit(entries[-1].end if entries else 0, settled, self.gone)
        self._tell(len(entries))

    def _dated(self, commit: Commit) -> Commit:
        """Say of a commit when it is written, and behind what."""
        commit.previous, commit.at, commit.wall = self._end, self._ran(), self._ran.wall()
        return commit

    def _bring(self, commit: Commit) -> None:
        """Bring a commit to disk: to the journal where that is enough."""
        size = commit.size
        if size > SMALL or not self._ready or self._trims or commit.at - self._aged_at >= self._age_interval:
            self._settle(commit)
            return
        if not commit and commit.at - self._ran_at < self._age_interval:
            return  # nothing but the time has changed
        record = commit.encode()
        if self.bytes + size > self._max_bytes + self._overdraft or not self._journal.takes(record):
            self._settle(commit)
            return
        self._journal.append(record)
        self._ran_at = commit.at
        with self._work:
            self._in_journal.append(commit)
        self._end = commit.end
        self.bytes += size

    def _settle(self, last: Commit) -> None:
        """Bring what is in the journal, and this behind it, into the database."""
        commits = [*self._in_journal, last]
        whole = together(commits)
        file, now = self._file, last.at
        file.begin()
        file.insert(commits)
        file.write_marks(whole.marks.items())
        trims, trimmed = self._trims, file.forget_marks() if self._trims else []
        file.write_ids(whole.ids, whole.forgotten)
        for key, value in whole.meta.items():
            file.write_meta(key, value)
        size = self.bytes + last.size
        up_to, is_more = 0, False
        if size > self._max_bytes or now - self._aged_at >= self._age_interval:
            limit = max(DELETE_AT_ONCE, 2 * sum(len(commit.entries) for commit in commits))
            up_to, freed, is_more = file.delete_oldest(limit, size - self._max_bytes, now - self._max_age)
            size -= freed
        file.write_meta("bytes", size)
        file.write_meta("ran", now)
        file.write_meta("wall", last.wall)
        file.write_meta("journal", self._journal.filling)
        file.commit()
        if trims:
            with self._work:
                self._trimmed += trimmed
                self._trims = False
        self._journal.begin(self._journal.filling)
        self._ready = True
        if not is_more:
            self._aged_at = now
        self._ran_at = now
        self.gone = up_to or self.gone
        self._end, self.bytes = last.end, size
        with self._work:
            self._in_journal = []

    @property
    def written(self) -> int:
        """Bytes that were written to disk for the log, in whole pages."""
        return self._journal.written + self._file.wal_bytes + self._moved_bytes

    def _checkpoint(self) -> None:
        """Move the WAL into the database, a part at a time, so that no commit waits long.

        Not while the disk is full: that would take the room that has been made, and free none.
        """
        if self.full:
            return
        pages = self._file.wal_pages
        if pages - self._moved < CHECKPOINT_PAGES and pages >= self._moved:
            return
        with contextlib.suppress(apsw.BusyError, apsw.FullError):  # then later: it is all in the WAL
            moved = self._file.checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)[1]
            self._moved_bytes += (moved - self._moved if pages >= self._moved else moved) * self._file.page_size
            if pages > RESTART_PAGES:
                self._file.checkpoint(apsw.SQLITE_CHECKPOINT_RESTART)
        self._moved = pages

    # ---- a full disk -----------------------------------------------------------------------------------

    def _tell_full(self) -> None:
        self.full = True
        self._growth = self._file.growth()
        self._on_full(True)

    def _recovered(self) -> None:
        if self._keep_reserve() and self._keep_journal():
            self.full = False
            self._on_full(False)

    @property
    def wanted(self) -> int:
        """MiB that have to be made free before anything is taken again; at least 1.

        It suffices whenever it is asked for while the disk is full: what waits gets to disk meanwhile, in the room
        that was the reserve's, and what is in the WAL comes into the database.
        """
        wanted = RESERVE + MUCH + MARGIN + self._growth + 2 * self.waiting_bytes
        return max(1, -((self._free() - wanted) // 2**20))

    def _free(self) -> int:
        try:
            return shutil.disk_usage(self._path.parent).free
        except OSError:
            return 0

    def _keep_journal(self) -> bool:
        """Extend the journal where there was no room for it at the start; return whether there is now."""
        try:
            self._journal.make()
        except apsw.FullError:
            return False
        return True

    def _keep_reserve(self) -> bool:
        """Keep a file that can be given up; tell whether there is room for it."""
        if not self._reserve.exists() and self._free() < RESERVE + MUCH:
            return False  # what is tried in vain wears out the disk
        try:
            if not self._reserve.exists() or self._reserve.stat().st_size < RESERVE:
                with open(self._reserve, "wb", opener=open_private) as file:
                    for _ in range(RESERVE // MUCH):
                        file.write(b"\0" * MUCH)
        except OSError:
            self._reserve.unlink(missing_ok=True)
            return False
        return True
