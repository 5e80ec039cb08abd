"""Both clients: the same results, and the same errors for servers that mean harm."""

import asyncio
import gzip
import http.client as http_client
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from co2.errors import AnswerTooBig, BadRequest, CallTimeout, ParseError, PeerError, RemoteFault, Unreachable
from co2.xmlrpc import client as client_module
from co2.xmlrpc.answers import AnswerLimit
from co2.xmlrpc.client import PARSED_BESIDE, RpcClient
from co2.xmlrpc.reader import MAX_RESPONSE_VALUES, read_response
from co2.xmlrpc.simple_client import SimpleClient
from co2.xmlrpc.writer import WrittenValue, write_fault, write_response, write_value
from tests.xmlrpc.hostile import hostile, http

LIMIT = 100_000
Call = Callable[..., Any]


def through_aiohttp(url: str, method: str, *params: Any, timeout: float = 10) -> Any:
    async def run() -> Any:
        client = RpcClient()
        try:
            limit = AnswerLimit(LIMIT, MAX_RESPONSE_VALUES)
            return await client.call(url, method, *params, timeout=timeout, limit=limit)
        finally:
            await client.close()

    return asyncio.run(run())


def through_http_client(url: str, method: str, *params: Any, timeout: float = 10) -> Any:
    with SimpleClient(url, timeout, max_response=LIMIT) as client:
        return client.call(method, *params)


@pytest.fixture(params=[through_aiohttp, through_http_client])
def call(request: pytest.FixtureRequest) -> Call:
    found: Call = request.param
    return found


GOOD = write_response(write_value({"a": [1, "x"]}))


@pytest.mark.parametrize("content_type", ["text/xml", "text/xml; charset=utf-8", "application/xml"])
def test_a_result(call: Call, content_type: str) -> None:
    with hostile(http(GOOD, content_type=content_type)) as server:
        assert call(server.url, "ping", {"data": 1}) == {"a": [1, "x"]}
    request = server.requests[0].lower()
    assert request.startswith(b"post /rpc2 http/1.1\r\n")
    assert b"content-type: text/xml\r\n" in request
    assert b"accept-encoding: identity\r\n" in request


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "415 Unsupported"])
def test_a_fault(call: Call, status: str) -> None:
    with hostile(http(write_fault(7, "no"), status=status)) as server, pytest.raises(RemoteFault) as caught:
        call(server.url, "ping")
    assert (caught.value.code, caught.value.text) == (7, "no")


def test_the_path_of_a_url_is_kept(call: Call) -> None:
    with hostile(http(GOOD)) as server:
        call(f"{server.url}/xml", "ping")
    assert server.requests[0].startswith(b"POST /xml ")


@pytest.mark.parametrize(
    "answer",
    [
        http(b"not xml"),
        http(b""),
        http(GOOD, content_type="text/html"),
        http(GOOD, content_type=""),
        http(GOOD, status="400 Bad Request", content_type="text/html"),
        http(b"x", status="413 Too Large", content_type="text/plain"),
        http(b"x" * (LIMIT + 1)),
        http(b"x", f"Content-Length: {2**40}"),
        http(b"%x\r\n%b\r\n0\r\n\r\n" % (LIMIT + 1, b"x" * (LIMIT + 1)), "Transfer-Encoding: chunked"),
        http(gzip.compress(b" " * 20_000_000), "Content-Encoding: gzip"),
        http(GOOD, "Content-Encoding: deflate"),
        http(b'<!DOCTYPE a [<!ENTITY b "c">]>' + GOOD),
    ],
)
def test_answers_that_are_no_xml_rpc(call: Call, answer: bytes) -> None:
    start = time.monotonic()
    with hostile(answer) as server, pytest.raises(ParseError) as caught:
        call(server.url, "ping")
    assert time.monotonic() - start < 5
    assert len(str(caught.value)) < 300


def whole(body: bytes) -> bytes:
    return http(body)


def in_chunks(body: bytes) -> bytes:
    return http(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), "Transfer-Encoding: chunked")


@pytest.mark.parametrize("sent", [whole, in_chunks])
def test_an_answer_at_the_limit_is_read_and_one_beyond_it_is_not(
    call: Call, sent: Callable[[bytes], bytes]
) -> None:
    with hostile(sent(GOOD.ljust(LIMIT))) as server:
        assert call(server.url, "ping") == {"a": [1, "x"]}
    with (
        hostile(sent(GOOD.ljust(LIMIT + 1))) as server,
        pytest.raises(AnswerTooBig, match=f"more than {LIMIT} bytes"),
    ):
        call(server.url, "ping")


def test_an_answer_that_ends_too_early(call: Call) -> None:
    with hostile(http(GOOD[:50], f"Content-Length: {len(GOOD)}"), close=True) as server, pytest.raises(ParseError):
        call(server.url, "ping")


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_redirects_are_not_followed(call: Call, status: str) -> None:
    with hostile(http(GOOD)) as elsewhere:
        answer = http(b"", f"Location: {elsewhere.url}/RPC2", status=status)
        with hostile(answer) as server, pytest.raises(Unreachable, match="redirects"):
            call(server.url, "ping")
    assert elsewhere.requests == []


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "421 Misdirected", "500 Oops", "503 Later"])
def test_who_takes_no_calls_is_unreachable(call: Call, status: str) -> None:
    with hostile(http(b"no", status=status)) as server, pytest.raises(Unreachable, match=status[:3]):
        call(server.url, "ping")


@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b"", b"\x16\x03\x01", b"HTTP/1.1 200 OK\r\nA" * 10])
def test_who_does_not_speak_http_is_unreachable(call: Call, answer: bytes) -> None:
    with hostile(answer, close=True) as server, pytest.raises(PeerError) as caught:
        call(server.url, "ping")
    assert isinstance(caught.value, Unreachable | ParseError)


def test_who_says_nothing_runs_out_of_time(call: Call) -> None:
    with hostile(None) as server, pytest.raises(CallTimeout):
        call(server.url, "ping", timeout=0.2)


def test_an_answer_that_never_ends_runs_out_of_time(call: Call) -> None:
    with hostile(http(GOOD[:50], f"Content-Length: {len(GOOD)}")) as server, pytest.raises(CallTimeout):
        call(server.url, "ping", timeout=0.2)


def test_time_that_is_over_before_the_call_sends_nothing() -> None:
    with hostile(http(GOOD)) as server, SimpleClient(server.url, 10) as client:
        with pytest.raises(CallTimeout):
            client.call("ping", timeout=0)
        assert server.requests == []


@pytest.mark.parametrize("number", [socket.EAI_NONAME, socket.EAI_AGAIN])
def test_a_name_that_nobody_has(call: Call, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(Unreachable, match="does not answer: no such name"):
        call("http://nobody.example", "ping")


def test_nobody_there(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(Unreachable, match="refused"):
        call(f"http://127.0.0.1:{port}", "ping")


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:2003", "https://127.0.0.1", "file:///etc/passwd", "http://", "http://a:x", "http://u@a"]
)
def test_what_is_no_url_of_a_host(call: Call, url: str) -> None:
    with pytest.raises(Unreachable, match="not the URL"):
        call(url, "ping")


def test_proxies_of_the_environment_are_not_used(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile(http(GOOD)) as proxy, hostile(http(GOOD)) as server:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        call(server.url, "ping")
    assert proxy.requests == []


def test_connections_are_kept() -> None:
    with hostile(http(GOOD)) as server, SimpleClient(server.url, 10) as client:
        for _ in range(3):
            client.call("ping")
        assert len(server._open) == 1


def test_a_connection_that_the_host_closed_meanwhile_is_opened_anew() -> None:
    with hostile(http(GOOD), close=True) as server, SimpleClient(server.url, 10) as client:
        for _ in range(3):
            client.call("ping")
            # The end of the connection takes a moment to arrive; a call in that moment would fail, and rightly.
            sock = client._connection.sock
            assert sock is None or select.select((sock,), (), (), 10)[0]
        assert len(server.requests) == 3


LONG_TEXT = "x" * (PARSED_BESIDE + 1)


def call_for_long_answers(url: str, count: int, max_under_way: int) -> list[Any]:
    """Make calls at once; return their results or errors."""

    async def run() -> list[Any]:
        client = RpcClient(max_under_way)
        limit = AnswerLimit(2 * len(LONG_TEXT), MAX_RESPONSE_VALUES)
        try:
            calls = [client.call(url, "ping", timeout=10, limit=limit) for _ in range(count)]
            return await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await client.close()

    return asyncio.run(run())


def test_a_long_answer_comes_with_its_xml() -> None:
    with hostile(http(write_response(write_value(LONG_TEXT)))) as server:
        for found in call_for_long_answers(server.url, 3, 10 * len(LONG_TEXT)):
            assert isinstance(found, WrittenValue)
            assert found.value == LONG_TEXT
            assert found.xml == write_value(LONG_TEXT)


def test_long_answers_are_parsed_by_one_thread_and_not_by_that_of_the_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By several, each of them would take longer, and so would everything else."""
    threads: list[str] = []

    def noting(*args: Any) -> Any:
        threads.append(threading.current_thread().name)
        return read_response(*args)

    monkeypatch.setattr(client_module, "read_response", noting)
    with hostile(http(write_response(write_value(LONG_TEXT)))) as server:
        assert len(call_for_long_answers(server.url, 3, 10 * len(LONG_TEXT))) == 3
    assert threads == ["co2-answers_0"] * 3


@pytest.mark.parametrize(("size", "thread"), [(PARSED_BESIDE, "MainThread"), (PARSED_BESIDE + 1, "co2-answers_0")])
def test_an_answer_is_parsed_by_a_thread_from_a_size_on(
    size: int, thread: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def noting(*args: Any) -> Any:
        threads.append(threading.current_thread().name)
        return read_response(*args)

    monkeypatch.setattr(client_module, "read_response", noting)
    with hostile(http(write_response(write_value(True)).ljust(size))) as server:
        call_for_long_answers(server.url, 1, 10 * size)
    assert threads == [thread]


def test_a_client_can_be_used_again_after_it_was_closed_and_counts_no_answer_that_it_has_parsed() -> None:
    async def run(url: str) -> None:
        client = RpcClient(len(LONG_TEXT) + 1000)  # room for one answer
        limit = AnswerLimit(2 * len(LONG_TEXT), MAX_RESPONSE_VALUES)
        await client.close()
        for _ in range(2):
            for _ in range(2):
                assert (await client.call(url, "ping", timeout=10, limit=limit)).value == LONG_TEXT
            await client.close()
        await client.close()

    with hostile(http(write_response(write_value(LONG_TEXT)))) as server:
        asyncio.run(run(server.url))


def test_the_end_of_a_client_waits_for_no_thread_and_drops_answers_that_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = threading.Event()
    begun: list[str] = []

    def holding(*args: Any) -> Any:
        begun.append(threading.current_thread().name)
        assert go_on.wait(10)
        return read_response(*args)

    async def run(url: str) -> None:
        client = RpcClient()
        limit = AnswerLimit(2 * len(LONG_TEXT), MAX_RESPONSE_VALUES)
        calls = [asyncio.create_task(client.call(url, "ping", timeout=10, limit=limit)) for _ in range(3)]
        while not (begun and client._parser is not None and client._parser._work_queue.qsize() == 2):
            await asyncio.sleep(0.001)
        await client.close()
        assert not go_on.is_set()
        go_on.set()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(type(one).__name__ for one in ended) == ["CancelledError", "CancelledError", "WrittenValue"]

    monkeypatch.setattr(client_module, "read_response", holding)
    with hostile(http(write_response(write_value(LONG_TEXT)))) as server:
        try:
            asyncio.run(run(server.url))
        finally:
            go_on.set()
    assert begun == ["co2-answers_0"], "one at a time"


def test_an_answer_that_is_more_than_all_together_may_be_is_given_up() -> None:
    with hostile(http(write_response(write_value(LONG_TEXT)))) as server:
        (found,) = call_for_long_answers(server.url, 1, len(LONG_TEXT))
    assert isinstance(found, AnswerTooBig)
    assert "together" in str(found)


def test_a_long_answer_of_many_calls_is_read() -> None:
    answers = [[LONG_TEXT], [True]]
    with hostile(http(write_response(write_value(answers)))) as server:
        assert call_many(server.url, 2) == [LONG_TEXT, True]


def test_many_answers_come_one_after_the_other_over_one_connection() -> None:
    async def run(url: str) -> list[Any]:
        client = RpcClient()
        limit = AnswerLimit(LIMIT, MAX_RESPONSE_VALUES)
        try:
            return [await client.call(url, "ping", timeout=10, limit=limit) for _ in range(3)]
        finally:
            await client.close()

    with hostile(http(GOOD)) as server:
        assert asyncio.run(run(server.url)) == [{"a": [1, "x"]}] * 3
        assert len(server._open) == 1


def call_many(url: str, count: int) -> list[Any]:
    async def run() -> list[Any]:
        client = RpcClient()
        try:
            return await client.call_many(url, [("notify", write_value({"data": n})) for n in range(count)], 10)
        finally:
            await client.close()

    return asyncio.run(run())


def test_many_calls_give_many_answers() -> None:
    answers = [[True], {"faultCode": 7, "faultString": "no"}]
    with hostile(http(write_response(write_value(answers)))) as server:
        found = call_many(server.url, 2)
    assert found[0] is True
    assert isinstance(found[1], RemoteFault)
    assert found[1].code == 7
    assert server.requests[0].count(b"<name>methodName</name>") == 2


@pytest.mark.parametrize(
    "answers",
    [True, [], [[1]], [[1], []], [[1], [1, 2]], [[1], {}], [[1], {"faultCode": "a"}], [[1], {"faultCode": 7}]],
)
def test_many_calls_with_answers_that_are_none(answers: Any) -> None:
    with hostile(http(write_response(write_value(answers)))) as server, pytest.raises(ParseError):
        call_many(server.url, 2)


def test_many_calls_are_at_most_64() -> None:
    with hostile(http(write_response(write_value([[True]] * 64)))) as server:
        assert call_many(server.url, 64) == [True] * 64
        with pytest.raises(BadRequest, match="65 calls in one; at most 64"):
            call_many(server.url, 65)
        assert len(server.requests) == 1


def test_the_short_commands_import_nothing_heavy() -> None:
    code = (
        "import sys, co2.xmlrpc.simple_client;"
        "print([m for m in ('aiohttp', 'asyncio', 'msgspec', 'logging') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_what_a_call_was_interrupted_with_is_no_matter_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a call leaves no connection that waits for an answer: the goodbye after it gets through."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with hostile(http(GOOD)) as server, SimpleClient(server.url, 10) as client:
        with monkeypatch.context() as patch:
            patch.setattr(http_client.HTTPConnection, "getresponse", interrupt)
            with pytest.raises(KeyboardInterrupt):
                client.call("relay.fetch")
        assert client.call("relay.unregister") == {"a": [1, "x"]}
