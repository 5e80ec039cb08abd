"""Connections: order, keeping, pages among calls, disconnects, the end. On both event loops."""

import asyncio
import contextlib
import gc
import itertools
import logging
import re
import socket
import struct
import threading
import time
import xmlrpc.client
from collections.abc import Iterator

import pytest

from co2.errors import PeerError, RemoteFault
from co2.server.http.limits import Limits
from co2.server.http.server import AT_ONCE
from co2.server.rpc.answer_turns import AT_ONCE as TURN
from co2.server.rpc.answer_turns import STEP
from co2.server.rpc.endpoint import MAX_WAITING
from co2.web.headers import answer
from co2.web.page import PageAnswer, PageRequest
from co2.xmlrpc.reader import read_response
from tests.attacks.raw import Reply, call, call_body, connected, exchange, is_closed, read_reply, request, send
from tests.harness import wait_for
from tests.server.running import LOOPS, Running, running

PING = request(call_body("ping"))
GET = request(b"", first="GET /?a=b HTTP/1.1")


@pytest.fixture(params=LOOPS)
def loop_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(loop_name: str) -> Iterator[Running]:
    with running(loop_name) as found:
        yield found


def reply_of(sock: socket.socket) -> Reply:
    reply = read_reply(sock)
    assert reply is not None
    return reply


class Stream:
    """Reads answers that come one right after the other."""

    def __init__(self, sock: socket.socket) -> None:
        self._file = sock.makefile("rb")

    def next(self) -> tuple[int, bytes]:
        status = int(self._file.readline().split()[1])
        length = 0
        while (line := self._file.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, self._file.read(length)

    def close(self) -> None:
        self._file.close()


def reset(sock: socket.socket) -> None:
    """Have a connection reset where it is closed: its end is known to the other side at once."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_requests_sent_at_once_are_answered_in_order(server: Running) -> None:
    with connected(server.port) as sock, contextlib.closing(Stream(sock)) as stream:
        for n in range(3):
            send(sock, request(call_body("test", n)) + GET + request(call_body("hold")) + PING)
            server.let_go()
            assert read_response(stream.next()[1]) == n
            status, body = stream.next()
            assert (status, body[:9]) == (200, b"hello a=b")
            assert read_response(stream.next()[1]) is True
            assert read_response(stream.next()[1]) is True
    assert server.events == ["began", "ended"] * 3


def test_byte_by_byte_is_as_good_as_whole(server: Running) -> None:
    with connected(server.port) as sock, contextlib.closing(Stream(sock)) as stream:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GET + PING + b"\r\n" + PING:
            send(sock, bytes((byte,)))
        assert stream.next()[1].startswith(b"hello")
        assert read_response(stream.next()[1]) is True
        assert read_response(stream.next()[1]) is True


def test_the_standard_librarys_client_keeps_its_connection(server: Running) -> None:
    for path in ("", "/", "/RPC2"):
        with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{server.port}{path}") as proxy:
            assert [proxy.test(n) for n in range(3)] == [0, 1, 2]
    wait_for(lambda: server.server.connections == 0, "all closed")
    assert server.server.requests == {200: 9}
    assert server.server.calls == {"ok": 9, "fault": 0}


def test_head_of_a_page(server: Running) -> None:
    with connected(server.port) as sock:
        send(sock, request(b"", "Connection: close", first="HEAD / HTTP/1.1"))
        answer = b""
        while got := sock.recv(65536):
            answer += got
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"Content-Length: 1009" in answer or b"Content-Length: 1006" in answer


def test_headers_of_a_page(server: Running) -> None:
    reply = exchange(server.port, GET)
    assert reply is not None
    assert not reply.closed
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["server"] == "co2"


def test_the_query_of_a_page(server: Running) -> None:
    reply = exchange(server.port, request(b"", first="GET /?a=b%20c&d=&a=e HTTP/1.1"))
    assert reply is not None
    assert reply.body.startswith(b"hello a=b c&d=...")


def test_a_reader_that_goes_away_ends_its_page(loop_name: str) -> None:
    events: list[str] = []

    async def endless(_request: PageRequest) -> PageAnswer:
        events.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            events.append("ended")
        raise AssertionError

    with running(loop_name, pages={"/": endless}) as server:
        with connected(server.port) as sock:
            send(sock, GET)
            wait_for(lambda: events == ["began"])
            reset(sock)
        wait_for(lambda: events == ["began", "ended"])
        wait_for(lambda: server.server.connections == 0)


def test_an_upgrade_is_not_offered(server: Running) -> None:
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAA")
    with connected(server.port) as sock, contextlib.closing(Stream(sock)) as stream:
        send(sock, request(b"", *upgrade, first="GET / HTTP/1.1") + PING)
        assert stream.next()[0] == 200
        assert read_response(stream.next()[1]) is True


@pytest.mark.parametrize(
    ("first", "header", "kept"),
    [
        ("POST / HTTP/1.1", "X-A: b", True),
        ("POST / HTTP/1.1", "Connection: close", False),
        ("POST / HTTP/1.1", "Connection: x, Close", False),
        ("POST / HTTP/1.0", "X-A: b", False),
        ("POST / HTTP/1.0", "Connection: keep-alive", True),
        ("GET / HTTP/1.1", "X-A: b", True),
        ("GET / HTTP/1.1", "Connection: close", False),
        ("GET / HTTP/1.0", "X-A: b", False),
    ],
)
def test_who_keeps_a_connection(server: Running, first: str, header: str, kept: bool) -> None:
    with connected(server.port) as sock:
        send(sock, request(b"" if "GET" in first else call_body("ping"), header, first=first))
        assert reply_of(sock).status == 200
        assert is_closed(sock, 0.1 if kept else 10) is not kept


def test_a_sender_that_asks_first_is_told_to_go_on(server: Running) -> None:
    body = call_body("ping")
    head = request(body, "Expect: 100-continue")[: -len(body)]
    with connected(server.port) as sock:
        send(sock, head)
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        send(sock, body)
        assert read_response(reply_of(sock).body) is True
    refused = exchange(server.port, head.replace(b"Length: ", b"Length: 99999999"))
    assert refused is not None
    with pytest.raises(RemoteFault, match="body larger than"):
        read_response(refused.body)


def test_who_closes_its_sending_side_behind_a_request_gets_the_answer(server: Running) -> None:
    with connected(server.port) as sock:
        send(sock, request(call_body("hold")) + PING)
        sock.shutdown(socket.SHUT_WR)
        wait_for(lambda: server.events == ["began"])
        assert not is_closed(sock, 0.2)
        server.let_go()
        stream = Stream(sock)
        assert read_response(stream.next()[1]) is True
        assert read_response(stream.next()[1]) is True, "and what it sent behind it too"
        assert is_closed(sock, 10)
    assert server.events == ["began", "ended"]


def test_who_closes_its_sending_side_behind_a_request_gets_the_page(server: Running) -> None:
    with connected(server.port) as sock:
        send(sock, GET)
        sock.shutdown(socket.SHUT_WR)
        assert b"hello" in Stream(sock).next()[1]
        assert is_closed(sock, 10)


def test_half_a_request_behind_one_that_is_answered_is_refused(server: Running) -> None:
    with connected(server.port) as sock:
        send(sock, request(call_body("hold")) + PING[:-5])
        sock.shutdown(socket.SHUT_WR)
        wait_for(lambda: server.events == ["began"])
        server.let_go()
        assert reply_of(sock).status == 200
        wait_for(lambda: server.server.requests.get(400) == 1)


def test_line_ends_between_requests_give_no_more_time(loop_name: str) -> None:
    limits = Limits(idle_timeout=0.6, head_timeout=0.6)
    with running(loop_name, limits=limits) as server:
        for first in (b"", PING):
            with connected(server.port) as sock:
                if first:
                    send(sock, first)
                    assert reply_of(sock).status == 200
                closed_by, closed = time.monotonic() + 15, False
                for half in itertools.cycle((b"\r\n", b"\r", b"\n")):
                    send(sock, half)
                    if closed := is_closed(sock, 0.1):
                        break
                    assert time.monotonic() < closed_by, "it is kept"
                assert closed


def test_a_request_behind_a_line_end_has_its_time(loop_name: str) -> None:
    with running(loop_name, limits=Limits(head_timeout=5.0)) as server, connected(server.port) as sock:
        send(sock, b"\r\n")
        send(sock, PING)
        assert reply_of(sock).status == 200


def test_an_address_has_its_share_and_calls_that_wait_give_way(loop_name: str) -> None:
    given: list[tuple[str, int]] = []
    waiting: list[socket.socket] = []
    limits = Limits(max_connections=40, max_over=2)

    def give_way(source: str) -> tuple[str, int]:
        assert source == "loopback"
        given.append(waiting[len(given)].getsockname())
        return given[-1]

    with running(loop_name, limits=limits, gives_way=give_way) as server, contextlib.ExitStack() as stack:
        busy = [stack.enter_context(connected(server.port)) for _ in range(20)]
        waiting += busy
        for sock in busy:
            send(sock, request(call_body("hold")))
        wait_for(lambda: server.events == ["began"] * 20)
        more = [stack.enter_context(connected(server.port)) for _ in range(2)]
        for sock in more:
            send(sock, request(call_body("hold")))
        wait_for(lambda: server.events == ["began"] * 22)
        assert len(given) == 2
        with contextlib.suppress(ConnectionResetError):  # also before it is known here that there is one
            assert is_closed(stack.enter_context(connected(server.port)), 10), "no more than so many over it"
        wait_for(lambda: server.server.dropped == {"share": 1})
        server.let_go()
        for sock in (*busy, *more):
            reply = reply_of(sock)
            assert read_response(reply.body) is True
            assert (reply.headers["connection"] == "close") == (sock.getsockname() in given)


def test_many_at_once_that_have_something_to_say_are_all_heard(loop_name: str) -> None:
    with running(loop_name) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(server.port)) for _ in range(200)]
        for sock in clients:
            send(sock, PING)
        for sock in clients:
            assert read_response(reply_of(sock).body) is True
        assert server.server.dropped == {}


def test_a_caller_that_goes_away_ends_its_call(server: Running) -> None:
    with connected(server.port) as sock:
        send(sock, request(call_body("hold")))
        wait_for(lambda: server.events == ["began"])
        reset(sock)
    wait_for(lambda: server.events == ["began", "cancelled"])
    wait_for(lambda: server.server.connections == 0)


def test_a_result_that_cannot_be_written_is_an_internal_error(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Exception, match=r"internal error [0-9a-f]{8}"):
        call(server.port, "odd")
    assert "cannot be written" in caplog.text
    assert server.server.faults == {-32603: 1}


def test_a_big_page_comes_whole_to_a_slow_reader(server: Running) -> None:
    with connected(server.port, SO_RCVBUF=4096) as sock:
        send(sock, request(b"", first="GET /big HTTP/1.1") + PING)
        stream = Stream(sock)
        assert len(stream.next()[1]) == 3_000_000
        assert read_response(stream.next()[1]) is True
        stream.close()


def test_only_so_much_is_read_ahead(server: Running) -> None:
    with connected(server.port, SO_SNDBUF=8192) as sock:
        send(sock, request(call_body("hold")))
        wait_for(lambda: server.events == ["began"])
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            sock.sendall(PING * 200_000)


WORK = request(call_body("work"))


@contextlib.contextmanager
def drained(sock: socket.socket) -> Iterator[None]:
    """Have somebody read all that comes over a connection."""

    def drain() -> None:
        with contextlib.suppress(OSError):
            while sock.recv(1024 * 1024):
                pass

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        yield
    finally:
        sock.shutdown(socket.SHUT_RDWR)
        reader.join()


@pytest.mark.parametrize("data", [WORK, GET], ids=["calls", "pages"])
def test_only_so_much_is_read_ahead_while_one_after_the_other_is_answered(server: Running, data: bytes) -> None:
    with connected(server.port) as sock, drained(sock):
        sock.settimeout(2)
        with pytest.raises(TimeoutError):
            sock.sendall(data * (60_000_000 // len(data)))


@pytest.mark.parametrize("data", [PING, b"x"], ids=["whole", "half"])
def test_only_so_much_is_read_ahead_of_who_reads_no_answers(server: Running, data: bytes) -> None:
    with connected(server.port, SO_RCVBUF=4096) as sock:
        send(sock, request(b"", first="GET /huge HTTP/1.1"))
        wait_for(lambda: server.server.requests == {200: 1})
        sock.settimeout(2)
        with pytest.raises(TimeoutError):
            sock.sendall(data * (60_000_000 // len(data)))


def test_many_requests_of_one_connection_do_not_hold_up_others(server: Running) -> None:
    with connected(server.port) as sock, contextlib.closing(Stream(sock)) as stream:
        send(sock, WORK * 200)
        wait_for(lambda: server.events)
        assert call(server.port, "ping") is True
        assert len(server.events) < 100
        assert [read_response(stream.next()[1]) for _ in range(200)] == [True] * 200


def _work() -> None:
    end = time.monotonic() + 2 * TURN
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize("what", ["pages", "calls"])
def test_what_many_connections_have_sent_ahead_is_begun_one_after_the_other(loop_name: str, what: str) -> None:
    begun = 0
    at_ticks: list[int] = []

    async def page(_request: PageRequest) -> PageAnswer:
        nonlocal begun
        begun += 1
        _work()
        return answer(b"done", "text/plain")

    with running(loop_name, pages={"/": page}) as server, contextlib.ExitStack() as stack:

        async def in_a_task(_params: object, _caller: object) -> bool:
            nonlocal begun
            begun += 1
            _work()
            return True

        server.registry.add("in_a_task", in_a_task, help="", signatures=[])

        def tick() -> None:
            at_ticks.append(begun)
            if begun < 400:
                server.loop.call_soon(tick)

        socks = [stack.enter_context(connected(server.port)) for _ in range(20)]
        data = GET if what == "pages" else request(call_body("in_a_task"))
        for sock in socks:
            stack.enter_context(drained(sock))
        server.loop.call_soon_threadsafe(tick)
        for sock in socks:
            send(sock, data * 20)
        wait_for(lambda: begun == 400)
    behind = [after - before for before, after in itertools.pairwise(at_ticks) if before >= 100]
    assert max(behind) <= 3, "of those that are begun in one turn nobody knows how long they take"


def test_a_long_request_behind_many_that_take_all_of_a_turn_comes_in(server: Running) -> None:
    with connected(server.port) as sock, contextlib.closing(Stream(sock)) as stream:
        send(sock, WORK * 50 + request(call_body("test", "x" * 900_000)) + PING)
        assert [read_response(stream.next()[1]) for _ in range(50)] == [True] * 50
        assert len(read_response(stream.next()[1])) == 900_000
        assert read_response(stream.next()[1]) is True


def test_long_requests_do_not_hold_up_others(server: Running) -> None:
    """Each takes ten milliseconds and more; between two of them a message would wait for all of that."""
    value = [["x" * 80] * 90] * 100
    spent: list[float] = []
    ended = threading.Event()

    def tick() -> None:
        spent.append(time.thread_time())  # of the loop's thread: a busy machine makes no difference
        if not ended.is_set():
            server.loop.call_soon(tick)

    body = call_body("test", value)
    assert read_response(reply_of_one(server, body)) == value
    server.loop.call_soon_threadsafe(tick)
    assert read_response(reply_of_one(server, body)) == value
    ended.set()
    turns = [after - before for before, after in itertools.pairwise(spent)]
    long = [turn for turn in turns if turn > STEP / 2]
    assert len(long) > 5
    assert max(long) < sum(long) / 3


def reply_of_one(server: Running, body: bytes) -> bytes:
    with connected(server.port) as sock:
        send(sock, request(body))
        return reply_of(sock).body


def test_long_requests_at_once_are_all_answered_and_errors_in_them_too(server: Running) -> None:
    long = "x" * (MAX_WAITING // 10)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connected(server.port)) for _ in range(20)]
        for number, sock in enumerate(socks):
            send(sock, request(call_body("test" if number % 2 else "no.such", long)))
        for number, sock in enumerate(socks):
            body = reply_of(sock).body
            if number % 2:
                assert read_response(body) == long
            else:
                with pytest.raises(RemoteFault, match=r"no\.such"):
                    read_response(body)


def test_who_closes_its_sending_side_behind_many_requests_gets_all_answers(server: Running) -> None:
    with connected(server.port) as sock, contextlib.closing(Stream(sock)) as stream:
        send(sock, WORK * 50)
        sock.shutdown(socket.SHUT_WR)
        assert [read_response(stream.next()[1]) for _ in range(50)] == [True] * 50
        assert is_closed(sock, 5)


def test_who_waits_for_its_turn_does_not_hold_up_the_end(loop_name: str) -> None:
    with running(loop_name, limits=Limits(stop_timeout=60.0)) as server, connected(server.port) as sock:
        send(sock, WORK * 300 + PING[:-3])
        wait_for(lambda: server.events)
        server.loop.call_soon_threadsafe(server.stop.set)
        with drained(sock):
            wait_for(lambda: server.server.connections == 0)
        assert len(server.events) < 300


def test_who_goes_before_a_long_answer_causes_no_lines_of_the_log(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with connected(server.port) as sock:
        send(sock, request(call_body("stall")))
        wait_for(lambda: server.events == ["stalled"])
        reset(sock)
    server.stalled.set()  # the end of the connection is found by writing to it
    wait_for(lambda: server.server.connections == 0)
    assert "socket.send() raised exception" not in caplog.text


def test_who_has_asked_is_not_closed_because_nobody_has_had_time_to_read_it(loop_name: str) -> None:
    with running(loop_name, limits=Limits(head_timeout=0.2)) as server, connected(server.port) as sock:
        wait_for(lambda: server.server.connections == 1)
        service = server.server._service
        assert service is not None
        transport = next(iter(service.connections))._transport  # type: ignore[attr-defined]
        server.loop.call_soon_threadsafe(transport.pause_reading)  # as behind many others
        wait_for(lambda: not transport.is_reading())
        send(sock, PING)
        assert not is_closed(sock, 1.0)
        server.loop.call_soon_threadsafe(transport.resume_reading)
        assert read_response(reply_of(sock).body) is True


def test_who_is_refused_while_it_sends_has_time_to_read_why(loop_name: str) -> None:
    with (
        running(loop_name, limits=Limits(linger_timeout=30.0, idle_timeout=0.1)) as server,
        connected(server.port) as refused,
        connected(server.port) as idle,
    ):
        send(refused, b"what is this\r\n\r\n")
        assert reply_of(refused).status == 400
        send(idle, PING)
        assert reply_of(idle).status == 200
        assert is_closed(idle, 5)  # deadlines have been looked at since
        for _ in range(3):
            refused.sendall(b"the rest of it\r\n")


def test_idle_connections_are_closed(loop_name: str) -> None:
    with running(loop_name, limits=Limits(idle_timeout=0.2)) as server, connected(server.port) as sock:
        send(sock, PING)
        assert reply_of(sock).status == 200
        assert is_closed(sock, 5)


def test_all_connections_together_are_limited_and_the_idle_go_first(loop_name: str) -> None:
    with (
        running(loop_name, limits=Limits(max_connections=5, loopback_share=1.0)) as server,
        contextlib.ExitStack() as stack,
    ):
        busy, *idle = [stack.enter_context(connected(server.port)) for _ in range(5)]
        send(busy, request(call_body("hold")))
        wait_for(lambda: server.events == ["began"])
        for sock in idle:
            send(sock, PING)
            assert reply_of(sock).status == 200
        more = stack.enter_context(connected(server.port))
        send(more, PING)
        assert reply_of(more).status == 200
        assert is_closed(idle[0], 10)
        assert not is_closed(idle[1], 0.01)
        server.let_go()
        assert read_response(reply_of(busy).body) is True
        assert server.server.dropped == {"full": 1}


def test_bodies_that_are_not_complete_are_limited_together(loop_name: str) -> None:
    limits = Limits(max_unread=1_000_000)
    with running(loop_name, limits=limits) as server, contextlib.ExitStack() as stack:
        senders = [stack.enter_context(connected(server.port)) for _ in range(3)]
        for sock in senders:
            send(sock, request(b"", "Content-Length: 900000") + b" " * 450_000)
        assert is_closed(senders[0], 10)
        wait_for(lambda: server.server.dropped == {"unread": 1})


def test_answers_that_nobody_reads_are_limited_together(loop_name: str) -> None:
    limits = Limits(max_unsent=1_000_000)
    data = request(b"", first="GET /huge HTTP/1.1")
    with running(loop_name, limits=limits) as server, contextlib.ExitStack() as stack:
        for _ in range(30):
            send(stack.enter_context(connected(server.port, SO_RCVBUF=4096)), data)
        wait_for(lambda: server.server.dropped.get("unsent", 0) > 0)
        assert call(server.port, "ping") is True


@pytest.mark.parametrize("end", ["keep-alive", "close"])
def test_a_long_answer_comes_whole_however_it_is_read(loop_name: str, end: str) -> None:
    with running(loop_name) as server, connected(server.port, SO_RCVBUF=4096) as sock:
        send(sock, request(b"", f"Connection: {end}", first="GET /big HTTP/1.1") + PING)
        came = bytearray()
        sock.settimeout(10)
        while not came.endswith(b"\r\n\r\n"):
            came += sock.recv(1)
        left = 3_000_000
        while left:
            data = sock.recv(min(left, len(came) % 70_000 + 1))  # in pieces of all sizes
            assert data, "it ends in the middle"
            came += data
            left -= len(data)
        assert came.endswith(b"\r\n\r\n" + b"x" * 3_000_000)
        if end == "close":
            assert is_closed(sock, 10)
        else:
            assert read_response(reply_of(sock).body) is True


def test_who_reads_a_long_answer_bit_by_bit_has_no_more_time_than_for_the_whole_of_it(loop_name: str) -> None:
    async def huge(_request: PageRequest) -> PageAnswer:
        return answer(b"x" * 30_000_000, "application/octet-stream")  # more than sockets hold

    limits = Limits(write_timeout=2.0, write_rate=30_000_000)
    pages = {"/huge": huge}
    with running(loop_name, limits=limits, pages=pages) as server, connected(server.port, SO_RCVBUF=65536) as sock:
        send(sock, request(b"", first="GET /huge HTTP/1.1"))
        deadline = time.monotonic() + 10
        while not server.server.dropped.get("slow"):
            assert time.monotonic() < deadline
            with contextlib.suppress(ConnectionError):
                sock.recv(16_384)
            time.sleep(0.02)  # some 800 KB a second, far less than is asked for


def test_stopping_lets_an_answer_out_and_ends_the_rest(loop_name: str) -> None:
    with running(loop_name) as server, contextlib.ExitStack() as stack:
        busy, idle, new, half = [stack.enter_context(connected(server.port)) for _ in range(4)]
        send(busy, request(call_body("hold")))
        send(idle, PING)
        send(half, PING[:-3])
        assert reply_of(idle).status == 200
        wait_for(lambda: server.events == ["began"])
        server.loop.call_soon_threadsafe(server.stop.set)
        for sock in (idle, new, half):
            assert is_closed(sock, 5)
        server.let_go()
        reply = reply_of(busy)
        assert read_response(reply.body) is True
        assert reply.headers["connection"] == "close"


def test_stopping_waits_no_longer_than_it_says(loop_name: str) -> None:
    start = time.monotonic()
    with running(loop_name, limits=Limits(stop_timeout=0.2)) as server:
        sock = socket.create_connection(("127.0.0.1", server.port))
        send(sock, request(call_body("hold")))
        wait_for(lambda: server.events == ["began"])
    assert server.events == ["began", "cancelled"]
    assert time.monotonic() - start < 5
    sock.close()


def test_one_line_a_request_in_the_access_log(loop_name: str, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("test.access")
    with caplog.at_level(logging.INFO, "test.access"), running(loop_name, access_log=logger) as server:
        call(server.port, "ping")
        exchange(server.port, GET)
        exchange(server.port, request(b"garbage"))
    lines = [line for record in caplog.records for line in getattr(record, "lines", ())]
    told = [re.sub(r"^\S+ \S+ | [0-9.]+ ms$", "", line) for line in lines]
    assert [re.sub(r"\d+$", "n", line) for line in told] == [
        "127.0.0.1 POST ping 200 n",
        "127.0.0.1 GET / 200 n",
        "127.0.0.1 POST - 200 n",
    ]


def test_those_that_come_at_once_are_accepted_some_at_a_time() -> None:
    turns: list[int] = []
    with running("asyncio") as server, contextlib.ExitStack() as stack:
        go_on = threading.Event()
        service = server.server._service
        assert service is not None

        async def count_turns() -> None:
            while len(service.connections) < 100:
                turns.append(len(service.connections))
                await asyncio.sleep(0)

        server.loop.call_soon_threadsafe(go_on.wait, 20)
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
        counted = asyncio.run_coroutine_threadsafe(count_turns(), server.loop)
        go_on.set()
        counted.result(20)
    assert max(after - before for before, after in itertools.pairwise(turns)) <= AT_ONCE


@pytest.mark.parametrize("method", ["refuses_later", "system.multicall", "refuses"])
def test_an_error_that_was_answered_does_not_wait_for_the_garbage_collector(server: Running, method: str) -> None:
    class OnlyHere(PeerError):
        """An error that nobody else raises."""

    async def later(_params: object, _caller: object) -> None:
        await asyncio.sleep(0)
        raise OnlyHere("no")

    def at_once(_params: object, _caller: object) -> None:
        raise OnlyHere("no")

    server.registry.add("refuses_later", later, help="", signatures=[])
    server.registry.add("refuses", at_once, help="", signatures=[])
    gc.disable()
    try:
        for _ in range(3):
            if method == "system.multicall":
                assert call(server.port, method, [{"methodName": "refuses_later", "params": []}])[0]["faultCode"]
            else:
                with pytest.raises(RemoteFault):
                    call(server.port, method)
        wait_for(
            lambda: not [one for one in gc.get_objects() if isinstance(one, OnlyHere)], "errors that are freed"
        )
    finally:
        gc.enable()
