"""What counts as an attack that was made, and what as a mistake of the attacker."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from co2.protocol.wire.websocket import PING, PONG, control_frame
from tests.attacks.raw_link import RawLink
from tests.siege import attackers
from tests.siege.attackers import go_on
from tests.siege.site import ATTACKS, SENT_AWAY, Answers, Site, pour

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[Site]:
    """A port that does with each connection what the test says, and a site there."""
    under_way = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way
        under_way += 1
        with contextlib.suppress(ConnectionError):
            await handler(reader, writer)
        writer.transport.abort()
        writer.close()
        under_way -= 1

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield Site(server.sockets[0].getsockname()[1], ["honest"], "it", Counter(), Answers())
    finally:
        server.close()
        async with asyncio.timeout(5):
            while under_way:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0)  # asyncio closes the socket behind that


async def poured(site: Site, data: bytes, seen: bytes = b"") -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    await pour(site, RawLink(reader, writer), data, 0.3, seen)
    return site.done


def test_a_flood_counts_when_the_other_side_has_taken_some_of_it() -> None:
    async def answers_pings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"flood")
        data = await reader.readexactly(18)  # a ping: two bytes, four of the mask, twelve of its own
        assert data[:2] == control_frame(PING, bytes(12), True)[:2]
        writer.write(control_frame(PONG, data[6:], False))
        while await reader.read(2**16):
            pass

    async def run() -> int:
        async with served(answers_pings) as site:
            return await poured(site, b"flood")

    assert asyncio.run(run()) == 1


@pytest.mark.parametrize("seen", [b"", b"HTTP"])
def test_a_flood_that_is_sent_away_unread_does_not_count(seen: bytes) -> None:
    async def closes(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def run() -> int:
        async with served(closes) as site:
            return await poured(site, b"flood", seen)

    assert asyncio.run(run()) == 0


@pytest.mark.parametrize("error", SENT_AWAY)
def test_who_is_sent_away_comes_again(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    tries = 0

    async def it(site: Site) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise error
        site.made()
        raise KeyError("a mistake")

    monkeypatch.setitem(ATTACKS, "it", it)
    monkeypatch.setattr(attackers, "PAUSE", 0.0)
    site = Site(0, [], "it", Counter(), Answers())
    with pytest.raises(KeyError):
        asyncio.run(go_on(site, "it"))
    assert tries == 3
    assert site.done == 1
