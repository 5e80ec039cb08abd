"""One siege: a relay, satellites that mean well, all attacks, and what is measured meanwhile."""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from co2.testing.processes import HostProcess
from tests.attacks.raw import call
from tests.siege.attackers import ATTACKS
from tests.siege.honest import Satellites
from tests.siege.machine import Watch
from tests.siege.verdict import LATENCY_FLOOR, Measured, latency_bound, percentile

__all__ = ["NICE", "Siege"]

NICE = 19
"""Niceness of the attackers. They stand for other machines, so they get what processor time the others leave."""

SATELLITES = 10
RATE = 500.0
"""Messages a second of all of them."""

PATIENCE = 30.0
"""Seconds in which what was sent has come."""


class Siege:
    """One siege.

    Args:
        folder: for the relay's state.
        calm: seconds that are measured before it.
        seconds: that it lasts.
        attacks: names of those that are made, all where there is none.
        rate: messages a second, of all satellites together.
        floor: see :data:`LATENCY_FLOOR`.
        nice: of the attackers, 0 to 19.
        say: gets a line now and then.
    """

    def __init__(
        self,
        folder: Path,
        *,
        calm: float,
        seconds: float,
        attacks: Sequence[str] = (),
        rate: float = RATE,
        floor: float = LATENCY_FLOOR,
        nice: int = NICE,
        say: object = None,
    ) -> None:
        self.measured = Measured()
        self._folder = folder
        self._calm = calm
        self._seconds = seconds
        self._attacks = [*attacks] or [*ATTACKS]
        self._floor = floor
        self._nice = nice
        self._rate = rate
        self._say = say

    async def run(self) -> Measured:
        """Do it; give what was measured."""
        relay = await asyncio.to_thread(HostProcess, self._folder, "relay")
        satellites = Satellites(relay.url, SATELLITES, self._rate)
        try:
            await self._run(relay, satellites)
        finally:
            await satellites.stop()
            await asyncio.to_thread(relay.stop)
        return self.measured

    async def _run(self, relay: HostProcess, satellites: Satellites) -> None:
        measured, process = self.measured, psutil.Process(relay.pid)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(satellite.link.joined.wait() for satellite in satellites.all))
        await asyncio.sleep(2)
        began = time.monotonic()
        satellites.latencies()
        await asyncio.sleep(self._calm)
        calm = satellites.latencies()
        measured.calm_p50, measured.calm_p99 = percentile(calm, 0.5), percentile(calm, 0.99)
        measured.calm_rss = process.memory_info().rss
        self._tell(f"calm: p50 {measured.calm_p50 * 1000:.2f} ms, p99 {measured.calm_p99 * 1000:.2f} ms")
        await self._under_attack(relay, satellites, process)
        await self._until_calm(relay, satellites)
        await satellites.send_no_more()
        end = time.monotonic() + PATIENCE
        while satellites.missing() and time.monotonic() < end:
            await asyncio.sleep(0.1)
        measured.missing = satellites.missing()
        measured.wrong = satellites.wrong()
        measured.sent = sum(satellite.sent for satellite in satellites.all)
        measured.received = sum(sum(satellite.got.values()) for satellite in satellites.all)
        measured.rss_after = process.memory_info().rss
        log = relay.log()
        lost = re.findall(r"the link of [a-z0-9-]+ \(([\w-]+)@", log)  # with its name in front
        measured.links_lost = sum(satellite.name in lost for satellite in satellites.all)
        logs = self._folder / "state" / "logs"
        measured.seconds = time.monotonic() - began
        measured.log_bytes = sum(file.stat().st_size for file in logs.iterdir())

    async def _under_attack(self, relay: HostProcess, satellites: Satellites, process: psutil.Process) -> None:
        measured = self.measured
        attackers = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.siege.attackers", str(relay.port), str(self._nice), *self._attacks,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert attackers.stdin is not None
        assert attackers.stdout is not None
        attackers.stdin.write(json.dumps([satellite.name for satellite in satellites.all]).encode() + b"\n")
        idle = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.siege.machine",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        pinging = asyncio.ensure_future(self._ping_on(relay))
        telling = asyncio.ensure_future(attackers.stdout.read())
        watches = {"relay": relay.pid, "honest": os.getpid(), "attackers": attackers.pid}
        watched = {name: Watch(pid) for name, pid in watches.items()}
        psutil.cpu_percent()  # what it gives next is since now
        latencies: list[float] = []
        try:
            end = time.monotonic() + self._seconds
            tell_at = time.monotonic() + 10
            while not telling.done():
                await asyncio.sleep(0.25)
                if not telling.done():  # what has ended had nothing
                    measured.shares = {name: watch.share() for name, watch in watched.items()}
                if time.monotonic() >= end:
                    attackers.stdin.close()  # communicate() leaves it open where it has nothing to say
                measured.largest_rss = max(measured.largest_rss, process.memory_info().rss)
                if time.monotonic() >= tell_at:
                    tell_at += 10
                    lately = satellites.latencies()
                    latencies += lately
                    self._tell(
                        f"{end - time.monotonic():6.0f} s to go: p50 {percentile(lately, 0.5) * 1000:.2f} ms, "
                        f"p99 {percentile(lately, 0.99) * 1000:.2f} ms, "
                        f"{process.memory_info().rss / 2**20:.0f} MiB, {len(satellites.wrong())} wrong"
                    )
        finally:
            attackers.stdin.close()
            told = await telling
            busy = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
            measured.others = max(0.0, busy - sum(share.busy for share in measured.shares.values()))
            pinging.cancel()
            (ended,) = await asyncio.gather(pinging, return_exceptions=True)
            if not isinstance(ended, asyncio.CancelledError):
                measured.errors.append(f"pings on new connections: {ended!r}")
            assert idle.stdin is not None
            assert idle.stdout is not None
            idle.stdin.close()
            measured.idle_p99, measured.idle_slowest = json.loads(await idle.stdout.read())
            await idle.wait()
            if await attackers.wait():
                measured.errors.append(f"the attackers ended with {attackers.returncode}")
        found = json.loads(told or b'{"done": {}, "errors": []}')
        measured.attacks = {name: found["done"].get(name, 0) for name in self._attacks}
        measured.errors += found["errors"]
        latencies = sorted(latencies + satellites.latencies())
        measured.p50, measured.p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)

    async def _until_calm(self, relay: HostProcess, satellites: Satellites) -> None:
        """Measure how long it takes until the honest are alone and as quick as before."""
        began = time.monotonic()
        bound = latency_bound(self.measured.calm_p99, self._floor)
        while time.monotonic() - began < PATIENCE:
            satellites.latencies()
            await asyncio.sleep(0.5)
            lately = satellites.latencies()
            try:
                counters = (await asyncio.to_thread(call, relay.port, "co2.get_properties"))["counters"]
            except (OSError, AssertionError):
                continue
            if lately and percentile(lately, 0.99) <= bound and counters["links"] <= SATELLITES:
                break
        self.measured.calm_after = time.monotonic() - began

    async def _ping_on(self, relay: HostProcess) -> None:
        while True:
            start = time.monotonic()
            self.measured.pings += 1
            try:
                await asyncio.to_thread(call, relay.port, "ping")
            except (OSError, AssertionError):
                self.measured.refused_pings += 1
            else:
                self.measured.slowest_ping = max(self.measured.slowest_ping, time.monotonic() - start)
            await asyncio.sleep(0.1)

    def _tell(self, text: str) -> None:
        if callable(self._say):
            self._say(text)
