"""One end of a link's WebSocket over a real socket, on both event loops."""

import asyncio
import gc
import os
import socket
import sys
import time
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from co2.protocol.wire.websocket import (
    CLOSE,
    MAX_CONTROLS,
    MAX_MESSAGES,
    PING,
    POLICY,
    PONG,
    WebSocketReader,
    control_frame,
    message_head,
)
from co2.server.express.write_now import MAX_PIECES, write_now
from co2.server.link import websocket_transport
from co2.server.link.unfinished import Unfinished
from co2.server.link.websocket_transport import (
    JOINED,
    MAX_BUFFERED,
    READ_SIZE,
    WebSocketTransport,
    joined,
)
from tests.server.running import LOOPS

MAX_FRAME = 4 * 1024 * 1024


class Owner:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.told: list[str] = []
        self.why: list[str] = []

    def received(self, frames: list[bytes | memoryview], more: bool = False) -> None:
        assert not self.why
        self.frames += map(bytes, frames)

    def filled(self) -> None:
        self.told.append("filled")

    def drained(self) -> None:
        self.told.append("drained")

    def ended(self, why: str) -> None:
        self.why.append(why)


class Other:
    """The other end: a plain socket."""

    def __init__(self, sock: socket.socket, is_client: bool) -> None:
        self.sock = sock
        self.is_client = is_client
        self.frames: list[bytes] = []
        self.is_over = False
        self._reader = WebSocketReader(MAX_FRAME, masked=not is_client)

    @property
    def control(self) -> list[tuple[int, bytes]]:
        return self._reader.control

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def say(self, *frames: bytes) -> None:
        await self.send(b"".join(joined(list(frames), masked=self.is_client)))

    async def tell(self, opcode: int, payload: bytes = b"") -> None:
        await self.send(control_frame(opcode, payload, self.is_client))

    async def read(self, size: int = 65_536) -> None:
        """Read once."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self.sock, size)
        except ConnectionError:
            data = b""
        self.is_over = not data
        self.frames += map(bytes, self._reader.feed(data, sys.maxsize))
        assert self._reader.error is None

    async def read_until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                assert not self.is_over, "the connection ended before that"
                await self.read()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def connected(is_client: bool, send_buffer: int) -> AsyncIterator[tuple[WebSocketTransport, Owner, Other]]:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        sock.connect(listening.getsockname())
        sock.setblocking(False)
        mine, _ = listening.accept()
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, mine)
        wire, owner = WebSocketTransport(transport, is_client=is_client, max_frame=MAX_FRAME), Owner()
        wire.carry(owner)
        try:
            yield wire, owner, Other(sock, not is_client)
        finally:
            wire.abort()
            if not owner.why:
                await until(transport.is_closing)
            await asyncio.sleep(0)


Test = Callable[[WebSocketTransport, Owner, Other], Awaitable[None]]
Run = Callable[..., None]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    def run_on_loop(test: Test, is_client: bool = False, send_buffer: int = 16_384) -> None:
        async def main() -> None:
            async with connected(is_client, send_buffer) as ends:
                await test(*ends)

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main())

    return run_on_loop


@pytest.fixture
def quick_pings(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(websocket_transport, "PING_INTERVAL", 0.1)
    return 0.1


# ---- up and down -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_client", [False, True])
def test_frames_go_both_ways(run: Run, is_client: bool) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        assert wire.address == other.sock.getsockname()
        wire.write(joined([b"ham", b""], masked=is_client))
        await other.read_until(lambda: other.frames == [b"ham", b""])
        await other.say(b"spam", b"eggs" * 50_000)
        await until(lambda: owner.frames == [b"spam", b"eggs" * 50_000])

    run(test, is_client)


def test_what_has_come_with_the_handshake_is_taken_first() -> None:
    async def main() -> None:
        async with connected(False, 16_384) as (wire, owner, other):
            whole = b"".join(joined([b"ham", b"spam"], masked=True))
            wire.carry(owner, whole[:-2])
            assert owner.frames == [b"ham"]
            await other.send(whole[-2:])
            await until(lambda: owner.frames == [b"ham", b"spam"])

    asyncio.run(main())


def test_a_full_socket_takes_the_rest_later_and_all_of_it_in_order(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial: list[int] = []
    write = write_now

    def counted(descriptor: int, pieces: list[bytes]) -> int:
        written = write(descriptor, pieces)
        if written < sum(map(len, pieces)):
            partial.append(written)
        return written

    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        sent: list[bytes] = []

        def send(*sizes: int) -> None:
            frames = [len(sent).to_bytes(4, "big") + bytes(size) for size in sizes]
            sent.extend(frames)
            wire.write(joined(frames))

        monkeypatch.setattr(websocket_transport, "write_now", counted)
        while not wire.is_full:
            send(60_000)
            send(10)
            send(50_000, 0, 50_000)
            send(*[3] * MAX_PIECES * 3)  # more pieces than the system takes, though few bytes
        assert owner.told == ["filled"]
        assert any(partial)
        await other.read_until(lambda: other.frames == sent)
        await until(lambda: owner.told == ["filled", "drained"])
        assert not wire.is_full
        send(1)
        await other.read_until(lambda: other.frames == sent)
        assert not owner.why

    run(test)


def test_small_frames_for_one_that_does_not_read_cost_their_bytes_and_no_more_time_the_more_there_are(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_transport, "MAX_BUFFERED", 512 * 1024)

    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        def write(count: int) -> float:
            began = time.process_time()
            for _ in range(count):
                wire.write(joined([b"0123456789"]))
            return time.process_time() - began

        write(10_000)
        early = min(write(1000) for _ in range(5))
        tracemalloc.start()
        try:
            while not wire.is_full:
                write(1000)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 2 * websocket_transport.MAX_BUFFERED
        assert owner.told == ["filled"]
        assert min(write(1000) for _ in range(5)) < 10 * early

    run(test)


def test_pieces_are_joined_where_that_is_cheap() -> None:
    assert joined([b"ham"]) == [b"\x82\x03ham"]
    assert joined([b"ham", b"x"], masked=True) == [b"\x82\x83\0\0\0\0ham\x82\x81\0\0\0\0x"]
    big = bytes(JOINED)
    assert joined([big]) == [message_head(JOINED, False) + big]
    assert joined([big, b"x"]) == [message_head(JOINED, False), big, b"\x82\x01", b"x"]
    assert joined([big + b"x"]) == [message_head(JOINED + 1, False), big + b"x"]


def test_reading_stops_and_goes_on(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        wire.pause_reading()
        wire.pause_reading()
        sending = asyncio.ensure_future(other.say(*[bytes(1_000_000)] * 20))
        _, pending = await asyncio.wait({sending}, timeout=0.2)
        assert pending, "20 MB went to somebody who does not read"
        assert owner.frames == []
        wire.resume_reading()
        wire.resume_reading()
        await asyncio.wait_for(sending, 10)
        await until(lambda: len(owner.frames) == 20)

    run(test)


# ---- silence -----------------------------------------------------------------------------------------------


def test_who_is_silent_is_pinged_and_who_does_not_answer_is_given_up(run: Run, quick_pings: float) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        began = asyncio.get_running_loop().time()
        await other.read_until(lambda: other.control)
        assert other.control[0] == (PING, b"")
        assert not owner.why
        await until(lambda: owner.why)
        assert owner.why == ["no answer for 0.2 s"]
        assert asyncio.get_running_loop().time() - began >= 1.5 * quick_pings
        await other.read_until(lambda: other.is_over)

    run(test)


@pytest.mark.parametrize("is_client", [False, True])
def test_who_answers_lives(run: Run, quick_pings: float, is_client: bool) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        for pings in range(1, 6):
            await other.read_until(lambda pings=pings: len(other.control) >= pings)
            await other.tell(PONG, other.control[-1][1])
        assert not owner.why

    run(test, is_client)


def test_a_ping_is_answered_with_what_it_brought(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        await other.tell(PING, b"who?")
        await other.read_until(lambda: other.control == [(PONG, b"who?")])
        assert owner.frames == []

    run(test)


def test_control_frames_are_limited_also_where_they_come_one_by_one(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        answered = 0
        async with asyncio.timeout(
            10
        ):  # where the machine is busy, the first second may end before they are too many
            while True:
                await other.tell(PING, b"%d" % answered)
                await other.read_until(lambda: other.control)
                if other.control != [(PONG, b"%d" % answered)]:
                    break
                other.control.clear()
                answered += 1
        assert other.control == [(CLOSE, POLICY.to_bytes(2, "big"))], "and no Pong before it"
        assert answered >= MAX_CONTROLS
        await other.tell(CLOSE)
        await until(lambda: owner.why)
        assert owner.why == [f"more than {MAX_CONTROLS} control frames a second"]

    run(test)


def test_each_second_has_its_own_control_frames(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        loop = asyncio.get_running_loop()
        for second in (b"first", b"next"):
            for number in range(MAX_CONTROLS // 2 + 1):
                await other.tell(PING, b"%b %d" % (second, number))
            last = (PONG, b"%b %d" % (second, MAX_CONTROLS // 2))
            await other.read_until(lambda last=last: last in other.control)
            ended = loop.time()
            await until(lambda ended=ended: loop.time() > ended + 1)
        assert not owner.why

    run(test)


def test_who_reads_slowly_what_waits_for_it_is_not_taken_for_dead_and_who_stops_is(
    run: Run, quick_pings: float
) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        loop = asyncio.get_running_loop()
        while not wire.is_full:
            wire.write(joined([bytes(50_000)]))
        slow_until = loop.time() + 10 * quick_pings
        while loop.time() < slow_until:
            await other.read(30_000)
            await asyncio.sleep(quick_pings / 10)
        assert not owner.why
        assert wire.buffered > 0  # else it was asked with a ping
        await until(lambda: owner.why == ["no answer for 0.2 s"])

    run(test)


def test_who_is_not_read_is_not_taken_for_dead_and_hears_that_we_live(run: Run, quick_pings: float) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        wire.pause_reading()
        await other.read_until(lambda: len(other.control) >= 8)
        assert not owner.why
        assert wire.unanswered == 0.0
        wire.resume_reading()
        await other.tell(PONG)
        await other.read_until(lambda: len(other.control) >= 9)
        assert not owner.why
        await until(lambda: owner.why == ["no answer for 0.2 s"])

    run(test)


def test_who_has_spoken_is_not_taken_for_dead_because_nobody_has_had_time_to_read_it(
    run: Run, quick_pings: float
) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        wire._transport.pause_reading()  # as behind many others, in a loop that has more to do than time for it
        await other.say(b"here")
        await other.read_until(lambda: len(other.control) >= 6)
        assert not owner.why
        wire._transport.resume_reading()
        await until(lambda: owner.frames == [b"here"])
        await until(lambda: owner.why == ["no answer for 0.2 s"])

    run(test)


# ---- the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_client", [False, True])
def test_we_close_in_good_order(run: Run, is_client: bool) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        frames = [bytes(300_000)] * 5
        wire.write(joined(frames, masked=is_client))
        wire.close()
        wire.close()
        wire.write(joined([b"too late"], masked=is_client))
        await other.say(b"what comes now is not taken any more")
        await other.read_until(lambda: other.control)
        assert other.frames == frames
        assert other.control == [(CLOSE, b"\x03\xe8")]
        assert not owner.why
        await other.tell(CLOSE, b"\x03\xe8")
        await other.read_until(lambda: other.is_over)
        await until(lambda: owner.why)
        assert owner.why == ["the connection was closed"]
        assert owner.frames == []

    run(test, is_client)


@pytest.mark.parametrize("is_client", [False, True])
def test_the_other_side_closes_and_what_it_said_before_is_taken(run: Run, is_client: bool) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        goodbye = b"".join(joined([b"ham", b"goodbye"], masked=not is_client))
        await other.send(goodbye + control_frame(CLOSE, b"\x03\xe8", not is_client))
        await other.read_until(lambda: other.is_over)
        assert other.control == [(CLOSE, b"\x03\xe8")]
        await until(lambda: owner.why)
        assert owner.frames == [b"ham", b"goodbye"]
        assert owner.why == ["the connection was closed"]

    run(test, is_client)


@pytest.mark.parametrize(
    ("code", "why"),
    [(1000, "the connection was closed"), (1001, "the connection was closed"),
     (1009, "the other side has closed the connection: the message was too long for it "
      "(WebSocket code 1009)")],
)  # fmt: skip
def test_why_the_other_side_has_closed_is_told(run: Run, code: int, why: str) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        await other.tell(CLOSE, code.to_bytes(2, "big"))
        await until(lambda: owner.why)
        assert owner.why == [why]

    run(test)


def test_who_answers_no_close_is_cut_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_transport, "CLOSE_TIMEOUT", 0.1)

    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        began = asyncio.get_running_loop().time()
        wire.close(1000, "enough")
        await until(lambda: owner.why)
        assert asyncio.get_running_loop().time() - began >= 0.09
        assert owner.why == ["enough"]
        await other.read_until(lambda: other.is_over)

    run(test)


def test_who_reads_nothing_is_cut_off_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_transport, "CLOSE_TIMEOUT", 0.1)

    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        wire.write(joined([bytes(1_000_000)] * 2))
        await other.tell(CLOSE)
        await until(lambda: owner.why)

    run(test)


def test_a_close_is_heard_also_by_one_that_was_not_reading(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_transport, "CLOSE_TIMEOUT", 60.0)

    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        wire.pause_reading()
        await other.say(b"x" * 1000)
        wire.close()
        wire.pause_reading()
        await other.read_until(lambda: other.control)
        await other.tell(CLOSE)
        await until(lambda: owner.why == ["the connection was closed"])
        assert owner.frames == []

    run(test)


def test_garbage_is_answered_with_a_close_that_says_why(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_transport, "CLOSE_TIMEOUT", 0.1)

    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        whole = b"".join(joined([b"ham"], masked=True))
        await other.send(whole + b"\x81\x81\0\0\0\0x" + whole)
        await other.read_until(lambda: other.control)
        assert other.control == [(CLOSE, (1003).to_bytes(2, "big"))]
        await until(lambda: owner.why)
        assert "text" in owner.why[0]
        assert owner.frames == [b"ham"]

    run(test)


def test_an_aborted_wire_is_gone_at_once_and_what_waits_is_given_up(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        while not wire.is_full:
            wire.write(joined([bytes(50_000)]))
        wire.abort()
        wire.write(joined([b"too late"]))
        wire.close()
        await until(lambda: owner.why)
        await other.read_until(lambda: other.is_over)
        assert sum(map(len, other.frames)) < MAX_BUFFERED
        assert len(owner.why) == 1

    run(test)


def test_a_wire_that_has_ended_in_good_order_may_be_aborted(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        wire.write(joined([bytes(1_000_000)]))
        wire.close()
        await other.tell(CLOSE)
        await other.read_until(lambda: other.control)
        await until(lambda: owner.why)
        wire.abort()
        wire.break_off("too late")
        assert owner.why == ["the connection was closed"]

    run(test)


@pytest.mark.parametrize("is_client", [False, True])
def test_a_close_that_is_answered_too_soon_loses_nothing_that_was_written(run: Run, is_client: bool) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        frames = [bytes(300_000)] * 12
        wire.write(joined(frames, masked=is_client))
        await other.tell(CLOSE)
        async with asyncio.timeout(20):
            while not wire._closing:
                await asyncio.sleep(0)
        await other.read_until(lambda: other.is_over)
        assert other.frames == frames and other.control == [(CLOSE, b"\x03\xe8")]

    run(test, is_client)


def test_a_connection_that_is_reset_ends_the_wire_once(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        other.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        other.sock.close()
        await until(lambda: owner.why)
        wire.write(joined([b"too late"]))
        wire.pause_reading()
        wire.resume_reading()
        wire.close()
        wire.abort()
        assert owner.why in (["connection reset by peer"], ["the connection was closed"])

    run(test)


def test_who_released_it_hears_no_more(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        wire.release()
        await other.say(b"ham")
        wire.close()
        await other.read_until(lambda: other.control)
        await other.tell(CLOSE)
        await other.read_until(lambda: other.is_over)
        await until(wire._transport.is_closing)
        assert (owner.frames, owner.told, owner.why) == ([], [], [])

    run(test)


# ---- the express ----------------------------------------------------------------------------------------------


def test_what_was_written_ahead_is_left_out_and_the_rest_is_written(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        whole = b"".join(joined([b"one", b"two"]))
        for cut in range(len(whole) + 1):
            await other.send(b"")  # the other side writes nothing; what was written ahead comes from elsewhere
            os.write(wire._descriptor, whole[:cut])
            wire.written_ahead(whole[:cut])
            wire.write(joined([b"one", b"two"]))
            assert not wire.left_ahead()
            await other.read_until(lambda: len(other.frames) == 2)
            assert other.frames == [b"one", b"two"]
            other.frames.clear()

    run(test)


def test_of_several_frames_that_were_written_ahead_each_is_left_out(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        frames = [b"one", b"two", b"three"]
        ahead = b"".join(joined(frames[:2]))
        os.write(wire._descriptor, ahead)
        wire.written_ahead(ahead)
        for frame in frames:
            wire.write(joined([frame]))
        assert not wire.left_ahead()
        await other.read_until(lambda: len(other.frames) == 3)
        assert other.frames == frames

    run(test)


def test_what_differs_from_what_was_written_ahead_is_not_written(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        wire.written_ahead(b"something else")
        wire.write(joined([b"one"]))
        assert wire.left_ahead()
        wire.break_off("it differs")
        await until(lambda: owner.why)
        assert owner.why == ["it differs"]
        await other.read()
        assert other.is_over and other.frames == []

    run(test)


def test_frames_are_foreseen_only_between_frames_and_where_nothing_waits(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        assert wire.read_descriptor == wire.write_descriptor >= 0
        frame = b"".join(joined([b"frame"], masked=True))
        await other.send(frame[:5])
        await until(lambda: wire.read_descriptor < 0)
        await other.send(frame[5:])
        await until(lambda: owner.frames == [b"frame"])
        assert wire.read_descriptor >= 0
        wire.pause_reading()
        assert wire.read_descriptor < 0
        wire.resume_reading()
        assert wire.read_descriptor >= 0
        while not wire.buffered:
            wire.write(joined([bytes(100_000)]))
        assert wire.write_descriptor < 0
        await other.read_until(lambda: not wire.buffered)
        await until(lambda: wire.write_descriptor >= 0)
        wire.close()
        assert wire.read_descriptor == wire.write_descriptor == -1

    run(test)


def test_nothing_is_foreseen_where_nobody_listens_any_more(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        wire.release()
        assert wire.read_descriptor == wire.write_descriptor == -1

    run(test)


def test_a_read_with_thousands_of_messages_is_processed_some_at_a_time_and_held_like_any_other(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        frames = [n.to_bytes(4, "big") for n in range(9 * MAX_MESSAGES)]
        most = 0
        received = owner.received

        def counting(frames: list[bytes | memoryview], more: bool = False) -> None:
            nonlocal most
            most = max(most, len(frames))
            received(frames, more)
            if len(owner.frames) == 2 * MAX_MESSAGES:
                wire.pause_reading()

        owner.received = counting  # type: ignore[method-assign]
        sending = asyncio.ensure_future(other.say(*frames))
        await until(lambda: wire.is_held)
        held = len(owner.frames)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(owner.frames) == held, "held: nothing of what was read already is processed"
        wire.resume_reading()
        await until(lambda: len(owner.frames) == len(frames))
        await sending
        assert owner.frames == frames
        assert most <= MAX_MESSAGES

    run(test)


def test_a_connection_that_ends_behind_many_messages_has_brought_some_of_the_last_ones(run: Run) -> None:
    async def test(wire: WebSocketTransport, owner: Owner, other: Other) -> None:
        frames = [n.to_bytes(4, "big") for n in range(3 * MAX_MESSAGES)]
        await other.say(*frames)
        await until(lambda: owner.frames)
        wire.abort()
        await until(lambda: owner.why)
        assert owner.frames == frames[: len(owner.frames)]
        told = len(owner.frames)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(owner.frames) == told, "nothing comes after the end"

    run(test)


def test_links_that_all_bring_many_messages_at_once_end_none_of_them(run: Run) -> None:
    """Their reads exceed the budget of incomplete frames together, though every message is whole."""

    async def test(_wire: WebSocketTransport, _owner: Owner, _other: Other) -> None:
        frames = [n.to_bytes(10, "big") for n in range(40 * MAX_MESSAGES)]
        data = b"".join(joined(frames, masked=True))
        budget = Unfinished(1024 * 1024)
        ends: list[tuple[WebSocketTransport, Owner, socket.socket]] = []
        rest = []
        with socket.create_server(("127.0.0.1", 0)) as listening:
            for _ in range(12):
                sock = socket.create_connection(listening.getsockname())
                mine, _ = listening.accept()
                mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * READ_SIZE)
                transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, mine)
                wire = WebSocketTransport(transport, is_client=False, max_frame=MAX_FRAME, unfinished=budget)
                owner = Owner()
                wire.carry(owner)
                wire.pause_reading()
                ends.append((wire, owner, sock))
        for _, _, sock in ends:
            sock.setblocking(False)
            rest.append((sock, data[sock.send(data) :]))
            sock.settimeout(10)
        for wire, _, _ in ends:
            wire.resume_reading()
        sending = [asyncio.create_task(asyncio.to_thread(sock.sendall, left)) for sock, left in rest]
        try:
            await until(lambda: all(owner.why or len(owner.frames) == len(frames) for _, owner, _ in ends))
            assert [owner.why for _, owner, _ in ends] == [[]] * len(ends)
            assert all(owner.frames == frames for _, owner, _ in ends)
        finally:
            for wire, _, _ in ends:
                wire.abort()
            await asyncio.gather(*sending, return_exceptions=True)
            for _, owner, sock in ends:
                sock.close()
                await until(lambda owner=owner: owner.why)  # type: ignore[misc]
        assert budget.total == 0

    run(test)


def test_what_is_lost_is_free_at_once_without_the_garbage_collector() -> None:
    """Connections that come and go by the thousand leave nothing that is collected all at once."""

    async def lost() -> weakref.ref[asyncio.Transport]:
        async with connected(is_client=False, send_buffer=16_384) as (wire, owner, other):
            transport = weakref.ref(wire._transport)
            other.sock.close()
            await until(lambda: owner.why)
        return transport

    async def look() -> None:
        gc.collect()
        gc.disable()
        try:
            transport = await lost()
            await until(lambda: transport() is None)
        finally:
            gc.enable()

    asyncio.run(look())
