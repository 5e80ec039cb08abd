"""The parts of the server that do no I/O: heads, chunks, the gate, budgets, books; and sockets."""

import logging
import socket
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from co2.errors import ConfigError
from co2.server.door.routes import ROUTES
from co2.server.http import gate
from co2.server.http.access_log import MAX_KEPT_LINES, AccessLog
from co2.server.http.chunked_body import ChunkedBody
from co2.server.http.connections import Budget, most_connections
from co2.server.http.gate import Gate, own_names
from co2.server.http.limits import Limits
from co2.server.http.listen import bind_socket
from co2.server.http.refused import Refused
from co2.server.http.request_head import parse_head
from co2.server.http.response_head import ResponseHeads
from co2.xmlrpc.registry import Caller

LIMITS = Limits()
HEAD = b"POST /RPC2?a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/xml\r\nContent-Length: 5"


def test_a_head() -> None:
    head = parse_head(HEAD + b"\r\nCookie: a\r\nCookie:\t b \t\r\nX-Empty:", LIMITS)
    assert (head.method, head.path, head.target, head.length) == ("POST", "/RPC2", "/RPC2?a", 5)
    assert head.headers["cookie"] == "a, b"
    assert head.headers["x-empty"] == ""
    assert head.keep
    assert not head.chunked


LINE = b"GET /page HTTP/1.1"


@pytest.mark.parametrize(
    ("limits", "fits", "beyond", "status"),
    [
        (Limits(max_line=len(LINE)), LINE, b"GET /pages HTTP/1.1", 414),
        (Limits(max_line=len(LINE)), LINE + b"\r\nContent-Length: 12", LINE + b"\r\nContent-Length: 123", 431),
        (Limits(max_head=len(LINE) + 6), LINE + b"\r\nA: b", LINE + b"\r\nA: bc", 431),
        (Limits(max_headers=2), LINE + b"\r\nA: b\r\nC: d", LINE + b"\r\nA: b\r\nC: d\r\nE: f", 431),
    ],
)
def test_a_head_at_a_limit_is_read_and_one_beyond_it_refused(
    limits: Limits, fits: bytes, beyond: bytes, status: int
) -> None:
    assert parse_head(fits, limits).path == "/page"
    with pytest.raises(Refused) as refused:
        parse_head(beyond, limits)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("head", "refusal"),
    [
        (b"", "400 malformed request line"),
        (b"GET  / HTTP/1.1", "400 malformed request line"),
        (b"get / HTTP/1.1", "400 malformed request line"),
        (b"GET / HTTP/1.1 ", "400 malformed request line"),
        (b"GET / HTTP/2.0", "505 unsupported HTTP version"),
        (b"GET / HTTP/0.9", "505 unsupported HTTP version"),
        (b"GET / HTTP/1.2", "505 unsupported HTTP version"),
        (b"GET http://a/ HTTP/1.1", "400 invalid request target"),
        (b"OPTIONS ** HTTP/1.1", "400 invalid request target"),
        (LINE + b"\r\nHost", "400 malformed header line"),
        (LINE + b"\r\nHost : a", "400 malformed header line"),
        (LINE + b"\r\nA: b\r\n c", "400 malformed header line"),
        (LINE + b"\r\n: a", "400 malformed header line"),
        (LINE + b"\r\nA: \x7f", "400 malformed header line"),
        (LINE + b"\r\nHost: a\r\nhost: a", "400 duplicate header host"),
        (LINE + b"\r\nContent-Length: 1\r\nContent-Length: 1", "400 duplicate header content-length"),
        (LINE + b"\r\nContent-Length: +1", "400 invalid Content-Length"),
        (LINE + b"\r\nContent-Length: ", "400 invalid Content-Length"),
        (LINE + b"\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", "400 both Content-Length and"),
        (LINE + b"\r\nTransfer-Encoding: gzip, chunked", "400 unsupported Transfer-Encoding"),
        (b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked", "400 unsupported Transfer-Encoding"),
        (LINE + b"\r\nExpect: 200-ok", "417 unsupported Expect header"),
    ],
)
def test_a_malformed_head_is_refused_with_its_status_and_what_is_wrong(head: bytes, refusal: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_head(head, LIMITS)
    assert f"{refused.value.status} {refused.value.why}".startswith(refusal)


@pytest.mark.parametrize(
    ("line", "connection", "keep"),
    [
        (b"GET / HTTP/1.1", b"", True),
        (b"GET / HTTP/1.1", b"upgrade, Close", False),
        (b"GET / HTTP/1.0", b"", False),
        (b"GET / HTTP/1.0", b"Keep-Alive", True),
        (b"GET / HTTP/1.0", b"keep-alive, close", False),
    ],
)
def test_how_long_a_connection_stays_open(line: bytes, connection: bytes, keep: bool) -> None:
    assert parse_head(line + b"\r\nConnection: " + connection, LIMITS).keep is keep


@settings(deadline=None)  # how long one takes says how busy the machine is
@given(st.binary(max_size=60), st.integers(0, len(HEAD)), st.integers(0, 5))
def test_a_damaged_head_is_read_or_refused(junk: bytes, at: int, gone: int) -> None:
    gate = Gate((), (), LIMITS)
    try:
        gate.admit(HEAD[:at] + junk + HEAD[at + gone :], over_loopback=True)
    except Refused as refused:
        assert 400 <= refused.status <= 505
        assert refused.why.isprintable()


def decode(data: bytes, step: int) -> tuple[bytes, bytes] | int:
    """Give the body and what is left over, or the status of the refusal."""
    chunks = ChunkedBody(LIMITS)
    buffer = bytearray()
    try:
        for at in range(0, len(data), step):
            buffer += data[at : at + step]
            if chunks.feed(buffer):
                return bytes(chunks.body), bytes(buffer) + data[at + step :]
    except Refused as refused:
        return refused.status
    return 0


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.binary(max_size=5), st.integers(1, 50))
def test_chunks_in_any_pieces(parts: list[bytes], rest: bytes, step: int) -> None:
    data = b"".join(b"%X\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n" + rest
    assert decode(data, step) == decode(data, len(data)) == (b"".join(parts), rest)


@given(
    st.lists(
        st.sampled_from([b"1", b"a", b"0", b"\r\n", b"\r", b"\n", b";", b" ", b"5\r\n", b"0\r\n\r\n"]), max_size=12
    )
)
def test_bad_chunks_in_any_pieces(parts: list[bytes]) -> None:
    data = b"".join(parts)
    assert decode(data, 1) == decode(data, max(1, len(data)))


def test_the_gate_remembers_a_bounded_number_of_heads() -> None:
    gate = Gate((), (), LIMITS)
    for number in range(2_000):
        gate.admit(HEAD + b"\r\nX-A: %d" % number, over_loopback=True)
    remembered = gate._remembered[True]
    assert len(remembered) <= 256
    gate.admit(HEAD + b"\r\nX-A: " + b"a" * 2_000, over_loopback=True)
    assert not any(len(raw) > 1_024 for raw in remembered)
    assert gate.admit(HEAD, over_loopback=True) is gate.admit(HEAD, over_loopback=True)


def test_what_a_name_is_worth_depends_on_the_interface() -> None:
    """Over another one the own name and any address are ours; over loopback the network may have bent the name."""
    gate = Gate(("/",), ("stage.example",), LIMITS)
    page = b"GET / HTTP/1.1\r\nHost: "
    own = min(own_names() - {"localhost"}).encode()
    for name in (own, b"10.1.2.3", b"[2001:db8::1]"):
        assert not gate.admit(page + name, over_loopback=False).proxied
        with pytest.raises(Refused, match="421"):
            gate.admit(page + name, over_loopback=True)
        call = HEAD.replace(b"127.0.0.1", name)
        assert not gate.admit(call, over_loopback=True).proxied, "a program, not a browser"
        with pytest.raises(Refused, match="421"):
            gate.admit(call + b"\r\nOrigin: http://" + name, over_loopback=True)
    for name in (b"localhost", b"127.9.9.9", b"[::1]"):
        assert not gate.admit(page + name, over_loopback=True).proxied
    assert gate.admit(page + b"stage.example", over_loopback=True).proxied
    assert not gate.admit(page + b"stage.example", over_loopback=False).proxied


@pytest.mark.parametrize("path", [b"/RPC2", b"/api/call/co2.plugin.reload"])
def test_a_script_in_a_browser_is_nobody_at_this_machine_but_a_button_that_is_pressed_is(path: bytes) -> None:
    gate = Gate(("/plugins",), (), LIMITS, ("/live",), buttons=("/plugins/reload",), routes=ROUTES)
    kind = b"text/xml" if path == b"/RPC2" else b"application/json"
    call = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %b\r\nContent-Length: 5" % (path, kind)
    assert not gate.admit(call, over_loopback=True).proxied
    assert gate.admit(call + b"\r\nOrigin: http://127.0.0.1", over_loopback=True).proxied
    for page in (b"POST /plugins/reload", b"GET /plugins"):
        head = page + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1"
        assert not gate.admit(head, over_loopback=True).proxied
    live = b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1"
    assert gate.admit(live, over_loopback=True).proxied


def test_a_page_over_https_is_ours_under_an_allowed_name_only() -> None:
    """A proxy in front makes https of http: the browser's Origin says so, and the Host does not."""
    gate = Gate((), ("stage.example",), LIMITS)

    def asked(host: bytes, origin: bytes) -> str:
        head = HEAD.replace(b"127.0.0.1", host) + b"\r\nOrigin: " + origin
        try:
            for over_loopback in (False, True):
                assert gate.admit(head, over_loopback=over_loopback).proxied
        except Refused as refused:
            assert refused.status == 403
            return refused.why
        return ""

    for host in (b"stage.example", b"Stage.Example:8443", b"stage.example:443"):
        assert asked(host, b"https://" + host.lower()) == ""
        assert asked(host, b"http://" + host) == ""
    for host, origin in (
        (b"stage.example", b"https://stage.example:8443"),
        (b"stage.example:8443", b"https://stage.example"),
        (b"stage.example", b"https://evil.example"),
        (b"stage.example", b"https://stage.example.evil"),
        (b"stage.example", b"https://stage.example/"),
        (b"stage.example", b"ftp://stage.example"),
        (b"stage.example", b"stage.example"),
        (b"stage.example", b"null"),
    ):
        assert asked(host, origin) == "cross-origin request", origin
    assert "allowed_hosts" in asked(b"127.0.0.1", b"https://127.0.0.1")


def test_what_is_refused_is_not_remembered() -> None:
    gate = Gate((), ("other",), LIMITS)
    for _ in range(2):
        with pytest.raises(Refused):
            gate.admit(HEAD.replace(b"127.0.0.1", b"evil"), over_loopback=True)
    gate.admit(HEAD.replace(b"127.0.0.1", b"OTHER.:80"), over_loopback=True)


@pytest.mark.parametrize(
    ("hostname", "names"),
    [
        ("Box", {"localhost", "box", "box.local"}),
        ("box.local", {"localhost", "box", "box.local"}),
        ("box.lan", {"localhost", "box.lan", "box.lan.local", "box", "box.local"}),
        ("", {"localhost"}),
    ],
)
def test_names_of_this_machine(monkeypatch: pytest.MonkeyPatch, hostname: str, names: set[str]) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: hostname)
    assert own_names() == names


def test_on_macos_the_name_that_bonjour_gives_is_a_name_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box.lan")
    before = own_names()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert own_names() == before, "nobody tells it here"
    monkeypatch.setattr(gate, "_LOCAL_HOST_NAME", ("echo", "Stage-Left-2"))
    assert own_names() == before | {"stage-left-2", "stage-left-2.local"}
    monkeypatch.setattr(gate, "_LOCAL_HOST_NAME", ("false",))
    assert own_names() == before


class Holder:
    """A connection as a budget sees it."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.caller = Caller("127.0.0.1", 1)
        self.deadline = 0.0
        self.idle_since = None

    def check(self, now: float) -> None: ...

    def end_after_answer(self) -> None: ...

    def drop(self, reason: str, text: str) -> None:
        self.reasons.append(reason)


def test_a_budget_drops_who_holds_for_longest() -> None:
    budget = Budget(100, "unread", "")
    first, second, third = Holder(), Holder(), Holder()
    budget.hold(first, 10)
    budget.hold(second, 40)
    budget.hold(first, 50)
    assert budget.total == 90
    budget.hold(third, 30)
    assert (first.reasons, second.reasons, budget.total) == (["unread"], [], 70)
    budget.release(second)
    budget.release(second)
    assert budget.total == 30
    budget.hold(third, 101)
    assert (third.reasons, budget.total) == (["unread"], 0)


def test_connections_leave_half_of_the_files_to_others() -> None:
    assert 1 <= most_connections(10**9) < 10**9
    assert most_connections(3) == 3


def test_answer_heads() -> None:
    heads = ResponseHeads()
    head = heads.head(405, 7, False, "text/plain", ("Allow: GET, HEAD",))
    assert head.startswith(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\n")
    assert b"\r\nAllow: GET, HEAD\r\n" in head
    assert head.endswith(b"Connection: close\r\nContent-Length: 7\r\n\r\n")
    assert b"Connection: keep-alive\r\nContent-Length: 9\r\n" in heads.head(200, 9, True)


def test_refusals_of_one_address_are_counted_when_they_are_too_many(caplog: pytest.LogCaptureFixture) -> None:
    access_log = AccessLog(None)
    with caplog.at_level(logging.INFO, "co2.server"):
        for _ in range(500):
            access_log.refused(Caller("10.0.0.1", 1), Refused(404, "no such page"))
        access_log.refused(Caller("10.0.0.2", 1), Refused(403, "no"))
    assert access_log.requests == {404: 500, 403: 1}
    assert 20 <= len(caplog.messages) < 100
    assert caplog.messages[-1].startswith("10.0.0.2 port 1 refused")


def test_books_remember_a_bounded_number_of_addresses() -> None:
    access_log = AccessLog(None)
    for number in range(3_000):
        access_log.dropped_one(Caller(f"10.0.{number // 256}.{number % 256}", 1), "full", "")
    assert len(access_log._budgets._sources) <= 1_024


def test_lines_are_kept_until_there_are_many(caplog: pytest.LogCaptureFixture) -> None:
    access_log = AccessLog(logging.getLogger("test.books"))
    with caplog.at_level(logging.INFO, "test.books"):
        for _ in range(MAX_KEPT_LINES - 1):
            access_log.answered(Caller("10.0.0.1", 1), "POST ping", 200, 5, 0.001)
        assert not caplog.records
        access_log.answered(Caller("10.0.0.1", 1), "POST ping", 200, 5, 0.001)
        access_log.write_down()
    assert [len(record.lines) for record in caplog.records] == [MAX_KEPT_LINES]  # type: ignore[attr-defined]  # ours


def test_a_taken_port_says_what_to_do() -> None:
    with bind_socket("127.0.0.1", 0, next_free=False) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} is taken on 127\.0\.0\.1; --port"):
            bind_socket("127.0.0.1", port, next_free=False)
        with bind_socket("127.0.0.1", port, next_free=True) as second:
            assert port < second.getsockname()[1] <= port + 100
            assert not second.getblocking()


@pytest.mark.parametrize(
    ("first", "second"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("127.0.0.1", "::")]
)
def test_where_two_may_listen_a_port_that_answers_is_taken(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    # What SO_REUSEADDR means on macOS, SO_REUSEPORT means here.
    monkeypatch.setattr(socket, "SO_REUSEADDR", socket.SO_REUSEPORT)
    monkeypatch.setattr(sys, "platform", "darwin")
    with bind_socket(first, 0, next_free=False) as there:
        port = there.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is taken"):
            bind_socket(second, port, next_free=False)
    bind_socket(second, port, next_free=False).close()


@pytest.mark.parametrize("bind", ["", "localhost", "nonsense", "256.1.1.1"])
def test_an_address_is_an_address(bind: str) -> None:
    with pytest.raises(ConfigError, match="not an IP address"):
        bind_socket(bind, 0, next_free=False)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(ConfigError, match="not an address of this machine"):
        bind_socket("192.0.2.7", 0, next_free=True)


def test_a_port_that_is_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ConfigError, match="not listen on port 80"):
        bind_socket("127.0.0.1", 80, next_free=True)


def test_every_address_of_both_families() -> None:
    try:
        sock = bind_socket("::", 0, next_free=False)
    except ConfigError:
        pytest.skip("no IPv6 here")
    with sock, socket.create_connection(("127.0.0.1", sock.getsockname()[1])):
        pass


@pytest.mark.parametrize(
    ("line", "status", "why"),
    [
        (b"GET /nothing HTTP/1.1", 404, "no such page"),
        (b"POST /nothing HTTP/1.1", 404, "no such page"),
        (b"OPTIONS * HTTP/1.1", 405, "not a proxy"),
        (b"CONNECT /nothing HTTP/1.1", 405, "not a proxy"),
        (b"GET /RPC2 HTTP/1.1", 405, "method not allowed"),
    ],
)
def test_a_place_that_is_none_and_a_method_that_is_not_for_it(line: bytes, status: int, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        Gate((), (), LIMITS).admit(line + b"\r\nHost: 127.0.0.1", over_loopback=True)
    assert refused.value.status == status
