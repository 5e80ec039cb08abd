"""Links over real sockets, in one process."""

import asyncio
import socket

import aiohttp
import pytest

from co2.errors import CallTimeout, RemoteFault, Unreachable
from co2.protocol.wire import close_reasons
from co2.protocol.wire.link_frames import SUBPROTOCOL
from co2.relay.link_reader import MAX_BACKLOG
from tests.relay.linked import Relay, Satellite, network, until


def test_messages_arrive_in_order_and_are_acknowledged() -> None:
    async def test(relay: Relay, ham: Satellite, spam: Satellite) -> None:
        for number in range(500):
            ham.send(number)
        await until(lambda: len(spam.got.get("p", ())) == 500)
        assert spam.got["p"] == list(range(500))
        await asyncio.wait_for(ham.link.flushed(), 10)
        assert len(ham.outbox) == 0
        assert "p" not in ham.got

    network(test, "ham", "spam")


def test_a_big_batch_travels() -> None:
    async def test(relay: Relay, ham: Satellite, spam: Satellite) -> None:
        for _ in range(20):
            ham.send("x" * 700_000)
        await until(lambda: len(spam.got.get("p", ())) == 20)
        assert set(map(len, spam.got["p"])) == {700_000}

    network(test, "ham", "spam")


def test_flush_waits_for_the_disk() -> None:
    async def test(relay: Relay, ham: Satellite, spam: Satellite) -> None:
        relay.commits = False
        ham.send(1)
        await until(lambda: spam.got.get("p") == [1])
        flushes = asyncio.ensure_future(ham.link.flushed())
        ham.send(2)
        await until(lambda: spam.got.get("p") == [1, 2])
        assert not flushes.done()
        relay.commits = True
        await asyncio.wait_for(flushes, 10)

    network(test, "ham", "spam")


def test_a_flush_that_nobody_waits_for_is_forgotten() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        relay.commits = False
        for number in range(20):
            ham.send(number)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ham.link.flushed(), 0.001)
        assert not ham.link._flushes
        waiting = asyncio.ensure_future(ham.link.flushed())
        relay.commits = True
        await asyncio.wait_for(waiting, 10)

    network(test, "ham")


def test_a_relay_that_comes_back_gets_what_waited() -> None:
    async def test(relay: Relay, ham: Satellite, spam: Satellite) -> None:
        ham.send(1)
        await until(lambda: spam.got.get("p") == [1])
        await relay.stop()
        await until(lambda: not ham.link.joined.is_set() and not spam.link.joined.is_set())
        ham.send(2)
        await relay.start()
        ham.send(3)
        await until(lambda: spam.got.get("p") == [1, 2, 3])

    network(test, "ham", "spam")


def test_a_satellite_that_says_goodbye_is_gone_at_once() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        await ham.link.leave(2.0)
        await until(lambda: not relay.present)
        await until(ham._running.done)
        assert [reason for reason, _ in relay.gone] == [close_reasons.STOPPING], "and it does not come back"

    network(test, "ham")


def test_the_goodbye_of_a_relay_that_closes_at_once_is_heard() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        other = Satellite(relay, "spam")
        await until(other.link.joined.is_set)
        await other.kill()
        relay.max_links = 1
        late = Satellite(relay, "late")
        await until(lambda: late.link.last_error != "not tried yet")
        assert late.link.last_error.startswith(close_reasons.FULL)
        assert late.link._retry_after > 0
        await late.kill()

    network(test, "ham")


def test_one_whose_connection_is_reset_is_gone_at_once_and_comes_back() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        (wire,) = relay.links.wires.values()
        wire.abort()
        await until(lambda: relay.gone)
        await until(lambda: relay.present and ham.link.joined.is_set())

    network(test, "ham")


def test_calls_go_both_ways() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        answer = await ham.link.call("method_call", {"data": [1, None]}, 5)
        assert answer == {"method": "method_call", "argument": {"data": [1, None]}, "from": "ham"}
        answer = await relay.links.calls.call(relay.present[0], "ham.spam.call_me", {"data": 2}, 5)
        assert answer == {"method": "ham.spam.call_me", "argument": {"data": 2}}

    network(test, "ham")


def test_calls_end_in_time_and_with_the_link() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        with pytest.raises((CallTimeout, RemoteFault), match="hang"):
            await ham.link.call("hang", {}, 0.05)
        calls_in = asyncio.ensure_future(ham.link.call("hang", {}, 30))
        await asyncio.sleep(0)
        await relay.stop()
        with pytest.raises(RemoteFault, match="link"):
            await asyncio.wait_for(calls_in, 10)
        with pytest.raises(Unreachable):
            await ham.link.call("ping", {}, 1)
        await relay.start()

    network(test, "ham")


def test_methods_and_plugins_are_told() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        assert relay.present[0].methods == ("ham.spam.call_me",)
        assert relay.present[0].plugins == ("ham.spam.X_Spam",)

    network(test, "ham")


def test_a_satellite_that_stands_still_costs_the_relay_no_memory_and_misses_nothing() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        async with aiohttp.ClientSession() as session:
            from co2.protocol.wire.link_frames import Hello, Subscription, encode_link_frame

            socket = await session.ws_connect(f"{relay.url}/link", protocols=(SUBPROTOCOL,), max_msg_size=0)
            hello = Hello("slow@127.0.0.1:9", "", "", [Subscription("p")], [(1, 1)], [], [])
            await socket.send_bytes(encode_link_frame(hello))
            await until(lambda: len(relay.present) == 2)
            slow = next(peer for peer in relay.present if peer.origin == "slow")
            for _ in range(60):
                ham.send("x" * 500_000)
                await asyncio.sleep(0)
            await asyncio.wait_for(ham.link.flushed(), 20)
            assert slow.paused
            assert slow.out_bytes < 2 * 2**20
            counted = relay.links.counted()
            assert (counted["links"], counted["links_full"], counted["links_held"]) == (2, 1, 0)
            assert counted["link_bytes"] == relay.links.buffered(slow) > 2**20
            got = 0
            while got < 60:
                message = await socket.receive(10)
                got += len(message.data) > 400_000
            assert relay.links.counted()["links_full"] == 0
            await socket.close()

    network(test, "ham")


def test_links_that_are_not_read_and_packages_that_do_not_keep_up_are_counted() -> None:
    async def test(relay: Relay, ham: Satellite, spam: Satellite) -> None:
        spam.full.add("p")
        ham.send(1)
        await until(lambda: relay.links.counted()["packages_behind"] == 1)
        assert spam.link.core.count("behind") == 1
        assert relay.links.counted()["packages_replaying"] == 0
        spam.full.clear()
        spam.link.core.catch_up("p")
        spam.link.driver.flush()
        await until(lambda: relay.links.counted()["packages_behind"] == 0)
        await until(lambda: spam.link.core.count("current") == 1)
        relay.log.backlog = MAX_BACKLOG + 1
        ham.send(2)
        await until(lambda: relay.links.counted()["links_held"] == 1)
        relay.log.backlog = 0
        relay.links.driver.committed(relay.log.last)
        assert relay.links.counted()["links_held"] == 0
        await until(lambda: spam.got["p"] == [1, 2])

    network(test, "ham", "spam")


def test_newer_links_that_take_a_place_are_counted() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        assert relay.core.takeovers.count == 0
        again = Satellite(relay, "ham", epoch=8)
        await until(again.link.joined.is_set)
        assert relay.core.takeovers.count == 1
        await again.kill()

    network(test, "ham")


async def _answer(relay: Relay, request: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(request.encode())
    data = await reader.read(4096)
    writer.close()
    return data


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("", b"426"),
        ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n", b"426"),
        ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: other\r\n", b"426"),
        ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: co2.link.1\r\n"
         "Origin: http://elsewhere.example\r\n", b"403"),
        ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: co2.link.1\r\n", b"101"),
    ],
)  # fmt: skip
def test_only_who_speaks_our_protocol_gets_a_link(headers: str, status: bytes) -> None:
    async def test(relay: Relay) -> None:
        request = f"GET /link HTTP/1.1\r\nHost: 127.0.0.1:{relay.port}\r\n{headers}\r\n"
        assert (await _answer(relay, request)).split(b" ")[1] == status

    network(test)


def test_a_refused_link_serves_nothing_more() -> None:
    async def test(relay: Relay) -> None:
        request = f"GET /link HTTP/1.1\r\nHost: 127.0.0.1:{relay.port}\r\n\r\n"
        assert (await _answer(relay, request * 3)).count(b"HTTP/1.1 ") == 1

    network(test)


def test_who_sends_on_hears_why_its_link_is_refused() -> None:
    async def test(relay: Relay) -> None:
        request = f"GET /link HTTP/1.1\r\nHost: 127.0.0.1:{relay.port}\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(request.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b"426" in answer.splitlines()[0]
        for _ in range(3):
            # What nobody reads would be answered with a reset, which takes away what we have not read yet.
            writer.write(b"x" * 65536)
            await writer.drain()
        assert await reader.read() == b"expected a WebSocket upgrade for the subprotocol co2.link.1\n"
        writer.close()
        await writer.wait_closed()

    network(test)


def test_garbage_on_a_link_ends_that_link_only() -> None:
    async def test(relay: Relay, ham: Satellite) -> None:
        async with aiohttp.ClientSession() as session:
            for garbage in (b"garbage", b""):
                socket = await session.ws_connect(f"{relay.url}/link", protocols=(SUBPROTOCOL,))
                await socket.send_bytes(garbage)
                goodbye = await socket.receive(10)
                assert b"Goodbye" in goodbye.data
                assert b"garbage" in goodbye.data
                assert (await socket.receive(10)).type is aiohttp.WSMsgType.CLOSE
            socket = await session.ws_connect(f"{relay.url}/link", protocols=(SUBPROTOCOL,))
            await socket.send_str("text")
            assert (await socket.receive(10)).type is aiohttp.WSMsgType.CLOSE
        assert ham.link.joined.is_set()

    network(test, "ham")


def test_a_relay_that_is_none_is_told_in_words() -> None:
    async def test(relay: Relay) -> None:
        relay.port, port = 1, relay.port
        lonely = Satellite(relay, "lonely")
        await until(lambda: "refused" in lonely.link.last_error)
        await lonely.kill()
        relay.port = port
        with socket.create_server(("127.0.0.1", 0)) as silent:
            relay.port = silent.getsockname()[1]
            lonely = Satellite(relay, "lonely")
            await until(lambda: "no answer" in lonely.link.last_error)
            await lonely.kill()
        relay.port = port

    network(test)


def test_a_relay_that_has_numbers_which_were_never_sent_gets_all_again_in_another_run() -> None:
    async def test(relay: Relay, ham: Satellite, spam: Satellite) -> None:
        ham.send(1)
        await until(lambda: spam.got == {"p": [1]} and not len(ham.outbox))
        relay.log.set_mark("ham", 7, 1004)  # whoever came with its origin to an older relay has done that
        assert ham.link.driver.wire is not None
        ham.link.driver.wire.abort()
        ham.send(2)
        ham.send(3)
        await until(lambda: spam.got["p"] == [1, 2, 3] and not len(ham.outbox))
        assert ham.outbox.epoch != 7
        assert ham.link.joined.is_set()

    network(test, "ham", "spam")


def test_a_relay_says_so_at_the_welcome() -> None:
    async def test(relay: Relay, spam: Satellite) -> None:
        relay.log.set_mark("ham", 7, 1004)
        relay.log.committed = relay.log.last
        ham = Satellite(relay, "ham")
        ham.send(1, 2)
        await until(lambda: ham.link.joined.is_set() and len(ham.outbox) == 0)
        await until(lambda: spam.got == {"p": [1, 2]})
        assert relay.log.marks["ham", ham.outbox.epoch] == 2
        await ham.stop()

    network(test, "spam")


def test_a_package_that_loads_on_a_quiet_link_hears_at_once_that_the_log_was_replaced() -> None:
    async def test(relay: Relay, spam: Satellite) -> None:
        spam.link.core.subscribe("late", durable=True, position=0)
        spam.link.driver.flush()
        await until(lambda: spam.gaps, timeout=2)
        assert spam.gaps == [("late", "log replaced")]

    network(test, "spam")
