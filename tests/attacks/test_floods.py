"""Floods over links: the one who floods is held, and nobody else notices."""

import asyncio
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import psutil
import pytest

from co2.protocol.link_frames import Ack, Publish, Replay, Subscription, encode_link_frame
from tests.attacks.raw import ping_within
from tests.attacks.raw_link import RawLink
from tests.harness import HostProcess, running
from tests.protocol.network import batch_of

MIB = 2**20


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder: Path = tmp_path_factory.mktemp("flooded")
    with running(folder, "relay") as relay:
        yield relay


def rss(relay: HostProcess) -> int:
    return psutil.Process(relay.pid).memory_info().rss


def test_replays_without_end_cost_a_read_at_a_time(relay: HostProcess) -> None:
    async def run() -> None:
        filler = await RawLink.joined_as(relay.port, "filler")
        batch = batch_of("x" * 700_000)
        for seq in range(1, 33):  # more than the log keeps in memory
            filler.say(encode_link_frame(Publish(7, seq, "p", "p.m.X", [""], crc32(batch), batch)))
        while (await filler.next(Ack)).seq < 32:
            pass
        before = rss(relay)
        flood = encode_link_frame(Replay("p", 2, 2**20))
        attackers = [
            await RawLink.joined_as(relay.port, f"flood{n}", subscriptions=[Subscription("p")]) for n in range(3)
        ]
        for attacker in attackers:
            attacker.say(*[flood] * 20_000)
        slowest = largest = 0.0
        for _ in range(10):
            start = time.monotonic()
            await asyncio.to_thread(ping_within, relay.port, 3)
            await asyncio.to_thread(lambda: urllib.request.urlopen(f"{relay.url}/", timeout=5).read())
            slowest = max(slowest, time.monotonic() - start)
            largest = max(largest, rss(relay) - before)
        for attacker in attackers:
            attacker.abort()
        filler.abort()
        assert largest < 64 * MIB
        assert slowest < 3

    asyncio.run(run())
    start = time.monotonic()
    ping_within(relay.port, 1)
    assert time.monotonic() - start < 1
