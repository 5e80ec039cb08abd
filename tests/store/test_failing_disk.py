"""A disk that fails or is full, as SQLite sees it: nothing is said to be safe that is not."""

import errno
import random
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import apsw
import pytest

from co2.errors import StorageFailed, StorageFull
from co2.protocol.relay.log import Entry
from co2.protocol.wire.batch import make_batch
from co2.store import log_thread, log_writer, relay_log
from co2.store.relay_log import RelayLog
from tests.harness import PATIENCE, wait_for
from tests.store.power import Disk


class Watched:
    """A log on a disk of ours, and what it told."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self.disk = disk
        self.told: list[int] = []
        self.failures: list[str] = []
        self.log = self.open()

    def open(self) -> RelayLog:
        self.log = RelayLog.open(
            self.path, max_bytes=2**30, max_age=1e9, now=lambda: 1e6, wall=lambda: 1e9, vfs=self.disk.vfs_name,
            on_commit=self.told.append, on_failed=self.failures.append,
        )  # fmt: skip
        return self.log

    def append(self, size: int = 10) -> Entry:
        batch = make_batch([b"\xc6" + size.to_bytes(4, "big") + bytes(size)])
        return self.log.append(
            origin="ham", host_id="ham@127.0.0.1:1", client_address=("127.0.0.1", 1), batch=batch,
            crc=zlib.crc32(batch), count=1,
        )  # fmt: skip

    def on_disk(self, entry: Entry) -> None:
        wait_for(lambda: self.log.committed >= entry.end, "on disk")

    def fill(self, size: int) -> list[Entry]:
        """Append until the disk is found full, by the log's thread: after one message, or after hundreds."""
        taken: list[Entry] = []
        deadline = time.monotonic() + PATIENCE
        with pytest.raises(StorageFull, match="disk is full"):
            while time.monotonic() < deadline:
                taken.append(self.append(size))
                if self.log.backlog > 2**20 or len(taken) % 100 == 0:
                    time.sleep(0.005)  # far more would be refused for being too much
        return taken

    def refused(self) -> bool:
        try:
            self.append()
        except StorageFull:
            return True
        return False


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(log_writer, "RESERVE", 65_536)
    monkeypatch.setattr(log_writer, "MUCH", 65_536)
    monkeypatch.setattr(log_writer, "AWAITED", log_writer.SMALL)  # the journal has its room already
    monkeypatch.setattr(log_thread, "RETRY", 0.02)
    disk = Disk("failing", random.Random(1))
    made = Watched(tmp_path / "log.db", disk)
    yield made
    disk.room, disk.sync_fails = None, False
    made.log.close()
    disk.unregister()


def test_after_a_sync_that_failed_nothing_is_acknowledged_any_more(watched: Watched) -> None:
    safe = watched.append()
    watched.on_disk(safe)
    watched.disk.sync_fails = True
    watched.append()
    wait_for(lambda: watched.failures, "it is told")
    told = list(watched.told)
    # The kernel has forgotten what it could not write: a sync that succeeds now would say nothing.
    watched.disk.sync_fails = False
    with pytest.raises(StorageFailed, match="Input/output error"):
        watched.append()
    watched.log.close()
    assert watched.told == told
    assert max(told) == safe.end
    assert len(watched.failures) == 1
    watched.disk.dice = random.Random(2)
    watched.disk.cut()
    watched.disk.power_on()
    assert [entry.position for entry in watched.open().read_disk(0, 2**20).entries][:1] == [safe.position]


def test_a_log_whose_disk_fails_leaves_its_files_as_they_are(watched: Watched) -> None:
    """Moving pages about and deleting the WAL, at the end, could only do harm."""
    watched.on_disk(watched.append())
    watched.disk.sync_fails = True
    watched.append()
    wait_for(lambda: watched.failures, "it is told")
    watched.disk.sync_fails = False
    left = 2  # those that read
    wait_for(
        lambda: len([c for c in apsw.connections() if c.filename == str(watched.path)]) == left, "it has ended"
    )
    before = watched.disk.operations
    watched.log.close()
    assert watched.disk.operations == before


def test_a_disk_that_cannot_sync_at_the_start_is_no_log(watched: Watched) -> None:
    watched.log.close()
    watched.disk.sync_fails = True
    with pytest.raises(StorageFailed, match="Input/output error"):
        watched.open()


@pytest.mark.parametrize("size", [10, 60_000])
def test_a_full_disk_refuses_serves_and_recovers_unattended(watched: Watched, size: int) -> None:
    old = watched.append()
    watched.on_disk(old)
    watched.disk.room = 100_000
    taken = watched.fill(size)
    assert not watched.log.takes
    assert "is full" in watched.log.problem
    with pytest.raises(StorageFull):
        watched.log.check_room()
    assert watched.log.read_disk(0, 2**20).entries[0] == old
    assert [*watched.log.read(taken[-1].position - 1, 2**20).entries] == taken[-1:]  # on disk or not
    watched.disk.room = None
    wait_for(lambda: watched.log.committed >= taken[-1].end, "what was taken gets to disk")
    wait_for(lambda: not watched.refused(), "messages are taken again")
    assert watched.log.takes
    assert watched.log.problem == ""
    watched.log.check_room()
    assert watched.failures == []
    found = []
    after = 0
    while (reading := watched.log.read_disk(after, 2**20)).entries:
        found += [entry.position for entry in reading.entries]
        after = reading.next
    assert set(found) >= {entry.position for entry in taken}


def test_a_log_opens_on_a_full_disk_and_takes_messages_when_there_is_room(watched: Watched) -> None:
    old = watched.append()
    watched.on_disk(old)
    watched.log.close()
    watched.disk.room = 0
    watched.open()
    assert watched.log.read_disk(0, 2**20).entries == [old]
    assert watched.refused()
    watched.disk.room = None
    wait_for(lambda: not watched.refused(), "messages are taken again")


@pytest.mark.parametrize("lack", ["of the disk", "of a quota"])
def test_a_disk_with_room_for_what_waits_only_takes_messages_once_it_has_more(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, lack: str
) -> None:
    """As when another program takes the room that became free, and deletes something later."""
    usage = shutil.disk_usage(watched.path.parent)
    watched.on_disk(watched.append())
    watched.disk.room = 100_000
    taken = watched.fill(60_000)
    tries: list[str] = []

    def opener(path: str, flags: int) -> int:
        tries.append(path)
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patch:
        if lack == "of a quota":
            patch.setattr(log_writer, "open_private", opener)
        else:
            patch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=0))
        watched.disk.room = None
        watched.on_disk(taken[-1])
        assert watched.refused()
        wait_for(lambda: len(tries) > 1 or lack == "of the disk", "it is tried again")
        assert watched.refused()
    wait_for(lambda: watched.log.takes, "messages are taken again, though none waits")
    watched.on_disk(watched.append())
    assert watched.failures == []


def failing_reads(watched: Watched, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Have so many reads fail."""
    read, left = watched.log._reader.entries, [times]

    def fails(after: int, max_bytes: int) -> Iterable[Entry | int]:
        if left[0]:
            left[0] -= 1
            raise apsw.NoMemError("out of memory")
        return read(after, max_bytes)

    monkeypatch.setattr(watched.log._reader, "entries", fails)
    monkeypatch.setattr(relay_log, "READ_RETRY", 0.01)


def test_a_read_that_fails_for_a_moment_is_no_gap(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [watched.append() for _ in range(3)]
    watched.on_disk(entries[-1])
    failing_reads(watched, monkeypatch, relay_log.READ_TRIES - 1)
    reading = watched.log.read_disk(0, 2**20)
    assert (list(reading.entries), reading.gap) == (entries, None)


def test_a_disk_that_cannot_be_read_is_a_gap(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [watched.append() for _ in range(3)]
    watched.on_disk(entries[-1])
    failing_reads(watched, monkeypatch, 10**6)
    reading = watched.log.read_disk(0, 2**20)
    assert reading.gap is not None
    assert (reading.next, "out of memory" in reading.gap.reason) == (reading.gap.next, True)


def test_what_was_read_before_a_place_that_cannot_be_read_is_no_part_of_the_gap(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [watched.append(60_000) for _ in range(3)]  # small ones are in the journal
    watched.on_disk(entries[-1])
    read = watched.log._reader.entries

    def fails(after: int, max_bytes: int) -> Iterable[Entry | int]:
        for found in read(after, max_bytes):
            if isinstance(found, Entry) and found.position == entries[2].position:
                raise apsw.IOError("disk I/O error")
            yield found

    monkeypatch.setattr(watched.log._reader, "entries", fails)
    monkeypatch.setattr(relay_log, "READ_RETRY", 0.01)
    reading = watched.log.read_disk(0, 2**20)
    assert (list(reading.entries), reading.gap) == (entries[:2], None)
    reading = watched.log.read_disk(reading.next, 2**20)
    assert (list(reading.entries), reading.gap is not None) == ([], True)
