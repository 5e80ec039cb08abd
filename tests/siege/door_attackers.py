"""Attacks on the JSON door; :mod:`tests.siege.attackers` runs them with all others."""

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import Iterator

from tests.attacks.raw import request
from tests.attacks.raw_link import RawLink
from tests.siege.site import PAUSE, SENT_AWAY, Site, attack, pour, pressed

__all__: list[str] = []

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def post(path: str, body: bytes, *headers: str, host: str = "127.0.0.1") -> bytes:
    return request(body, "Content-Type: application/json", *headers, first=f"POST {path} HTTP/1.1", host=host)


def get(target: str, *headers: str, host: str = "127.0.0.1") -> bytes:
    return request(b"", *headers, first=f"GET {target} HTTP/1.1", host=host)


def live(*headers: str, host: str = "127.0.0.1") -> bytes:
    """A request that opens a viewer."""
    upgrade = (
        *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
        *("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: co2.live.1"),
    )
    return get("/live", *upgrade, *headers, host=host)


def text_frame(payload: bytes) -> bytes:
    """A frame of a viewer; its mask is zeros."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, 0x80 | size)) + bytes(4) + payload
    if size < 2**16:
        return b"\x81\xfe" + size.to_bytes(2, "big") + bytes(4) + payload
    return b"\x81\xff" + size.to_bytes(8, "big") + bytes(4) + payload


@contextlib.contextmanager
def ended(connections: list[Connection]) -> Iterator[None]:
    """Cut these connections in the end."""
    try:
        yield
    finally:
        for _, writer in connections:
            writer.transport.abort()
            writer.close()


async def connection(site: Site) -> Connection:
    return await asyncio.open_connection("127.0.0.1", site.port)


async def status_of(reader: asyncio.StreamReader) -> int:
    """Read the head of an answer; return its status."""
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1])


async def viewers(site: Site, number: int) -> tuple[list[Connection], int]:
    """Open so many viewers at once; return those that were let in, and how many were refused."""
    come = await asyncio.gather(*(connection(site) for _ in range(number)))
    for _, writer in come:
        writer.write(live())
    statuses = await asyncio.gather(*(status_of(reader) for reader, _ in come), return_exceptions=True)
    with ended([one for one, status in zip(come, statuses, strict=True) if status != 101]):
        return [one for one, status in zip(come, statuses, strict=True) if status == 101], statuses.count(503)


def stop_reading(connections: list[Connection]) -> None:
    for reader, writer in connections:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)


# ---- bodies --------------------------------------------------------------------------------------------

REFUSED = [
    b"[" * 400_000,
    b'{"data":' * 50_000 + b"1" + b"}" * 50_000,
    b'{"data":' + b"9" * 900_000 + b"}",
    b'{"data":[' + b"99999999999999999999," * 9_000 + b"1]}",
    b'{"data":1e' + b"9" * 1_000 + b"}",
    b'{"data":[' + b"1," * 450_000 + b"1]}",
    b'{"data":{' + b",".join(b'"%d":1' % n for n in range(90_000)) + b"}}",
    b'{"data":' + b'{"$d":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
]

DEAR = [
    b'{"channel":"nobody.x","data":"' + b'\\"' * 340_000 + b'"}',
    b'{"channel":"nobody.x","data":[' + b",".join([b'{"$b":"eA=="}'] * 4_900) + b"]}",
    b'{"channel":"nobody.x","data":{' + b",".join(b'"%d":1' % n for n in range(9_900)) + b"}}",
    b"[" + b",".join([b'{"channel":"nobody.x","data":[1,2,3]}'] * 2_048) + b"]",
]


@attack
async def json_that_is_refused(site: Site) -> None:
    """Deep JSON, huge numbers, and more values than there may be."""
    link = RawLink(*await connection(site))
    await pour(site, link, b"".join(post("/api/send", body) for body in REFUSED), 3.0, b"HTTP/1.1 400 ")


@attack
async def json_that_is_dear(site: Site) -> None:
    """Messages within all limits that take long to read."""
    link = RawLink(*await connection(site))
    await pour(site, link, b"".join(post("/api/send", body) for body in DEAR), 3.0, b'"position"')


@attack
async def bodies_that_come_slowly(site: Site) -> None:
    """Connections that have asked something, and then send a body of which a byte comes now and then."""
    slow = [await connection(site) for _ in range(60)]
    with ended(slow):
        for _, writer in slow:
            writer.write(get("/api/methods"))
        for reader, _ in slow:
            await status_of(reader)
        for _, writer in slow:
            writer.write(post("/api/send", b'{"data":"', "Content-Length: 100000"))
        refusals = [asyncio.ensure_future(reader.readuntil(b"HTTP/1.1 408 ")) for reader, _ in slow]
        for _ in range(16):
            for _, writer in slow:
                if not writer.is_closing():
                    writer.write(b"x")
            await asyncio.sleep(0.5)
        for refusal in refusals:
            refusal.cancel()
        if any(isinstance(one, bytes) for one in await asyncio.gather(*refusals, return_exceptions=True)):
            site.made()


# ---- viewers -------------------------------------------------------------------------------------------


@attack
async def viewers_that_send_and_read_nothing(site: Site) -> None:
    """Viewers that want everything, send and call as fast as they can, and read none of it."""
    let_in, _ = await viewers(site, 6)
    with ended(let_in):
        stop_reading(let_in)
        floods = [
            text_frame(b'{"send":{"channel":"nobody.x","data":1},"ref":1}') * 500,
            text_frame(b'{"send":{"channel":"nobody.x","data":"' + b"x" * 50_000 + b'","live":true}}') * 5,
            text_frame(b'{"call":"ping","ref":1}') * 500,
            text_frame(b'{"call":"co2.get_properties","ref":1}') * 500,
            text_frame(b'{"want":{"channels":["a.*","b.>"]},"ref":1}') * 500,
            text_frame(b'{"send":[' + b",".join([b'{"channel":"nobody.x","data":[1]}'] * 256) + b"]}"),
        ]
        for _, writer in let_in:
            writer.write(text_frame(b'{"want":{"channels":null}}'))
        pressing = [pressed(one[1], data, 4.0) for one, data in zip(let_in, floods, strict=False)]
        if any(held is True for held in await asyncio.gather(*pressing, return_exceptions=True)):
            site.made()


@attack
async def all_viewers_that_may_be(site: Site) -> None:
    """Viewers in all places, with as many patterns as there may be, that read a little now and then."""
    tokens = ["a"] * 126
    wanted = [
        *(".".join([*tokens, "*", f"{random.getrandbits(4):x}"]) for _ in range(31)),
        "honest.>",
        "nobody.>",
    ]
    let_in, refused = await viewers(site, 40)
    with ended(let_in):
        for _, writer in let_in:
            writer.write(text_frame(json.dumps({"want": {"channels": wanted}}).encode()))
        for _ in range(30):
            for reader, _ in let_in:
                with contextlib.suppress(*SENT_AWAY):
                    async with asyncio.timeout(0.01):
                        await reader.read(2**11)
            await asyncio.sleep(PAUSE)
    if let_in and refused:
        site.made()


@attack
async def viewers_that_come_and_go(site: Site) -> None:
    """Viewers that are gone before the relay has answered."""
    for _ in range(50):
        reader, writer = await connection(site)
        with ended([(reader, writer)]):
            writer.write(live() + text_frame(b'{"want":{"channels":null}}'))
            if random.random() < 0.5 and await status_of(reader) == 101:
                site.made()


# ---- the log -------------------------------------------------------------------------------------------


@attack
async def logs_that_nobody_reads(site: Site) -> None:
    """The whole log for all who may read it at once, none of whom reads."""
    readers = [await connection(site) for _ in range(40)]
    with ended(readers):
        for _, writer in readers:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
            writer.write(get("/api/log?from=0&follow=1"))
        statuses = await asyncio.gather(*(status_of(reader) for reader, _ in readers), return_exceptions=True)
        if 200 in statuses:
            site.made()
        stop_reading(readers)
        await asyncio.sleep(3)


@attack
async def logs_that_are_read_fast(site: Site) -> None:
    """The whole log again and again, as fast as it comes."""
    readers = [await connection(site) for _ in range(4)]

    async def read(reader: asyncio.StreamReader) -> None:
        while await reader.read(2**18):
            pass

    with ended(readers):
        for _, writer in readers:
            writer.write(get("/api/log?from=0&channel=%3E", "Connection: close"))
        statuses = await asyncio.gather(*(status_of(reader) for reader, _ in readers), return_exceptions=True)
        with contextlib.suppress(*SENT_AWAY):
            async with asyncio.timeout(3):
                await asyncio.gather(*(read(reader) for reader, _ in readers))
        if 200 in statuses:
            site.made()


@attack
async def filters(site: Site) -> None:
    """Questions with as many long patterns as go into a request, and beginnings that must be looked for."""
    long = ",".join([".".join("*" * 128)] * 25)
    asked = [
        get(f"/api/log?channel={long}&max=1"),
        get(f"/api/last?channel={long}"),
        get("/api/log?from=-1s&max=1"),
        get("/api/log?from=-999999999d&max=1&channel=none"),
        get("/api/last?channel=nobody.>"),
        get("/api/log?max=" + "9" * 7_000),
        get("/api/log?" + "&".join(f"k{n}=1" for n in range(1_000))),
    ]
    link = RawLink(*await connection(site))
    await pour(site, link, b"".join(asked), 3.0, b"HTTP/1.1 400 ")


# ---- pages of others -----------------------------------------------------------------------------------


@attack
async def pages_of_other_sites(site: Site) -> None:
    """What a web page of another site can make a browser send, also one whose name leads to this address."""
    foreign = ("Origin: http://evil.example", "Sec-Fetch-Site: cross-site")
    bound = "rebound.evil.example"
    asked = [
        post("/api/send", b'{"channel":"honest.fader","data":1}', *foreign),
        post("/api/send", b'{"channel":"honest.fader","data":1}', f"Origin: http://{bound}", host=bound),
        post("/api/send", b'{"channel":"honest.fader","data":1}', host=bound),
        post("/api/call/ping", b"", *foreign),
        get("/api/log?max=1", *foreign),
        get("/api/log?max=1", host=bound),
        live(*foreign),
        live(f"Origin: http://{bound}", host=bound),
        request(
            b'{"channel":"honest.fader","data":1}', "Content-Type: text/plain", first="POST /api/send HTTP/1.1"
        ),
    ]
    sent = [await connection(site) for _ in asked]
    with ended(sent):
        for (_, writer), data in zip(sent, asked, strict=True):
            writer.write(data)
        statuses = await asyncio.gather(*(status_of(reader) for reader, _ in sent))
    assert min(statuses) >= 400, f"a web page of another site was let in: {statuses}"
    site.made()
