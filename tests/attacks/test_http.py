"""Rows 22 to 35: the HTTP layer. Each test bears the number of its row."""

import contextlib
import gzip
import select
import socket
import time
from typing import Any

import pytest

from co2.errors import RemoteFault
from co2.xmlrpc.reader import read_response
from tests.attacks.conftest import Target
from tests.attacks.raw import (
    PATIENCE,
    Reply,
    call,
    call_body,
    connected,
    exchange,
    is_closed,
    read_reply,
    request,
    send,
)
from tests.harness import wait_for

PING = call_body("ping")


def answer(target: Target, data: bytes) -> Reply:
    reply = exchange(target.port, data)
    assert reply is not None, "closed without an answer"
    return reply


def refused(target: Target, data: bytes, status: int) -> Reply:
    """It is answered with that status, says little, and the connection is closed.

    A client of XML-RPC shows nothing of 411, 413 and 415 to anybody: it gets a Fault, which has status 200.
    """
    reply = answer(target, data)
    if status in (411, 413, 415):
        with pytest.raises(RemoteFault) as caught:
            read_response(reply.body)
        assert caught.value.code == -32600
        assert reply.status == 200
    else:
        assert reply.status == status
        assert len(reply.body) < 200
    assert reply.closed
    assert reply.headers["x-content-type-options"] == "nosniff"
    return reply


@pytest.mark.parametrize("length", [2**20 + 1, 2**31, 10**18])
def test_row_22_too_long_by_content_length(target: Target, length: int) -> None:
    start = time.monotonic()
    refused(target, request(b"", f"Content-Length: {length}"), 413)
    assert time.monotonic() - start < 5


def test_row_22_the_answer_reaches_a_sender_that_is_still_sending(target: Target) -> None:
    refused(target, request(b"x" * (3 * 2**20)), 413)


def test_row_22_just_below_the_limit_is_read(target: Target) -> None:
    body = PING + b" " * (2**20 - len(PING))
    assert read_response(answer(target, request(body)).body) is True


@pytest.mark.parametrize(
    "length", ["-1", "+88", "8_8", "abc", "", "1 1", "0x10", "1,1", "1e3", "\u00b9", "9" * 20]
)
def test_row_23_content_lengths_that_are_none(target: Target, length: str) -> None:
    refused(target, request(PING, f"Content-Length: {length}"), 400)


def test_row_23_no_content_length(target: Target) -> None:
    refused(target, request(PING).replace(b"Content-Length", b"X-Length"), 411)


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Content-Length: 5"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: identity",),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: chunked, chunked",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding:\x0bchunked",),
    ],
)
def test_row_24_two_lengths(target: Target, headers: tuple[str, ...]) -> None:
    smuggled = b"0\r\n\r\n" + request(call_body("broken"))
    before = call(target.port, "co2.get_properties")["faults"].get("-32603", 0)
    refused(target, request(smuggled, *headers), 400)
    assert call(target.port, "co2.get_properties")["faults"].get("-32603", 0) == before


def test_row_24_chunked_in_http_1_0(target: Target) -> None:
    data = request(b"0\r\n\r\n", "Transfer-Encoding: chunked", first="POST / HTTP/1.0")
    refused(target, data, 400)


def test_a_call_in_http_1_0_needs_no_host(target: Target) -> None:
    """RFC 1945 has none, and no browser sends such a request: no name can have been bent to our address."""
    reply = answer(target, request(PING, first="POST / HTTP/1.0").replace(b"Host", b"X-Host"))
    assert (reply.status, read_response(reply.body)) == (200, True)
    assert reply.closed


@pytest.mark.parametrize(
    "data",
    [
        request(PING).replace(b"\r\n", b"\n"),
        request(PING).replace(b"\r\n", b"\r"),
        request(PING, "X-A: a\nX-B: b"),
        request(PING, "X-A: a\rX-B: b"),
        request(PING, "X-A: a\r\n folded"),
        request(PING, "X-A: a\r\n\tfolded"),
        request(PING, "X-A: a\x00b"),
        request(PING, "X-A : a"),
        request(PING, " X-A: a"),
        request(PING, "X-A"),
        request(PING, ": a"),
        request(PING, "X-\u00e9: a"),
        request(PING, "X-A: \x7f"),
        request(PING, "Host: 127.0.0.1", "Host: 127.0.0.1"),
        request(PING, "Host: 127.0.0.1", "Host: evil.example"),
        request(PING, "Content-Type: text/xml", "Content-Type: text/xml"),
        request(PING, "Host:"),
        request(PING, "Host: a b"),
        request(PING, "Host: a@127.0.0.1"),
        request(PING).replace(b"Host", b"X-Host"),
        request(PING, "Origin: http://127.0.0.1", first="POST / HTTP/1.0").replace(b"Host", b"X-Host"),
        request(PING, "Sec-Fetch-Site: none", first="POST / HTTP/1.0").replace(b"Host", b"X-Host"),
        request(first="GET / HTTP/1.0").replace(b"Host", b"X-Host"),
        request(PING, first="POST  / HTTP/1.1"),
        request(PING, first="POST / HTTP/1.1 "),
        request(PING, first=" POST / HTTP/1.1"),
        request(PING, first="POST /\x00 HTTP/1.1"),
        request(PING, first="POST /\u00e9 HTTP/1.1"),
        request(PING, first="post / HTTP/1.1"),
        request(PING, first="POST /"),
        request(PING, first="POST / http/1.1"),
        request(PING, first="POST http://127.0.0.1/ HTTP/1.1"),
        request(PING, first="POST / HTTP/1.1\r\nGET / HTTP/1.1"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 100,
    ],
)
def test_row_25_lines_that_are_none(target: Target, data: bytes) -> None:
    start = time.monotonic()
    refused(target, data, 400)
    assert time.monotonic() - start < target.limits.head_timeout, "it waited for the deadline"


def chunked(body: bytes) -> bytes:
    return request(body, "Transfer-Encoding: chunked")


def in_chunks(data: bytes, size: int) -> bytes:
    return b"".join(
        b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (data[i : i + size] for i in range(0, len(data), size))
    )


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_row_26_chunks_are_taken(target: Target, size: int) -> None:
    with connected(target.port) as sock:
        for _ in range(2):
            send(sock, chunked(in_chunks(PING, size) + b"0\r\n\r\n"))
            reply = read_reply(sock)
            assert reply is not None
            assert read_response(reply.body) is True


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"ffffffff\r\n", 413),
        (b"fffffffffffffffff\r\n", 400),
        (b"100001\r\n", 413),
        (in_chunks(b" " * 2**20, 2**19) + b"1\r\n", 413),
        (in_chunks(b" " * 4_097, 1), 400),
        (in_chunks(b" " * 1_000_000, 1), 400),
        (b"-1\r\n", 400),
        (b"+1\r\n", 400),
        (b"0x1\r\n", 400),
        (b"1_0\r\n", 400),
        (b" 1\r\n", 400),
        (b"1 \r\n", 400),
        (b"\r\n", 400),
        (b"1;ext=" + b"a" * 5, 400),
        (b"1\na\n", 400),
        (b"1\r\naX\r\n", 400),
        (b"2\r\nabc\r\n", 400),
        (b"0\r\nTrailer: a\r\n\r\n", 400),
    ],
)
def test_row_26_bad_chunks(target: Target, body: bytes, status: int) -> None:
    refused(target, chunked(body), status)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, identity", "x"])
def test_row_27_compressed_requests(target: Target, coding: str) -> None:
    bomb = gzip.compress(b" " * 20_000_000)
    refused(target, request(bomb, f"Content-Encoding: {coding}"), 415)


# Row 28, hostile servers, is in tests/xmlrpc/test_clients.py; row 41 too.


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(PING, f"X-A: {'a' * 65_000}"), 431),
        (request(PING, f"X-A: {'a' * 8_200}"), 431),
        (request(PING, *(f"X-{n}: a" for n in range(65))), 431),
        (request(PING, *(f"X-{n}: {'a' * 1_000}" for n in range(40))), 431),
        (b"POST / HTTP/1.1\r\nX-A: " + b"a" * 8_300, 431),
        (b"POST / HTTP/1.1\r\n" + b"X-A: a\r\n" * 5_000, 431),
        (request(PING, first=f"POST /{'a' * 8_200} HTTP/1.1"), 414),
        (b"POST /" + b"a" * 8_300, 414),
    ],
)
def test_row_29_big_heads(target: Target, data: bytes, status: int) -> None:
    refused(target, data, status)


def test_row_29_a_head_just_below_its_limits_is_read(target: Target) -> None:
    lines = [f"X-{n}: {'a' * 500}" for n in range(60)]
    assert answer(target, request(PING, *lines)).status == 200


@pytest.mark.parametrize(
    ("first", "status"),
    [
        ("TRACE / HTTP/1.1", 405),
        ("PUT / HTTP/1.1", 405),
        ("DELETE /RPC2 HTTP/1.1", 405),
        ("OPTIONS / HTTP/1.1", 405),
        ("OPTIONS * HTTP/1.1", 405),
        ("CONNECT evil.example:80 HTTP/1.1", 405),
        ("GET /RPC2 HTTP/1.1", 405),
        ("POST /broken HTTP/1.1", 405),
        ("BREW /RPC2 HTTP/1.1", 405),
        ("POST //RPC2 HTTP/1.1", 404),
        ("POST /rpc2 HTTP/1.1", 404),
        ("POST /RPC2/ HTTP/1.1", 404),
        ("POST /RPC2%00 HTTP/1.1", 404),
        ("GET //static/style.css HTTP/1.1", 404),
        ("GET /static/../../../../etc/passwd HTTP/1.1", 404),
        ("GET /%2e%2e/etc/passwd HTTP/1.1", 404),
        ("GET /unknown HTTP/1.1", 404),
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/0.9", 505),
    ],
)
def test_row_30_methods_and_paths(target: Target, first: str, status: int) -> None:
    reply = refused(target, request(b"", first=first), status)
    assert ("allow" in reply.headers) == (status == 405)


def test_row_30_pages_take_no_body(target: Target) -> None:
    refused(target, request(b"x", first="GET / HTTP/1.1"), 400)


def test_row_31_a_page_cannot_split_its_answer(target: Target) -> None:
    reply = answer(target, request(b"", first="GET /split?a%0d%0aSet-Cookie:b HTTP/1.1"))
    assert reply.status == 500
    assert "set-cookie" not in reply.headers


def connections(target: Target) -> int:
    count: int = call(target.port, "co2.get_properties")["connections"]
    return count


def test_row_32_idle_connections_of_one_address(target: Target) -> None:
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(connected(target.port))
        send(served, request(PING))
        assert read_reply(served) is not None
        idle = [stack.enter_context(connected(target.port)) for _ in range(300)]
        assert is_closed(idle[0], PATIENCE), "the oldest goes first"
        wait_for(lambda: connections(target) <= target.limits.max_newcomers_per_address + 2, "few are left")
        send(served, request(PING))
        assert read_reply(served) is not None, "who has sent a request stays"


def test_row_32_idle_connections_of_many_addresses(target: Target) -> None:
    most = target.limits.max_newcomers
    with contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(connected(target.port, source=f"127.0.1.{1 + number // 30}"))
            for number in range(most + 60)
        ]
        assert is_closed(idle[0], PATIENCE)
        wait_for(lambda: connections(target) <= most + 1, "few are left")
    wait_for(lambda: connections(target) <= 1, "all gone")


def test_row_33_a_head_that_never_ends(target: Target) -> None:
    with connected(target.port) as sock:
        send(sock, b"POST / HTTP/1.1\r\nHost: ")
        start = time.monotonic()
        reply = read_reply(sock)
    assert reply is not None
    assert reply.status == 408
    assert 0.5 * target.limits.head_timeout < time.monotonic() - start < target.limits.head_timeout + 2


def test_row_33_a_head_byte_by_byte_has_no_longer(target: Target) -> None:
    with connected(target.port) as sock:
        start = time.monotonic()
        send(sock, b"POST / HTTP/1.1\r\nX-A: ")
        while not select.select((sock,), (), (), target.limits.head_timeout / 10)[0]:
            send(sock, b"a")
        reply = read_reply(sock)
    assert reply is not None
    assert reply.status == 408
    assert time.monotonic() - start < target.limits.head_timeout + 2


def test_row_33_silence(target: Target) -> None:
    with connected(target.port) as sock:
        assert read_reply(sock) is None


@pytest.mark.parametrize("per_step", [1, 4_096], ids=["too slow", "too long"])
def test_row_33_a_body_that_takes_too_long(target: Target, per_step: int) -> None:
    with connected(target.port) as sock:
        start = time.monotonic()
        send(sock, request(b"", "Content-Length: 1000000"))
        while not select.select((sock,), (), (), 0.05)[0]:
            send(sock, b" " * per_step)
        reply = read_reply(sock)
    assert reply is not None
    assert reply.status == 408
    assert time.monotonic() - start < target.limits.body_timeout + 2


def test_row_33_others_are_served_meanwhile(target: Target) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            send(stack.enter_context(connected(target.port)), request(PING)[:-5])
        start = time.monotonic()
        assert call(target.port, "ping") is True
        assert time.monotonic() - start < 0.5


def dropped(target: Target, reason: str) -> int:
    count: int = call(target.port, "co2.get_properties")["dropped"].get(reason, 0)
    return count


def hangs_up(sock: socket.socket, seconds: float) -> bool:
    """Tell whether the connection is reset within that time, without reading from it."""
    poll = select.poll()
    poll.register(sock, select.POLLERR | select.POLLHUP)
    return bool(poll.poll(seconds * 1000))


def test_row_34_a_reader_that_never_reads(target: Target) -> None:
    body = call_body("test", "x" * 900_000)
    with connected(target.port, SO_RCVBUF=4096) as sock:
        sock.setblocking(False)
        before = dropped(target, "slow")
        data = request(body) * 8
        deadline = time.monotonic() + target.limits.write_timeout + 60
        while not hangs_up(sock, 0.02):
            assert time.monotonic() < deadline
            with contextlib.suppress(BlockingIOError, ConnectionError):
                data = data[sock.send(data) :]
        assert dropped(target, "slow") == before + 1


@pytest.mark.parametrize("many", [40])
def test_row_34_many_that_never_read(target: Target, many: int) -> None:
    data = request(call_body("test", "x" * 900_000))
    with contextlib.ExitStack() as stack:
        for _ in range(many):
            send(stack.enter_context(connected(target.port, SO_RCVBUF=4096)), data)
        assert call(target.port, "ping") is True


def multicall(target: Target, calls: list[Any]) -> Any:
    return call(target.port, "system.multicall", calls)


def test_row_35_multicall_is_bounded(target: Target) -> None:
    one = {"methodName": "ping", "params": []}
    assert len(multicall(target, [one] * 64)) == 64
    for calls in ([one] * 65, [one] * 2_000):
        with pytest.raises(RemoteFault) as caught:
            multicall(target, calls)
        assert caught.value.code == -32602
    refused(target, request(b" " * 19_000_000), 413)


def test_row_35_multicall_does_not_nest(target: Target) -> None:
    inner: list[Any] = [{"methodName": "ping", "params": []}]
    answers = multicall(target, [{"methodName": "system.multicall", "params": [inner]}])
    assert answers[0]["faultCode"] == -32600
