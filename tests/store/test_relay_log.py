"""The durable log: positions, readers, restarts, retention, damage."""

import contextlib
import gc
import itertools
import os
import shutil
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from co2.errors import StorageFailed, StorageFull
from co2.protocol.relay.log import Entry
from co2.protocol.relay.losses import Loss
from co2.protocol.wire.batch import make_batch, split_batch
from co2.store import log_file, log_thread, memory_tail, relay_log
from co2.store.log_file import FRAME, LogFile
from co2.store.relay_log import LEASE, RelayLog
from co2.thread_priority import BEHIND, USUAL_INTERVAL
from tests.harness import wait_for


class Logs:
    """Opens logs, and closes them at the end."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.db"
        self.opened: list[RelayLog] = []
        self.failures: list[str] = []
        self.now = 1_000_000.0
        self.wall = 1_700_000_000.0

    def open(self, path: Path | None = None, **changes: Any) -> RelayLog:
        options: dict[str, Any] = {"max_bytes": 2**30, "max_age": 86_400.0, **changes}
        log = RelayLog.open(
            path or self.path,
            now=lambda: self.now,
            wall=lambda: self.wall + self.now,
            on_commit=lambda position: None,
            on_failed=self.failures.append,
            **options,
        )
        self.opened.append(log)
        return log

    def close(self) -> None:
        for log in self.opened:
            log.close()


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    made = Logs(tmp_path)
    yield made
    made.close()


def append(
    log: RelayLog,
    *messages: bytes,
    seq: int = 0,
    epoch: int = 7,
    origin: str = "ham",
    message_id: str = "",
    at: float = 0.0,
) -> Entry:
    batch = make_batch(messages)
    return log.append(
        origin=origin,
        host_id=f"{origin}@127.0.0.1:2004",
        client_address=("127.0.0.1", 4567),
        batch=batch,
        count=len(messages),
        epoch=epoch if seq else 0,
        seq=seq,
        at=at,
        package="p",
        plugin="p.m.X",
        channels=("stage.left", ""),
        crc=zlib.crc32(batch),
        message_id=message_id,
    )


def on_disk(log: RelayLog) -> None:
    wait_for(lambda: log.committed >= log.last, "all is on disk")


def everything(read: Callable[[int, int], Any], after: int, max_bytes: int = 2**20) -> list[Entry]:
    found: list[Entry] = []
    while (reading := read(after, max_bytes)).entries:
        found += reading.entries
        after = reading.next
    return found


def whole(log: RelayLog) -> Callable[[int, int], Any]:
    """Read as the relay does: from memory, from disk where it must."""

    def read(after: int, max_bytes: int) -> Any:
        reading = log.read(after, max_bytes)
        return log.read_disk(after, max_bytes) if reading.on_disk else reading

    return read


def test_what_was_appended_is_read_back_from_memory_and_from_disk(logs: Logs) -> None:
    log = logs.open()
    entries = [append(log, *[b"\xc0"] * count, seq=1 + number * 5) for number, count in enumerate((1, 3, 5))]
    assert [entry.position for entry in entries] == [2, 3, 6]
    assert log.last == 10
    on_disk(log)
    assert everything(log.read, 1) == entries
    assert everything(log.read_disk, 0) == entries
    assert everything(log.read_disk, 4) == entries[1:]  # the frame that a reader stands in comes whole


def test_a_read_from_disk_brings_some_hundreds_of_small_frames(logs: Logs) -> None:
    """Thousands of objects that come and go at once stop the event loop for tens of milliseconds."""
    log = logs.open()
    entries = [append(log, b"\xc0", seq=number) for number in range(1, 2001)]
    on_disk(log)
    log.close()
    again = logs.open()
    assert len(again.read_disk(0, 2**20).entries) <= 2**20 // FRAME < len(entries)
    assert everything(again.read_disk, 0) == entries


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 3_000)), min_size=1, max_size=40), data=st.data()
)
def test_any_history_read_from_anywhere_is_complete_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]], data: st.DataObject
) -> None:
    logs = Logs(tmp_path_factory.mktemp("log"))
    kept, memory_tail.KEPT = memory_tail.KEPT, 20_000
    try:
        log = logs.open()
        entries = []
        for number, (count, size) in enumerate(sizes):
            message = b"\xc5" + size.to_bytes(2, "big") + bytes(size)
            entries.append(append(log, *[message] * count))
            if number % 7 == 0:
                on_disk(log)
        on_disk(log)
        after = data.draw(st.integers(0, log.last))
        chunk = data.draw(st.integers(1, 50_000))
        assert everything(whole(log), after, chunk) == [entry for entry in entries if entry.end > after]
    finally:
        memory_tail.KEPT = kept
        logs.close()


def test_a_log_that_was_closed_goes_on_without_a_jump(logs: Logs) -> None:
    log = logs.open()
    append(log, b"\x01", b"\x02", seq=1)
    log_id = log.log_id
    log.close()
    again = logs.open()
    assert again.log_id == log_id
    assert again.marks == {("ham", 7): 2}
    assert append(again, b"\x03").position == 4
    on_disk(again)
    assert [split_batch(entry.batch) for entry in everything(again.read_disk, 0)] == [
        [b"\x01", b"\x02"],
        [b"\x03"],
    ]


def test_no_position_is_used_twice_though_its_message_was_lost(logs: Logs, tmp_path: Path) -> None:
    """As a power cut leaves it: what is in the files now, without what waits for the disk."""
    log = logs.open()
    append(log, b"\x01", seq=1)
    on_disk(log)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tmp_path.glob("log.db*"):
        shutil.copy(file, copy / file.name)
    handed_out = [append(log, b"\x02", seq=2 + number).position for number in range(1000)]
    after = logs.open(copy / "log.db")
    assert append(after, b"\x03").position > max(handed_out)
    assert after.marks == {("ham", 7): 1}


def test_a_position_is_known_by_the_run_that_handed_it_out(logs: Logs, tmp_path: Path) -> None:
    log = logs.open()
    append(log, b"\x01")
    first, position = log.run, log.last
    log.close()
    older = tmp_path / "older.db"
    shutil.copy(logs.path, older)
    log = logs.open()
    for _ in range(5):
        append(log, b"\x02")
    assert log.holds(first, position)
    assert not log.holds(first, position + 3)  # that run ended before
    assert log.holds(log.run, log.last)
    assert not log.holds(log.run, log.last + 1)
    restored = logs.open(older)
    assert not restored.holds(log.run, 1)
    assert restored.holds(first, position)


def test_a_loss_is_remembered_by_the_next_run(logs: Logs) -> None:
    log = logs.open()
    loss = Loss(append(log, b"\x01").position, "ham", "the relay lost messages 2 to 3 of ham@127.0.0.1:1")
    log.add_loss(loss)
    log.close()
    assert list(logs.open().losses) == [loss]


def test_the_time_of_an_entry_is_kept_in_memory_in_the_journal_and_in_the_database(logs: Logs) -> None:
    log = logs.open()
    times = [1.7e9, 1.7e9 + 1 / 3, 0.0]
    for at in times:
        append(log, b"\x01", at=at)
    assert [entry.at for entry in log.read(0, 10**6).entries] == times
    on_disk(log)
    assert [entry.at for entry in log.read_disk(0, 10**6).entries] == times, "the journal has them"
    log.close()
    assert [entry.at for entry in logs.open().read_disk(0, 10**6).entries] == times


def test_a_file_of_before_entries_had_times_is_read_and_gets_them(logs: Logs) -> None:
    log = logs.open()
    for number in range(3):
        append(log, bytes([number]), at=5.0)
    log.close()
    _make_version_2(logs.path)
    log = logs.open()
    assert not log.replaced
    append(log, b"\x03", at=7.0)
    log.close()
    entries = logs.open().read_disk(0, 10**6).entries
    assert [(entry.batch[-1], entry.at) for entry in entries] == [(0, 0.0), (1, 0.0), (2, 0.0), (3, 7.0)]


def _make_version_2(path: Path) -> None:
    """Write a log as programs did before entries had times."""
    with contextlib.closing(apsw.Connection(str(path))) as db:
        columns = [name for _, name, *_ in db.execute("PRAGMA table_info(frame)") if name != "came"]
        rows = db.execute(f"SELECT {', '.join(columns)} FROM frame").fetchall()
        db.execute("DROP TABLE frame")
        db.execute(f"CREATE TABLE frame (position INTEGER PRIMARY KEY, {', '.join(columns[1:])})")
        for row in rows:
            *head, _, batch = row
            values = (*head, log_file._checksum(*head), batch)
            db.execute(f"INSERT INTO frame VALUES ({', '.join('?' * len(columns))})", values)
        db.execute("CREATE INDEX numbered ON frame (origin, epoch, seq) WHERE epoch != 0")
        db.execute("PRAGMA user_version = 2")


def test_where_the_clock_has_jumped_is_kept(logs: Logs) -> None:
    log = logs.open()
    append(log, b"\x01")
    log.add_clock_jump(-3600.0)
    jumps = [(log.last, -3600.0)]
    assert log.clock_jumps == jumps
    append(log, b"\x02")
    on_disk(log)
    log.close()
    log = logs.open()
    assert log.clock_jumps == jumps
    for number in range(relay_log.MAX_CLOCK_JUMPS):
        log.add_clock_jump(1.0 + number)
    assert [seconds for _, seconds in log.clock_jumps] == [1.0 + n for n in range(relay_log.MAX_CLOCK_JUMPS)]


def test_the_checksum_of_a_number_is_found_in_memory_and_on_disk(logs: Logs) -> None:
    log = logs.open()
    entry = append(log, b"\x01", seq=1)
    assert log.find("ham", 7, 1) == entry.crc
    assert log.find("ham", 7, 2) is None
    log.close()
    again = logs.open()
    assert again.find("ham", 7, 1) == entry.crc
    assert again.find("spam", 7, 1) is None


def test_the_position_of_a_number_is_found_in_memory_in_the_journal_and_on_disk(logs: Logs) -> None:
    log = logs.open()
    one = make_batch([b"\x01", b"\x02", b"\x03"])
    first = log.append(origin="ham", host_id="ham@1.2.3.4:5", client_address=("1.2.3.4", 5), batch=one, count=3,
                       epoch=7, seq=1)  # fmt: skip
    append(log, b"\x01", origin="spam", seq=1)
    second = append(log, b"\x01", seq=9)

    def check(log: RelayLog) -> None:
        for number, position in ((1, first.position), (3, first.end), (9, second.position)):
            assert log.position_of("ham", 7, number) == position
        for origin, epoch, number in (("ham", 7, 4), ("ham", 7, 10), ("ham", 7, 0), ("ham", 8, 1), ("eggs", 7, 1)):
            assert log.position_of(origin, epoch, number) is None

    check(log)
    on_disk(log)
    check(log)
    log.close()
    check(logs.open())


def test_a_number_is_found_while_somebody_reads_from_disk(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop looks for numbers: it must not wait for reads of others."""
    append(logs.open(), b"\x01", seq=1)
    logs.close()
    log = logs.open()
    began, go_on = threading.Event(), threading.Event()
    entries = log._reader.entries

    def slowly(after: int, max_bytes: int) -> Any:
        began.set()
        go_on.wait(30)
        return entries(after, max_bytes)

    monkeypatch.setattr(log._reader, "entries", slowly)
    reading = threading.Thread(target=log.read_disk, args=(0, 2**20))
    reading.start()
    found: list[int | None] = []
    finding = threading.Thread(target=lambda: found.append(log.find("spam", 7, 1)))
    try:
        assert began.wait(30)
        finding.start()
        finding.join(20)
        assert found == [None]
    finally:
        go_on.set()
        reading.join()
        finding.join()


def test_numbers_are_found_in_memory_as_frames_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_tail, "KEPT", 1000 * (memory_tail.OVERHEAD + 1))
    tail = memory_tail.MemoryTail(1)
    for number in range(1, 5001):
        tail.append(Entry(number, 1, "ham", "ham@h:1", ("h", 1), 7, number, "", "", (), number % 97, b"x"), number)
        if number % 50 == 0:
            for seq in (number, number - 1, number - 900):
                assert tail.find("ham", 7, seq) == (seq % 97 if seq > 0 else None)
            assert tail.find("spam", 7, number) is None
            assert tail.find("ham", 7, number + 1) is None
    assert tail.find("ham", 7, 1) is None, "what memory has let go of is not held by its number"


def test_what_memory_lets_go_of_is_freed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_tail, "KEPT", 1000 * (memory_tail.OVERHEAD + 1))
    tail = memory_tail.MemoryTail(1)
    batches = [bytes([number % 256]) * 2 for number in range(1, 1801)]
    for number, batch in enumerate(batches, 1):
        tail.append(Entry(number, 1, "ham", "ham@h:1", ("h", 1), 7, number, "", "", (), 1, batch), number)
    held = [batch for batch in batches if sys.getrefcount(batch) > 3]
    assert 990 <= len(held) <= 1000
    assert [entry.batch for entry in tail.read(0, 10**9)] == held == batches[-len(held) :]


def test_looking_for_many_numbers_does_not_look_at_all_frames_each_time() -> None:
    tail = memory_tail.MemoryTail(1)
    for number in range(10_000):
        tail.append(Entry(number + 2, 1, "ham", "ham@h:1", ("h", 1), 7, number, "", "", (), 1, b"x"), 1)
    began = time.process_time()
    assert tail.find("spam", 7, 1) is None
    once = time.process_time() - began
    began = time.process_time()
    for _ in range(1000):
        assert tail.find("spam", 7, 1) is None
    assert time.process_time() - began < 20 * once


@pytest.mark.parametrize("limit", ["size", "age"])
def test_retention_takes_the_oldest_and_says_so(logs: Logs, limit: str) -> None:
    log = logs.open(**({"max_bytes": 2**20} if limit == "size" else {"max_age": 100.0}))
    message = b"\xc6" + (60_000).to_bytes(4, "big") + bytes(60_000)
    old = [append(log, message) for _ in range(40)]
    on_disk(log)
    logs.now += 200
    new = append(log, b"\x01")
    wait_for(lambda: log.gone > old[5].position, "the oldest are gone")
    reading = log.read_disk(old[0].position, 2**20)
    assert reading.gap is not None
    assert (reading.gap.after, reading.gap.reason) == (old[0].position, "retention")
    assert reading.gap.next == log.gone
    assert everything(whole(log), 0)[-1] == new
    assert log.read_disk(0, 2**20).gap is None  # who asks for the oldest there is misses nothing
    if limit == "size":
        assert log.size <= 2**20


def test_a_reader_is_told_the_gap_though_retention_has_only_just_committed(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logs.open(max_bytes=100_000)
    message = b"\xc6" + (60_000).to_bytes(4, "big") + bytes(60_000)
    oldest = append(log, message)
    on_disk(log)
    monkeypatch.setattr(log._writer, "_on_commit", lambda position, settled, gone: None)  # it has not come to tell
    append(log, message)
    new = append(log, message)
    wait_for(lambda: not log.backlog, "on disk")
    reading = log.read_disk(oldest.position - 1, 2**20)
    assert reading.entries == [new]
    assert reading.gap is not None
    assert (reading.gap.next, reading.gap.reason) == (new.position - 1, "retention")


def test_before_a_position_is_handed_out_its_lease_is_on_disk(logs: Logs, tmp_path: Path) -> None:
    log = logs.open()
    for suffix in ("", "-wal", ".journal"):
        shutil.copy(f"{logs.path}{suffix}", tmp_path / f"crashed.db{suffix}")
    position = append(log, b"\x01").position
    after = logs.open(tmp_path / "crashed.db")
    assert after.holds(log.run, position)
    assert position < append(after, b"\x02").position <= position + LEASE + 1, (
        "a jump, as docs/explanation/delivery.md has it"
    )


@pytest.mark.parametrize(
    "damage",
    [{"batch": make_batch([b"\x7f"])}, {"origin": "spam"}, {"seq": 77}, {"channels": b"\x90"}, {"count": 9}],
)
def test_a_damaged_frame_is_a_gap_to_everybody_and_stays_in_the_file(logs: Logs, damage: dict[str, Any]) -> None:
    log = logs.open()
    entries = [append(log, bytes((number,))) for number in range(1, 6)]
    log.close()
    raw = apsw.Connection(str(logs.path))
    ((column, value),) = damage.items()
    raw.execute(f"UPDATE frame SET {column} = ? WHERE position = ?", (value, entries[2].position))
    raw.close()
    for _ in range(2):
        log = logs.open()
        assert log.read_disk(0, 2**20).entries == entries[:2]
        for _ in range(2):
            reading = log.read_disk(entries[1].end, 2**20)
            assert reading.entries == ()
            assert reading.gap is not None
            assert (reading.gap.after, reading.gap.next, reading.gap.reason) == (3, 4, "damaged")
        assert log.read_disk(reading.next, 2**20).entries == entries[3:]
        assert log.damaged == 1
        log.close()


def test_a_reader_of_what_a_crash_kept_from_the_disk_misses_nothing(logs: Logs) -> None:
    """What was passed on but never committed is sent again by its sender: there is no gap to tell."""
    log = logs.open()
    crashed = logs.path.with_name("crashed.db")
    for suffix in ("", "-wal", ".journal"):
        shutil.copy(f"{logs.path}{suffix}", f"{crashed}{suffix}")
    position, run = append(log, b"\x01").position, log.run
    again = logs.open(crashed)
    assert again.holds(run, position)
    assert again.read_disk(position, 2**20).gap is None
    assert append(again, b"\x01").position > position
    on_disk(again)
    assert again.read_disk(position, 2**20).gap is None


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE mark SET seq = 99",
        "UPDATE mark SET origin = CAST(x'ff' AS TEXT)",
        "UPDATE meta SET value = 99 WHERE key = 'lease'",
        "UPDATE meta SET value = CAST(x'ff' AS TEXT) WHERE key = 'log_id'",
        "DELETE FROM meta WHERE key = 'end'",
        "PRAGMA user_version = 99",
    ],
)
def test_a_log_whose_own_facts_are_damaged_is_set_aside_with_the_reason(logs: Logs, damage: str) -> None:
    """A wrong mark would take new messages for repeats, or repeats for new ones."""
    log = logs.open()
    append(log, b"\x01", seq=1)
    log_id = log.log_id
    log.close()
    raw = apsw.Connection(str(logs.path))
    raw.execute(damage)
    raw.close()
    log = logs.open()
    assert "cannot be read" in log.replaced
    assert log.log_id != log_id
    assert (dict(log.marks), log.read_disk(0, 2**20).entries) == ({}, ())
    assert append(log, b"\x01", seq=1).position == 2


def test_retention_deletes_a_damaged_frame_with_the_next_one(logs: Logs) -> None:
    log = logs.open()
    for number in range(1, 6):
        append(log, bytes((number,)))
    log.close()
    raw = apsw.Connection(str(logs.path))
    raw.execute("UPDATE frame SET seq = 77 WHERE position IN (2, 4)")
    raw.close()
    log = logs.open(max_age=50.0)
    logs.now += 100
    append(log, b"\x07")
    on_disk(log)
    log.close()
    raw = apsw.Connection(str(logs.path))
    assert raw.execute("SELECT position FROM frame").fetchall() == [(7,)]
    raw.close()
    assert logs.open().size == len(make_batch([b"\x07"]))


@pytest.mark.parametrize("content", [b"no database " * 2000, bytes(50_000), b"SQLite format 3\x00" + bytes(100)])
def test_a_file_that_cannot_be_read_is_set_aside_and_a_new_log_begins(logs: Logs, content: bytes) -> None:
    logs.path.write_bytes(content)
    log = logs.open()
    aside = [path for path in logs.path.parent.iterdir() if ".bad-" in path.name]
    assert [path.read_bytes() for path in aside] == [content]
    assert aside[0].name in log.replaced
    assert append(log, b"\x01").position == 2


def test_a_truncated_log_is_set_aside_too(logs: Logs) -> None:
    log = logs.open()
    for _ in range(50):
        append(log, b"\xc6" + (60_000).to_bytes(4, "big") + bytes(60_000))
    log_id = log.log_id
    log.close()
    data = logs.path.read_bytes()
    logs.path.write_bytes(data[: 3 * 16_384])
    log = logs.open()
    # Either it is found out at once, or the part that is gone is a gap to whoever reads it.
    if log.log_id == log_id:
        assert log.read_disk(2, 2**20).gap is not None
    else:
        assert log.replaced


def test_a_log_that_is_set_aside_stays_as_it_is_and_leaves_the_new_one_alone(logs: Logs, tmp_path: Path) -> None:
    log = logs.open()
    append(log, b"\x01")
    on_disk(log)
    for suffix in ("", "-wal", ".journal"):
        shutil.copy(f"{logs.path}{suffix}", tmp_path / f"bad.db{suffix}")
    bad = tmp_path / "bad.db"
    raw = apsw.Connection(str(bad))
    raw.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    raw.execute("DELETE FROM meta WHERE key = 'lease'")
    raw.close()
    wal = (tmp_path / "bad.db-wal").read_bytes()
    new = logs.open(bad)
    assert new.replaced
    gc.collect()
    append(new, b"\x02")
    on_disk(new)
    assert [path.read_bytes() for path in tmp_path.glob("bad.db.bad-*-wal")] == [wal]
    for suffix in ("", "-wal", ".journal"):
        shutil.copy(tmp_path / f"bad.db{suffix}", tmp_path / f"copy.db{suffix}")
    assert [split_batch(entry.batch) for entry in logs.open(tmp_path / "copy.db").read_disk(0, 2**20).entries] == [
        [b"\x02"]
    ]


def test_a_new_name_is_kept(logs: Logs) -> None:
    log = logs.open()
    before = log.log_id
    log.replace_id()
    changed = log.log_id
    assert changed != before
    log.close()
    assert logs.open().log_id == changed


def test_a_full_disk_refuses_what_is_new_serves_what_is_old_and_recovers(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_thread, "RETRY", 0.02)
    log = logs.open()
    old = append(log, b"\x01")
    on_disk(log)
    file: Any = log._writer._file
    journal: Any = log._writer._journal
    commit, journal_append, full = file.commit, journal.append, [True]

    def committing() -> None:
        if full[0]:
            raise apsw.FullError("database or disk is full")
        commit()

    def appending(data: bytes) -> None:
        if full[0]:
            raise apsw.FullError("no room for the journal")
        journal_append(data)

    monkeypatch.setattr(file, "commit", committing)
    monkeypatch.setattr(journal, "append", appending)
    taken = append(log, b"\x02")

    def refused() -> bool:
        try:
            append(log, b"\x03")
        except StorageFull:
            return True
        return False

    wait_for(refused, "new messages are refused")
    assert log.committed == old.end
    assert log.read_disk(0, 2**20).entries == [old]
    full[0] = False
    wait_for(lambda: log.committed >= taken.end, "what was taken gets to disk")
    wait_for(lambda: not refused(), "messages are taken again")
    assert logs.failures == []


@pytest.mark.parametrize("journal", [True, False])
def test_a_disk_that_fails_acknowledges_nothing_any_more(
    logs: Logs, monkeypatch: pytest.MonkeyPatch, journal: bool
) -> None:
    log = logs.open()
    old = append(log, b"\x01")
    on_disk(log)

    def failing(*_args: Any) -> None:
        raise OSError("disk I/O error") if journal else apsw.IOError("disk I/O error")

    monkeypatch.setattr(log._writer._file, "commit", failing)
    monkeypatch.setattr(log._writer._journal, "append", failing)
    append(log, b"\x02" if journal else bytes(100_000))
    wait_for(lambda: logs.failures, "it is told")
    assert len(logs.failures) == 1
    assert log.committed == old.end
    with pytest.raises(StorageFailed, match="disk I/O error"):
        append(log, b"\x03")


def test_a_commit_that_somebody_waits_for_is_quick(logs: Logs) -> None:
    log = logs.open()
    times = []
    for _ in range(5):
        began = time.monotonic()
        entry = append(log, b"\x01")
        wait_for(lambda entry=entry: log.committed >= entry.end, "on disk")
        times.append(time.monotonic() - began)
    assert min(times) < 0.5


def test_a_commit_that_somebody_waits_for_is_quick_beside_a_busy_event_loop(logs: Logs) -> None:
    """Each of its steps had to wait for the interpreter, for 5 ms: messages behind it waited for 40."""
    log = logs.open()
    times = []
    for _ in range(20):
        began = time.monotonic()
        entry = append(log, b"\x01")
        while log.committed < entry.end:
            assert sum(range(200)) and time.monotonic() < began + 20, "not on disk within 20 s"
        times.append(time.monotonic() - began)
    assert min(times) < 0.01


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_commits_run_behind_other_threads_unless_somebody_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_thread, "AHEAD", 60.0)
    monkeypatch.setattr(log_thread, "COMPANY", 0.0)
    told: dict[int, tuple[int, bool]] = {}

    def on_commit(position: int) -> None:
        nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        told[position] = nice, sys.getswitchinterval() < USUAL_INTERVAL / 2

    log = RelayLog.open(
        tmp_path / "log.db",
        max_bytes=2**30,
        max_age=1e9,
        now=time.monotonic,
        wall=time.time,
        on_commit=on_commit,
    )
    numbers = itertools.count(1)

    def commit(seq: int) -> tuple[int, bool]:
        entry = append(log, b"\x01", seq=seq, epoch=7 if seq else 0)
        wait_for(lambda: entry.end in told, "it is on disk")
        return told[entry.end]

    own = os.getpriority(os.PRIO_PROCESS, 0)
    behind, ahead = (min(19, own + BEHIND), False), (own, True)
    assert commit(next(numbers)) == behind
    assert commit(0) == ahead
    assert commit(next(numbers)) == ahead  # who sends the next one without a number does not wait for this one
    monkeypatch.setattr(log_thread, "AHEAD", 0.05)
    assert commit(0) == ahead
    wait_for(lambda: commit(next(numbers)) == behind, "they run behind again")
    assert commit(0) == ahead
    log.close()
    assert sys.getswitchinterval() == pytest.approx(USUAL_INTERVAL)


def test_no_entry_is_left_behind_when_commits_are_no_longer_waited_for(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At that moment another thread takes over, which may sleep for half a minute."""
    monkeypatch.setattr(log_thread, "AHEAD", 0.01)
    log = logs.open()
    for number in range(1, 101):
        began = time.monotonic()
        append(log, b"\x01")
        wait_for(lambda: time.monotonic() - began > 0.0002 * number, "a moment around that one")  # noqa: B023
        append(log, b"\x02", seq=number)
        on_disk(log)


def test_marks_do_not_age_by_the_wall_clock(logs: Logs) -> None:
    """A clock that jumps by years must not make repeats new, nor tell losses that were none."""
    log = logs.open()
    append(log, b"\x01", origin="ham", epoch=7, seq=1)
    log.close()
    logs.now += 10 * 365 * 86_400
    log = logs.open()
    append(log, b"\x02", origin="ham", epoch=8, seq=1)
    on_disk(log)
    log.close()
    assert logs.open().marks == {("ham", 7): 1, ("ham", 8): 1}


def test_of_too_many_marks_those_go_that_were_silent_longest(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "MAX_MARKS", 2)
    log = logs.open()
    for epoch in (7, 8, 9):
        append(log, b"\x01", origin="ham", epoch=epoch, seq=1)
        on_disk(log)
    log.close()
    assert logs.open().marks == {("ham", 8): 1, ("ham", 9): 1}


def test_commits_that_nobody_waits_for_are_a_window_apart(logs: Logs) -> None:
    window = 0.3
    log = logs.open(window=window)
    began = time.monotonic()
    append(log, b"\x01", seq=1)
    on_disk(log)
    second = append(log, b"\x02", seq=2)
    numbers = itertools.count(3)

    def committed() -> bool:
        append(log, b"\x03", seq=next(numbers))  # what comes meanwhile starts no commit either
        return log.committed >= second.end

    wait_for(committed, "it is on disk")
    assert time.monotonic() - began >= window


def test_a_commit_that_somebody_waits_for_does_not_wait_for_its_window(logs: Logs) -> None:
    log = logs.open(window=3600.0)
    append(log, b"\x01", seq=1)
    append(log, b"\x02")
    on_disk(log)


def test_who_has_looked_at_what_is_on_disk_is_not_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_thread, "COMPANY", 60.0)  # the news waits for longer than this test takes
    told: list[int] = []
    log = RelayLog.open(
        tmp_path / "log.db",
        max_bytes=2**30,
        max_age=1e9,
        now=time.monotonic,
        wall=time.time,
        on_commit=told.append,
    )
    told.clear()
    few = append(log, b"\x01", seq=1)
    wait_for(lambda: log.committed == few.end, "it is on disk")
    assert told == []
    assert log.look() == few.end
    last = append(log, b"\x02")  # somebody waits for this one: nothing more is waited for
    wait_for(lambda: told, "news")
    assert told == [last.end]
    log.close()


def test_who_does_not_look_is_told_soon(tmp_path: Path) -> None:
    told: list[int] = []
    log = RelayLog.open(
        tmp_path / "log.db",
        max_bytes=2**30,
        max_age=1e9,
        now=time.monotonic,
        wall=time.time,
        on_commit=told.append,
    )
    few = append(log, b"\x01", seq=1)
    wait_for(lambda: told[-1:] == [few.end], "news")
    log.close()


def test_a_position_that_was_passed_over_is_nobodys_and_no_gap(logs: Logs) -> None:
    log = logs.open()
    first = append(log, b"\x01", seq=1)
    log.pass_over(first.end + 1)
    second = append(log, b"\x02", seq=2)
    assert second.position == first.end + 2
    log.close()
    for reading in (log.read(first.position - 1, 2**20), logs.open().read_disk(first.position - 1, 2**20)):
        assert [entry.position for entry in reading.entries] == [first.position, second.position]
        assert reading.gap is None


def test_what_is_too_old_is_looked_for_now_and_then_and_what_is_too_much_at_once(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    delete = LogFile.delete_oldest

    def watched(self: LogFile, limit: int, max_bytes: int, older_than: float) -> tuple[int, int]:
        asked.append(max_bytes)
        return delete(self, limit, max_bytes, older_than)

    monkeypatch.setattr(LogFile, "delete_oldest", watched)
    log = logs.open(max_bytes=5000, max_age=100.0)
    for seq in range(1, 21):
        append(log, bytes(10), seq=seq)
        on_disk(log)
    assert len(asked) <= 2
    logs.now += 1000
    last = append(log, bytes(10), seq=21)
    wait_for(lambda: log.gone == last.position - 1, "all that was too old is gone with the next commit")
    for seq in range(22, 30):
        append(log, bytes(1000), seq=seq)
    wait_for(lambda: log.committed == log.last and log.size <= 6000, "no more is kept than may be")


DAY = 86_400.0


@pytest.mark.parametrize("jump", [-1000 * DAY, -2 * DAY, 2 * DAY, 1000 * DAY])
@pytest.mark.parametrize("when", ["while it runs", "between runs"])
def test_no_jump_of_the_wall_clock_deletes_what_is_younger_than_log_age(
    logs: Logs, jump: float, when: str
) -> None:
    log = logs.open(max_age=DAY)
    old = [append(log, b"\x01", seq=seq) for seq in range(1, 6)]
    on_disk(log)
    if when == "between runs":
        log.close()
    logs.wall += jump
    if when == "between runs":
        log = logs.open(max_age=DAY)
    logs.now += DAY / 2
    new = append(log, b"\x02", seq=6)
    on_disk(log)
    logs.now += 1.0
    append(log, b"\x03", seq=7)
    on_disk(log)
    assert log.gone < old[0].position
    assert log.read_disk(0, 2**20).entries[:6] == [*old, new]
    told = when == "while it runs" or jump < 0  # forward between two runs may be a relay that was off for so long
    assert log.ran.jumps == int(told)
    logs.now += DAY / 2 + 2.0
    append(log, b"\x04", seq=8)
    wait_for(lambda: log.gone == old[-1].position, "what is older than that by running time is gone")


def test_a_jump_of_the_wall_clock_is_told(logs: Logs, caplog: pytest.LogCaptureFixture) -> None:
    log = logs.open()
    append(log, b"\x01")
    on_disk(log)
    logs.now += 5.0
    logs.wall += 2 * DAY
    append(log, b"\x02")
    wait_for(lambda: log.ran.jumps == 1, "the jump is noticed")
    assert log.ran.last_jump == pytest.approx(2 * DAY)
    assert [record for record in caplog.records if "clock of this machine has jumped" in record.message]


@pytest.mark.parametrize(("days", "told"), [(0.9, 0), (1.1, 1), (1000.0, 1)])
def test_a_long_time_between_two_runs_is_told_and_is_no_jump(
    logs: Logs, caplog: pytest.LogCaptureFixture, days: float, told: int
) -> None:
    log = logs.open()
    append(log, b"\x01")
    on_disk(log)
    log.close()
    logs.wall += days * DAY
    log = logs.open()
    assert len([record for record in caplog.records if "the relay was off for" in record.message]) == told
    assert log.ran.jumps == 0


def test_time_that_passes_without_the_relay_makes_nothing_older(logs: Logs) -> None:
    log = logs.open(max_age=100.0)
    old, begun = append(log, b"\x01"), log.ran()
    on_disk(log)
    for _ in range(5):
        log.close()
        logs.now += 1000.0
        log = logs.open(max_age=100.0)
        logs.now += 15.0
        append(log, b"\x02")
        on_disk(log)
    assert log.ran() - begun == pytest.approx(75.0)
    assert log.read_disk(0, 2**20).entries[0] == old


def test_frames_of_a_log_that_counted_no_running_time_are_as_old_as_its_first_opening(logs: Logs) -> None:
    log = logs.open(max_age=100.0)
    old = [append(log, b"\x01", seq=seq) for seq in range(1, 4)]
    log.close()
    raw = apsw.Connection(str(logs.path))
    raw.execute("DELETE FROM meta WHERE key IN ('ran', 'wall', 'dated')")
    for number, entry in enumerate(old):  # written by a clock that was wrong, back and forth
        entry_row = log_file._row(entry, entry.position - 1, (0.0, 4e9, 1e9)[number])
        raw.execute("DELETE FROM frame WHERE position = ?", (entry.position,))
        raw.execute(log_file._INSERT, entry_row)
    raw.close()
    log = logs.open(max_age=100.0)
    logs.now += 60.0
    append(log, b"\x02", seq=4)
    on_disk(log)
    assert log.gone < old[0].position
    log.close()
    log = logs.open(max_age=100.0)  # known by then
    logs.now += 60.0
    append(log, b"\x02", seq=5)
    wait_for(lambda: log.gone >= old[-1].position, "after log_age they are gone")


def test_an_older_program_that_has_written_meanwhile_makes_nothing_immortal(logs: Logs) -> None:
    log = logs.open(max_age=100.0)
    first = append(log, b"\x01", seq=1)
    log.close()
    raw = apsw.Connection(str(logs.path))
    entry = Entry(first.position + 1, *[getattr(first, name) for name in Entry.__struct_fields__[1:]])
    raw.execute("DELETE FROM frame")
    raw.execute(log_file._INSERT, log_file._row(entry, first.position, logs.wall + 1e9))
    raw.execute("UPDATE meta SET value = ?, checksum = ? WHERE key = 'end'",
                (entry.end, log_file._checksum("end", entry.end)))  # fmt: skip
    raw.close()
    log = logs.open(max_age=100.0)
    logs.now += 101.0
    append(log, b"\x02", seq=2)
    wait_for(lambda: log.gone >= entry.position, "it is gone after log_age")


def test_the_oldest_that_is_kept_is_the_same_from_0_and_from_the_beginning(logs: Logs) -> None:
    log = logs.open(max_age=100.0)
    old = [append(log, b"\x01", seq=seq) for seq in range(1, 4)]
    on_disk(log)
    logs.now += 200.0
    append(log, b"\x02", seq=4)
    wait_for(lambda: log.gone == old[-1].position, "they are gone from disk")
    assert everything(whole(log), 0) == everything(whole(log), 1)


def test_the_address_of_a_sender_is_known_while_something_of_it_is_kept(logs: Logs) -> None:
    log = logs.open()
    assert log.address_of("ham") == ""
    append(log, b"\x01", origin="spam")
    append(log, b"\x01", seq=1)
    on_disk(log)
    assert log.address_of("ham") == "127.0.0.1"
    assert log.address_of("spam") == "", "its messages have no numbers"
    log.close()
    log = logs.open()
    assert log.address_of("ham") == "127.0.0.1"
    assert log.address_of("nobody") == ""
