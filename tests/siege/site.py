"""What one attacker attacks, the table of all attacks, and what several of them do."""

import asyncio
import contextlib
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from co2.protocol.wire.link_frames import Subscription, Welcome
from co2.protocol.wire.websocket import PING, PONG, control_frame
from tests.attacks.raw import call_body, request
from tests.attacks.raw_link import RawLink

__all__ = [
    "ATTACKS",
    "HOST_ID",
    "NEXT",
    "PAUSE",
    "SENT_AWAY",
    "Answers",
    "Site",
    "attack",
    "pour",
    "pressed",
]

PAUSE = 0.05
"""Seconds after which an attacker that was sent away comes again."""

REGISTERED_WITHIN = 15.0
"""Seconds in which one of the places of members becomes free: who never fetches gives way after a few."""

SENT_AWAY = (OSError, EOFError, TimeoutError)
"""What it means for an attacker to be sent away: it comes again. Any other exception is a mistake of its own."""


class Site:
    """What one attacker attacks.

    Args:
        port: of the relay.
        honest: names of the satellites that mean well.
        name: of the attack.
        done: how often each attack was done.
        answers: our own server, which answers what nobody wants.
    """

    def __init__(self, port: int, honest: list[str], name: str, done: Counter[str], answers: "Answers") -> None:
        self.port = port
        self.honest = honest
        self.answers = answers
        self._name = name
        self._done = done

    @property
    def done(self) -> int:
        """How often the attack was done."""
        return self._done[self._name]

    def made(self) -> None:
        """The decisive step of the attack has been done."""
        self._done[self._name] += 1

    async def open(self) -> RawLink:
        """Open a link, and say nothing.

        Raises:
            ConnectionError: it was refused.
        """
        try:
            return await RawLink.open(self.port)
        except AssertionError as error:
            raise ConnectionError("the link was refused") from error

    async def link(self, **changes: object) -> RawLink:
        """Join as somebody new."""
        link = await self.open()
        link.say(self.hello(**changes))
        await link.next(Welcome)
        return link

    def hello(self, **changes: object) -> bytes:
        """Return a Hello of somebody new."""
        subscriptions = changes.pop("subscriptions", [Subscription("p", None, ["nobody.>"])])
        origin = changes.pop("origin", f"mallory{random.getrandbits(40):x}")
        return RawLink.hello(str(origin), subscriptions=subscriptions, **changes)

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

    async def registered(self, **argument: object) -> str:
        """Register a member; try again while all places are taken. Give its host_id.

        Raises:
            TimeoutError: no place became free.
        """
        async with asyncio.timeout(REGISTERED_WITHIN):
            while True:
                with contextlib.suppress(*SENT_AWAY):
                    if found := HOST_ID.search(await self.post(call_body("relay.register", argument))):
                        return found[1].decode()
                await asyncio.sleep(PAUSE)


HOST_ID = re.compile(rb"<name>host_id</name>\s*<value><string>([^<]+)</string>")
NEXT = re.compile(rb"<name>next</name>\s*<value><\w+>(\d+)</")

Attack = Callable[[Site], Awaitable[None]]
ATTACKS: dict[str, Attack] = {}


def attack(begin: Attack) -> Attack:
    """Put an attack into the table."""
    ATTACKS[begin.__name__] = begin
    return begin


async def pour(site: Site, link: RawLink, data: bytes, seconds: float = 5.0, seen: bytes = b"") -> None:
    """Write without end, as fast as it is read, and read what comes.

    Args:
        site: counts it.
        link: to write to.
        data: written again and again.
        seconds: that it lasts.
        seen: what comes when the relay has taken some of it; by default the answer to a ping behind the first.
    """
    if not seen:
        payload = random.randbytes(12)
        seen = control_frame(PONG, payload, False)
        link.writer.write(data + control_frame(PING, payload, True))

    async def read() -> None:
        wanted, last = seen, b""
        while more := await link.reader.read(2**18):
            if wanted and wanted in last + more:
                site.made()
                wanted = b""
            last = more[-len(seen) :]

    reading = asyncio.ensure_future(read())
    try:
        with contextlib.suppress(*SENT_AWAY):
            async with asyncio.timeout(seconds):
                while not reading.done():
                    link.writer.write(data)
                    await link.writer.drain()
                    await asyncio.sleep(0)  # also where the relay takes all of it: the other attackers wait
        await asyncio.sleep(0.1)  # what the relay has said before it ended the link is read
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        link.abort()


async def pressed(writer: asyncio.StreamWriter, data: bytes, seconds: float) -> bool:
    """Write until nothing has been taken for :data:`HELD` seconds, or for so many seconds at most.

    Returns:
        Whether the other side has stopped reading, or has taken :data:`MUCH`.
    """
    taken, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        writer.write(data)
        try:
            async with asyncio.timeout(HELD):
                await writer.drain()
        except TimeoutError:
            return True
        taken += len(data)
        await asyncio.sleep(0)
    return taken >= MUCH


HELD = 1.5
"""Seconds without anything being read, after which a connection is held."""

MUCH = 2**24
"""Bytes that are more than may be read ahead of one connection, whatever lies in the system's buffers."""


class Answers:
    """A server that answers every request with 32 MiB.

    Attributes:
        port: where it listens.
        given: answers that were begun.
    """

    def __init__(self) -> None:
        self.port = 0
        self.given = 0

    async def start(self) -> asyncio.Server:
        """Begin to listen."""
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, limit=2**22)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                asked = await reader.readuntil(b"</methodCall>")
                size = 2**25
                writer.write(
                    f"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {size}\r\n\r\n".encode()
                )
                for _ in range(size // 2**16):
                    writer.write(b"<value/>" * 2**13)
                    await writer.drain()
                    self.given += b"notify" in asked
                    asked = b""
        writer.close()
