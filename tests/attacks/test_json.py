"""The JSON door: what is refused in XML is refused there, and who asks for much delays nobody else."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.link_frames import Ack, Publish, encode_link_frame
from co2.relay.log_lines import MAX_READERS
from tests.attacks.hosts import guard, running
from tests.attacks.raw import Reply, connected, exchange, ping_within, read_reply, request, send
from tests.attacks.raw_link import RawLink
from tests.attacks.test_dear import worked
from tests.harness import HostProcess, wait_for

MIB = 2**20
DEEP = 400_000


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder: Path = tmp_path_factory.mktemp("json")
    with running(folder, "relay") as relay:
        for _ in range(20):
            reply = exchange(relay.port, post("/api/send", json.dumps([{"data": "x" * 100_000}] * 9).encode()))
            assert reply is not None
            assert reply.status == 200
        yield relay


def post(path: str, body: bytes, *headers: str, host: str = "127.0.0.1") -> bytes:
    return request(body, "Content-Type: application/json", *headers, first=f"POST {path} HTTP/1.1", host=host)


def get(path: str, *headers: str) -> bytes:
    return request(b"", *headers, first=f"GET {path} HTTP/1.1")


BODIES = {
    "lists": b"[" * DEEP + b"]" * DEEP,
    "dictionaries": b'{"data":' * (DEEP // 8) + b"1" + b"}" * (DEEP // 8),
    "lists without an end": b"[" * (MIB - 1),
    "dictionaries without an end": b'{"a":' * (MIB // 5),
    "many lists": b'{"data":[' + b"[]," * 300_000 + b"[]]}",
    "many numbers": b'{"data":[' + b"1," * 500_000 + b"1]}",
    "many texts": b'{"data":[' + b'"",' * 300_000 + b'""]}',
    "many messages": b"[" + b'{"data":1},' * 90_000 + b'{"data":1}]',
    "many keys": b'{"data":{' + b",".join(b'"%d":1' % n for n in range(90_000)) + b"}}",
    "a key many times": b'{"data":{' + b'"a":1,' * 9_000 + b'"a":1}}',
    "a long number": b'{"data":' + b"9" * (MIB - 100) + b"}",
    "a long fraction": b'{"data":0.' + b"9" * (MIB - 100) + b"}",
    "many long numbers": b'{"data":[' + b"99999999999999999999," * 9_000 + b"1]}",
    "a great exponent": b'{"data":1e' + b"9" * 1_000 + b"}",
    "marks in marks": b'{"data":' + b'{"$d":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "marks without a meaning": b'{"data":[' + b'{"$b":"!"},' * 9_000 + b"1]}",
    "one bad mark at the end": b'{"data":[' + b'{"$b":""},' * 4_000 + b'{"$q":1}]}',
    "surrogates": b'{"data":"' + b"\\ud800" * 100_000 + b'"}',
    "only quotes": b'"' * MIB,
    "only backslashes": b"\\" * MIB,
    "nothing": b"",
    "zeros": b"\x00" * MIB,
    "XML": b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><methodCall/>",
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_refused_quickly(relay: HostProcess, name: str) -> None:
    for path in ("/api/send", "/api/call/test"):
        if path != "/api/send" and not BODIES[name]:
            continue
        began = time.monotonic()
        reply = exchange(relay.port, post(path, BODIES[name]))
        assert reply is not None
        assert reply.status == 400, reply.body[:200]
        assert len(reply.body) < 500
        assert b"Traceback" not in reply.body
        assert time.monotonic() - began < 2


DEAR = {
    "escaped quotes": b'{"channel":"a","data":"' + b'\\"' * 340_000 + b'","b":1}',
    "line feeds": b'{"channel":"a","data":"' + b"\\n" * 500_000 + b'"}',
    "marks": b'{"channel":"a","data":[' + b",".join([b'{"$b":"eA=="}'] * 4_900) + b"]}",
    "keys": b'{"channel":"a","data":{' + b",".join(b'"%d":1' % n for n in range(9_900)) + b"}}",
    "messages": b"[" + b",".join([b'{"channel":"a","data":[1,2,3]}'] * 2_048) + b"]",
}


@pytest.mark.parametrize("name", DEAR)
@pytest.mark.may_grow(128, "the log keeps the messages in memory")
def test_dear_bodies_from_many_delay_nobody_for_long(relay: HostProcess, name: str) -> None:
    stop = threading.Event()

    def flood() -> None:
        with contextlib.suppress(OSError), connected(relay.port) as sock:
            while not stop.is_set():
                send(sock, post("/api/send", DEAR[name]))
                if read_reply(sock) is None:
                    return

    floods = [threading.Thread(target=flood) for _ in range(8)]
    for thread in floods:
        thread.start()
    try:
        for _ in range(10):
            ping_within(relay.port, 2)
    finally:
        stop.set()
        for thread in floods:
            thread.join(30)


def test_who_reads_nothing_of_the_log_costs_a_bounded_amount(relay: HostProcess) -> None:
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connected(relay.port, SO_RCVBUF=4096)) for _ in range(3 * MAX_READERS)]
        for sock in socks:
            send(sock, get("/api/log?follow=1&from=0"))
        statuses = [status_on(sock) for sock in socks]
        assert statuses.count(503) >= MAX_READERS
        assert 0 < statuses.count(200) <= MAX_READERS
        ping_within(relay.port, 2)

    def is_let_in() -> bool:
        reply = exchange(relay.port, get("/api/log?max=1"))
        return reply is not None and reply.status == 200

    # All have hung up.
    wait_for(is_let_in, "others can read the log again")


def status_on(sock: socket.socket) -> int:
    """Return the status of the answer that begins there, and read no more of it."""
    return int(sock.recv(15).split()[1])


def test_slow_bodies_hold_nobody_up_and_are_refused(relay: HostProcess) -> None:
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connected(relay.port)) for _ in range(100)]
        for sock in socks:
            send(sock, post("/api/send", b'{"data":1}', "Content-Length: 100000")[:-3])
        ping_within(relay.port, 2)
        for sock in socks:
            sock.settimeout(30)
        replies = [read_reply(sock) for sock in socks]
    answered = [reply for reply in replies if reply is not None]
    assert {reply.status for reply in answered} == {408}
    assert all(json.loads(reply.body)["error"]["code"] == -32600 for reply in answered)


@pytest.mark.parametrize(
    ("headers", "host", "status"),
    [
        (["Origin: http://evil.example"], "127.0.0.1", 403),
        (["Origin: null"], "127.0.0.1", 403),
        (["Origin: http://127.0.0.1.evil.example"], "127.0.0.1", 403),
        (["Origin: https://127.0.0.1"], "127.0.0.1", 403),
        (["Origin: http://127.0.0.1", "Sec-Fetch-Site: cross-site"], "127.0.0.1", 403),
        ([], "evil.example", 421),
        (["Origin: http://evil.example"], "evil.example", 421),
        ([], "127.0.0.1.evil.example", 421),
        ([], "localhost.evil.example:2003", 421),
    ],
)
def test_web_pages_of_others_get_nothing(relay: HostProcess, headers: list[str], host: str, status: int) -> None:
    """A page of another site, and one that has bent its own name to this address."""
    for data in (
        post("/api/send", b'{"channel":"canary","data":1}', *headers, host=host),
        post("/api/call/ping", b"1", *headers, host=host),
        request(b"", *headers, first="GET /api/log HTTP/1.1", host=host),
        request(b"", *headers, first="GET /api/status HTTP/1.1", host=host),
    ):
        reply: Reply | None = exchange(relay.port, data)
        assert reply is not None
        assert reply.status == status
        assert "access-control-allow-origin" not in reply.headers
    told = exchange(relay.port, get("/api/log?channel=canary"))
    assert told is not None
    assert b"canary" not in told.body


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/xml"]
)
def test_no_form_can_send_anything(relay: HostProcess, kind: str) -> None:
    reply = exchange(relay.port, request(b'{"data":1}', f"Content-Type: {kind}", first="POST /api/send HTTP/1.1"))
    assert reply is not None
    assert reply.status == 415


FILTERS = {
    "times before all times": ("/api/log?from=-999999999d&max=1", 200),
    "positions behind all": (f"/api/log?from={2**63 - 1}&max=1", 200),
    "positions that are too great": (f"/api/log?from={2**63}", 400),
    "digits": (f"/api/log?from={'9' * 7_000}", 400),
    "other digits": ("/api/log?max=%D9%A1", 400),
    "many patterns": ("/api/log?max=1&channel=" + ",".join("*" * 300), 400),
    "many patterns of the last values": ("/api/last?channel=" + ",".join("*" * 300), 400),
    "long patterns": ("/api/log?max=1&channel=" + "a" * 7_000, 400),
    "many tokens": ("/api/last?channel=" + ",".join([".".join("*" * 128)] * 25), 200),
    "no tokens": ("/api/log?channel=" + "." * 7_000, 400),
    "one key many times": ("/api/log?max=1" + "&max=2" * 1_000, 200),  # the first one counts
    "many keys": ("/api/log?" + "&".join(f"k{n}=1" for n in range(1_000)), 400),
    "half of a code": ("/api/log?channel=%", 200),
    "no UTF-8": ("/api/log?channel=%ff", 200),
    "zeros": ("/api/log?channel=%00&max=1", 200),
    "paths": ("/api/last?channel=..%2F..%2Fetc%2Fpasswd", 400),
}


# Before the floods: some of these read the whole log.
@pytest.mark.parametrize("name", FILTERS)
def test_hostile_filters_are_answered_quickly(relay: HostProcess, name: str) -> None:
    query, status = FILTERS[name]
    began = time.monotonic()
    reply = exchange(relay.port, get(query, "Connection: close"))
    assert reply is not None
    assert reply.status == status, reply.body[:200]
    assert b"Traceback" not in reply.body
    if status != 200:
        assert len(reply.body) < 500
    assert time.monotonic() - began < 2


def viewer(relay: HostProcess, stack: contextlib.ExitStack, **options: int) -> socket.socket:
    """Open /live, and read the relay's first frame; those of an earlier test may still have the places."""
    headers = (
        *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
        *("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: co2.live.1"),
    )
    deadline = time.monotonic() + 40
    while True:
        sock = stack.enter_context(connected(relay.port, "127.0.0.1", **options))
        send(sock, request(b"", *headers, first="GET /live HTTP/1.1"))
        data = b""
        while b'"position"' not in data:
            got = sock.recv(65536)
            if not got:
                break
            data += got
        else:
            return sock
        assert b" 503 " in data, data
        assert time.monotonic() < deadline, data
        time.sleep(0.1)


def frame(payload: bytes, first: int = 0x81, *, masked: bool = True) -> bytes:
    """A frame of a client; its mask is zeros."""
    bit, mask = (0x80, bytes(4)) if masked else (0, b"")
    if len(payload) < 126:
        return bytes((first, bit | len(payload))) + mask + payload
    if len(payload) < 65_536:
        return bytes((first, bit | 126)) + len(payload).to_bytes(2, "big") + mask + payload
    return bytes((first, bit | 127)) + len(payload).to_bytes(8, "big") + mask + payload


FLOODS = {
    "calls": frame(b'{"call":"ping","ref":1}') * 1_000,
    "sends": frame(b'{"send":{"channel":"flood","data":1},"ref":1}') * 1_000,
    "live sends": frame(b'{"send":{"channel":"flood","data":1,"live":true}}') * 1_000,
    "wishes": frame(b'{"want":{"channels":["a.*","b.>"]},"ref":1}') * 1_000,
    "no frames": frame(b"[") * 5_000,
    "no JSON of a megabyte": frame(b'{"call":"' + b'\\"' * 500_000),
    "lists of a megabyte": frame(b"[" * 1_000_000),
    "messages of a megabyte": frame(
        b'{"send":[' + b",".join([b'{"channel":"flood","data":[1,2,3]}'] * 256) + b'],"ref":1}'
    ),
}


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read"])
@pytest.mark.may_grow(128, "the log keeps the messages in memory")
def test_floods_of_frames_cost_their_sender(relay: HostProcess, name: str, reads: bool) -> None:
    stop = threading.Event()

    def flood(sock: socket.socket) -> None:
        sock.settimeout(0.2)
        with contextlib.suppress(ConnectionError):
            while not stop.is_set():
                try:
                    sock.sendall(FLOODS[name])
                except TimeoutError:
                    return  # in the middle of a frame: nothing more can follow
                if reads:
                    with contextlib.suppress(TimeoutError):
                        while sock.recv(65536):
                            pass

    with contextlib.ExitStack() as stack:
        threads = [threading.Thread(target=flood, args=(viewer(relay, stack),)) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                ping_within(relay.port, 2)
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b'{"call":"ping"}', 0x82), 1003),
        (frame(b'{"call":"ping"}', masked=False), 1002),
        (frame(b"", 0x83), 1002),
        (frame(b"", 0xC1), 1002),
        (frame(b"a", 0x80), 1002),
        (b"\x81\xff" + (2**20 + 1).to_bytes(8, "big"), 1009),
        (b"\x81\xff" + b"\xff" * 8, 1009),
        (frame(b"", 0x01) + frame(b"", 0x00) * 20, 1008),
        (frame(b"", 0x89) * 60, 1008),
    ],
    ids=[
        "binary",
        "unmasked",
        "reserved opcode",
        "reserved bit",
        "lone fragment",
        "long",
        "longest",
        "parts",
        "pings",
    ],
)
def test_what_breaks_the_websocket_closes_it(relay: HostProcess, data: bytes, code: int) -> None:
    with contextlib.ExitStack() as stack:
        sock = viewer(relay, stack)
        send(sock, data)
        got = b""
        with contextlib.suppress(ConnectionError):
            while part := sock.recv(65536):
                got += part
    assert got[-4:] == b"\x88\x02" + code.to_bytes(2, "big")


def test_text_that_is_no_utf_8_is_refused(relay: HostProcess) -> None:
    with contextlib.ExitStack() as stack:
        sock = viewer(relay, stack)
        send(sock, frame(b'{"call":"ping\xff","ref":1}'))
        assert b"invalid UTF-8" in sock.recv(65536)


ALIKE = [".".join(["a"] * 126 + ["*", f"{number:x}"[-1]]) for number in range(31)] + ["the.end"]
"""As many tokens as there may be, in patterns each of which has to be compared up to its end, but one."""


def test_filters_that_are_alike_up_to_their_ends_cost_little(tmp_path: Path) -> None:
    """With 256 of them a viewer took half a millisecond for each message on a new channel."""
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(running(tmp_path, "relay"))  # that has nothing left to do of another test
        viewers = [viewer(relay, stack) for _ in range(16)]
        for sock in viewers:
            send(sock, frame(json.dumps({"want": {"channels": ALIKE * 2}, "ref": 0}).encode()))
            assert b"tokens in all patterns; at most" in sock.recv(65536)
            send(sock, frame(json.dumps({"want": {"channels": ALIKE}, "ref": 1}).encode()))
            assert b'"ref":1' in sock.recv(65536)
        before = worked(relay)
        for number in range(8):
            channels = [".".join(["a"] * 126 + [f"{number}{n:02}"[-2:], "z"]) for n in range(64)]
            sent = [{"channel": channel, "data": 1} for channel in channels]
            reply = exchange(relay.port, post("/api/send", json.dumps(sent).encode()))
            assert reply is not None
            assert reply.status == 200
            ping_within(relay.port, 2)
        reply = exchange(relay.port, post("/api/send", b'{"channel":"the.end","data":1}'))
        for sock in viewers:  # it comes behind all others
            assert b'"the.end"' in sock.recv(65536)
        assert worked(relay) - before < 0.5


@pytest.mark.may_grow(112, "what viewers have not read: 8 MiB; live messages that wait: 4; the log's end")
def test_viewers_that_want_all_and_read_nothing_hold_up_nobody(relay: HostProcess) -> None:
    stop = threading.Event()
    live = frame(b'{"send":{"channel":"flood","live":true,"data":"' + b"x" * 50_000 + b'"}}')
    stored = frame(b'{"send":[' + b",".join([b'{"channel":"flood","data":"%b"}' % (b"x" * 900)] * 40) + b"]}")

    def flood(data: bytes) -> None:
        with contextlib.ExitStack() as stack, contextlib.suppress(ConnectionError, TimeoutError):
            sock = viewer(relay, stack)
            sock.settimeout(2)
            while not stop.is_set():
                sock.sendall(data)

    with contextlib.ExitStack() as stack:
        for _ in range(28):
            send(viewer(relay, stack), frame(b'{"want":{"channels":null}}'))
        threads = [threading.Thread(target=flood, args=(data,)) for data in (live, stored) * 2]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                ping_within(relay.port, 2)
                time.sleep(0.05)
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        reply = exchange(relay.port, get("/api/status"))
        assert reply is not None
        assert reply.status == 200


LONG = make_batch([msgspec.msgpack.encode({"channel": "flood", "data": "\x01" * 730_000})])
"""Over 4 MiB when it is written as JSON."""


@pytest.mark.may_grow(80, "what viewers have not read: 16 MiB; what a long message takes to write")
def test_a_long_message_for_viewers_that_read_nothing_is_not_kept_for_each_of_them(relay: HostProcess) -> None:

    async def publish() -> None:
        link = await RawLink.joined_as(relay.port, "mallory")
        link.say(encode_link_frame(Publish(7, 1, "p", "p.m.X", ["flood"], crc32(LONG), LONG)))
        await link.next(Ack)
        link.abort()

    with contextlib.ExitStack() as stack:
        viewers = [viewer(relay, stack, SO_RCVBUF=4096) for _ in range(28)]
        reader = viewer(relay, stack)
        for sock in (*viewers, reader):
            send(sock, frame(b'{"want":{"channels":["flood","end"]},"ref":1}'))
            assert b'"ref":1' in sock.recv(65536)
        asyncio.run(publish())
        reply = exchange(relay.port, post("/api/send", b'{"channel":"end","data":1}'))
        assert reply is not None
        last = b""
        while (
            b'"end"' not in last
        ):  # it comes behind the long one, or behind the number of those that did not come
            last = last[-100:] + reader.recv(2**20)
        guard.check()
        for _ in range(10):
            ping_within(relay.port, 1)
