"""All attacks on a relay that are known, each as a task that goes on until it is cancelled.

``python -m tests.siege.attackers PORT NAME…`` runs those named, with the names of honest satellites from stdin,
until stdin ends, and prints how often each was done.
"""

import asyncio
import contextlib
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from zlib import crc32

import msgspec

from co2.protocol.batch import make_batch
from co2.protocol.link_frames import (
    Applied,
    Call,
    Interest,
    Publish,
    Replay,
    Subscription,
    Welcome,
    encode_link_frame,
)
from co2.protocol.web_socket import PING, control_frame
from co2.server.link_wire import joined
from tests.attacks.raw import call_body, request
from tests.attacks.raw_link import RawLink, handshake

__all__ = ["ATTACKS", "Site"]

PAUSE = 0.05
"""Seconds after which an attacker that was sent away comes again."""

LINKS = 3
"""Links that one attack has at a time."""


class Site:
    """What is attacked.

    Attributes:
        port: of the relay.
        honest: names of the satellites that mean well.
        done: how often each attack was begun.
        answers: port of our own server, which answers what nobody wants.
    """

    def __init__(self, port: int, honest: list[str]) -> None:
        self.port = port
        self.honest = honest
        self.done: Counter[str] = Counter()
        self.answers = 0

    async def link(self, **changes: object) -> RawLink:
        """Join as somebody new."""
        subscriptions = changes.pop("subscriptions", [Subscription("p", None, ["nobody.>"])])
        origin = changes.pop("origin", f"mallory{random.getrandbits(40):x}")
        return await RawLink.joined_as(self.port, str(origin), subscriptions=subscriptions, **changes)

    async def post(self, body: bytes, wait: float = 5.0) -> bytes:
        """Make a request over a connection of its own; give what comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request(body, "Connection: close"))
            async with asyncio.timeout(wait):
                return await reader.read()
        finally:
            writer.transport.abort()
            writer.close()


Attack = Callable[[Site], Awaitable[None]]
ATTACKS: dict[str, Attack] = {}


def attack(begin: Attack) -> Attack:
    """Put an attack into the table."""
    ATTACKS[begin.__name__] = begin
    return begin


async def pour(link: RawLink, data: bytes, seconds: float = 5.0) -> None:
    """Write without end, as fast as it is read, and read what comes."""

    async def read() -> None:
        while await link.reader.read(2**18):
            pass

    reading = asyncio.ensure_future(read())
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not reading.done():
                    link.writer.write(data)
                    await link.writer.drain()
                    await asyncio.sleep(0)  # also where the relay takes all of it: the other attackers wait
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        link.abort()


def frames(*data: bytes, times: int = 1) -> bytes:
    return b"".join(joined([*data] * times, masked=True))


# ---- floods over links ---------------------------------------------------------------------------------


@attack
async def pings(site: Site) -> None:
    """Control frames without end, before a Hello and behind one."""
    link = await random.choice((lambda: RawLink.open(site.port), site.link))()
    await pour(link, control_frame(PING, b"x" * 20, True) * 500)


@attack
async def calls(site: Site) -> None:
    """Calls of what is dear to answer."""
    await pour(
        await site.link(), frames(encode_link_frame(Call(1, "co2.get_properties", b"\x80", 60.0)), times=100)
    )


@attack
async def interests(site: Site) -> None:
    """Interests with many patterns, two in turn: what was said before would cost nothing."""
    two = [
        encode_link_frame(Interest([Subscription(f"p{n}", None, [f"{one}{n}.>"]) for n in range(200)], [], []))
        for one in "ab"
    ]
    await pour(await site.link(), frames(*two, times=5))


@attack
async def words_about_progress(site: Site) -> None:
    """The cheapest frame there is."""
    await pour(await site.link(), frames(encode_link_frame(Applied({})), times=500))


@attack
async def replays(site: Site) -> None:
    """Replays from the oldest on, of many packages."""
    packages = [f"p{n}" for n in range(20)]
    link = await site.link(subscriptions=[Subscription(package, None, ["nobody.>"]) for package in packages])
    await pour(link, frames(*[encode_link_frame(Replay(package, 2, 2**20)) for package in packages], times=20))


@attack
async def names(site: Site) -> None:
    """Names of methods, as many as go into a frame."""
    link = await site.link()
    many = [f"mallory.{n:06}.{'x' * 100}" for n in range(20_000)]
    await pour(link, frames(encode_link_frame(Interest([], many, []))), 2.0)


@attack
async def frames_that_never_end(site: Site) -> None:
    """Half of a frame of 4 MiB on many links, before a Hello and behind one."""
    links = [await RawLink.open(site.port) for _ in range(10)]
    links += [await site.link() for _ in range(10)]
    for link in links:
        link.writer.write(b"\x82\xff" + (2**22).to_bytes(8, "big") + bytes(4) + bytes(2**21))
    await asyncio.sleep(2)
    for link in links:
        link.abort()


@attack
async def calls_that_nobody_answers(site: Site) -> None:
    """Calls of a satellite that does not answer, by many links."""
    callee = await site.link(methods=["mallory.never.answers"])
    argument = msgspec.msgpack.encode({"method_name": "mallory.never.answers", "data": 1})
    callers = [await site.link() for _ in range(5)]
    for caller in callers:
        caller.say(*[encode_link_frame(Call(n, "method_call", argument, 30.0)) for n in range(300)])
    await asyncio.sleep(3)
    for link in (callee, *callers):
        link.abort()


@attack
async def numbers_used_twice(site: Site) -> None:
    """The same number with other messages, each of which is a line of the log."""
    one, other = (make_batch([msgspec.msgpack.encode({"data": n})]) for n in range(2))
    link = await site.link()
    link.say(encode_link_frame(Publish(7, 1, "p", "p.m.X", ["nobody.x"], crc32(one), one)))
    await pour(link, frames(encode_link_frame(Publish(7, 1, "p", "p.m.X", [""], crc32(other), other)), times=100))


@attack
async def links_without_a_hello(site: Site) -> None:
    """Links that say nothing, as many as there may be."""
    links = []
    for _ in range(100):
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(handshake())
        links.append(writer)
    await asyncio.sleep(1)
    for writer in links:
        writer.transport.abort()
        writer.close()


@attack
async def joining_and_leaving(site: Site) -> None:
    """Come and go, so that all are told."""
    link = await site.link(methods=[f"mallory.{n}.x" for n in range(300)])
    link.abort()


# ---- what others are, and have -------------------------------------------------------------------------


@attack
async def origins_of_others(site: Site) -> None:
    """Hello as a satellite that means well, with numbers far ahead of its own."""
    link = await site.link(origin=random.choice(site.honest), outbox=[(random.getrandbits(62), 10_001)])
    link.abort()


@attack
async def another_log(site: Site) -> None:
    """Say that one has read in a run of this log that it does not know."""
    welcome = await welcomed(site)
    read = [Subscription("p", welcome.position, ["nobody.>"])]
    link = await site.link(log_id=welcome.log_id, run=f"{random.getrandbits(64):x}", subscriptions=read)
    link.abort()


async def welcomed(site: Site) -> Welcome:
    link = await RawLink.open(site.port)
    link.say(RawLink.hello(f"mallory{random.getrandbits(40):x}"))
    try:
        return await link.next(Welcome)
    finally:
        link.abort()


@attack
async def claims_of_losses(site: Site) -> None:
    """Claim runs of which more was acknowledged than the relay knows."""
    welcome = await welcomed(site)
    outbox = [(random.getrandbits(62), random.randrange(2, 2000)) for _ in range(64)]
    link = await site.link(log_id=welcome.log_id, run=welcome.run, outbox=outbox)
    link.abort()


@attack
async def hops(site: Site) -> None:
    """Register somebody else's port through a link, and through method_call."""
    link = await site.link()
    port = msgspec.msgpack.encode({"port": site.port})
    hop = msgspec.msgpack.encode({"method_name": "relay.register", "data": None, "port": site.port})
    link.say(*[encode_link_frame(Call(n, "relay.register", port, 5.0)) for n in range(10)])
    link.say(*[encode_link_frame(Call(n, "method_call", hop, 5.0)) for n in range(10)])
    await asyncio.sleep(0.5)
    link.abort()


# ---- over XML-RPC --------------------------------------------------------------------------------------


@attack
async def registrations(site: Site) -> None:
    """All places of members, of which nobody fetches."""
    await asyncio.gather(*(site.post(call_body("relay.register", {})) for _ in range(20)))


@attack
async def answers_of_32_mib(site: Site) -> None:
    """Members whose notify answers what nobody wants to read."""
    await site.post(call_body("relay.register", {"port": site.answers}))
    message = {"host_id": "mallory@127.0.0.1:0", "channel": "nobody.x", "data": 1}
    await site.post(call_body("relay.relay", message), 10.0)
    await asyncio.sleep(1)


@attack
async def long_polls(site: Site) -> None:
    """Connections that wait for a message."""
    answer = await site.post(call_body("relay.register", {}))
    if b"host_id" not in answer:
        return
    host_id = answer.partition(b"<name>host_id</name>")[2].partition(b"<string>")[2].partition(b"</string>")[0]
    poll = request(call_body("relay.fetch", {"host_id": host_id.decode(), "max": 1, "wait": 25}))
    waiting = []
    for _ in range(200):
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(poll)
        waiting.append(writer)
    await asyncio.sleep(3)
    for writer in waiting:
        writer.transport.abort()
        writer.close()


@attack
async def connections_that_say_nothing(site: Site) -> None:
    """Connections with nothing but line ends, or half a head."""
    waiting = []
    for n in range(200):
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"\r\n" if n % 2 else b"POST / HTTP/1.1\r\nHost: ")
        waiting.append(writer)
    for _ in range(3):
        await asyncio.sleep(1)
        for writer in waiting:
            if not writer.is_closing():
                writer.write(b"\r\n" if random.random() < 0.5 else b"x")
    for writer in waiting:
        writer.transport.abort()
        writer.close()


@attack
async def requests(site: Site) -> None:
    """Requests in a row, each of which is a line of a log."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    await pour(RawLink(reader, writer), request(call_body("no.such")) * 50 + request(call_body("ping")) * 50, 2.0)


@attack
async def messages_that_are_dear_to_read(site: Site) -> None:
    """Messages that nest deep or wide, and members who read them."""
    link = await site.link()
    deep = make_batch([b"\x81\xa4data" + b"\x91" * 500_000 + b"\xc0"])
    wide = make_batch([b"\x81\xa4data\xdd" + (100_000).to_bytes(4, "big") + b"\x90" * 100_000])
    for seq, batch in enumerate((deep, wide), 1):
        link.say(encode_link_frame(Publish(7, seq, "p", "p.m.X", ["nobody.x"], crc32(batch), batch)))
    await link.writer.drain()
    answer = await site.post(call_body("relay.register", {}))
    host_id = answer.partition(b"<name>host_id</name>")[2].partition(b"<string>")[2].partition(b"</string>")[0]
    for _ in range(5):
        await site.post(call_body("relay.fetch", {"host_id": host_id.decode(), "max": 1000}), 10.0)
    await asyncio.sleep(1)
    link.abort()


# ---- running them --------------------------------------------------------------------------------------


async def go_on(site: Site, name: str) -> None:
    """Do one attack again and again: whoever is sent away comes back."""
    while True:
        site.done[name] += 1
        with contextlib.suppress(OSError, EOFError, AssertionError, TimeoutError, asyncio.IncompleteReadError):
            await ATTACKS[name](site)
        await asyncio.sleep(PAUSE)


async def serve_answers(site: Site) -> asyncio.Server:
    """Answer every request with 32 MiB."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                await reader.readuntil(b"</methodCall>")
                size = 2**25
                writer.write(
                    f"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {size}\r\n\r\n".encode()
                )
                for _ in range(size // 2**16):
                    writer.write(b"<value/>" * 2**13)
                    await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**22)
    site.answers = server.sockets[0].getsockname()[1]
    return server


async def main(port: int, wanted: list[str]) -> None:
    loop = asyncio.get_running_loop()
    honest = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    site = Site(port, honest)
    server = await serve_answers(site)
    several = {"pings", "calls", "interests", "replays"}
    tasks = [
        asyncio.ensure_future(go_on(site, name))
        for name in wanted or ATTACKS
        for _ in range(LINKS if name in several else 1)
    ]
    await loop.run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            sys.stderr.write(f"an attacker ended: {result!r}\n")
    server.close()
    print(json.dumps(site.done))
    sys.stdout.flush()
    os._exit(0)  # what is left of the connections goes with the process


if __name__ == "__main__":
    os.nice(5)  # the attackers are many machines; here they must not have the processor to themselves
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
