"""The deadlines of a connection at exactly their values, with a clock and a transport of the test."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest

from co2.server.http import connection as connection_module
from co2.server.http.connection import PIECE, Connection
from co2.server.http.limits import Limits
from co2.server.http.server import HttpServer, bind_socket
from co2.xmlrpc.introspection import add_introspection
from co2.xmlrpc.reader import read_response
from co2.xmlrpc.registry import Caller, Registry
from tests.attacks.raw import call_body, request

LIMITS = Limits(
    head_timeout=10.0, body_timeout=30.0, body_rate=1024, body_grace=5.0, write_timeout=10.0, write_rate=1000,
    idle_timeout=75.0, linger_timeout=2.0, max_pipelined=1000,
)  # fmt: skip
PING = request(call_body("ping"))
HOLD = request(call_body("hold"))
BEGAN = 1e9
"""Seconds at which the clock begins, far beyond the system's: the server's own looks change nothing."""


class Transport:
    """Keeps what is written, and lets the other side read it when a test says so."""

    def __init__(self) -> None:
        self.protocol: Connection
        self.sent = b""
        self.unread = 0
        self.high = 2**40
        self.is_paused = False
        self.is_reading = True
        self.ended = ""
        self.info: dict[str, Any] = {"peername": ("10.0.0.7", 4321), "sockname": ("10.0.0.1", 2003)}

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.sent += data
        self.unread += len(data)
        if self.unread > self.high and not self.is_paused:
            self.is_paused = True
            self.protocol.pause_writing()

    def read(self, size: int) -> None:
        self.unread -= size
        if self.is_paused and self.unread <= self.high // 4:
            self.is_paused = False
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.unread

    def get_extra_info(self, name: str) -> Any:
        return self.info.get(name)

    def is_closing(self) -> bool:
        return self.ended in ("closed", "aborted")

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def write_eof(self) -> None:
        self.ended = "eof"

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True


class Case:
    """One connection of a server, and the clock."""

    def __init__(self) -> None:
        self.now = BEGAN
        self.release = asyncio.Event()
        self.transport = Transport()
        registry = Registry()
        add_introspection(registry, lambda _caller: {})
        registry.add("hold", self._hold, help="", signatures=[])
        registry.add("who", self._who, help="", signatures=[])
        self.server = HttpServer(registry=registry, pages={}, limits=LIMITS, allowed_hosts=(), access_log=None)
        self.connection: Connection

    async def _hold(self, _params: Sequence[Any], _caller: Caller) -> bool:
        await self.release.wait()
        return True

    @staticmethod
    def _who(_params: Sequence[Any], caller: Caller) -> list[Any]:
        return [caller.address, caller.port]

    async def start(self) -> None:
        await self.server.start(bind_socket("127.0.0.1", 0, next_free=False))
        assert self.server._service is not None
        self.connection = self.transport.protocol = Connection(self.server._service)
        self.connection.connection_made(cast(asyncio.Transport, self.transport))

    def get(self, data: bytes) -> None:
        self.connection.data_received(data)

    def look(self, seconds: float) -> str:
        """Look at the deadline so many seconds after the beginning; return how the connection has ended, if so."""
        self.now = BEGAN + seconds
        self.connection.check(self.now)
        return self.transport.ended

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0)

    @property
    def unsent(self) -> int:
        assert self.server._service is not None
        return self.server._service.connections.unsent.total

    @property
    def unread(self) -> int:
        assert self.server._service is not None
        return self.server._service.connections.unread.total


Run = Callable[..., None]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def made(test: Callable[[Case], Awaitable[None]], prepare: Callable[[Case], object] | None = None) -> None:
        async def main() -> None:
            case = Case()
            monkeypatch.setattr(connection_module, "monotonic", lambda: case.now)
            if prepare is not None:
                prepare(case)
            await case.start()
            try:
                await test(case)
            finally:
                case.connection.connection_lost(None)
                await case.server.stop()

        asyncio.run(main())

    return made


def test_who_sends_nothing_is_closed_without_a_word(run: Run) -> None:
    async def test(case: Case) -> None:
        assert case.connection.idle_since == BEGAN
        assert case.look(9.999) == ""
        assert case.look(10.0) == "closed"
        assert case.transport.sent == b""
        assert case.connection.deadline == case.now + 10.0, "what is not read is waited for"
        assert case.look(19.999) == "closed"
        assert case.look(20.0) == "aborted"

    run(test)


@pytest.mark.parametrize("before", [b"", PING])
def test_a_head_has_its_time_from_its_first_byte_on(run: Run, before: bytes) -> None:
    async def test(case: Case) -> None:
        case.get(before)
        case.now = BEGAN + 4
        case.get(PING[:5])
        case.now = BEGAN + 8
        case.get(PING[5:9])
        assert case.connection.idle_since is None
        assert case.look(13.999) == ""
        assert case.look(14.0) == "eof"
        assert b"408" in case.transport.sent
        assert case.transport.sent.endswith(b"the request took too long\n")
        assert case.server.requests[408] == 1
        assert case.look(15.999) == "eof", "it has time to read that"
        assert case.look(16.0) == "aborted"

    run(test)


def test_empty_lines_give_no_more_time(run: Run) -> None:
    async def test(case: Case) -> None:
        for second in (3, 6, 9):
            case.now = BEGAN + second
            case.get(b"\r\n")
            assert case.connection.idle_since == BEGAN
        assert case.look(9.999) == ""
        assert case.look(10.0) == "closed"

    run(test)


def test_a_body_has_its_time_from_its_head_on(run: Run) -> None:
    async def test(case: Case) -> None:
        case.now = BEGAN + 1
        case.get(request(b"", "Content-Length: 100000") + b"x")
        assert case.unread == 1
        case.get(b"x" * 49_999)
        assert case.unread == 50_000
        assert case.connection.idle_since is None
        assert case.look(30.999) == ""
        assert case.look(31.0) == "eof"
        assert case.transport.sent.endswith(b"the request took too long\n")
        assert case.unread == 0

    run(test)


@pytest.mark.parametrize(
    ("received", "seconds", "ended"),
    [
        (1, 5.0, ""),  # grace
        (1, 5.001, "eof"),
        (6 * 1024, 6.0, ""),
        (6 * 1024 - 1, 6.0, "eof"),
    ],
)
def test_a_body_comes_at_the_least_rate_or_is_refused(run: Run, received: int, seconds: float, ended: str) -> None:
    async def test(case: Case) -> None:
        case.get(request(b"", "Content-Length: 100000") + b"x" * received)
        assert case.look(seconds) == ended
        if ended:
            assert b"408" in case.transport.sent
            assert case.transport.sent.endswith(b"the body is too slow; the minimum is 1024 bytes a second\n")

    run(test)


def test_between_two_requests_a_connection_is_kept_for_some_time(run: Run) -> None:
    async def test(case: Case) -> None:
        case.now = BEGAN + 2
        case.get(PING)
        assert case.connection.idle_since == BEGAN + 2
        assert case.look(76.999) == ""
        assert case.look(77.0) == "closed"

    run(test)


def test_an_answer_may_take_any_time_and_what_came_behind_it_has_its_own(run: Run) -> None:
    async def test(case: Case) -> None:
        case.get(HOLD + PING[:9])
        assert case.connection.idle_since is None
        assert case.look(1000.0) == ""
        case.release.set()
        await case.until(lambda: case.transport.sent)
        assert read_response(case.transport.sent.partition(b"\r\n\r\n")[2]) is True
        assert case.look(1009.999) == ""
        assert case.look(1010.0) == "eof"

    run(test)


@pytest.mark.parametrize(("size", "seconds"), [(100, 10.1), (5000, 15.0)])
def test_an_answer_that_nobody_reads_has_time_for_its_size(run: Run, size: int, seconds: float) -> None:
    async def test(case: Case) -> None:
        case.get(PING)
        case.transport.unread = size
        case.connection.pause_writing()
        assert case.unsent == size
        assert case.connection.idle_since is None
        assert case.look(seconds - 0.001) == ""
        assert case.look(seconds) == "aborted"
        assert case.server.dropped == {"slow": 1}
        assert case.unsent == 0

    run(test)


def test_a_long_answer_is_written_as_it_is_read_and_has_one_time_for_all_of_it(run: Run) -> None:
    async def test(case: Case) -> None:
        text = "x" * (5 * PIECE)
        case.transport.high = 2 * PIECE
        case.get(request(call_body("test", text))[:-9])
        case.get(request(call_body("test", text))[-9:] + PING)
        await case.until(lambda: case.transport.is_paused)
        head, _, body = case.transport.sent.partition(b"\r\n\r\n")
        assert len(body) < 3 * PIECE, "no more than the transport has room for"
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        whole = len(head) + 4 + length
        deadline = case.connection.deadline
        assert deadline - case.now == pytest.approx(10 + whole / 1000)
        assert case.unsent == case.transport.unread + length, "all of it is in memory until its last part is sent"
        written = len(case.transport.sent)
        case.now += 5
        case.transport.read(case.transport.unread)
        assert written < len(case.transport.sent) < whole
        assert case.connection.deadline == deadline, "reading a part gives no more time"
        assert case.unsent > length
        while len(case.transport.sent) < whole:
            case.transport.read(case.transport.unread)
        case.transport.read(case.transport.unread)
        await case.until(lambda: len(case.transport.sent) > whole)
        answers = case.transport.sent
        assert read_response(answers[len(head) + 4 : whole]) == text
        assert read_response(answers[whole:].partition(b"\r\n\r\n")[2]) is True, "the next one comes behind it"
        assert case.unsent == 0
        assert case.connection.deadline == case.now + 75

    run(test)


def test_what_is_read_ahead_is_limited_while_an_answer_is_under_way(run: Run) -> None:
    async def test(case: Case) -> None:
        case.get(HOLD)
        ahead = PING * 10
        case.get(ahead[:1000])
        assert case.transport.is_reading, "as much as allowed"
        case.get(ahead[1000:1001])
        assert not case.transport.is_reading
        case.release.set()
        await case.until(lambda: case.transport.sent.count(b"200 OK") == 1 + 1001 // len(PING))
        assert case.transport.is_reading

    run(test)


def test_the_end_of_the_input(run: Run) -> None:
    async def idle(case: Case) -> None:
        assert not case.connection.eof_received()
        assert case.transport.ended == "closed"
        assert case.transport.sent == b""

    async def in_a_request(case: Case) -> None:
        case.get(PING[:9])
        assert case.connection.eof_received(), "it is to read why"
        assert case.transport.ended == "eof"
        assert b" 400 " in case.transport.sent
        assert case.transport.sent.endswith(b"the connection ended in the middle of a request\n")

    async def in_an_answer(case: Case) -> None:
        case.get(HOLD)
        assert case.connection.eof_received()
        assert case.transport.ended == ""
        case.release.set()
        await case.until(lambda: case.transport.ended)
        assert case.transport.ended == "closed"
        assert case.transport.sent.count(b"200 OK") == 1

    async def while_an_answer_is_not_read(case: Case) -> None:
        case.transport.high = 10
        case.get(PING)
        assert case.connection.eof_received()
        assert case.transport.ended == ""
        case.transport.read(case.transport.unread)
        assert case.transport.ended == "closed"

    async def after_the_end(case: Case) -> None:
        case.look(10.0)
        assert not case.connection.eof_received()
        assert case.transport.sent == b""

    for test in (idle, in_a_request, in_an_answer, while_an_answer_is_not_read, after_the_end):
        run(test)


def test_the_end_of_the_server(run: Run) -> None:
    async def idle(case: Case) -> None:
        case.connection.end_after_answer()
        assert case.transport.ended == "closed"

    async def in_an_answer(case: Case) -> None:
        case.get(HOLD + PING)
        case.connection.end_after_answer()
        assert case.transport.ended == ""
        case.release.set()
        await case.until(lambda: case.transport.ended)
        assert case.transport.sent.count(b"200 OK") == 1, "no more after the one under way"
        assert b"connection: close" in case.transport.sent.lower()

    for test in (idle, in_an_answer):
        run(test)


def test_who_is_gone_is_answered_no_more(run: Run) -> None:
    async def test(case: Case) -> None:
        case.get(HOLD)
        case.connection.drop("unread", "for a test")
        assert case.transport.ended == "aborted"
        assert case.server.dropped == {"unread": 1}
        assert case.server.connections == 0
        case.release.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert case.transport.sent == b""
        case.get(PING)
        assert case.transport.sent == b""

    run(test)


@pytest.mark.parametrize(
    ("peer", "own", "caller"),
    [
        (("10.0.0.7", 4321), ("10.0.0.1", 2003), ["10.0.0.7", 4321, False]),
        (("127.0.0.1", 4321), ("127.0.0.1", 2003), ["127.0.0.1", 4321, True]),
        (("::1", 4321, 0, 0), ("::1", 2003, 0, 0), ["::1", 4321, True]),
        (("::ffff:127.0.0.1", 4321, 0, 0), ("::ffff:127.0.0.1", 2003, 0, 0), ["127.0.0.1", 4321, True]),
        (("2001:db8::7", 4321, 0, 0), ("2001:db8::1", 2003, 0, 0), ["2001:db8::7", 4321, False]),
        (None, None, ["0.0.0.0", 0, True]),  # gone already
    ],
)
def test_who_calls_and_whether_over_loopback(run: Run, peer: object, own: object, caller: list[object]) -> None:
    """There a browser gets in under names of loopback only."""

    def prepare(case: Case) -> None:
        case.transport.info = {"peername": peer, "sockname": own}

    async def test(case: Case) -> None:
        case.get(request(call_body("who")))
        assert read_response(case.transport.sent.partition(b"\r\n\r\n")[2]) == caller[:2]
        assert [case.connection.caller.address, case.connection.caller.port] == caller[:2]
        case.get(request(call_body("who"), "Origin: http://10.9.9.9", host="10.9.9.9"))
        assert (case.server.requests.get(421) == 1) is caller[2]

    run(test, prepare)


def test_answers_are_sent_without_delay(run: Run) -> None:
    with socket.socket() as sock:

        async def test(_case: Case) -> None:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

        run(test, lambda case: case.transport.info.update(socket=sock))
