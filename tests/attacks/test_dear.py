"""Messages that cost whoever reads them far more than whoever sends them: members that fetch, on a real relay."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zlib import crc32

import psutil
import pytest

from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.link_frames import Ack, Publish, encode_link_frame
from co2.values import pack
from tests.attacks.hosts import running
from tests.attacks.raw import call, call_body, ping_within, request
from tests.attacks.raw_link import RawLink
from tests.harness import PATIENCE, HostProcess

READERS = 20
FRAMES = 5
"""Of each kind; with 1 MiB each, and 20 that read them, these once stopped a relay for 10 s."""

MIB = 2**20

MAX_GROWTH = 112 * MIB
"""Bytes that they may make the relay bigger by: its own memory of the log's end, and one message decoded."""

MAX_PING = 1.0
"""Seconds that a ping of somebody else may take meanwhile, on a machine that is busy besides."""

NESTED = make_batch([b"\x81\xa4data" + b"\x91" * 1_000_000 + b"\xc0"])
"""Nested deeper than anybody can write it."""

MANY = make_batch([b"\x81\xa4data\xdd" + (1_000_000).to_bytes(4, "big") + b"\x90" * 1_000_000])
"""A million values in one message: more than a reader takes."""

LONG = make_batch([b"\x81\xa4data\xdd" + (300_000).to_bytes(4, "big") + b"\xcd\x01\x00" * 300_000])
"""Over 8 MiB when it is written as XML."""


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[HostProcess]:
    with running(tmp_path, "relay") as host:
        yield host


def fetched(port: int, me: dict[str, Any], live: bool) -> tuple[list[Any], int]:
    """Fetch until all has come; give the data of all messages, and how many could not be read."""
    data: list[Any] = []
    unreadable = 0
    after = me["position"]
    deadline = time.monotonic() + PATIENCE
    while (not data or unreadable < FRAMES) and time.monotonic() < deadline:
        told = call(
            port, "relay.fetch", {"host_id": me["host_id"], "after": after, "max": 100, "wait": 5, "live": live}
        )
        data += [message["data"] for message in told["messages"]]
        assert all(gap["reason"] == "the messages cannot be read" for gap in told["gaps"])
        unreadable += sum(gap["next"] - gap["after"] for gap in told["gaps"]) + told.get("live_missed", 0)
        assert not told.get("live")
        after = told["next"]
    return data, unreadable


def worked(relay: HostProcess) -> float:
    """Return for how many seconds the relay has had a processor."""
    times = psutil.Process(relay.pid).cpu_times()
    return times.user + times.system


def watched(relay: HostProcess, over: threading.Event) -> tuple[float, int]:
    """Ping over new connections until all is over; give the longest ping, and how much the relay grew."""
    process = psutil.Process(relay.pid)
    before, slowest, largest = process.memory_info().rss, 0.0, 0
    while not over.is_set():
        began = time.monotonic()
        ping_within(relay.port, 15)
        slowest = max(slowest, time.monotonic() - began)
        largest = max(largest, process.memory_info().rss - before)
        time.sleep(0.01)
    return slowest, largest


@pytest.mark.may_grow(112, "one message of a million values, decoded")
@pytest.mark.parametrize("live", [False, True], ids=["stored", "live"])
@pytest.mark.parametrize(
    ("batch", "work"), [(NESTED, 0.35), (MANY, 4.0), (LONG, 4.0)], ids=["nested", "many", "long"]
)
def test_messages_that_are_dear_to_read_hold_up_nobody_else(
    relay: HostProcess, batch: bytes, work: float, live: bool
) -> None:
    """Each costs once, however many read it: ``work`` is what all may cost, in seconds of the processor."""

    async def publish() -> None:
        link = await RawLink.joined_as(relay.port, "mallory")
        for seq in range(1, FRAMES + 1):
            number = (0, 0) if live else (7, seq)  # what is live has none
            await link.told(encode_link_frame(Publish(*number, "p", "p.m.X", [""], crc32(batch), batch)))
            await asyncio.sleep(0.1 if live else 0.0)  # else it is gone before anybody has come for it
        last = make_batch([pack({"data": "the last"})])
        seq = 1 if live else FRAMES + 1
        link.say(encode_link_frame(Publish(7, seq, "p", "p.m.X", [""], crc32(last), last)))
        while (await link.next(Ack)).seq < seq:  # what is not acknowledged may be lost with the link
            pass
        link.abort()

    readers = [call(relay.port, "relay.register", {}) for _ in range(READERS)]
    for me in readers:  # from now on what comes live is kept for them
        call(relay.port, "relay.fetch", {"host_id": me["host_id"], "wait": 0, "live": live})
    over = threading.Event()
    before = worked(relay)
    with ThreadPoolExecutor(READERS + 1) as pool:
        watching = pool.submit(watched, relay, over)
        try:
            waiting = [pool.submit(fetched, relay.port, me, live) for me in readers]
            asyncio.run(publish())
            read = [one.result() for one in waiting]
        finally:
            over.set()
        slowest, largest = watching.result()
    assert worked(relay) - before < work
    for data, unreadable in read:
        assert data == ["the last"]
        assert unreadable == FRAMES
    assert slowest < MAX_PING
    assert largest < MAX_GROWTH


WIDE = make_batch([b"\x81\xa4data\xdd" + (100_000).to_bytes(4, "big") + b"\x90" * 100_000])
"""100 KiB, and over 4 MiB when it is written as XML."""

POLLS = 150


@pytest.mark.may_grow(112, "answers that wait to be read: 32 MiB of them, and what one takes to write")
def test_one_message_that_ends_many_waiting_calls_is_not_written_for_all_of_them_at_once(
    relay: HostProcess,
) -> None:
    me = call(relay.port, "relay.register", {})
    poll = request(call_body("relay.fetch", {"host_id": me["host_id"], "after": me["position"], "wait": 25}))

    async def publish() -> None:
        link = await RawLink.joined_as(relay.port, "mallory")
        link.say(encode_link_frame(Publish(7, 1, "p", "p.m.X", [""], crc32(WIDE), WIDE)))
        await link.next(Ack)
        link.abort()

    def has_come(sock: socket.socket) -> bool:
        sock.settimeout(PATIENCE)
        try:
            return bool(sock.recv(1))
        except ConnectionResetError:  # dropped with all that waits for it: answers that nobody reads have a limit
            return True

    over = threading.Event()
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        waiting = [stack.enter_context(socket.create_connection(("127.0.0.1", relay.port))) for _ in range(POLLS)]
        for sock in waiting:
            sock.sendall(poll)
        ping_within(relay.port, PATIENCE)  # by now they have been read
        watching = pool.submit(watched, relay, over)
        try:
            asyncio.run(publish())
            assert all(map(has_come, waiting))
        finally:
            over.set()
    slowest, largest = watching.result()
    assert largest <= MAX_GROWTH
    assert slowest <= 3 * MAX_PING
