"""Bytes of the log's files that are other than they were: each reading is right or a told gap, at any damage."""

import random
import zlib
from pathlib import Path
from typing import Any

import pytest

from co2.protocol.relay.log import Entry
from co2.protocol.wire.batch import batch_count, make_batch
from co2.store import log_writer
from co2.store.relay_log import RelayLog
from tests.harness import wait_for

TRIALS = 1000
BLOCK = 100
"""Trials of one test."""

Files = dict[str, bytes]
"""Contents by what comes after the log's name."""


class Original:
    """A log as it was, closed in good order or as a crash leaves it."""

    def __init__(self, path: Path) -> None:
        dice = random.Random(5)
        log = open_log(path)
        self.log_id, self.run = log.log_id, log.run
        self.entries: list[Entry] = []
        for number in range(160):
            origin = dice.choice(("ham", "spam", ""))
            size = dice.choice((10, 200, 2_000, 30_000 if number % 10 == 0 else 50))
            batch = make_batch([b"\xc5" + size.to_bytes(2, "big") + dice.randbytes(size)] * dice.choice((1, 1, 4)))
            epoch = {"ham": 7, "spam": 8, "": 0}[origin]
            self.entries.append(append(log, batch, origin, epoch))
            if number % 40 == 0:
                on_disk(log)
        on_disk(log)
        self.marks = dict(log.marks)
        self.last = log.last
        self.crashed = contents(path)
        log.close()
        self.closed = contents(path)


def contents(path: Path) -> Files:
    return {
        file.name.removeprefix(path.name): file.read_bytes()
        for file in path.parent.glob(f"{path.name}*")
        if file.name.endswith((".db", "-wal", ".journal"))
    }


def open_log(path: Path, failures: list[str] | None = None) -> RelayLog:
    told = [] if failures is None else failures
    return RelayLog.open(
        path,
        max_bytes=2**30,
        max_age=1e9,
        now=lambda: 1e6,
        wall=lambda: 1e9,
        on_commit=lambda position: None,
        on_failed=told.append,
    )


def append(log: RelayLog, batch: bytes, origin: str = "eggs", epoch: int = 9) -> Entry:
    return log.append(
        origin=origin, host_id=f"{origin}@127.0.0.1:1", client_address=("127.0.0.1", 1), batch=batch, epoch=epoch,
        seq=log.marks.get((origin, epoch), 0) + 1 if epoch else 0, package="p", plugin="p.m.X", channels=("a",),
        crc=zlib.crc32(batch), count=batch_count(batch),
    )  # fmt: skip


def on_disk(log: RelayLog) -> None:
    wait_for(lambda: log.committed >= log.last or log._writer.failed, "on disk")


def damaged(content: bytes, dice: random.Random) -> bytes:
    """Flip bits, write garbage or zeros over some bytes, or cut the file off."""
    data = bytearray(content)
    kind = dice.choice(("flip", "flip", "garbage", "zeros", "truncate"))
    if kind == "truncate":
        return bytes(data[: dice.randrange(len(data))])
    for _ in range(dice.choice((1, 1, 2, 5))):
        at = dice.randrange(len(data))
        if dice.random() < 0.4:  # where the structure is, rather than the messages
            at = min(at // 16_384 * 16_384 + dice.randrange(120), len(data) - 1)
        if kind == "flip":
            data[at] ^= 1 << dice.randrange(8)
        else:
            end = min(len(data), at + dice.choice((1, 4, 40, 512, 4096)))
            data[at:end] = dice.randbytes(end - at) if kind == "garbage" else bytes(end - at)
    return bytes(data)


def check_reading(log: RelayLog, original: Original, after: int, last: int) -> None:
    """Read on to the end: everything is as it was, or in a gap."""
    by_position = {entry.position: entry for entry in original.entries}
    missing = {entry.position for entry in original.entries if after < entry.end <= last}
    while after < last:
        reading: Any = log.read_disk(after, 100_000)
        if reading.gap is not None:
            assert after <= reading.gap.after + 1
            assert reading.gap.next <= reading.next
            missing -= {position for position in missing if by_position[position].end <= reading.gap.next}
        for entry in reading.entries:
            assert entry == by_position[entry.position]
            missing.discard(entry.position)
        assert reading.next > after
        after = reading.next
    assert not missing


def trial(folder: Path, original: Original, files: Files, seed: int) -> str:
    """Damage one file, open it, read, write, open it once more."""
    dice = random.Random(seed)
    folder.mkdir()
    path = folder / "log.db"
    victim = dice.choice([suffix for suffix, content in files.items() if content])
    changed = {**files, victim: damaged(files[victim], dice)}
    for suffix, content in changed.items():
        (folder / f"log.db{suffix}").write_bytes(content)
    log = open_log(path)
    outcome = "set aside" if log.replaced else "opened"
    try:
        if log.replaced:
            assert log.log_id != original.log_id
            (aside,) = [
                file for file in folder.glob("*.bad-*") if not file.name.endswith(("-wal", "-shm", ".journal"))
            ]
            assert len(aside.read_bytes()) >= len(changed[""]) // 2
        else:
            assert log.log_id == original.log_id
            if victim in ("-wal", ".journal"):
                # What a WAL lost at its end, or the journal, cannot be told from what was never written: this is
                # an older copy, found out by its readers' positions and its senders' numbers.
                check_reading(log, original, 0, log._writer._end)
            else:
                assert dict(log.marks) == original.marks
                assert log.last >= original.last
                start = 0 if dice.random() < 0.5 else dice.randrange(2, original.last)
                check_reading(log, original, start, original.last)
                for entry in original.entries[:: len(original.entries) // 5]:
                    if entry.epoch:
                        assert log.find(entry.origin, entry.epoch, entry.seq) in (entry.crc, None)
                        last = entry.seq + entry.count - 1
                        assert log.position_of(entry.origin, entry.epoch, last) in (entry.end, None)
        new = append(log, make_batch([b"\x01"]))
        on_disk(log)
        if log._writer.failed:
            outcome += ", not written"
        else:
            reading = log.read_disk(new.position - 1, 2**20)
            assert reading.entries == [new] or (reading.gap is not None and reading.next == new.end)
    finally:
        log.close()
    if (folder / "log.db.damaged").exists():
        outcome += ", set aside later"
    again = open_log(path)
    again.close()
    assert bool(again.replaced) == outcome.endswith("later")
    return outcome


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return Original(tmp_path_factory.mktemp("original") / "log.db")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "RESERVE", 65_536)
    monkeypatch.setattr(log_writer, "MUCH", 65_536)


@pytest.mark.parametrize("block", range(TRIALS // BLOCK))
def test_any_damage_is_a_told_gap_or_a_log_set_aside(tmp_path: Path, original: Original, block: int) -> None:
    outcomes: dict[str, int] = {}
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        try:
            files = original.closed if seed % 3 else original.crashed
            outcome = trial(tmp_path / str(seed), original, files, seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {str(error)[:300]}") from error
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert outcomes["opened"] > BLOCK // 5
    assert outcomes["set aside"] > BLOCK // 20
