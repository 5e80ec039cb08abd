"""Requests out of a stream of bytes: the same ones however the bytes are split, and the same refusal."""

from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from co2.server.http.gate import Gate
from co2.server.http.limits import Limits
from co2.server.http.refused import Refused
from co2.server.http.request_parser import RequestParser

LIMITS = Limits(max_line=60, max_head=160, max_headers=6, max_body=64, max_chunks=4)
GATE = Gate(("/", "/page"), (), LIMITS, "/link", buttons=("/button",))

HOST = b"Host: 127.0.0.1\r\n"
PAGE = b"GET /page?a=b HTTP/1.1\r\n" + HOST + b"\r\n"
BUTTON = b"POST /button HTTP/1.1\r\n" + HOST + b"Origin: http://127.0.0.1\r\nContent-Length: 0\r\n\r\n"
CALL = b"POST /RPC2 HTTP/1.1\r\n" + HOST + b"Content-Type: text/xml\r\n"
ASKS = CALL + b"Expect: 100-continue\r\n"

Found = tuple[list[tuple[str, str, bytes]], str, bool, bool, int]


def call(body: bytes) -> bytes:
    return CALL + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(*chunks: bytes) -> bytes:
    parts = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return CALL + b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"


def parser() -> RequestParser:
    return RequestParser(GATE, LIMITS, over_loopback=True)


def parse(pieces: Iterable[bytes]) -> Found:
    """Return the requests, the refusal, and what is unfinished."""
    parsing = parser()
    requests: list[tuple[str, str, bytes]] = []
    for piece in pieces:
        parsing.feed(piece)
        try:
            while (found := parsing.next()) is not None:
                request, body = found
                requests.append((request.head.method, request.head.target, body))
        except Refused as refused:
            return requests, str(refused), False, False, 0
    return requests, "", parsing.in_request, parsing.in_body, parsing.received


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({min(place, len(data)) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def bytewise(data: bytes) -> list[bytes]:
    return cut(data, range(len(data)))


WHOLE = st.one_of(
    st.sampled_from([PAGE, BUTTON, b"\r\n", b"\r\n\r\n"]),
    st.binary(max_size=70).map(call),
    st.lists(st.binary(min_size=1, max_size=20), max_size=5).map(lambda chunks: chunked(*chunks)),
)
LINES = st.one_of(
    st.sampled_from(
        [
            b"GET /page HTTP/1.1",
            b"GET /nothing HTTP/1.1",
            b"POST / HTTP/1.0",
            b"Host: 127.0.0.1",
            b"Host: evil",
            b"Content-Type: text/xml",
            b"Content-Length: 3",
            b"Transfer-Encoding: chunked",
            b" folded",
            b"a\rb",
            b"a\nb",
            b"a\r",
            b"\x00",
            b"",
        ]
    ),
    st.integers(55, 65).map(lambda size: b"X-A: ".ljust(size, b"a")),
)
HEADS = st.lists(LINES, max_size=9).map(b"\r\n".join)
STREAMS = st.lists(st.one_of(WHOLE, HEADS), max_size=4).map(b"".join)


@settings(deadline=None)
@given(STREAMS, st.lists(st.integers(0, 600), max_size=8))
@example(b"\r\n\r\n\r\n" + PAGE, [])
@example(b"GET /" + b"a" * 200, [])
@example(b"a" * 60 + b"\r\n" + b"b" * 60 + b"\r\n" + b"c" * 36 + b"\r\n\r\n", [])
def test_any_split_gives_the_same_requests_and_the_same_refusal(data: bytes, places: list[int]) -> None:
    assert parse([data]) == parse(cut(data, places)) == parse(bytewise(data))


@settings(deadline=None)
@given(
    st.lists(WHOLE, max_size=3).map(b"".join),
    st.binary(max_size=8),
    st.integers(0, 400),
    st.integers(0, 5),
    st.lists(st.integers(0, 600), max_size=8),
)
def test_any_split_of_damaged_requests_gives_the_same(
    data: bytes, junk: bytes, at: int, gone: int, places: list[int]
) -> None:
    damaged = data[:at] + junk + data[at + gone :]
    assert parse([damaged]) == parse(cut(damaged, places)) == parse(bytewise(damaged))


def test_requests_behind_each_other() -> None:
    data = PAGE + call(b"one") + b"\r\n\r\n" + chunked(b"t", b"wo") + BUTTON + call(b"three")[:-2]
    requests, refusal, in_request, in_body, received = parse([data])
    assert requests == [
        ("GET", "/page?a=b", b""),
        ("POST", "/RPC2", b"one"),
        ("POST", "/RPC2", b"two"),
        ("POST", "/button", b""),
    ]
    assert (refusal, in_request, in_body, received) == ("", True, True, 3)


def head_of(first: int, *others: int) -> bytes:
    """Return a head with lines of these lengths, which nothing but its sizes speaks against."""
    lines = [b"GET /page?".ljust(first - 9, b"a") + b" HTTP/1.1", *(b"X-A:".ljust(size, b"a") for size in others)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (head_of(60, 60, 10), "400 missing Host header"),
        (head_of(60, 60, 36), "400 missing Host header"),
        (head_of(61, 20), "414 request line longer than 60 bytes"),
        (head_of(20, 61), "431 header line longer than 60 bytes"),
        (head_of(60, 60, 37), "431 head larger than 160 bytes"),
        (head_of(20, *[4] * 6), "400 missing Host header"),
        (head_of(20, *[4] * 7), "431 more than 6 header lines"),
        (head_of(20, 4).replace(b"X-A:", b"a\nb", 1) + head_of(61), "400 bare CR, bare LF or NUL in the head"),
        (head_of(61, 4).replace(b"X-A:", b"a\nb", 1), "414 request line longer than 60 bytes"),
    ],
)
def test_sizes_at_their_limits_and_the_first_fault_that_counts(data: bytes, refusal: str) -> None:
    assert parse([data])[1] == parse(bytewise(data))[1] == refusal


@pytest.mark.parametrize("data", [b"\x00", b"GET / HTTP/1.1\n", b"G\rE", PAGE + b"\n", b"\r\n\r\r", b"a" * 62])
def test_what_can_only_be_refused_is_refused_before_its_end(data: bytes) -> None:
    assert parse([data])[1]
    assert not parse([data[:-1]])[1]


def test_what_is_unfinished() -> None:
    parsing = parser()
    assert not parsing.in_request
    for data, in_request, in_body, received in (
        (b"\r\n", False, False, 0),
        (b"\r", True, False, 1),
        (b"\n", False, False, 0),
        (CALL, True, False, len(CALL)),
        (b"Transfer-Encoding: chunked\r\n\r\n", True, True, 0),
        (b"3\r", True, True, 2),
        (b"\nabc", True, True, 3),
    ):
        parsing.feed(data)
        assert parsing.next() is None
        assert (parsing.in_request, parsing.in_body, parsing.received) == (in_request, in_body, received)
    parsing.feed(b"\r\n0\r\n\r\n")
    assert parsing.next() is not None
    assert not parsing.in_request


@pytest.mark.parametrize(
    ("data", "asks"),
    [
        (ASKS + b"Content-Length: 5\r\n\r\n", True),
        (ASKS + b"Content-Length: 5\r\n\r\na", False),
        (ASKS + b"Transfer-Encoding: chunked\r\n\r\n", True),
        (ASKS + b"Transfer-Encoding: chunked\r\n\r\n5\r\n", False),
        (CALL + b"Content-Length: 5\r\n\r\n", False),
    ],
)
def test_who_waits_for_100_continue(data: bytes, asks: bool) -> None:
    parsing = parser()
    parsing.feed(data)
    assert parsing.next() is None
    assert parsing.awaits_continue is asks


def test_bytes_behind_a_request_are_another_protocols() -> None:
    parsing = parser()
    parsing.feed(PAGE + b"\x82\x00")
    assert parsing.next() is not None
    assert parsing.buffered == 2
    assert parsing.take_rest() == b"\x82\x00"
    assert (parsing.buffered, parsing.in_request) == (0, False)


def test_it_forgets_everything() -> None:
    for data in (PAGE[:-3], call(b"abc")[:-1], chunked(b"abc")[:-8]):
        parsing = parser()
        parsing.feed(data)
        assert parsing.next() is None
        parsing.clear()
        parsing.feed(PAGE)
        found = parsing.next()
        assert found is not None
        assert found[0].head.path == "/page"
