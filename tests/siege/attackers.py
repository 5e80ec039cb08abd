"""All attacks on a relay that are known, each as a task that goes on until it is cancelled.

``python -m tests.siege.attackers PORT NICENESS NAME…`` runs those named, with the names of honest satellites from
stdin, until stdin ends and each has been done once, and prints how often each was done, and which of them ended
for an error of its own.

An attack counts when its decisive step has been done: when the relay was seen to have taken what it is about, or
to have refused it. One that is sent away before does not count, and comes again.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import sys
import time
import traceback
from collections import Counter
from zlib import crc32

import msgspec

from co2.errors import TooManySatellites
from co2.protocol.wire import close_reasons
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.host_names import MAX_NAMES_SIZE
from co2.protocol.wire.link_frames import (
    Ack,
    Applied,
    Call,
    Goodbye,
    Interest,
    Publish,
    Replay,
    Result,
    Subscription,
    Welcome,
    encode_link_frame,
)
from co2.protocol.wire.websocket import CLOSE, PING, POLICY, control_frame
from co2.server.link.websocket_transport import joined
from tests.attacks.raw import call_body, request
from tests.attacks.raw_link import RawLink, handshake
from tests.siege import door_attackers
from tests.siege.site import ATTACKS, HOST_ID, NEXT, PAUSE, SENT_AWAY, Answers, Site, attack, pour, pressed

__all__ = ["ATTACKS", "door_attackers"]

LINKS = 3
"""Links that one attack has at a time."""


LAST_TRIES = 30.0
"""Seconds for which all go on at most, where one of them could not be made yet: the machine may be slow."""


def frames(*data: bytes, times: int = 1) -> bytes:
    return b"".join(joined([*data] * times, masked=True))


# ---- floods over links ---------------------------------------------------------------------------------


@attack
async def pings(site: Site) -> None:
    """Control frames without end, before a Hello and behind one."""
    link = await random.choice((site.open, site.link))()
    closed = control_frame(CLOSE, POLICY.to_bytes(2, "big"), False)
    await pour(site, link, control_frame(PING, b"x" * 20, True) * 500, seen=closed)


@attack
async def calls(site: Site) -> None:
    """Calls of what is dear to answer."""
    call = encode_link_frame(Call(1, "co2.get_properties", b"\x80", 60.0))
    await pour(site, await site.link(), frames(call, times=100))


@attack
async def interests(site: Site) -> None:
    """Interests with many patterns, two in turn: what was said before would cost nothing."""
    two = [
        encode_link_frame(Interest([Subscription(f"p{n}", None, [f"{one}{n}.>"]) for n in range(200)], [], []))
        for one in "ab"
    ]
    await pour(site, await site.link(), frames(*two, times=5))


@attack
async def words_about_progress(site: Site) -> None:
    """The cheapest frame there is."""
    await pour(site, await site.link(), frames(encode_link_frame(Applied({})), times=500))


@attack
async def replays(site: Site) -> None:
    """Replays from the oldest on, of many packages."""
    packages = [f"p{n}" for n in range(20)]
    link = await site.link(subscriptions=[Subscription(package, None, ["nobody.>"]) for package in packages])
    await pour(
        site, link, frames(*[encode_link_frame(Replay(package, 2, 2**20)) for package in packages], times=20)
    )


@attack
async def names(site: Site) -> None:
    """Names of methods, as many as go into a frame."""
    link = await site.link()
    many = [f"mallory.{n:06}.{'x' * 100}" for n in range(20_000)]
    await pour(site, link, frames(encode_link_frame(Interest([], many, []))), 2.0, close_reasons.GARBAGE.encode())


@attack
async def frames_that_never_end(site: Site) -> None:
    """Half of a frame of 4 MiB on many links, before a Hello and behind one."""
    links = [*await asyncio.gather(*[site.open() for _ in range(10)], *[site.link() for _ in range(10)])]
    for link in links:
        # Of the first one only what says how long it will be: else the answer could be lost behind what is unread.
        link.writer.write(b"\x82\xff" + (2**22).to_bytes(8, "big") + bytes(4))
        link.writer.write(bytes(1 if link is links[0] else 2**21))
    assert (1009).to_bytes(2, "big") in await links[0].ended(), "a frame that is too long before a Hello was taken"
    site.made()
    await asyncio.sleep(2)
    for link in links:
        link.abort()


@attack
async def calls_that_nobody_answers(site: Site) -> None:
    """Calls of a satellite that does not answer, by many links."""
    callee = await site.link(methods=["mallory.never.answers"])
    argument = msgspec.msgpack.encode({"method_name": "mallory.never.answers", "data": 1})
    callers = await asyncio.gather(*(site.link() for _ in range(5)))
    for caller in callers:
        caller.say(*[encode_link_frame(Call(n, "method_call", argument, 30.0)) for n in range(300)])
    await callee.next(Call)
    site.made()
    await asyncio.sleep(3)
    for link in (callee, *callers):
        link.abort()


@attack
async def numbers_used_twice(site: Site) -> None:
    """The same number with other messages, each of which is a line of the log."""
    one, other = (make_batch([msgspec.msgpack.encode({"data": n})]) for n in range(2))
    link = await site.link()
    link.say(encode_link_frame(Publish(7, 1, "p", "p.m.X", ["nobody.x"], crc32(one), one)))
    await pour(
        site, link, frames(encode_link_frame(Publish(7, 1, "p", "p.m.X", [""], crc32(other), other)), times=100)
    )


@attack
async def links_without_a_hello(site: Site) -> None:
    """Links that say nothing, as many as there may be."""
    links = []
    for _ in range(100):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(handshake())
        links.append(writer)
    if b" 101 " in await reader.read(2**12):
        site.made()
    await asyncio.sleep(1)
    for writer in links:
        writer.transport.abort()
        writer.close()


@attack
async def joining_and_leaving(site: Site) -> None:
    """Come and go, so that all are told."""
    link = await site.link(methods=[f"mallory.{n}.x" for n in range(300)])
    site.made()
    link.abort()


# ---- what others are, and have -------------------------------------------------------------------------


@attack
async def origins_of_others(site: Site) -> None:
    """Hello as a satellite that means well, with numbers far ahead of its own."""
    link = await site.open()
    link.say(site.hello(origin=random.choice(site.honest), outbox=[(random.getrandbits(62), 10_001)]))
    try:
        # Let in, it would wait here in vain; and the one whose origin it is would have lost its link.
        if (await link.next(Goodbye)).reason == close_reasons.IDENTITY:
            site.made()
    finally:
        link.abort()


@attack
async def another_log(site: Site) -> None:
    """Say that one has read in a run of this log that it does not know."""
    welcome = await welcomed(site)
    read = [Subscription("p", welcome.position, ["nobody.>"])]
    link = await site.link(log_id=welcome.log_id, run=f"{random.getrandbits(64):x}", subscriptions=read)
    site.made()
    link.abort()


async def welcomed(site: Site) -> Welcome:
    link = await site.open()
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
    site.made()
    link.abort()


@attack
async def hops(site: Site) -> None:
    """Register somebody else's port through a link, and through method_call."""
    link = await site.link()
    port = msgspec.msgpack.encode({"port": site.port})
    hop = msgspec.msgpack.encode({"method_name": "relay.register", "data": None, "port": site.port})
    link.say(*[encode_link_frame(Call(n, "relay.register", port, 5.0)) for n in range(10)])
    link.say(*[encode_link_frame(Call(n, "method_call", hop, 5.0)) for n in range(10, 20)])
    for _ in range(20):
        assert (await link.next(Result)).code, "the relay has registered somebody else's port"
    site.made()
    link.abort()


# ---- over XML-RPC --------------------------------------------------------------------------------------


@attack
async def registrations(site: Site) -> None:
    """All places of members, of which nobody fetches."""
    posts = [site.post(call_body("relay.register", {})) for _ in range(20)]
    answers = await asyncio.gather(*posts, return_exceptions=True)
    full = f"<int>{TooManySatellites.code}</int>".encode()
    if any(isinstance(answer, bytes) and (HOST_ID.search(answer) or full in answer) for answer in answers):
        site.made()


@attack
async def answers_of_32_mib(site: Site) -> None:
    """Members whose notify answers what nobody wants to read."""
    before = site.answers.given
    await site.registered(port=site.answers.port)
    message = {"host_id": "mallory@127.0.0.1:0", "channel": "nobody.x", "data": 1}
    await site.post(call_body("relay.relay", message), 10.0)
    async with asyncio.timeout(10):
        while site.answers.given == before:
            await asyncio.sleep(PAUSE)
    site.made()
    await asyncio.sleep(1)


@attack
async def long_polls(site: Site) -> None:
    """Connections that wait for a message, and again for the next one when it has come."""
    host_id = await site.registered()
    answered = 0

    async def poll(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        after = position
        while True:
            fetch = {"host_id": host_id, "max": 1, "wait": 25, "after": after}
            writer.write(request(call_body("relay.fetch", fetch)))
            answer = await reader.readuntil(b"</methodResponse>")
            if found := NEXT.search(answer):
                answered += 1
                after = int(found[1])

    connections = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(POLLS)]
    position = (await welcomed(site)).position
    polls = [asyncio.ensure_future(poll(*connection)) for connection in connections]
    await asyncio.sleep(3)
    end = time.monotonic() + 5
    while answered < POLLS / 2 and time.monotonic() < end:  # the relay has much to do
        await asyncio.sleep(PAUSE)
    for (_, writer), polling in zip(connections, polls, strict=True):
        polling.cancel()
        writer.transport.abort()
        writer.close()
    await asyncio.gather(*polls, return_exceptions=True)
    if answered >= POLLS / 2:
        site.made()


POLLS = 200
"""Connections of :func:`long_polls`."""


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
    site.made()  # however many of them are left: to have had them is what it is about
    for writer in waiting:
        writer.transport.abort()
        writer.close()


@attack
async def requests(site: Site) -> None:
    """Requests in a row, each of which is a line of a log."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    both = request(call_body("no.such")) * 50 + request(call_body("ping")) * 50
    await pour(site, RawLink(reader, writer), both, 2.0, b"</methodResponse>")


@attack
async def requests_behind_pages(site: Site) -> None:
    """Pages without end, and requests behind each of them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    page = request(first="GET / HTTP/1.1")
    # A call is answered behind a page only where both have been read ahead of that.
    await pour(
        site, RawLink(reader, writer), (page + request(call_body("ping")) * 9) * 50, 3.0, b"</methodResponse>"
    )


@attack
async def answers_that_nobody_reads(site: Site) -> None:
    """Requests without end over a connection on which no answer is read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=2**12)
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
    try:
        # More than the system's buffers hold: from then on none of the answers can leave.
        writer.write(request(call_body("test", "x" * 900_000)) * 6)
        if await pressed(writer, request(call_body("ping")) * 500, 4.0):
            site.made()
    finally:
        writer.transport.abort()
        writer.close()


@attack
async def all_names_that_may_be(site: Site) -> None:
    """Many members with all the names that each may have, again and again other ones, and who asks for these."""
    links = await asyncio.gather(*(site.link(methods=all_names()) for _ in range(MEMBERS)))
    ask = encode_link_frame(Call(1, "relay.get_satellites", msgspec.msgpack.encode({"max": 1000}), 30.0))
    subscriptions = [Subscription("p", None, ["nobody.>"])]
    bodies = (call_body("relay.get_satellites", {}), call_body("relay.get_satellites", {"max": 1000}))
    try:
        for _ in range(2):
            for link in links:
                link.say(encode_link_frame(Interest(subscriptions, all_names(), [])), ask)
            posts = [asyncio.ensure_future(site.post(body, 10.0)) for body in bodies]
            results = await asyncio.gather(*(link.next(Result) for link in links))
            if any(not result.code and len(result.value) > 2 * MAX_NAMES_SIZE for result in results):
                site.made()
            await asyncio.gather(*posts, return_exceptions=True)
    finally:
        for link in links:
            link.abort()


def all_names() -> list[str]:
    """Return new names that use all that there may be of one member."""
    return [f"mallory.{random.getrandbits(64):016x}.".ljust(128, "x") for _ in range(MAX_NAMES_SIZE // 128)]


MEMBERS = 16
"""Members of :func:`all_names_that_may_be`."""


@attack
async def messages_that_are_dear_to_read(site: Site) -> None:
    """Messages that nest deep or wide, and members who read them."""
    link = await site.link()
    host_id = await site.registered()  # last: what others send from here on is read before these messages
    deep = make_batch([b"\x81\xa4data" + b"\x91" * 500_000 + b"\xc0"])
    wide = make_batch([b"\x81\xa4data\xdd" + (100_000).to_bytes(4, "big") + b"\x90" * 100_000])
    for seq, batch in enumerate((deep, wide), 1):
        link.say(encode_link_frame(Publish(7, seq, "p", "p.m.X", ["nobody.x"], crc32(batch), batch)))
    while (await link.next(Ack)).seq < 2:
        pass
    fetch: dict[str, object] = {"host_id": host_id, "max": 1000}
    for _ in range(60):
        answer = await site.post(call_body("relay.fetch", fetch), 10.0)
        if len(answer) > WIDE:
            site.made()
            break
        if found := NEXT.search(answer):
            fetch["after"] = int(found[1])
    link.abort()


WIDE = 2**21
"""Bytes of an answer with the wide one of these messages."""


# ---- running them --------------------------------------------------------------------------------------


async def go_on(site: Site, name: str) -> None:
    """Do one attack again and again: whoever is sent away comes back."""
    while True:
        with contextlib.suppress(*SENT_AWAY):
            await ATTACKS[name](site)
        await asyncio.sleep(PAUSE)


async def main(port: int, wanted: list[str]) -> None:
    loop = asyncio.get_running_loop()
    honest = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    done: Counter[str] = Counter()
    answers = Answers()
    server = await answers.start()
    several = {"pings", "calls", "interests", "replays"}
    tasks = {
        asyncio.ensure_future(go_on(Site(port, honest, name, done, answers), name)): name
        for name in wanted or ATTACKS
        for _ in range(LINKS if name in several else 1)
    }
    await loop.run_in_executor(None, sys.stdin.read)
    end = loop.time() + LAST_TRIES
    while loop.time() < end and not all(done[name] for name in tasks.values()):
        await asyncio.sleep(PAUSE)
    for task in tasks:
        task.cancel()
    errors = []
    for name, result in zip(tasks.values(), await asyncio.gather(*tasks, return_exceptions=True), strict=True):
        if isinstance(result, Exception):
            traceback.print_exception(result)
            errors.append(f"{name}: {result!r}")
    server.close()
    print(json.dumps({"done": done, "errors": errors}))
    sys.stdout.flush()
    os._exit(0)  # what is left of the connections goes with the process


if __name__ == "__main__":
    os.nice(int(sys.argv[2]))  # the attackers stand for other machines
    asyncio.run(main(int(sys.argv[1]), sys.argv[3:]))
