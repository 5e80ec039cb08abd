"""How soon a satellite is back once its relay is: pauses have a cap, and jitter, so that not all come at once."""

import asyncio
import itertools
import re
import socket
import time
from pathlib import Path

import pytest

from co2.config.schema import SatelliteConfig
from co2.host_id import HostId
from co2.protocol.satellite.outbox import Outbox
from co2.satellite.link import BUSY_MAX, RECONNECT_MAX, Link, retry_delays
from tests.harness import HostProcess, running, wait_for


def test_pauses_are_capped_and_no_two_alike() -> None:
    first, *growing = itertools.islice(retry_delays(), 6)
    assert first == 0.0
    assert all(0.125 * 2**at <= delay <= 0.25 * 2**at for at, delay in enumerate(growing[:4]))
    late = list(itertools.islice(retry_delays(), 10, 1010))
    assert RECONNECT_MAX == SatelliteConfig().reconnect_max == 2.0, "the default is this one"
    assert all(1.0 <= delay <= 2.0 for delay in late)
    quarters = [sum(1 + at / 4 <= delay < 1 + (at + 1) / 4 for delay in late) for at in range(4)]
    assert min(quarters) > 150, "thousands who come back are spread evenly over the time"
    assert max(itertools.islice(retry_delays(0.1), 100)) <= 0.1
    assert max(itertools.islice(retry_delays(BUSY_MAX), 100)) > 15


class Nobody:
    """Takes what a link brings; nothing is brought here."""

    def hosts_changed(self, *_: object) -> None:
        pass


async def pauses(monkeypatch: pytest.MonkeyPatch, port: int, number: int) -> list[float]:
    """Return the pauses that a link makes between its first tries."""
    made: list[float] = []
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        made.append(seconds)
        if len(made) == number:
            done.set()
            await asyncio.Event().wait()

    monkeypatch.setattr("asyncio.sleep", sleep)
    outbox = Outbox(1, 2**20, lambda: None, lambda: None, time.monotonic)
    link = Link(
        url=f"http://127.0.0.1:{port}",
        host_id=HostId("a" * 16, "127.0.0.1", 1),
        outbox=outbox,
        receiver=Nobody(),  # type: ignore[arg-type]
        names=lambda: ([], []),
        load=lambda _segment: None,
    )
    task = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(20):
            await done.wait()
    finally:
        task.cancel()
    return made


def test_a_relay_that_is_not_there_is_looked_for_every_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert max(asyncio.run(pauses(monkeypatch, port, 40))) <= RECONNECT_MAX


def test_one_that_is_overrun_is_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def turn_away(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def overrun() -> list[float]:
        async with await asyncio.start_server(turn_away, "127.0.0.1", 0) as server:
            return await pauses(monkeypatch, server.sockets[0].getsockname()[1], 12)

    assert max(asyncio.run(overrun())) > 10


def test_a_satellite_is_back_soon_after_a_long_absence(tmp_path: Path) -> None:
    """4 s away would have made pauses of 2 to 4 s."""
    (tmp_path / "satellite").mkdir()
    (tmp_path / "satellite" / "co2.toml").write_text("[satellite]\nreconnect_max = 0.2\n")
    relay = HostProcess(tmp_path / "relay", "relay")
    with running(tmp_path / "satellite", "satellite", "--relay", relay.url) as satellite:
        wait_for(lambda: "linked to" in satellite.log(), "it is linked")
        relay.kill()
        time.sleep(4.0)  # as long as it is away
        began = time.monotonic()
        with running(tmp_path / "relay", "relay", "--port", str(relay.port)):
            up = time.monotonic()
            wait_for(lambda: satellite.log().count("linked to") == 2, "it is linked again")
            assert time.monotonic() - up < 1.5
        away = re.findall(r"after ([\d.]+) s without a link", satellite.log())
        assert 4.0 <= float(away[0]) < 4.0 + (up - began) + 1.5


def test_a_satellite_with_nothing_configured_is_back_within_two_seconds(tmp_path: Path) -> None:
    """Pauses are 2 s at most, as the page says, and 3 s away are enough to reach that."""
    (tmp_path / "satellite").mkdir()
    relay = HostProcess(tmp_path / "relay", "relay")
    with running(tmp_path / "satellite", "satellite", "--relay", relay.url) as satellite:
        wait_for(lambda: "linked to" in satellite.log(), "it is linked")
        relay.kill()
        time.sleep(3.0)  # as long as it is away
        with running(tmp_path / "relay", "relay", "--port", str(relay.port)):
            up = time.monotonic()
            wait_for(lambda: satellite.log().count("linked to") == 2, "it is linked again")
            assert time.monotonic() - up < RECONNECT_MAX + 0.5
