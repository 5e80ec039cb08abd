"""The relay's durable log: appended in memory at once, on disk some milliseconds later, read from either.

Positions are leased: before one is handed out, a higher one is on disk, to continue from after a crash. So none is
ever used twice, though live messages are passed on before they are on disk.
"""

import contextlib
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import apsw

from co2.errors import StorageFailed, StorageFull
from co2.protocol.relay.last_values import Head
from co2.protocol.relay.log import ClockJump, Entry, LogGap, Reading
from co2.protocol.relay.losses import Loss, Losses
from co2.protocol.wire.link_frames import FIRST_POSITION
from co2.store import log_file
from co2.store.journal import Journal, new_key
from co2.store.log_file import LogFile, size_read
from co2.store.log_thread import LogThread
from co2.store.log_writer import LogWriter
from co2.store.memory_tail import MemoryTail
from co2.store.recovery import recover
from co2.store.relayed_ids import RelayedIds
from co2.store.running_time import RunningTime
from co2.store.sqlite import check_files, mark_damaged, set_aside
from co2.values import MAX_RUN

__all__ = ["CLOSE_TIMEOUT", "LEASE", "MAX_BACKLOG", "MAX_RUNS", "RelayLog"]

LEASE = 2**25
"""Positions that are leased at once; renewed at half. Twice as many as can wait for the disk, however small."""

MAX_RUNS = 1000
"""Runs of the relay that a log remembers; of an older one it only knows that it came before these."""

MAX_FORMER = 100
"""Former names of a log that are remembered."""

MAX_CLOCK_JUMPS = 64
"""Jumps of the wall clock that are remembered; the oldest are forgotten first."""

MAX_EPOCHS_OF_ONE = 64
"""Runs of one sender whose marks are kept; as many as its Hello lists."""

MARKS_SLACK = 1000
"""Marks beyond :data:`~co2.store.log_file.MAX_MARKS` at which those of the longest silent runs are forgotten."""

MAX_BACKLOG = 64 * 1024 * 1024
"""Bytes that may wait for the disk; more are refused."""

READ_TRIES = 4
READ_RETRY = 0.1
"""Attempts to read from a disk that fails, and seconds between two; then the messages count as a gap."""

CLOSE_TIMEOUT = 3.0
"""Seconds within which all must be on disk when the log is closed."""


_logger = logging.getLogger("co2.relay")

_LASTING = (apsw.CorruptError, apsw.NotADBError, apsw.ConnectionClosedError)
"""Errors that no further attempt corrects."""


class RelayLog:
    """Implements :class:`co2.protocol.relay.log.Log`; used in one thread, except :meth:`read_disk`.

    Attributes:
        log_id: its random name, made with the file.
        run: the random name of this run.
        replaced: why an older file was set aside, '' for none.
        last: position of the last message appended.
        committed: position of the last message that is on disk.
        gone: position up to which messages are no longer kept.
        marks: last seq appended by (origin, epoch).
        losses: acknowledged messages that are not in the log.
        forgotten: channels whose messages up to a position are no last values any more.
        ids: of messages that have one.
        ran: its running time, by which it ages.
        clock_jumps: where the wall clock has jumped, in order; also back before this run.
    """

    def __init__(
        self,
        path: Path,
        file: LogFile,
        journal: Journal,
        reader: LogFile,
        finder: LogFile,
        *,
        max_bytes: int,
        max_age: float,
        now: Callable[[], float],
        wall: Callable[[], float],
        on_commit: Callable[[int], None],
        on_failed: Callable[[str], None],
        soon: Callable[[Callable[[], None]], object],
        window: float = 0.0,
        later: Callable[[Callable[[], None]], object] = lambda call: call(),
        on_room: Callable[[], None] = lambda: None,
        writer: Callable[..., LogWriter] = LogThread,
    ) -> None:
        self.replaced = ""
        self._path = path
        self._reader = reader
        self._reading = threading.Lock()
        # The event loop has its own connection: a read of 1 MiB occupies the other one for tens of milliseconds.
        self._finder = finder
        self.log_id = str(file.read_meta("log_id"))
        self.run = secrets.token_hex(8)
        # All positions below the lease may have been handed out.
        self._stored_lease = max(int(file.read_meta("lease")), FIRST_POSITION)
        self.last = max(self._stored_lease - 1, int(file.read_meta("end")))
        self.committed = self._settled = self.last
        self.gone = int(file.read_meta("gone"))
        self.losses = Losses(Loss(*loss) for loss in json.loads(file.read_meta("losses", "[]")))
        self.forgotten: Mapping[str, int] = json.loads(file.read_meta("forgotten", "{}"))
        self.marks: Mapping[tuple[str, int], int]
        file.forget_marks()
        self._marks = self.marks = file.marks()
        self._epochs: dict[str, list[int]] = {}
        for origin, epoch in self._marks:
            self._epochs.setdefault(origin, []).append(epoch)
        self.ids = RelayedIds()
        self._damaged: set[int] = set()
        self._seen = 0
        self._tail = MemoryTail(self.last)
        self._on_commit = on_commit
        self._full = False
        self._later = later
        self._on_room = on_room
        self.ran, dated = _running_time(file, now, wall)
        self.clock_jumps = [ClockJump(*jump) for jump in json.loads(file.read_meta("clock_jumps", "[]"))]
        self._writer = writer(
            file, journal, path, max_bytes=max_bytes, max_age=max_age, ran=self.ran,
            on_commit=self._committed_in_thread, on_news=self._tell_in_thread, soon=soon,
            on_failed=lambda why: self._later(lambda: on_failed(why)),
            window=window, on_full=lambda full: self._later(lambda: self._is_full(full)),
        )  # fmt: skip
        for position, origin, message_id in file.ids():
            self._writer.forget_ids(self.ids.remember(origin, message_id, position))
        # Each run with its first position.
        before = json.loads(file.read_meta("runs"))
        runs = [*before, [self.run, self.last + 1]][-MAX_RUNS:]
        self._runs: dict[str, int] = dict(runs)
        self._former: list[str] = json.loads(file.read_meta("former", "[]"))
        # And the last position of each that got to disk: a receipt beyond it shows that this is an older copy.
        ends = json.loads(file.read_meta("ends", "{}"))
        if before:
            ends[before[-1][0]] = max(int(file.read_meta("end")), before[-1][1] - 1)
        self._ends: dict[str, int] = {run: end for run, end in ends.items() if run in self._runs}
        dated["ends"] = json.dumps(self._ends)
        self._stored_lease = self.last + 1 + LEASE
        self._writer.start(
            {"runs": json.dumps(runs), "lease": self._stored_lease, "journal_key": journal.key.hex(), **dated}
        )
        if self.ran.last_jump:  # back since the run before
            self.add_clock_jump(self.ran.last_jump)
        self.gone = max(self._writer.gone, self.gone)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        max_bytes: int,
        max_age: float,
        now: Callable[[], float],
        wall: Callable[[], float],
        on_commit: Callable[[int], None],
        on_failed: Callable[[str], None] = lambda why: None,
        soon: Callable[[Callable[[], None]], object] = lambda call: call(),
        window: float = 0.0,
        later: Callable[[Callable[[], None]], object] = lambda call: call(),
        on_room: Callable[[], None] = lambda: None,
        vfs: str | None = None,
        writer: Callable[..., LogWriter] = LogThread,
    ) -> "RelayLog":
        """Open the log; an unreadable file is set aside under another name, and a new one begins.

        Args:
            path: of the file.
            max_bytes: bytes of messages that are kept.
            max_age: seconds that messages are kept, counted while the log is in use.
            now: monotonic seconds.
            wall: seconds since 1970: a label, and to notice jumps of the clock.
            on_commit: called with the position up to which all is on disk; this and the functions below, in the
                thread that appends.
            on_failed: called once, with the reason, when the disk fails.
            soon: calls a function a little later, in the thread that appends.
            window: seconds that an entry waits for others to be committed with, where nobody waits for the commit.
            later: calls a function in the thread that appends, from any other.
            on_room: called when a full disk has room again.
            vfs: name of an APSW VFS, None for the platform's.
            writer: makes the writer; the simulator has one without a thread.

        Raises:
            StorageFailed: the disk failed.
        """

        def make() -> "RelayLog":
            with contextlib.ExitStack() as undo:
                # After a failure closed at once, and without tidying up: files that are set aside stay unchanged.
                check_files(path)
                file = LogFile(path, vfs)
                undo.callback(file.close, tidy=False)
                file.prepare()
                journal = Journal(path, _journal_key(file), int(file.read_meta("journal", 0)), vfs)
                undo.callback(journal.close)
                recover(file, journal, path)
                reader = LogFile(path, vfs)
                undo.callback(reader.close, tidy=False)
                finder = LogFile(path, vfs)
                undo.callback(finder.close, tidy=False)
                log = cls(
                    path,
                    file,
                    journal,
                    reader,
                    finder,
                    max_bytes=max_bytes,
                    max_age=max_age,
                    now=now,
                    wall=wall,
                    on_commit=on_commit,
                    on_failed=on_failed,
                    soon=soon,
                    window=window,
                    later=later,
                    on_room=on_room,
                    writer=writer,
                )
                undo.pop_all()
            return log

        try:
            try:
                return make()
            except (apsw.NotADBError, apsw.CorruptError, apsw.SQLError) as error:
                aside = set_aside(path)
                log = make()
                log.replaced = f"the earlier log cannot be read ({error}); it is kept as {aside.name}"
                return log
        except (apsw.Error, OSError) as error:
            raise StorageFailed(f"the log {path} cannot be opened: {error}; check its disk") from error

    # ---- writing ---------------------------------------------------------------------------------------

    @property
    def lease(self) -> int:
        """Position that was never handed out, nor any after it: after a crash a log continues behind its lease."""
        return self.last + 1

    @property
    def takes(self) -> bool:
        """Whether :meth:`append` accepts entries, as far as is known."""
        writer = self._writer
        return not writer.failed and not self._full and writer.waiting_bytes <= MAX_BACKLOG

    @property
    def problem(self) -> str:
        """Why nothing is accepted, and what to do; '' while entries are accepted."""
        if not self._full:
            return ""
        return (
            f"the disk of {self._path.parent} is full: free {self._writer.wanted} MiB there. Until then "
            "messages wait at their satellites, and relay.relay is refused; live channels pass, and the log "
            "can still be read"
        )

    def _is_full(self, full: bool) -> None:
        # Here and not in the writer's thread: nothing may change between a forecast and its frame.
        self._full = full
        if full:  # from here on no entry comes that would need more room
            _logger.error("%s", self.problem)
        else:
            _logger.warning("the disk of %s has room again: messages are accepted", self._path.parent)
            self._on_room()

    def check_room(self) -> None:
        """Check that :meth:`append` accepts entries.

        Raises:
            StorageFull: the disk is full, or too much waits for it.
            StorageFailed: the disk failed.
        """
        writer = self._writer
        if writer.failed:
            raise StorageFailed(f"the relay's disk failed: {writer.failed}")
        if self._full:
            raise StorageFull(
                f"the relay's disk is full, {writer.wanted} MiB more are needed; after that it accepts "
                "messages again"
            )
        if writer.waiting_bytes > MAX_BACKLOG:
            raise StorageFull(
                f"{MAX_BACKLOG} bytes wait for the relay's disk, which is slower than the incoming messages"
            )

    @property
    def damaged(self) -> int:
        """Places that were found damaged. They stay unchanged; readers get a gap there."""
        return len(self._damaged)

    @property
    def size(self) -> int:
        """Bytes of messages that are kept."""
        return self._writer.bytes

    @property
    def written(self) -> int:
        """Bytes written to disk for the log since it was opened."""
        return self._writer.written

    @property
    def backlog(self) -> int:
        """Bytes that wait for the disk."""
        return self._writer.waiting_bytes

    def append(
        self,
        *,
        origin: str,
        host_id: str,
        client_address: tuple[str, int],
        batch: bytes,
        count: int,
        epoch: int = 0,
        seq: int = 0,
        package: str = "",
        plugin: str = "",
        channels: tuple[str, ...] | None = None,
        crc: int = 0,
        at: float = 0.0,
        message_id: str = "",
    ) -> Entry:
        """Append an entry of ``count`` messages. One without a number is committed at once: somebody waits for it.

        A ``message_id`` is kept with it, for :attr:`ids`.

        Raises:
            StorageFull: the disk is full, or too much waits for it; nothing was appended.
            StorageFailed: the disk failed.
        """
        writer = self._writer
        if writer.failed or self._full or writer.waiting_bytes > MAX_BACKLOG:
            self.check_room()
        position = self.last + 1
        if position + count + LEASE // 2 > self._stored_lease:
            self._lease_up_to(position + LEASE)
        entry = Entry(
            position, count, origin, host_id, client_address, epoch, seq, package, plugin, channels, crc, batch, at
        )
        self.last = entry.end
        if epoch:
            key = (origin, epoch)
            if key not in self._marks:
                self._begin_run(origin, epoch)
            self._marks[key] = seq + count - 1
        self._tail.append(entry, self._settled)
        writer.put(entry, hurry=not epoch, message_id=message_id)
        if message_id:
            writer.forget_ids(self.ids.remember(origin, message_id, position))
        return entry

    def look(self) -> int:
        """Return the position up to which all is on disk. The caller gets no ``on_commit`` for it any more."""
        self._seen = self.committed
        return self._seen

    def pass_over(self, position: int) -> None:
        """Skip positions up to this one: a reader has received a message at it that is not in the log."""
        self.last = max(self.last, position)

    def holds(self, run: str, position: int) -> bool:
        """Return whether this log can have handed out a position in that run, or before it."""
        if run not in self._runs:
            # Positions only grow: those of a forgotten run are before all remembered ones.
            return len(self._runs) >= MAX_RUNS and position < next(iter(self._runs.values()))
        begun = self._runs[run]
        following = min((first for first in self._runs.values() if first > begun), default=self.last + 1)
        return position < following

    def add_clock_jump(self, seconds: float) -> None:
        """Record that the wall clock has jumped after the last message, by so many seconds."""
        self.clock_jumps = [*self.clock_jumps, ClockJump(self.last, seconds)][-MAX_CLOCK_JUMPS:]
        self._writer.put_meta("clock_jumps", json.dumps(self.clock_jumps))

    def was_called(self, log_id: str) -> bool:
        """Return whether this is, or was, the id of this log."""
        return log_id == self.log_id or log_id in self._former

    def was_rolled_back(self, log_id: str, run: str, position: int) -> bool:
        """Return whether a true receipt over this position shows that this is an older copy of that log.

        The position was on disk, and is not: this log does not know the run, or the run had not come so far.
        """
        if not self.was_called(log_id):
            return False
        return not self.holds(run, position) or position > self._ends.get(run, position)

    def _begin_run(self, origin: str, epoch: int) -> None:
        """Make room for the mark of one more run: of one sender, and of all."""
        epochs = self._epochs.setdefault(origin, [])
        epochs.append(epoch)
        if len(epochs) > MAX_EPOCHS_OF_ONE:
            oldest = epochs.pop(0)
            self._marks.pop((origin, oldest), None)
            self._writer.drop_mark(origin, oldest)
        if len(self._marks) >= log_file.MAX_MARKS + MARKS_SLACK:
            for one, its_epoch, seq in self._writer.trim_marks():
                if self._marks.get((one, its_epoch)) == seq:
                    del self._marks[one, its_epoch]
                    of_one = self._epochs[one]
                    of_one.remove(its_epoch)
                    if not of_one:
                        del self._epochs[one]

    def set_mark(self, origin: str, epoch: int, seq: int) -> None:
        """Set the number after which a run begins for this log."""
        if (origin, epoch) not in self._marks:
            self._begin_run(origin, epoch)
        self._marks[origin, epoch] = seq
        self._writer.put_mark(origin, epoch, seq)

    def add_loss(self, loss: Loss) -> None:
        """Record a loss for all readers that pass it, also in later runs."""
        self.losses.add(loss)
        losses = [(known.position, known.origin, known.reason) for known in self.losses]
        self._writer.put_meta("losses", json.dumps(losses))

    def set_forgotten(self, forgotten: Mapping[str, int]) -> None:
        """Replace the channels whose messages up to a position are no last values; for later runs, too."""
        self.forgotten = forgotten
        self._writer.put_meta("forgotten", json.dumps(forgotten))

    @property
    def keeps_forgotten(self) -> bool:
        """Whether :attr:`forgotten` is on disk."""
        return self._writer.keeps("forgotten")

    def replace_id(self) -> None:
        """Replace the log id: readers of the old log must notice."""
        self._former = [*self._former, self.log_id][-MAX_FORMER:]
        self._writer.put_meta("former", json.dumps(self._former))
        self.log_id = secrets.token_hex(16)
        self._writer.put_meta("log_id", self.log_id)

    def close(self) -> None:
        """Write all to disk and close the file; the next run continues right after the last message."""
        self._writer.put_meta("lease", self.last + 1)
        self._writer.close(CLOSE_TIMEOUT)
        self._finder.close(tidy=False)
        with self._reading:
            self._reader.close(tidy=not self._writer.failed)

    def _lease_up_to(self, position: int) -> None:
        # In the same queue as the entries and before them: a commit with one of the new positions has the lease
        # too.
        self._stored_lease = position
        self._writer.put_meta("lease", position)

    def _committed_in_thread(self, position: int, settled: int, gone: int) -> None:
        if position:
            self.committed = position
        self._settled = settled
        self.gone = max(gone, self.gone)

    def _tell_in_thread(self) -> None:
        if self._seen < self.committed or not self.committed:
            self._later(lambda: self._on_commit(self.committed))

    # ---- reading ---------------------------------------------------------------------------------------

    def read(self, after: int, max_bytes: int) -> Reading:
        """Read on from a cursor, as far as memory goes; 0 stands for the oldest message kept anywhere."""
        if after < self._tail.gone:
            if after or self.gone < self._tail.gone:
                return Reading((), after, None, on_disk=True)
            after = self._tail.gone  # nothing older is on disk
        entries = self._tail.read(after, max_bytes)
        return Reading(entries, entries[-1].end if entries else after)

    def read_disk(self, after: int, max_bytes: int) -> Reading:
        """Read on from a cursor, from disk. In any thread; takes milliseconds.

        Args:
            after: position; 0 for the oldest.
            max_bytes: stop when the batches exceed this together.
        """
        tries = 0
        while True:
            in_memory = self._tail.gone  # before the read: entries dropped during it may be missing in it
            try:
                return self._read_disk(after, max_bytes, in_memory)
            except apsw.Error as error:
                tries += 1
                if tries == READ_TRIES or isinstance(error, _LASTING):
                    return self._damaged_up_to(after, self.committed, in_memory, f"damaged: {error}")
            # A disk, or memory, that fails for a moment must not make a gap of intact messages.
            time.sleep(READ_RETRY)

    def _read_disk(self, after: int, max_bytes: int, in_memory: int) -> Reading:
        """Read on from a cursor, once.

        Raises:
            apsw.Error: nothing could be read.
        """
        start = after
        gap: LogGap | None = None
        entries: list[Entry] = []
        in_journal = self._writer.in_journal()  # before the read, too: entries moved during it are found in both
        is_whole = False
        try:
            with self._reading, self._reader.snapshot():
                gone = int(self._reader.read_meta("gone"))
                if after < in_memory < gone:
                    # Entries deleted only from disk are still in memory: the reader continues there.
                    return Reading((), in_memory, LogGap(after, in_memory, "retention") if after else None)
                start = max(after, gone)
                gap = LogGap(after, gone, "retention") if 0 < after < gone else None
                for found in self._reader.entries(start, max_bytes):
                    if isinstance(found, int):
                        if not entries and gap is None:
                            return self._damaged_up_to(after, found, in_memory, "damaged")
                        break
                    entries.append(found)
                else:
                    is_whole = True
        except apsw.Error as error:
            if isinstance(error, apsw.CorruptError):
                mark_damaged(self._path)
            if not entries and gap is None:
                raise
        if is_whole:
            _read_on(entries, in_journal, start, max_bytes)
        if entries:
            return Reading(entries, entries[-1].end, gap)
        return Reading((), start if gap else max(start, in_memory), gap)

    def read_heads(self, before: int, limit: int) -> list[Head]:
        """Return the heads of the newest entries before a position, newest first. In any thread.

        It takes milliseconds. None older are found behind a place that cannot be read.
        """
        try:
            with self._reading:
                return self._reader.heads(before, limit)
        except apsw.Error as error:
            _logger.error("last values from before position %d are not known: %s", before, error)
            return []

    def find(self, origin: str, epoch: int, seq: int) -> int | None:
        """Return the checksum of the entry that begins with this number, None if it is no longer kept.

        To be called in the thread that appends, as :meth:`address_of`; it waits for no read from disk.
        """
        found = self._tail.find(origin, epoch, seq)
        if found is not None:
            return found
        try:
            return self._finder.find(origin, epoch, seq)
        except apsw.Error:
            return None

    def position_of(self, origin: str, run: int, seq: int) -> int | None:
        """Return the position of the message with this number, None if it is no longer kept, or never was.

        To be called in the thread that appends; it waits for no read from disk.
        """
        for epoch in reversed(self._epochs.get(origin, ())):
            if epoch & MAX_RUN == run:
                return self._position_of(origin, epoch, seq)
        return None

    def _position_of(self, origin: str, epoch: int, seq: int) -> int | None:
        found = self._tail.position_of(origin, epoch, seq)
        if found is not None:
            return found
        try:
            return self._finder.position_of(origin, epoch, seq)
        except apsw.Error:
            return None

    def address_of(self, origin: str) -> str:
        """Return an address that numbered messages of an origin came from, '' if none is kept any more."""
        if origin not in self._epochs:
            return ""
        in_journal = self._writer.in_journal()
        try:
            if address := self._finder.address_of(origin):
                return address
        except apsw.Error:
            pass
        mine = (entry for entry in in_journal if entry.origin == origin and entry.epoch)
        return next((entry.client_address[0] for entry in mine), "")

    def _damaged_up_to(self, after: int, position: int, in_memory: int, reason: str) -> Reading:
        """Return a gap, but only for entries that are not in memory."""
        end = min(position, in_memory) if in_memory > after else position
        self._damaged.add(end)
        return Reading((), end, LogGap(after, end, reason))


def _read_on(entries: list[Entry], in_journal: Sequence[Entry], after: int, max_bytes: int) -> None:
    """Append the entries of the journal to those of the database, if these were read to their end.

    If they were not, enough was read already: further entries would leave a hole before them.
    """
    size = sum(size_read(entry.batch) for entry in entries)
    for entry in in_journal:
        if size >= max_bytes and entries:
            return
        if entry.end > (entries[-1].end if entries else after):
            entries.append(entry)
            size += size_read(entry.batch)


def _journal_key(file: LogFile) -> bytes:
    """Return the key of this log's journal, a new one for a log that had none."""
    return bytes.fromhex(str(file.read_meta("journal_key", ""))) or new_key()


def _running_time(
    file: LogFile, now: Callable[[], float], wall: Callable[[], float]
) -> tuple[RunningTime, dict[str, int | str | float]]:
    """Return how long a log has run, and the facts about it to write.

    A log that never counted begins at the wall clock's time, so that an older program, which ages by that, does
    not consider all of it old; its entries are as old as that beginning.
    """
    before = float(file.read_meta("ran", -1.0))
    dated = json.loads(file.read_meta("dated", "[0, 0.0]"))
    newest = file.newest()
    written_since = newest is not None and newest[0] > dated[0] and newest[1] > before  # by an older program
    if before < 0 or written_since:
        before = wall() if before < 0 else before
        dated = [int(file.read_meta("end")), before]
    file.date(*dated)
    ran = RunningTime(before, now, wall)
    ran.begin_after(float(file.read_meta("wall", before)))
    return ran, {"dated": json.dumps(dated)}
