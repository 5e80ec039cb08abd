"""The JSON door of a server: its checks, its errors, and answers whose length is not known."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Iterator

import pytest

from co2.errors import Busy, CallTimeout
from co2.server.door.answers import LINES, DoorAnswer, DoorHandler, DoorRequest, json_answer
from co2.server.door.routes import ROUTES
from co2.server.http.limits import Limits
from tests.attacks.raw import Reply, connected, exchange, request
from tests.harness import wait_for
from tests.server.running import LOOPS, Running, running

LIMITS = Limits(write_timeout=0.5, write_rate=2**20, head_timeout=1.0, body_timeout=1.0, linger_timeout=0.3)
KIB = b"x" * 1023 + b"\n"


class Door:
    """Handlers that say what they were given."""

    def __init__(self) -> None:
        self.made = 0
        self.ended = 0
        self.more = threading.Event()

    def handlers(self) -> dict[str, DoorHandler]:
        return {"/api/send": self.send, "/api/call/": self.call, "/api/log": self.log, "/api/hosts": self.hosts}

    async def send(self, asked: DoorRequest) -> DoorAnswer:
        return json_answer({"body": asked.body, "lines": asked.is_lines, "local": asked.caller.is_local})

    async def call(self, asked: DoorRequest) -> DoorAnswer:
        match asked.rest:
            case "busy":
                raise Busy("try again")
            case "late":
                raise CallTimeout("late", 30)
            case "broken":
                raise KeyError("canary-secret")
        return json_answer({"rest": asked.rest, "query": dict(asked.query)})

    async def hosts(self, _asked: DoorRequest) -> DoorAnswer:
        return DoorAnswer(b"[" + b"1," * 1_000_000 + b"1]")

    async def log(self, asked: DoorRequest) -> DoorAnswer:
        pieces = self.pieces(asked.query)
        await anext(pieces)
        return DoorAnswer(content_type=LINES, pieces=pieces, is_endless="follow" in asked.query)

    async def pieces(self, query: object) -> AsyncGenerator[bytes, None]:
        assert isinstance(query, dict)
        try:
            yield b""
            for _ in range(int(query.get("max", "10"))):
                self.made += 1
                yield KIB
            if "fail" in query:
                raise KeyError("canary-secret")
            while "follow" in query:
                await asyncio.sleep(0.005)
                if self.more.is_set():
                    self.more.clear()
                    yield b"more\n"
        finally:
            self.ended += 1


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture(params=sorted(LOOPS))
def server(request: pytest.FixtureRequest, door: Door) -> Iterator[Running]:
    with running(request.param, limits=LIMITS, door=door.handlers()) as found:
        yield found


def post(path: str, body: bytes = b"1", *headers: str, host: str = "127.0.0.1") -> bytes:
    if not any(header.lower().startswith("content-type") for header in headers):
        headers = ("Content-Type: application/json", *headers)
    return request(body, *headers, first=f"POST {path} HTTP/1.1", host=host)


def get(path: str, *headers: str, version: str = "1.1", host: str = "127.0.0.1") -> bytes:
    return request(b"", *headers, first=f"GET {path} HTTP/{version}", host=host)


def asked(server: Running, data: bytes) -> Reply:
    reply = exchange(server.port, data)
    assert reply is not None
    return reply


def unchunked(data: bytes) -> tuple[bytes, bytes]:
    """Return a chunked body, and what is behind it."""
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        body, data = body + data[:count], data[count:]
        assert data.startswith(b"\r\n")
        data = data[2:]
        if not count:
            return body, data


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while end not in data:
        got = sock.recv(65536)
        assert got, data[-200:]
        data += got
    return data


def test_a_request_reaches_its_handler_with_what_it_needs(server: Running) -> None:
    reply = asked(server, post("/api/call/ham.spam%2Feggs?host=a&host=b&c=", b"[1]"))
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert json.loads(reply.body) == {"rest": "ham.spam/eggs", "query": {"host": "a", "c": ""}}
    reply = asked(server, post("/api/send", b"1", "Content-Type: application/x-ndjson; charset=UTF-8"))
    assert json.loads(reply.body) == {"body": {"$b": "MQ=="}, "lines": True, "local": True}
    assert "access-control-allow-origin" not in reply.headers


def test_a_connection_serves_json_xml_and_pages_in_turn(server: Running) -> None:
    with connected(server.port) as sock:
        for _ in range(2):
            sock.sendall(post("/api/send") + get("/") + request(b"") + post("/api/send"))
            kinds = []
            for _ in range(4):
                reply = read_one(sock)
                kinds.append(reply.headers["content-type"].partition(";")[0])
            assert kinds == ["application/json", "text/plain", "text/xml", "application/json"]


def read_one(sock: socket.socket) -> Reply:
    """Read one answer and no byte of the next one."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    body = b""
    while len(body) < int(headers["content-length"]):
        body += sock.recv(int(headers["content-length"]) - len(body))
    return Reply(int(lines[0].split()[1]), headers, body)


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (post("/api/send", b"1", "Content-Type: text/plain"), 415, "must be application/json or"),
        (post("/api/send", b"1", "Content-Type: application/x-www-form-urlencoded"), 415, "application/json"),
        (post("/api/send", b"1", "Content-Type:"), 415, "not nothing"),
        (post("/api/send", b"1", "Content-Type: text/xml"), 415, "application/json"),
        (post("/api/call/x", b"1", "Content-Type: application/x-ndjson"), 415, "application/json"),
        (post("/api/send", b"1", "Content-Type: application/json; charset=latin1"), 415, "UTF-8"),
        (post("/api/send", b"1", "Content-Encoding: gzip"), 415, "compressed"),
        (post("/api/send").replace(b"Content-Length", b"X-Length"), 411, "Content-Length"),
        (post("/api/send", b"1", "Content-Length: 1048577"), 413, "1048576"),
        (post("/api/send", b"1", "Origin: http://evil.example"), 403, "cross-origin"),
        (post("/api/send", b"1", "Origin: null"), 403, "cross-origin"),
        (post("/api/send", b"1", "Origin: http://127.0.0.1:1"), 403, "cross-origin"),
        (post("/api/send", b"1", "Sec-Fetch-Site: cross-site"), 403, "cross-site"),
        (get("/api/log", "Origin: http://evil.example"), 403, "cross-origin"),
        (get("/api/log", "Sec-Fetch-Site: cross-site"), 403, "cross-site"),
        (get("/api/log", "Sec-Fetch-Site: same-site"), 403, "cross-site"),
        (get("/api/log", host="evil.example"), 421, "allowed_hosts"),
        (get("/api/log", host=socket.gethostname()), 421, "over loopback"),
        (
            post("/api/send", b"1", f"Origin: http://{socket.gethostname()}", host=socket.gethostname()),
            421,
            "over",
        ),
        (get("/api/send"), 405, "/api/send takes POST only"),
        (post("/api/log"), 405, "/api/log takes GET only"),
        (request(b"", first="HEAD /api/hosts HTTP/1.1"), 405, "GET only"),
        (request(b"", first="OPTIONS /api/send HTTP/1.1"), 405, "POST only"),
        (get("/api/log", "Content-Length: 1"), 400, "cannot have a body"),
        (get("/api/nothing"), 404, "there are POST /api/send"),
        (get("/api/"), 404, "there are"),
        (post("/api/call/"), 404, "there are"),
        (post("/api/send", b"zz\r\n", "Transfer-Encoding: chunked"), 400, "chunk"),
        (post("/api/send", b"1", "Content-Length: 2"), 408, "took too long"),
    ],
    ids=lambda value: value.splitlines()[0].decode() if isinstance(value, bytes) else str(value),
)
def test_what_the_gate_refuses_is_refused_in_json(server: Running, data: bytes, status: int, says: str) -> None:
    if socket.gethostname() == "localhost":
        pytest.skip("this machine has no other name")
    reply = asked(server, data)
    assert reply.status == status, reply.body
    error = json.loads(reply.body)["error"]
    assert error["code"] in (-32600, -32701)
    assert says in error["text"]
    assert reply.closed
    assert "access-control-allow-origin" not in reply.headers


def test_programs_and_our_own_pages_get_in(server: Running) -> None:
    own = f"Origin: http://127.0.0.1:{server.port}"
    for data in (
        post("/api/send"),
        post("/api/send", b"1", own, "Sec-Fetch-Site: same-origin", host=f"127.0.0.1:{server.port}"),
        get("/api/hosts", "Sec-Fetch-Site: same-origin"),
        get("/api/hosts", "Sec-Fetch-Site: none"),
        post("/api/send", b"1", host=socket.gethostname()),  # a program: it sends no Origin
    ):
        assert asked(server, data).status == 200


@pytest.mark.parametrize(
    ("method", "status", "code", "says"),
    [
        ("busy", 503, -32600, "try again"),
        ("late", 504, 1007, "did not answer"),
        ("broken", 500, -32603, "internal"),
    ],
)
def test_an_error_of_a_handler(server: Running, method: str, status: int, code: int, says: str) -> None:
    reply = asked(server, post(f"/api/call/{method}"))
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (status, code)
    assert says in reply.body.decode()
    assert b"canary" not in reply.body
    assert not reply.closed


def test_a_route_that_this_role_lacks_says_where_it_is(server: Running) -> None:
    reply = asked(server, get("/api/status"))
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (404, -32601)
    assert "ask the relay" in reply.body.decode()


def test_a_long_answer_arrives_whole(server: Running) -> None:
    assert len(json.loads(asked(server, get("/api/hosts")).body)) == 1_000_001


def test_an_answer_of_unknown_length_is_chunked_and_the_connection_stays(server: Running, door: Door) -> None:
    with connected(server.port) as sock:
        for _ in range(2):
            sock.sendall(get("/api/log?max=100"))
            head, _, body = read_until(sock, b"\r\n0\r\n\r\n").partition(b"\r\n\r\n")
            assert b"Transfer-Encoding: chunked" in head
            assert b"Content-Length" not in head
            assert b"Content-Type: application/x-ndjson; charset=utf-8" in head
            assert unchunked(body) == (KIB * 100, b"")
    assert door.ended == 2


def test_a_client_of_http_1_0_gets_it_until_the_end_of_the_connection(server: Running) -> None:
    with connected(server.port) as sock:
        sock.sendall(get("/api/log?max=3", version="1.0"))
        data = b""
        while got := sock.recv(65536):
            data += got
    head, _, body = data.partition(b"\r\n\r\n")
    assert body == KIB * 3
    assert b"chunked" not in head


def test_who_closes_its_sending_side_gets_the_whole_answer(server: Running) -> None:
    with connected(server.port) as sock:
        sock.sendall(get("/api/log?max=100"))
        sock.shutdown(socket.SHUT_WR)
        data = b""
        while got := sock.recv(65536):
            data += got
    assert unchunked(data.partition(b"\r\n\r\n")[2]) == (KIB * 100, b"")


def test_no_more_is_made_than_the_other_side_reads(server: Running, door: Door) -> None:
    with connected(server.port, SO_RCVBUF=65536) as sock:
        sock.sendall(get("/api/log?max=50000"))
        wait_for(lambda: door.made > 10, "the first pieces")
        read = 0
        for _ in range(20):  # each pause is shorter than the deadline for reading
            read += len(sock.recv(65536))
            time.sleep(0.02)
        assert door.made * len(KIB) < read + 12 * 2**20, "far more was made than was read"
        # Nobody reads on: it is cut off, and its pieces end.
        wait_for(lambda: door.ended, "the reader is dropped")
    assert door.made < 50_000
    assert dict(server.server.dropped) == {"slow": 1}


def test_a_reader_that_follows_gets_what_comes_and_ends_when_it_hangs_up(server: Running, door: Door) -> None:
    with connected(server.port) as sock:
        sock.sendall(get("/api/log?max=1&follow=1"))
        read_until(sock, KIB)
        for _ in range(2):
            door.more.set()
            read_until(sock, b"more\n")
    wait_for(lambda: door.ended, "its pieces end")
    assert asked(server, post("/api/send")).status == 200


def test_an_error_in_the_middle_cuts_the_answer_off(server: Running, door: Door) -> None:
    with connected(server.port) as sock:
        sock.sendall(get("/api/log?max=3&fail=1"))
        data = b""
        try:
            while got := sock.recv(65536):
                data += got
        except ConnectionError:
            pass
    assert b"\r\n0\r\n" not in data
    assert b"canary" not in data
    assert server.server.dropped["failed"] == 1


def test_a_server_that_stops_ends_a_reader_that_follows(door: Door) -> None:
    with running("asyncio", limits=LIMITS, door=door.handlers()) as server, connected(server.port) as sock:
        sock.sendall(get("/api/log?max=1&follow=1"))
        read_until(sock, KIB)
        server.loop.call_soon_threadsafe(server.stop.set)
        with pytest.raises(ConnectionError):
            while sock.recv(65536):
                pass
            raise ConnectionResetError
    assert door.ended == 1


def test_without_handlers_there_is_no_door() -> None:
    with running("asyncio") as server:
        assert asked(server, get("/api/log")).status == 404


def test_every_route_has_a_verb() -> None:
    assert {route.verb for route in ROUTES} == {"send", "call", "see"}
    assert len({route.path for route in ROUTES}) == len(ROUTES)
