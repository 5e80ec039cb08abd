"""Hundreds of calls that wait for the same message, which is long in XML: whoever reads it gets it."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zlib import crc32

import psutil
import pytest

from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.link_frames import Ack, Publish, encode_link_frame
from tests.attacks.hosts import running
from tests.attacks.raw import call, call_body, request
from tests.attacks.raw_link import RawLink
from tests.attacks.test_dear import MAX_PING, watched
from tests.harness import HostProcess, wait_for

MAX_GROWTH = 96 * 2**20

WIDE = make_batch([b"\x81\xa4data\xdd" + (100_000).to_bytes(4, "big") + b"\x90" * 100_000])
"""About 4 MiB when it is written as XML."""


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[HostProcess]:
    with running(tmp_path, "relay") as host:
        yield host


@pytest.mark.parametrize("reads", [True, False])
def test_a_long_message_for_which_many_wait_is_written_out_for_a_few_at_a_time(
    relay: HostProcess, reads: bool
) -> None:
    """Whoever reads gets it; all answers at once were 4 MiB each, and most of those who read were cut off."""
    me = call(relay.port, "relay.register", {})
    poll = request(call_body("relay.fetch", {**me, "after": me["position"], "max": 1, "wait": 25}))
    over = threading.Event()

    async def got(reader: asyncio.StreamReader) -> int:
        size, last = 0, b""
        while not last.endswith(b"</methodResponse>"):
            data = await reader.read(2**18)
            assert data, f"cut off after {size} bytes"
            size, last = size + len(data), (last + data)[-32:]
        return size

    async def run() -> list[int]:
        polls = [await asyncio.open_connection("127.0.0.1", relay.port) for _ in range(100)]
        for _, writer in polls:
            writer.write(poll)
        await asyncio.to_thread(wait_for, lambda: all_wait(relay, len(polls)), "calls that wait")
        link = await RawLink.joined_as(relay.port, "mallory")
        link.say(encode_link_frame(Publish(7, 1, "p", "p.m.X", [""], crc32(WIDE), WIDE)))
        await link.next(Ack)
        link.abort()
        if reads:
            sizes = await asyncio.gather(*(got(reader) for reader, _ in polls))
        else:
            sizes = [await got(polls[-1][0])]  # the last one to have its turn
        for _, writer in polls:
            writer.transport.abort()
            writer.close()
        return sizes

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watched, relay, over)
        try:
            sizes = asyncio.run(run())
        finally:
            over.set()
        slowest, largest = watching.result()
    assert min(sizes) > 4_000_000
    assert slowest < MAX_PING
    assert largest < MAX_GROWTH


def all_wait(relay: HostProcess, number: int) -> bool:
    """Tell whether so many connections have been taken: their calls are read in the next turn."""
    established = [one for one in psutil.Process(relay.pid).net_connections("tcp") if one.status == "ESTABLISHED"]
    return len(established) >= number and call(relay.port, "ping") is True
