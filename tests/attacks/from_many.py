"""``python -m tests.attacks.from_many FOLDER``: a relay whose clients come from other addresses than its own.

It is run in a network of its own, whose loopback interface it gives these addresses besides; it prints what it saw
as JSON.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from co2.errors import RemoteFault
from co2.protocol.wire.link_frames import Goodbye, Welcome
from co2.xmlrpc.reader import read_response
from tests.attacks.hosts import running
from tests.attacks.raw import PATIENCE, call, call_body, connected, read_reply, request, send
from tests.attacks.raw_link import RawLink
from tests.harness import HostProcess, wait_for
from tests.needs import raise_loopback

__all__ = ["ADDRESSES", "FILES", "PLACES"]

ADDRESSES = [f"10.9.0.{number}" for number in range(1, 5)]
"""That clients come from."""

PLACES = 20
"""Of a second relay, for links and members without one."""

FILES = 800
"""That the relay may open: half as many connections, a quarter of them for an address, an eighth for loopback."""

HERE = "127.0.0.1"


def register(relay: HostProcess, source: str) -> str:
    """Register from an address; return why not, '' where it was let in."""
    with connected(relay.port, source) as sock:
        send(sock, request(call_body("relay.register", {})))
        reply = read_reply(sock)
    assert reply is not None
    try:
        read_response(reply.body)
    except RemoteFault as fault:
        return str(fault)
    return ""


class Clients:
    """Connections that have asked something, and stay.

    Args:
        port: of the relay.
        stack: that closes them.
    """

    def __init__(self, port: int, stack: contextlib.ExitStack) -> None:
        self._port = port
        self._stack = stack
        self._open: dict[str, list[socket.socket]] = {}

    def come(self, source: str, number: int) -> int:
        """Open so many of an address, one after the other; return how many have had an answer."""
        answered = 0
        for _ in range(number):
            sock = self._stack.enter_context(connected(self._port, source))
            send(sock, request(call_body("ping")))
            reply = read_reply(sock)
            answered += reply is not None and reply.status == 200
            self._open.setdefault(source, []).append(sock)
        return answered

    def left(self) -> dict[str, int]:
        """Return how many of each address the relay has not ended."""
        for source, socks in self._open.items():
            self._open[source] = [sock for sock in socks if is_open(sock)]
        return {source: len(socks) for source, socks in self._open.items()}

    def settle(self, wanted: dict[str, int]) -> dict[str, int]:
        """Wait until so many are left; return how many are."""
        with contextlib.suppress(AssertionError):
            wait_for(lambda: self.left() == wanted, timeout=PATIENCE / 3)
        return self.left()


def is_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        sock.settimeout(PATIENCE)


class Links:
    """Links of many addresses, which answer pings and no more.

    Args:
        port: of the relay.

    Attributes:
        goodbyes: texts of those that were told one after they had joined.
        refused: how often somebody was told one in place of a Welcome.
    """

    def __init__(self, port: int) -> None:
        self.goodbyes: list[str] = []
        self.refused = 0
        self._port = port
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers = itertools.count()

    async def come(self, source: str) -> bool:
        """Join as somebody new; return whether that is let in."""
        link = await RawLink.open(self._port, source)
        link.say(RawLink.hello(f"{source.replace('.', '-')}_{next(self._numbers)}"))
        if isinstance(await link.next(Goodbye | Welcome), Goodbye):  # type: ignore[arg-type]
            self.refused += 1
            link.abort()
            return False
        self._tasks.append(asyncio.ensure_future(self._stay(link)))
        return True

    async def _stay(self, link: RawLink) -> None:
        with contextlib.suppress(EOFError, OSError):
            self.goodbyes.append((await link.next(Goodbye)).text)
        link.abort()

    async def come_again(self, source: str) -> None:
        """Try to get more of them, without end."""
        while True:
            await self.come(source)
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def all_places(relay: HostProcess, folder: Path) -> dict[str, Any]:
    """Fill all places of a relay with links of one address, then let others come; return what was seen."""
    seen: dict[str, Any] = {}
    links = Links(relay.port)
    seen["links"] = [await links.come(ADDRESSES[0]) for _ in range(PLACES + 1)].count(True)
    again = asyncio.ensure_future(links.come_again(ADDRESSES[0]))
    seen["others linked"] = [await links.come(ADDRESSES[1]) for _ in range(3)]
    seen["without a link"] = await asyncio.to_thread(register, relay, ADDRESSES[2])
    with running(folder, "satellite", "--relay", relay.url) as satellite:
        await asyncio.to_thread(wait_for, lambda: "linked to" in satellite.stderr, "a satellite is linked", 10)
        refused = links.refused
        await asyncio.to_thread(wait_for, lambda: links.refused > refused + 10, "they are all taken still", 10)
        rows = await asyncio.to_thread(call, relay.port, "relay.get_satellites", {"names": False, "max": 100})
        seen["satellites"] = dict(Counter(row["host_id"].partition("@")[2].partition(":")[0] for row in rows))
        properties = await asyncio.to_thread(call, relay.port, "co2.get_properties")
        seen["gave way"] = properties["counters"]["links_gave_way"]
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)
    await links.stop()
    seen["told"] = sorted(set(links.goodbyes))
    return seen


def main(folder: Path) -> dict[str, Any]:
    """Return what was seen."""
    raise_loopback(ADDRESSES)
    seen: dict[str, Any] = {}
    program = ("/bin/sh", "-c", f'ulimit -n {FILES}; exec "$0" -m co2 "$@"', sys.executable)
    with running(folder, "relay", program=program) as relay, contextlib.ExitStack() as stack:
        refused = [register(relay, ADDRESSES[0]) for _ in range(80)]
        seen["registered"] = refused.count("")
        seen["refused"] = sorted({why for why in refused if why})
        seen["others refused"] = [register(relay, source) for source in (ADDRESSES[1], HERE) for _ in range(10)]

        clients = Clients(relay.port, stack)
        clients.come(ADDRESSES[1], 5)
        clients.come(HERE, 5)
        seen["answered"] = clients.come(ADDRESSES[0], 130)
        seen["one address"] = clients.settle({ADDRESSES[1]: 5, HERE: 5, ADDRESSES[0]: FILES // 8})
        for source in ADDRESSES[1:]:
            clients.come(source, 100)
        seen["full"] = sum(clients.left().values())
        before = clients.left()
        seen["owner answered"] = clients.come(HERE, FILES // 16)
        wanted = {**before, HERE: 5 + FILES // 16}
        seen["owner"] = clients.settle(wanted)
        seen["wanted"] = wanted
    with running(folder / "full", "relay", env={"CO2_MAX_SATS": str(PLACES)}) as relay:
        seen |= asyncio.run(all_places(relay, folder / "satellite"))
    return seen


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
