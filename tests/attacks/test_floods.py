"""Floods over links: the one who floods is held, and nobody else notices."""

import asyncio
import contextlib
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec
import psutil
import pytest

from co2.errors import Unreachable
from co2.protocol.wire.link_frames import (
    Ack,
    Applied,
    Call,
    Interest,
    Publish,
    Replay,
    Result,
    Subscription,
    encode_link_frame,
)
from co2.protocol.wire.websocket import CLOSE, PING, POLICY, PONG, control_frame
from co2.server.link.websocket_transport import joined
from tests.attacks.hosts import running
from tests.attacks.raw import call, call_body, connected, ping_within, request, send
from tests.attacks.raw_link import RawLink
from tests.harness import HostProcess, wait_for
from tests.protocol.network import batch_of

MIB = 2**20

CALM = 5.0
"""Seconds after an attack in which the relay comes to rest."""


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder: Path = tmp_path_factory.mktemp("flooded")
    with running(folder, "relay") as relay:
        yield relay


def rss(relay: HostProcess) -> int:
    return psutil.Process(relay.pid).memory_info().rss


def busy(relay: HostProcess, seconds: float) -> float:
    """Give the part of a processor that the relay takes while nothing is asked of it."""
    process = psutil.Process(relay.pid)
    before, start = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, took = process.cpu_times(), time.monotonic() - start
    return (after.user + after.system - before.user - before.system) / took


def braked(relay: HostProcess) -> int:
    """Give how often links were not read for a while."""
    return int(call(relay.port, "co2.get_properties")["counters"]["links_braked"])


def present(relay: HostProcess) -> set[str]:
    """Return the origins of all that have a link."""
    rows = call(relay.port, "relay.get_satellites", {"names": False, "max": 1000})
    return {row["host_id"].partition("@")[0] for row in rows if row["kind"] == "co2"}


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
        host_id = call(relay.port, "relay.register", {})["host_id"]
        oldest = {"host_id": host_id, "after": 0, "max": 1}
        names = [f"flood{n}" for n in range(3)]
        before_flood = await asyncio.to_thread(braked, relay)
        attackers = [
            await RawLink.joined_as(relay.port, name, subscriptions=[Subscription("p")]) for name in names
        ]
        for attacker in attackers:
            attacker.say(*[flood] * 20_000)
        reading = asyncio.ensure_future(read_on(attackers[0]))  # one of them takes what it has asked for
        slowest = fetched = largest = 0.0
        for _ in range(10):
            start = time.monotonic()
            await asyncio.to_thread(ping_within, relay.port, 3)
            await asyncio.to_thread(lambda: urllib.request.urlopen(f"{relay.url}/", timeout=5).read())
            slowest = max(slowest, time.monotonic() - start)
            start = time.monotonic()
            # Both want a place where the log is read: one takes it from disk, the other waits for nothing.
            messages = (await asyncio.to_thread(call, relay.port, "relay.fetch", oldest))["messages"]
            fetched = max(fetched, time.monotonic() - start)
            assert [len(message["data"]) for message in messages] == [700_000]
            largest = max(largest, rss(relay) - before)
        end = time.monotonic() + 20  # each may ask for much at once, and the relay takes its time over it
        while (rose := await asyncio.to_thread(braked, relay) - before_flood) < len(
            attackers
        ) and time.monotonic() < end:
            await asyncio.sleep(0.05)
        assert {*names} <= await asyncio.to_thread(present, relay), "a link has ended: nothing was flooded"
        assert rose >= len(attackers), (
            f"{rose} times was one of {len(attackers)} links braked: who was it that flooded?"
        )
        for attacker in attackers:
            attacker.abort()
        filler.abort()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert largest < 64 * MIB
        assert slowest < 3
        assert fetched < 3

    asyncio.run(run())
    ping_within(relay.port, 3)
    wait_for(lambda: busy(relay, 1.0) < 0.5, "a relay that rests once the attackers are gone", CALM)


async def slowest_ping(relay: HostProcess, seconds: float) -> float:
    """Ping over new connections for a while; give the longest that one took."""
    slowest, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        await asyncio.to_thread(ping_within, relay.port, 10)
        slowest = max(slowest, time.monotonic() - start)
        await asyncio.sleep(0.02)
    return slowest


async def read_on(link: RawLink) -> None:
    """Read what comes, until the relay ends the link."""
    with contextlib.suppress(ConnectionError):
        while await link.reader.read(2**18):
            pass


async def flood(link: RawLink, data: bytes) -> None:
    """Write without end, as fast as it is read."""
    while True:
        link.writer.write(data)
        await link.writer.drain()
        await asyncio.sleep(0)


async def flooded(relay: HostProcess, links: list[RawLink], data: bytes, seconds: float = 3.0) -> None:
    """Flood over links for a while, and see that pings of others take little longer than without it.

    None of the links may end: the relay reads them, each so seldom that others have their turn.
    """
    calm = await slowest_ping(relay, 1.0)
    before = await asyncio.to_thread(braked, relay)
    floods = [asyncio.ensure_future(flood(link, data)) for link in links]
    readers = [asyncio.ensure_future(read_on(link)) for link in links]
    try:
        slowest = await slowest_ping(relay, seconds)
        rose = await asyncio.to_thread(braked, relay) - before
        assert not [task for task in (*floods, *readers) if task.done()], "a link has ended: nothing was flooded"
    finally:
        for task in (*floods, *readers):
            task.cancel()
        await asyncio.gather(*floods, *readers, return_exceptions=True)
        for link in links:
            link.abort()
    assert slowest < 1 + 8 * calm
    # What a link may ask for at once is taken in the first second or two, and braked is who goes on.
    assert rose >= len(links), f"{rose} times was one of {len(links)} links braked: who was it that flooded?"


def test_pings_without_end_end_the_link_before_and_after_hello(relay: HostProcess) -> None:
    pings = control_frame(PING, b"x", True) * 5000
    closed = control_frame(CLOSE, POLICY.to_bytes(2, "big"), False)

    async def one(link: RawLink) -> None:
        with contextlib.suppress(ConnectionError):
            link.writer.write(pings)
        told = b""
        async with asyncio.timeout(20):
            while closed not in told:
                more = await link.reader.read(2**16)
                assert more, "it ends without a word"
                told += more
        link.abort()
        assert told.count(control_frame(PONG, b"x", False)) <= 1

    async def run() -> None:
        ended, goes_on = 0, True

        async def again_and_again(number: int) -> None:
            nonlocal ended
            while goes_on:
                joins = RawLink.joined_as(relay.port, f"ping{number}") if number % 2 else RawLink.open(relay.port)
                await one(await joins)
                ended += 1

        attackers = [asyncio.ensure_future(again_and_again(number)) for number in range(10)]
        try:
            slowest = await slowest_ping(relay, 2.0)
        finally:
            goes_on = False
            await asyncio.gather(*attackers)
        assert ended >= 20, f"{ended} links have ended"
        assert slowest < 1

    asyncio.run(run())


def test_pings_that_come_together_are_answered_once(relay: HostProcess) -> None:
    async def run() -> None:
        link = await RawLink.joined_as(relay.port, "pings")
        link.writer.write(b"".join(control_frame(PING, bytes([n]), True) for n in range(20)))
        told = b""
        async with asyncio.timeout(20):
            while control_frame(PONG, bytes([19]), False) not in told:
                told += await link.reader.read(2**16)
        assert sum(control_frame(PONG, bytes([n]), False) in told for n in range(20)) <= 2
        link.abort()

    asyncio.run(run())


def test_calls_and_interests_without_end_hold_up_nobody_else(relay: HostProcess) -> None:
    async def run() -> None:
        link = await RawLink.joined_as(relay.port, "messages")
        calls = joined([encode_link_frame(Call(1, "co2.get_properties", b"\x80", 60.0))] * 200, masked=True)
        # Two in turn: one that says what was said before costs nothing.
        interests = [
            encode_link_frame(Interest([Subscription(f"p{n}", None, [f"{one}{n}.>"]) for n in range(200)], [], []))
            for one in "ab"
        ]
        attackers = [await RawLink.joined_as(relay.port, f"calls{n}") for n in range(4)]
        await flooded(relay, attackers, b"".join(calls))
        attackers = [await RawLink.joined_as(relay.port, f"interests{n}") for n in range(4)]
        await flooded(relay, attackers, b"".join(joined(interests * 10, masked=True)))
        # Who asked for much is heard later, not less: here another link was there all along.
        batch = batch_of("still here")
        link.say(encode_link_frame(Publish(7, 1, "p", "p.m.X", [""], crc32(batch), batch)))
        assert (await link.next(Ack)).seq == 1
        link.abort()

    asyncio.run(run())


def test_a_link_that_is_braked_loses_nothing(relay: HostProcess) -> None:
    async def run() -> None:
        link = await RawLink.joined_as(relay.port, "braked")
        applied = encode_link_frame(Applied({}))
        batches = [batch_of(n) for n in range(1, 6)]
        for seq, batch in enumerate(batches, 1):
            link.say(*[applied] * 800)
            link.say(encode_link_frame(Publish(7, seq, "p", "p.m.X", [""], crc32(batch), batch)))
        while (await link.next(Ack)).seq < 5:
            pass
        counters = await asyncio.to_thread(call, relay.port, "co2.get_properties")
        assert counters["counters"]["links_braked"] > 0
        link.abort()

    asyncio.run(run())


async def write_all(link: RawLink, head: bytes, size: int) -> bool:
    """Write so many bytes behind a head; return whether all were taken before the link ended."""
    piece = bytes(2**16)
    with contextlib.suppress(ConnectionError):
        link.writer.write(head)
        while size > 0:
            link.writer.write(piece[:size])
            size -= len(piece)
            await link.writer.drain()
    return size <= 0


def test_frames_that_never_end_are_bounded_together(relay: HostProcess) -> None:
    async def run() -> None:
        before = rss(relay)
        unsaid = [await RawLink.open(relay.port) for _ in range(40)]
        for link in unsaid:
            link.writer.write(b"\x82\xff" + (2**22).to_bytes(8, "big") + bytes(4) + bytes(2**20))
        for link in unsaid:
            assert (1009).to_bytes(2, "big") in await link.ended(), "more than a Hello needs is not taken"
        names = [f"unfinished{n}" for n in range(100)]
        links = [await RawLink.joined_as(relay.port, name) for name in names]
        begun = b"\x82\xff" + (2**22).to_bytes(8, "big") + bytes(4)
        writing = [asyncio.ensure_future(write_all(link, begun, 2**22 - 2**10)) for link in links]
        largest, end = 0, time.monotonic() + 3
        while time.monotonic() < end or not all(task.done() for task in writing):
            assert time.monotonic() < end + 20, "it is neither read nor cut off"
            await asyncio.sleep(0.1)
            largest = max(largest, rss(relay) - before)
        assert await slowest_ping(relay, 0.3) < 3
        # Of 400 MiB the budget holds sixteen, and these links have not ended: so much was kept, and no more.
        left = {*names} & await asyncio.to_thread(present, relay)
        assert 14 <= len(left) <= 16
        assert sum(task.result() for task in writing) >= len(left)
        assert 40 * MIB < largest < 110 * MIB
        for link in (*unsaid, *links):
            link.abort()

    asyncio.run(run())


def test_calls_that_nobody_answers_leave_room_for_those_of_others(relay: HostProcess) -> None:
    async def run() -> None:
        ham = await RawLink.joined_as(relay.port, "ham", methods=["ham.spam.call_me"])
        argument = msgspec.msgpack.encode(
            {"method_name": "ham.spam.call_me", "data": 1, "host_id": "ham@127.0.0.1:9"}
        )
        attackers = [await RawLink.joined_as(relay.port, f"caller{n}") for n in range(12)]
        for attacker in attackers:
            attacker.say(*[encode_link_frame(Call(n, "method_call", argument, 60.0)) for n in range(150)])
        for attacker in attackers[:3]:
            refused = await attacker.next(Result)
            assert refused.code == Unreachable.code
        honest = asyncio.ensure_future(asyncio.to_thread(
            call, relay.port, "method_call",
            {"method_name": "ham.spam.call_me", "data": "honest", "host_id": "ham@127.0.0.1:9"},
        ))  # fmt: skip
        while (asked := await ham.next(Call)) and msgspec.msgpack.decode(asked.argument)["data"] != "honest":
            pass
        ham.say(encode_link_frame(Result(asked.call_id, msgspec.msgpack.encode("here you are"))))
        assert await honest == "here you are"
        for link in (ham, *attackers):
            link.abort()

    asyncio.run(run())


def test_lines_of_the_log_that_a_link_causes_are_bounded(relay: HostProcess) -> None:
    said = len(relay.stderr)

    async def run() -> None:
        link = await RawLink.joined_as(relay.port, "reuser")
        first, other = batch_of("first"), batch_of("other")
        link.say(encode_link_frame(Publish(7, 1, "p", "p.m.X", [""], crc32(first), first)))
        await link.next(Ack)
        link.say(*[encode_link_frame(Publish(7, 1, "p", "p.m.X", [""], crc32(other), other))] * 1500)
        for _ in range(1500):
            await link.next(Ack)
        link.abort()

    asyncio.run(run())
    lines = [line for line in relay.log().splitlines() if "E_ID_REUSE" in line]
    assert 1 <= len(lines) < 200
    assert len(relay.stderr) - said < 2**17, "what is said there is bounded, too"
    wait_for(lambda: "reuser suppressed" in relay.log(), "what is not there is told")


def test_lines_of_the_access_log_are_bounded(relay: HostProcess) -> None:
    with connected(relay.port) as sock:
        one = request(call_body("ping"))
        answers = 0
        while answers < 3000:
            send(sock, one * 100)
            got = b""
            while got.count(b"</methodResponse>") < 100:
                got += sock.recv(2**16)
            answers += 100
    wait_for(lambda: "suppressed" in relay.log("access.log"), "what is not there is told")
    assert relay.log("access.log").count("POST ping 200") < 2800
