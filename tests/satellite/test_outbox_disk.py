"""The outbox between memory and a disk that does not always do its work."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from co2.protocol.satellite.outbox import Outbox
from co2.satellite import outbox_disk
from co2.satellite.outbox_disk import OutboxDisk
from tests.harness import PATIENCE
from tests.protocol.network import sent


class Carried:
    """An outbox of an earlier run with three messages on disk, and what is done with it in this one."""

    def __init__(self, path: Path) -> None:
        self.works = 0
        self.outbox = Outbox(8, 2**30, lambda: None, lambda: None, asyncio.get_running_loop().time)
        self.disk = OutboxDisk(self.outbox, path, self._work)
        self.disk.start()

    def _work(self) -> None:
        self.works += 1

    async def worked(self, times: int = 1) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.works < times:
                await asyncio.sleep(0.005)


def carried(path: Path, scenario: Callable[[Carried], Awaitable[None]]) -> None:
    """Leave three messages on disk, and go on from there in another run."""

    async def before() -> None:
        outbox = Outbox(7, 2**30, lambda: None, lambda: None, asyncio.get_running_loop().time)
        disk = OutboxDisk(outbox, path, lambda: None)
        disk.start()
        for value in range(3):
            outbox.put(*sent(value))
        await disk.close()

    async def run() -> None:
        found = Carried(path)
        assert len(found.outbox) == 3
        try:
            await scenario(found)
        finally:
            await found.disk.close()

    asyncio.run(before())
    asyncio.run(run())


def failing(monkeypatch: pytest.MonkeyPatch, disk: OutboxDisk, times: int) -> None:
    """Have so many reads fail."""
    load: Any = disk._store.load
    left = [times]

    def fails(rows: tuple[int, int]) -> Any:
        if left[0]:
            left[0] -= 1
            raise apsw.IOError("disk I/O error")
        return load(rows)

    monkeypatch.setattr(disk._store, "load", fails)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_disk, "RETRY", 0.01)


def test_a_read_that_fails_for_a_moment_costs_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(found: Carried) -> None:
        failing(monkeypatch, found.disk, 3)
        segment = found.outbox.wanted()
        assert segment is not None
        found.disk.load(segment)
        await found.worked()
        assert (found.outbox.lost, len(found.outbox), len(found.outbox.give(2**20))) == (0, 3, 3)

    carried(tmp_path / "outbox.db", scenario)


def test_a_disk_that_never_gives_it_back_does_not_hold_up_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(found: Carried) -> None:
        failing(monkeypatch, found.disk, 10**6)
        segment = found.outbox.wanted()
        assert segment is not None
        found.disk.load(segment)
        await found.worked()
        assert (found.outbox.lost, len(found.outbox)) == (3, 0)
        assert "are damaged on disk and lost" in caplog.text

    carried(tmp_path / "outbox.db", scenario)


def test_what_is_read_while_the_satellite_stops_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(found: Carried) -> None:
        failing(monkeypatch, found.disk, 10**6)
        monkeypatch.setattr(outbox_disk, "RETRY", 0.2)
        segment = found.outbox.wanted()
        assert segment is not None
        found.disk.load(segment)
        await asyncio.sleep(0)
        await found.disk.close()
        async with asyncio.timeout(PATIENCE):
            while found.disk._loads:
                await asyncio.sleep(0.005)
        assert found.outbox.lost == 0
        assert "lost" not in caplog.text

    carried(tmp_path / "outbox.db", scenario)
