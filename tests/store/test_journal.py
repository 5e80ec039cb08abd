"""The journal in front of the log: what is in it counts, once, whatever a crash has left there."""

import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from co2.errors import BadRequest, StorageFailed, StorageFull
from co2.protocol.relay.log import Entry
from co2.store import journal as journal_module
from co2.store import log_thread, log_writer
from co2.store.commit import Commit, decode_commit
from co2.store.journal import DISK_PAGE, Journal
from co2.store.log_file import FRAME, LogFile
from co2.store.relay_log import RelayLog
from tests.harness import wait_for
from tests.store.power import Disk
from tests.store.test_relay_log import Logs, append, everything, on_disk, whole

KEY = b"12345678"


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    made = Logs(tmp_path)
    yield made
    made.close()


def crashed(logs: Logs, name: str = "crashed.db") -> Path:
    """Copy the files as they are now: what is left when the power goes."""
    path = logs.path.with_name(name)
    for suffix in ("", "-wal", ".journal"):
        shutil.copy(f"{logs.path}{suffix}", f"{path}{suffix}")
    return path


def lone(log: Any, count: int, origin: str = "ham") -> list[Entry]:
    """Append messages that come alone: each is a commit."""
    found = []
    for _ in range(count):
        found.append(append(log, bytes((len(found) % 120,)), seq=log.marks.get((origin, 7), 0) + 1, origin=origin))
        on_disk(log)
    return found


def rows(path: Path) -> int:
    """Count the frames in the database."""
    raw = apsw.Connection(str(path))
    found: Any = raw.execute("SELECT count(*) FROM frame").fetchall()
    raw.close()
    return int(found[0][0])


def test_what_is_in_the_journal_only_is_there_after_a_crash_with_all_that_belongs_to_it(logs: Logs) -> None:
    log = logs.open()
    entries = lone(log, 5)
    entries.append(append(log, b"\x01", origin="xml", message_id="one"))
    log.set_mark("spam", 9, 41)
    on_disk(log)
    entries += lone(log, 1, "eggs")
    assert rows(crashed(logs)) == 0
    after = logs.open(crashed(logs, "again.db"))
    assert everything(after.read_disk, 0) == entries
    assert after.marks == {("ham", 7): 5, ("spam", 9): 41, ("eggs", 7): 1}
    assert after.ids.position("xml", "one") == entries[5].position
    assert after.find("ham", 7, 3) == entries[2].crc
    assert after.size == sum(len(entry.batch) for entry in entries)
    assert after.damaged == 0
    assert after.ran() >= log.ran()


def test_a_message_that_comes_alone_writes_a_page(logs: Logs) -> None:
    log = logs.open()
    before = log.written
    lone(log, 100)
    assert 100 * DISK_PAGE <= log.written - before <= 115 * DISK_PAGE


def test_a_full_journal_is_emptied_into_the_database_and_used_again(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "HALF", 4096)
    log = logs.open()
    entries = lone(log, 150)
    wait_for(lambda: not log._writer._moving, "what was full is moved")
    path = crashed(logs)
    assert path.with_name("crashed.db.journal").stat().st_size == 8192
    assert 100 < rows(path) < 150  # some of them are in the journal
    assert everything(whole(log), 0) == everything(log.read_disk, 0) == entries
    after = logs.open(crashed(logs, "again.db"))
    assert everything(after.read_disk, 0) == entries
    assert after.marks == {("ham", 7): 150}


class SlowDatabase:
    """Writes to the database that wait, from now on, until they are allowed, and may then fail."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.allowed, self.is_full = threading.Event(), threading.Event(), False
        insert = LogFile.insert

        def inserting(file: LogFile, commits: Any) -> None:
            if file._db.filename == str(path):  # not a copy of it
                self.begun.set()
                assert self.allowed.wait(20)
                if self.is_full:
                    raise apsw.FullError("database or disk is full")
            insert(file, commits)

        monkeypatch.setattr(LogFile, "insert", inserting)


@pytest.fixture
def slow(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RelayLog, list[Entry], SlowDatabase]]:
    """A log of which one half of the journal is full, and waits for the database, with its entries."""
    monkeypatch.setattr(journal_module, "HALF", 4096)
    monkeypatch.setattr(log_thread, "RETRY", 0.02)
    log = logs.open()
    database = SlowDatabase(logs.path, monkeypatch)
    entries: list[Entry] = []
    while not database.begun.is_set():
        entries += lone(log, 1)
    yield log, entries, database
    database.allowed.set()


Slow = tuple[RelayLog, list[Entry], SlowDatabase]


def test_commits_go_on_while_a_half_of_the_journal_is_moved_into_the_database(logs: Logs, slow: Slow) -> None:
    log, entries, database = slow
    entries += lone(log, 8)  # the other half has room for as many: each is on disk before the next one comes
    path = crashed(logs)
    assert rows(path) == 0
    assert everything(whole(log), 0) == everything(log.read_disk, 0) == entries
    assert log.size == sum(len(entry.batch) for entry in entries)
    after = logs.open(path)
    assert everything(after.read_disk, 0) == entries
    assert after.marks == {("ham", 7): len(entries)}
    assert after.size == log.size
    database.allowed.set()
    wait_for(lambda: not log._writer._moving, "the half is moved")
    assert log.size == after.size
    again = crashed(logs, "moved.db")
    assert 0 < rows(again) < len(entries)
    assert everything(log.read_disk, 0) == everything(logs.open(again).read_disk, 0) == entries


def test_with_both_halves_full_a_commit_waits_for_the_database(slow: Slow) -> None:
    log, entries, database = slow
    journal, before = log._writer._journal, len(entries)
    filling = journal.filling
    while journal.takes(bytes(200)):
        entries += lone(log, 1)
    entries += [append(log, b"more", seq=len(entries) + number) for number in range(1, 9)]
    assert log.committed < entries[-1].end
    assert journal.filling == filling
    database.allowed.set()
    on_disk(log)
    assert len(entries) > before + 8
    assert everything(log.read_disk, 0) == entries
    assert log.size == sum(len(entry.batch) for entry in entries)


def test_a_disk_that_is_full_while_a_half_is_moved_is_told_and_the_half_moved_later(
    slow: Slow, caplog: pytest.LogCaptureFixture
) -> None:
    log, entries, database = slow
    database.is_full = True
    database.allowed.set()
    wait_for(lambda: not log.takes, "the disk is full")
    with pytest.raises(StorageFull):
        append(log, b"one more", seq=len(entries) + 1)
    assert everything(log.read_disk, 0) == entries
    database.is_full = False
    wait_for(lambda: log.takes and not log._writer._moving, "there is room again")
    entries += lone(log, 3)
    assert everything(log.read_disk, 0) == entries
    assert not log._writer.failed
    assert "has room again" in caplog.text


def test_a_disk_that_fails_while_a_half_is_moved_ends_the_log(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "HALF", 4096)
    log = logs.open()

    def inserting(_file: LogFile, _commits: Any) -> None:
        raise apsw.IOError("Input/output error")

    monkeypatch.setattr(LogFile, "insert", inserting)
    entries: list[Entry] = []
    with pytest.raises(StorageFailed, match="Input/output error"):
        while True:
            entries += lone(log, 1)
    log.close()
    assert len(logs.failures) == 1
    monkeypatch.undo()
    assert everything(logs.open().read_disk, 0)[: len(entries)] == entries


def test_what_somebody_waits_for_goes_through_the_journal_even_if_it_is_long(logs: Logs) -> None:
    log = logs.open()
    long = b"\xc6" + (300_000).to_bytes(4, "big") + bytes(300_000)
    entries = [append(log, long, origin="xml")]  # without a number: others wait behind it
    on_disk(log)
    assert rows(crashed(logs)) == 0
    entries.append(append(log, long, long, origin="xml"))
    on_disk(log)
    assert rows(crashed(logs, "again.db")) == 2
    assert everything(log.read_disk, 0) == entries


def test_messages_age_though_the_journal_is_moved_again_and_again(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "HALF", 4096)
    log = logs.open(max_age=1000.0)
    entries: list[Entry] = []
    for _ in range(150):
        logs.now += 9.0  # each move comes within the time between two looks for old messages
        entries += lone(log, 1)
    wait_for(lambda: log.gone >= entries[0].end, "the oldest are deleted")
    assert log.gone < entries[40].position


def test_much_goes_into_the_database_at_once_behind_what_is_in_the_journal(logs: Logs) -> None:
    log = logs.open()
    entries = lone(log, 3)
    entries.append(append(log, b"\xc6" + (60_000).to_bytes(4, "big") + bytes(60_000), seq=4))
    on_disk(log)
    path = crashed(logs)
    assert rows(path) == 4
    assert everything(logs.open(path).read_disk, 0) == entries


def test_a_log_that_was_closed_has_all_in_its_database(logs: Logs) -> None:
    log = logs.open()
    entries = lone(log, 5)
    log.close()
    assert rows(logs.path) == 5
    logs.path.with_name("log.db.journal").unlink()  # so that it is enough to copy that file
    assert everything(logs.open().read_disk, 0) == entries


@pytest.mark.parametrize("victim", [0, 2, 4])
def test_a_damaged_record_is_a_gap_and_what_is_behind_it_is_there(logs: Logs, victim: int) -> None:
    log = logs.open()
    entries = lone(log, 6)
    path = crashed(logs)
    journal = path.with_name("crashed.db.journal")
    data = bytearray(journal.read_bytes())
    at = 0
    for _ in range(victim + 1):
        at = data.find(b"co2j", at) + 1
    data[at + 60] ^= 0x40
    journal.write_bytes(data)
    after = logs.open(path)
    found, gaps, position = [], [], 1
    while position < entries[-1].end:
        reading: Any = after.read_disk(position, 1)
        found += reading.entries
        gaps += [reading.gap] if reading.gap else []
        position = reading.next
    assert found == [entry for entry in entries if entry is not entries[victim]]
    assert [(gap.after, gap.next) for gap in gaps] == [(entries[victim].position - 1, entries[victim].end)]


def test_what_is_left_of_earlier_fillings_does_not_count(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.db", KEY, 0)
    journal.make()
    for number in range(10):
        journal.append(b"older %d" % number)
    journal.turn_over()
    journal.append(b"newer")
    both = [*((1, b"older %d" % number) for number in range(10)), (2, b"newer")]
    assert Journal(tmp_path / "log.db", KEY, 0).records() == both  # a crash while the older ones are moved
    assert Journal(tmp_path / "log.db", KEY, 1).records() == both[10:]
    journal.begin(2)
    journal.append(b"newest")
    assert Journal(tmp_path / "log.db", KEY, 1).records() == [(2, b"newer"), (3, b"newest")]
    assert Journal(tmp_path / "log.db", KEY, 0).records()[0] == (1, b"older 1")  # its first was written over
    assert Journal(tmp_path / "log.db", b"another.", 0).records() == []


def test_a_record_that_looks_like_others_is_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.db", KEY, 0)
    journal.make()
    journal.append(b"first")
    forged = (tmp_path / "log.db.journal").read_bytes()[:200]
    journal.append(forged)
    journal.append(b"co2jco2jco2j")
    assert [data for _, data in Journal(tmp_path / "log.db", KEY, 0).records()] == [b"first", forged, b"co2j" * 3]


def test_a_message_cannot_hold_a_record_that_counts_where_its_own_is_written_over(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "HALF", 8192)
    log = logs.open()
    known = bytes.fromhex(log.log_id)  # what a hostile member knows of the log: everybody is told it
    data = Commit(marks={("ham", 7): 10**6}).encode()
    forged = b"".join(
        journal_module._HEAD.pack(
            b"co2j", filling, 1000, len(data), journal_module._hash(known, filling, 1000, data)
        )
        + data
        for filling in range(1, 30)
    )
    entries = [append(log, b"\xc5" + len(forged).to_bytes(2, "big") + forged, seq=1)]
    on_disk(log)
    filling = log._writer._journal.filling
    while log._writer._journal.filling == filling or not log._writer.in_journal():
        entries += lone(log, 1)
    after = logs.open(crashed(logs))
    assert everything(after.read_disk, 0) == entries
    assert after.marks == {("ham", 7): len(entries)}


def test_a_commit_is_read_as_it_was_written() -> None:
    entry = Entry(
        7,
        2,
        "ham",
        "ham@10.0.0.1:2004",
        ("10.0.0.1", 4567),
        2**63 - 1,
        41,
        "p",
        "p.m.X",
        None,
        2**32 - 1,
        b"\x00" * 9,
    )
    commit = Commit(
        [entry], {("ham", 2**63 - 1): 42, ("spam", 3): 1, ("spam", 2): None},
        {"lease": 9, "runs": "[]", "wall": 1.5},
        [(7, "xml", "id")], [3, 4], 6, 12.25, 1e9,
    )  # fmt: skip
    assert decode_commit(commit.encode()) == commit


def test_a_journal_without_its_log_is_set_aside_and_not_written_over(logs: Logs) -> None:
    log = logs.open()
    lone(log, 3)
    path = crashed(logs)
    for suffix in ("", "-wal"):
        Path(f"{path}{suffix}").unlink()
    content = path.with_name("crashed.db.journal").read_bytes()
    after = logs.open(path)
    assert "its journal is not" in after.replaced
    assert [one.read_bytes() for one in path.parent.glob("crashed.db.bad-*.journal")] == [content]


def test_a_log_in_front_of_which_there_was_no_journal_is_taken_over(logs: Logs) -> None:
    log = logs.open()
    entries = lone(log, 3)
    log.close()
    logs.path.with_name("log.db.journal").unlink()
    raw = apsw.Connection(str(logs.path))
    raw.execute("DELETE FROM meta WHERE key IN ('journal', 'journal_key')")
    raw.close()
    log = logs.open()
    log.replace_id()  # what it is known by must not be what the journal is known by
    entries += lone(log, 3)
    assert everything(logs.open(crashed(logs)).read_disk, 0) == entries


def test_what_is_left_in_the_journal_under_an_older_version_is_named(
    logs: Logs, caplog: pytest.LogCaptureFixture
) -> None:
    log = logs.open()
    lone(log, 3)
    path = crashed(logs)
    journal = path.with_name("crashed.db.journal")
    left = journal.read_bytes()
    older = logs.open(path)
    newest = append(older, b"\x05", seq=4)
    on_disk(older)
    older.close()
    raw = apsw.Connection(str(path))
    raw.execute("DELETE FROM meta WHERE key = 'journal'")  # the older version has not written it
    raw.execute("DELETE FROM frame WHERE position < ?", (newest.position,))
    raw.close()
    journal.write_bytes(left)
    logs.open(path)
    assert "3 commits" in caplog.text
    assert "another version" in caplog.text


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk("journaled", random.Random(3))
    yield made
    made.unregister()


def test_a_full_disk_still_takes_what_goes_to_the_journal_and_a_start_finds_it(logs: Logs, disk: Disk) -> None:
    log = logs.open(vfs=disk.vfs_name)
    entries = lone(log, 5)
    disk.room = 0
    entries += lone(log, 5)  # its place is there already
    path = crashed(logs)
    assert rows(path) == 0
    disk.room = None
    again = logs.open(path, vfs=disk.vfs_name)
    assert everything(again.read_disk, 0) == entries
    for opened in logs.opened:
        opened.close()


def test_a_journal_that_had_no_room_at_the_start_is_used_once_there_is_some(logs: Logs, disk: Disk) -> None:
    log = logs.open(vfs=disk.vfs_name)
    lone(log, 1)
    log.close()
    logs.path.with_name("log.db.journal").unlink()
    disk.room = 0
    log = logs.open(vfs=disk.vfs_name)
    assert log._writer.full
    disk.room = None
    wait_for(lambda: not log._writer.full, "there is room")
    append(log, b"\x01", seq=2)
    on_disk(log)
    assert log._writer.in_journal()
    log.close()


def test_a_start_gives_up_the_reserve_where_there_is_no_room_for_what_is_in_the_journal(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logs.open()
    entries = lone(log, 5)
    path = crashed(logs)
    reserve = path.with_name("crashed.db.reserve")
    reserve.touch()
    insert = LogFile.insert

    def inserting(self: LogFile, commits: Any) -> None:
        if reserve.exists() and any(commit.entries for commit in commits):
            raise apsw.FullError("database or disk is full")
        insert(self, commits)

    monkeypatch.setattr(LogFile, "insert", inserting)
    assert everything(logs.open(path).read_disk, 0) == entries


def test_a_file_system_that_needs_room_to_write_what_has_its_place_is_a_full_disk(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logs.open()
    old = lone(log, 1)
    monkeypatch.setattr(log_writer, "SMALL", 10**6)
    monkeypatch.setattr("os.write", lambda fd, data: (_ for _ in ()).throw(OSError(28, "No space")))
    append(log, b"\x02", seq=2)
    wait_for(lambda: log._writer.full, "it is full")
    assert not log._writer.failed
    monkeypatch.undo()
    wait_for(lambda: log.committed == log.last, "what was taken gets to disk")
    assert everything(log.read_disk, 0)[0] == old[0]


@pytest.mark.parametrize("most", [1, 3 * FRAME, 10 * FRAME])
def test_a_read_that_ends_in_the_database_goes_on_there_and_not_in_the_journal(
    logs: Logs, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(journal_module, "HALF", 4096)
    log = logs.open()
    entries = lone(log, 150)
    wait_for(lambda: not log._writer._moving, "what was full is moved")
    assert 100 < rows(crashed(logs)) < 150
    found: list[Entry] = []
    while not found or found[-1].end < log.last:
        reading = log.read_disk(found[-1].end if found else 0, most)
        assert reading.gap is None
        assert 0 < len(reading.entries) <= max(1, most // FRAME + 1)
        found += reading.entries
    assert found == entries


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x90", b"\x93\x01\x02\x03"])
def test_what_is_no_commit_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest, match="no commit"):
        decode_commit(data)


def test_commits_that_another_version_has_written_are_counted_and_the_others_recovered(
    logs: Logs, caplog: pytest.LogCaptureFixture
) -> None:
    log = logs.open()
    entries = lone(log, 2)
    log._writer._journal.append(b"what a later version says")
    entries += lone(log, 1)
    after = logs.open(crashed(logs))
    assert everything(after.read_disk, 0) == entries
    assert "1 commits of messages in" in caplog.text
    assert "another version of co2 wrote them" in caplog.text
