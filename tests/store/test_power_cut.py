"""Power cuts at any moment: what was acknowledged is there, and no position is used twice."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from co2.errors import StorageFailed
from co2.store import journal, log_thread, log_writer, relay_log
from co2.store.log_file import LogFile
from tests.store.machine import Loss, Machine
from tests.store.power import Disk

CHAINS = 20
CUTS = 12
"""Cuts of one chain: the log of each begins with the first creation of its file."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that happens once in many megabytes happens often."""
    monkeypatch.setattr(log_thread, "INTERVAL", 0.0005)
    monkeypatch.setattr(log_writer, "RESERVE", 65_536)
    monkeypatch.setattr(log_writer, "MUCH", 65_536)
    monkeypatch.setattr(log_writer, "CHECKPOINT_PAGES", 24)
    monkeypatch.setattr(log_writer, "RESTART_PAGES", 60)
    monkeypatch.setattr(journal, "HALF", 16_384)
    monkeypatch.setattr(relay_log, "LEASE", 5_000)


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk("losing", random.Random(0))
    yield made
    made.unregister()


def chain(folder: Path, disk: Disk, seed: int, cuts: int = CUTS) -> Machine:
    """One machine through some cuts."""
    dice = random.Random(seed)
    disk.dice = random.Random(seed + 1)
    folder.mkdir()
    machine = Machine(folder / "log.db", disk, dice)
    for number in range(cuts):
        try:
            machine.cut_once()
        except Loss as error:
            raise Loss(f"seed {seed}, cut {number}: {error}") from error
    return machine


@pytest.mark.parametrize("seed", range(CHAINS))
def test_what_was_acknowledged_survives_power_cuts(tmp_path: Path, disk: Disk, seed: int) -> None:
    machine = chain(tmp_path / "chain", disk, seed)
    assert machine.cuts == CUTS
    assert machine.told > 20
    assert not list(tmp_path.rglob("*.bad-*"))


@pytest.mark.parametrize("mode", ["OFF", "NORMAL"])
def test_a_log_that_does_not_sync_its_commits_is_found_out(
    tmp_path: Path, disk: Disk, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves the test above: kills of a process would not show it."""
    opened = LogFile.__init__

    def careless(self: LogFile, *args: Any) -> None:
        opened(self, *args)
        self._db.execute(f"PRAGMA synchronous = {mode}")

    monkeypatch.setattr(LogFile, "__init__", careless)
    # Without any sync the database may also contradict the journal: that is an error of the disk.
    found: tuple[type[Exception], ...] = (Loss, StorageFailed) if mode == "OFF" else (Loss,)
    with pytest.raises(found):
        for seed in range(CHAINS):
            chain(tmp_path / str(seed), disk, seed, 10)
