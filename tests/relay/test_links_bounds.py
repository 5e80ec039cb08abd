"""Who opens links and says nothing, asks without end or does not read its answers costs the relay little."""

import asyncio
import base64
import gc
import os
import sys
import threading
from typing import Any

import pytest

from co2.errors import InternalError, RemoteFault
from co2.protocol.relay.core import ASKED_AT_ONCE
from co2.protocol.relay.cursors import Peer, Stream
from co2.protocol.relay.log import Reading
from co2.protocol.wire import close_reasons
from co2.protocol.wire.checksum import crc32
from co2.protocol.wire.link_frames import (
    BEGINNING,
    SUBPROTOCOL,
    Applied,
    Call,
    Goodbye,
    Hello,
    Interest,
    Publish,
    Result,
    Subscription,
    decode_relay_frame,
    encode_link_frame,
)
from co2.protocol.wire.websocket import CLOSE, MAX_MESSAGES, PING, WebSocketReader, control_frame
from co2.relay import brake, links
from co2.relay.disk_reads import MAX_READING
from co2.relay.links import MAX_UNSAID
from co2.relay.satellite_calls import MAX_ANSWERS
from co2.server.link import websocket_transport
from co2.server.link.websocket_transport import MAX_BUFFERED, joined
from tests.protocol.network import batch_of
from tests.relay.linked import Relay, Satellite, network, until

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def opened(relay: Relay) -> Ends:
    """Open a link, and say nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port, limit=2**26)
    lines = (
        "GET /link HTTP/1.1",
        f"Host: 127.0.0.1:{relay.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
    )
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def joined_as(relay: Relay, origin: str, position: int | None = None) -> Ends:
    """Open a link, and say Hello; with a position a package reads on from there."""
    reader, writer = await opened(relay)
    subscriptions = [] if position is None else [Subscription("p", position, None, True)]
    hello = encode_link_frame(Hello(f"{origin}@127.0.0.1:9", "", "", subscriptions, [(7, 1)], [], []))
    writer.writelines(joined([hello], masked=True))
    await until(lambda: any(peer.origin == origin for peer in relay.present))
    return reader, writer


async def frames_of(reader: asyncio.StreamReader, kind: type, count: int) -> list[Any]:
    """Read on until so many frames of a kind have come."""
    socket = WebSocketReader(2**22, masked=False)
    found: list[Any] = []
    async with asyncio.timeout(10):
        while len(found) < count and (data := await reader.read(2**16)):
            frames = [decode_relay_frame(frame) for frame in socket.feed(data, sys.maxsize)]
            found += [frame for frame in frames if isinstance(frame, kind)]
    return found


def test_links_without_a_hello_are_bounded_and_keep_nobody_out() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        relay.max_links = 3
        silent = [await opened(relay) for _ in range(MAX_UNSAID + 60)]
        await until(lambda: relay.links.counted()["links"] <= MAX_UNSAID + 3)
        assert await silent[0][0].read() == b"", "the oldest goes"
        silent.append(await joined_as(relay, "spam"))
        assert ham.link.joined.is_set()
        for _, writer in silent:
            writer.transport.abort()  # type: ignore[attr-defined]  # asyncio's own has it

    network(test, "ham")


def test_a_link_without_a_hello_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "HELLO_TIMEOUT", 0.2)

    async def test(relay: Relay, ham: Satellite) -> None:
        reader, writer = await opened(relay)
        told = await asyncio.wait_for(reader.read(), 10)
        assert close_reasons.SILENT.encode() in told
        writer.close()
        await until(lambda: relay.links.counted()["links"] == 1)
        assert ham.link.joined.is_set()

    network(test, "ham")


def test_a_hello_that_there_was_no_time_to_read_is_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "HELLO_TIMEOUT", 0.2)

    async def test(relay: Relay) -> None:
        reader, writer = await opened(relay)
        transport = next(iter(relay.links.wires.values()))._transport
        transport.pause_reading()  # as behind many others
        hello = encode_link_frame(Hello("spam@127.0.0.1:9", "", "", [], [(7, 1)], [], []))
        writer.writelines(joined([hello], masked=True))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.6)
        transport.resume_reading()
        await until(lambda: relay.present)
        writer.close()

    network(test)


def test_calls_of_one_satellite_are_bounded_and_those_of_others_go_on() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        reader, writer = await joined_as(relay, "spam")
        calls = [encode_link_frame(Call(n, "hang", b"\x80", 60.0)) for n in range(MAX_ANSWERS + 50)]
        writer.writelines(joined(calls, masked=True))
        refused = await frames_of(reader, Result, 50)
        assert {result.call_id for result in refused} == set(range(MAX_ANSWERS, MAX_ANSWERS + 50))
        assert "already in progress" in refused[0].error
        assert (await ham.link.call("there", {}, 10))["method"] == "there"
        writer.close()

    network(test, "ham")


def test_calls_of_a_link_that_has_ended_are_not_under_way_any_more() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        for number in range(2):
            _, writer = await joined_as(relay, f"spam{number}")
            calls = [encode_link_frame(Call(n, "hang", b"\x80", 60.0)) for n in range(50)]
            writer.writelines(joined(calls, masked=True))
            await until(lambda: relay.hanging == 50)
            writer.close()
            await until(lambda: not relay.hanging)

    network(test, "ham")


def test_who_does_not_read_gets_no_pongs_behind_what_waits_for_it() -> None:
    async def test(relay: Relay) -> None:
        reader, writer = await opened(relay)
        writer.transport.set_write_buffer_limits(0)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        wire = next(iter(relay.links.wires.values()))
        pings = control_frame(PING, b"x" * 125, True) * 2000
        before = 0
        for _ in range(100):
            writer.write(pings)
            await writer.drain()
            await until(lambda: not writer.transport.get_write_buffer_size())
            if wire.buffered == before > MAX_BUFFERED:
                break
            before = wire.buffered
        assert wire.buffered < MAX_BUFFERED + 2 * len(pings)
        writer.transport.abort()  # type: ignore[attr-defined]

    network(test)


def test_who_does_not_read_its_answers_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_transport, "MAX_UNREAD", 2 * 2**20)
    # With the brake it takes half a minute until so much is asked for: that is another rule, and another test.
    monkeypatch.setattr(brake, "ASK_RATE", 1e9)

    async def test(relay: Relay, ham: Satellite) -> None:
        reader, writer = await joined_as(relay, "spam")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        calls = joined(
            [encode_link_frame(Call(1, "echo", b"\xda\xff\xff" + b"x" * 0xFFFF, 60.0))] * 16, masked=True
        )
        async with asyncio.timeout(30):
            while len(relay.present) == 2:
                if not writer.transport.get_write_buffer_size():  # else it has not taken the last ones yet
                    writer.writelines(calls)
                await asyncio.sleep(0.001)
        assert any("bytes unread" in text for _, text in relay.gone)
        assert ham.link.joined.is_set()
        writer.transport.abort()  # type: ignore[attr-defined]

    network(test, "ham")


def test_who_asks_for_much_at_once_waits_with_it_on_its_own_side() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        reader, writer = await joined_as(relay, "spam")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        call = encode_link_frame(Call(1, "echo", b"\xda\xff\xff" + b"x" * 0xFFFF, 60.0))
        writer.writelines(joined([call] * 500, masked=True))
        await until(lambda: relay.links.reader.braked)
        assert (await ham.link.call("there", {}, 10))["method"] == "there"
        assert relay.links.counted()["links_held"] == 1
        assert relay.links.counted()["link_bytes"] < 4 * 2**20
        assert writer.transport.get_write_buffer_size() > 2**23
        assert len(relay.present) == 2, "what waits is not lost: it is read on, at the rate that there is"
        writer.transport.abort()  # type: ignore[attr-defined]

    network(test, "ham")


def test_what_one_read_brings_is_taken_in_many_turns_and_in_order() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        _, writer = await joined_as(relay, "spam")
        core = relay.core
        now = most = total = 0
        take = core._process_frame

        def counting(peer: Peer, data: bytes | memoryview) -> None:
            nonlocal now
            now += 1
            take(peer, data)

        core._process_frame = counting  # type: ignore[method-assign]

        async def count_turns() -> None:
            nonlocal now, most, total
            while True:
                most, total, now = max(most, now), total + now, 0
                await asyncio.sleep(0)

        counter = asyncio.ensure_future(count_turns())
        batches = [batch_of(n) for n in range(10)]
        frames: list[bytes] = []
        for seq, batch in enumerate(batches, 1):
            frames += [encode_link_frame(Applied({}))] * 250
            frames.append(encode_link_frame(Publish(7, seq, "p", "p.m.X", [""], crc32(batch), batch)))
        writer.writelines(joined(frames, masked=True))
        await until(lambda: total >= len(frames))
        counter.cancel()
        assert most <= 2 * ASKED_AT_ONCE, f"{most} frames were taken in one turn"
        await until(lambda: ham.got.get("p") == list(range(10)))
        await until(lambda: not relay.links.counted()["links_held"])
        writer.close()

    network(test, "ham")


def test_interests_with_many_subscriptions_count_for_as_many_frames_as_they_cost() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        _, writer = await joined_as(relay, "spam")
        core = relay.core
        asked: list[int] = []
        take = core._process_frame

        def counting(peer: Peer, data: bytes | memoryview) -> None:
            before = peer.asked
            take(peer, data)
            asked.append(peer.asked - before)

        core._process_frame = counting  # type: ignore[method-assign]
        few, many = [Subscription("p", None, ["a"])], [Subscription(f"p{n}", None, ["a"]) for n in range(200)]
        patterns = [Subscription("p", None, ["a"] * 256)]
        frames = [encode_link_frame(Interest(subscriptions, [], [])) for subscriptions in (few, many, patterns)]
        writer.writelines(joined(frames, masked=True))
        await until(lambda: len(asked) == 3)
        assert asked[0] == 1
        assert asked[1] >= 40
        assert asked[2] >= 16
        writer.close()

    network(test, "ham")


def test_an_interest_that_changes_nothing_makes_nothing_anew() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        _, writer = await joined_as(relay, "spam")
        peer = relay.core.peers["spam"]
        wanted = [Subscription("live", None, ["a", "b"]), Subscription("stays", None, ["c"], durable=True)]
        names = iter(("spam.m.one", "spam.m.two", "spam.m.three"))

        async def tell(subscriptions: list[Subscription]) -> None:
            name = next(names)
            writer.writelines(joined([encode_link_frame(Interest(subscriptions, [name], []))], masked=True))
            await until(lambda: name in peer.methods)

        await tell(wanted)
        assert peer.live is not None
        before = peer.live.interests, peer.streams["stays"].interests
        await tell(wanted)
        assert peer.live.interests is before[0]
        assert peer.streams["stays"].interests is before[1]
        await tell(wanted[1:])
        assert peer.live.interests is None
        writer.close()

    network(test, "ham")


def test_a_link_that_ends_behind_much_that_it_asks_for_has_said_goodbye_and_its_messages() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        _, writer = await joined_as(relay, "spam")
        batch = batch_of("last words")
        frames = [encode_link_frame(Applied({}))] * (ASKED_AT_ONCE + 20)
        frames.append(encode_link_frame(Publish(7, 1, "p", "p.m.X", [""], crc32(batch), batch)))
        frames.append(encode_link_frame(Goodbye("stopping", "that was all", 0.0)))
        writer.writelines([*joined(frames, masked=True), control_frame(CLOSE, b"", True)])
        await until(lambda: relay.gone)
        assert relay.gone == [("stopping", "that was all")]
        await until(lambda: ham.got.get("p") == ["last words"])
        writer.close()

    network(test, "ham")


def test_who_comes_reads_and_goes_without_end_leaves_no_reads_behind() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        may_read = threading.Event()

        def slowly(after: int, max_bytes: int) -> Reading:
            may_read.wait(30)
            return Reading((), relay.log.last)

        relay.log.read_disk = slowly  # type: ignore[method-assign]
        relay.log.read = lambda after, _max_bytes: Reading((), after, None, on_disk=True)  # type: ignore[method-assign]
        ham.send(*range(10))
        await until(lambda: relay.log.committed > 10)
        try:
            for number in range(20):
                _, writer = await joined_as(relay, f"spam{number}", position=BEGINNING)
                writer.close()
                await until(lambda: len(relay.gone) > number)  # noqa: B023 - it ends here
            assert len(relay.links.disk_reads) == 0, "reads wait for those who are gone"
        finally:
            may_read.set()

    network(test, "ham")


def test_an_error_of_ours_is_an_answer_too() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        at_satellite = relay.links.calls.call(relay.present[0], "fail", {}, 10)
        for calls_in in (ham.link.call("fail", {}, 10), at_satellite):
            with pytest.raises(RemoteFault) as caught:
                await calls_in
            assert caught.value.code == InternalError.code
            assert "secret" not in str(caught.value)

    network(test, "ham")


def test_frames_that_wait_for_their_turn_come_before_those_parsed_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        _, writer = await joined_as(relay, "spam")
        peer = next(peer for peer in relay.present if peer.origin == "spam")
        wire = relay.links.wires[peer]
        monkeypatch.setattr(relay.links.reader._frames, "_begin", lambda _pause: None)  # their turn is not yet
        number = MAX_MESSAGES + 100
        frames = [encode_link_frame(Applied({}))] * ASKED_AT_ONCE
        for seq in range(1, number + 1):
            batch = batch_of(seq)
            frames.append(encode_link_frame(Publish(7, seq, "p", "p.m.X", [""], crc32(batch), batch)))
        # Not writelines(): since Python 3.12 it writes 1024 pieces at once, and the relay may read only these.
        writer.write(b"".join(joined(frames, masked=True)))
        await until(lambda: wire.is_held)
        assert wire._reader.is_cut_short
        wire.abort()  # as when the other side has reset the connection
        await until(lambda: any(origin != "ham" for origin in relay.gone) or relay.gone)
        assert [reason for reason, _ in relay.gone] == [""]
        await until(lambda: len(ham.got.get("p", ())) >= MAX_MESSAGES - ASKED_AT_ONCE)
        got = ham.got["p"]
        assert got == list(range(1, len(got) + 1))
        writer.close()

    network(test, "ham")


@pytest.mark.parametrize("how", ["it leaves", "its read from disk waits", "it sends garbage"])
def test_nothing_of_a_link_that_has_ended_waits_for_the_garbage_collector(how: str) -> None:
    may_read = threading.Event()

    def slowly(after: int, _max_bytes: int) -> Reading:
        may_read.wait(30)
        return Reading((), after)

    async def test(relay: Relay, ham: Satellite) -> None:
        position = None
        others: list[Ends] = []
        if how == "its read from disk waits":
            ham.send(*range(10))
            await until(lambda: relay.log.committed > 10)
            relay.log.read_disk = slowly  # type: ignore[method-assign]
            relay.log.read = lambda after, _most: Reading((), after, None, on_disk=True)  # type: ignore[method-assign]
            position = BEGINNING
            others = [await joined_as(relay, f"other{number}", position) for number in range(MAX_READING)]
        gc.collect()
        gc.disable()
        try:
            _, writer = await joined_as(relay, "spam", position)
            writer.write(b"\xff\xff" if how == "it sends garbage" else control_frame(CLOSE, b"", True))
            await until(lambda: relay.gone and len(relay.links.wires) == 1 + len(others))
            writer.close()
            for _ in range(5):
                await asyncio.sleep(0)
            left = [one for one in gc.get_objects() if isinstance(one, Peer | Stream | WebSocketReader)]
            assert len([one for one in left if isinstance(one, Peer)]) == 1 + len(others)
            assert "spam" not in {one.peer.origin for one in left if isinstance(one, Stream)}
        finally:
            gc.enable()
            may_read.set()
            for _, end in others:
                end.close()

    network(test, "ham")
