"""What a socket has not taken: bytes in order, at the price of bytes, whatever transport they wait for."""

import asyncio
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from co2.unsent import PIECE, Unsent
from tests.server.running import LOOPS


class Protocol(asyncio.Protocol):
    """Passes on what the owner of an Unsent passes on."""

    unsent: Unsent | None = None
    is_over = False

    def resume_writing(self) -> None:
        if self.unsent is not None:
            self.unsent.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True


@asynccontextmanager
async def unsent(before: bytes = b"") -> AsyncIterator[tuple[Unsent, Protocol, socket.socket]]:
    """Return one that a transport has taken ``before`` ahead of, and the socket that is to read it all."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        theirs.setblocking(False)
        transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(Protocol, ours)
        if before:
            transport.write(before)
        protocol.unsent = Unsent(transport)
        protocol.unsent.begin()
        yield protocol.unsent, protocol, theirs
        if not protocol.is_over:
            transport.abort()
        while not protocol.is_over:
            await asyncio.sleep(0)


async def read(theirs: socket.socket, size: int) -> bytes:
    data = bytearray()
    async with asyncio.timeout(20):
        while len(data) < size:
            more = await asyncio.get_running_loop().sock_recv(theirs, 65_536)
            assert more, "it ended before that"
            data += more
    return bytes(data)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    def run_on_loop(test: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(test())  # type: ignore[arg-type]

    return run_on_loop


Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.mark.parametrize("before", [b"", b"<" * 100_000])
def test_all_of_it_comes_in_order_and_is_counted_until_then(run: Run, before: bytes) -> None:
    async def test() -> None:
        async with unsent(before) as (waiting, _, theirs):
            pieces = [bytes([number % 251]) * (number * 37 % 5000) for number in range(400)]
            whole = before + b"".join(pieces)
            waiting.add(pieces[:7])
            for piece in pieces[7:]:
                waiting.add((memoryview(piece),))
            assert waiting.waits
            assert len(whole) - 65_536 < waiting.size <= len(whole)
            assert await read(theirs, len(whole)) == whole
            while waiting.waits:
                await asyncio.sleep(0.001)
            assert waiting.size == 0
            waiting.add((b"ham",))
            assert await read(theirs, 3) == b"ham"

    run(test)


def test_a_transport_has_one_piece_at_a_time(run: Run) -> None:
    async def test() -> None:
        async with unsent() as (waiting, _, theirs):
            waiting.add((bytes(5 * PIECE),))
            left = 5 * PIECE
            while left:
                assert waiting._transport.get_write_buffer_size() <= PIECE
                left -= len(await read(theirs, 1))

    run(test)


def test_it_closes_once_all_is_written(run: Run) -> None:
    async def test() -> None:
        async with unsent() as (waiting, protocol, theirs):
            waiting.add((bytes(3 * PIECE),))
            waiting.close()
            for _ in range(100):  # turns in which it could
                await asyncio.sleep(0)
            assert not protocol.is_over
            assert len(await read(theirs, 3 * PIECE)) == 3 * PIECE
            assert await asyncio.get_running_loop().sock_recv(theirs, 1) == b""
        async with unsent() as (waiting, protocol, theirs):
            waiting.close()
            assert await asyncio.get_running_loop().sock_recv(theirs, 1) == b""

    run(test)


def test_of_a_transport_that_closes_nothing_waits(run: Run) -> None:
    async def test() -> None:
        async with unsent() as (waiting, protocol, _):
            waiting.add((bytes(3 * PIECE),))
            waiting._transport.abort()
            while not protocol.is_over:
                await asyncio.sleep(0)
            waiting.go_on()
            assert waiting.size == 0
            waiting.add((b"too late",))
            assert waiting.size == 0

    run(test)


def test_many_small_ones_cost_their_bytes_and_no_more_time_the_more_there_are(run: Run) -> None:
    """Python 3.13's own transport takes 20 times their bytes, and looks at all of them for each that is added."""

    async def test() -> None:
        async with unsent() as (waiting, _, _theirs):
            small = b"0123456789ab"

            def add(count: int) -> float:
                began = time.process_time()
                for _ in range(count):
                    waiting.add((small,))
                    assert waiting.size >= 0  # asked as often as something is added
                return time.process_time() - began

            add(5000)
            early = min(add(1000) for _ in range(5))
            tracemalloc.start()
            try:
                add(50_000)
                held, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert held < 1.5 * waiting.size
            assert min(add(1000) for _ in range(5)) < 10 * early

    run(test)
