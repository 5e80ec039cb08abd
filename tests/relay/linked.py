"""A relay's links and satellites' links in one process, over real sockets, with a log in memory."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec

from co2.host_id import HostId
from co2.protocol.relay.core import RelayCore
from co2.protocol.relay.cursors import Peer
from co2.protocol.satellite.core import Delivered, SnapshotCame
from co2.protocol.satellite.outbox import Outbox, Segment
from co2.protocol.wire.batch import split_batch
from co2.protocol.wire.link_frames import Gap
from co2.protocol.wire.plugin_frames.frames import Host
from co2.relay.links import Links
from co2.satellite.link import Link
from co2.server.express.message_clock import MessageClock
from co2.server.http.limits import Limits
from co2.server.http.server import HttpServer, bind_socket
from co2.xmlrpc.registry import Registry
from tests.protocol.network import FakeLog, sent

__all__ = ["Relay", "Satellite", "network", "until"]


async def until(condition: Callable[[], Any], timeout: float = 10) -> Any:
    """Wait for a condition."""
    async with asyncio.timeout(timeout):
        while not (result := condition()):
            await asyncio.sleep(0.002)
    return result


class Relay:
    """A server whose only business is links; its disk is as quick as memory, unless told to wait."""

    def __init__(self) -> None:
        self.log = FakeLog()
        self.commits = True
        self.present: list[Peer] = []
        self.gone: list[tuple[str, str]] = []
        self.hanging = 0
        self.max_links = 100
        self.port = 0
        self.core: RelayCore
        self.on_committed: Callable[[int], None]
        self._links: Links
        self._server: HttpServer
        self._committing: asyncio.Task[None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def links(self) -> Links:
        return self._links

    async def start(self) -> None:
        self.clock = MessageClock()
        self.core = RelayCore(
            self.log, "relay@127.0.0.1:2003", max_peers=lambda: self.max_links,
            now=asyncio.get_running_loop().time, wall=self.clock,
        )  # fmt: skip
        self._links = Links(self.core, self.log, self, max_links=lambda: self.max_links)
        self.on_committed = self._links.driver.committed
        self._server = HttpServer(
            registry=Registry(),
            pages={},
            limits=Limits(),
            allowed_hosts=(),
            access_log=None,
            links=self._links.open,
        )
        sock = bind_socket("127.0.0.1", self.port, next_free=False)
        self.port = sock.getsockname()[1]
        await self._server.start(sock)
        self._committing = asyncio.ensure_future(self._commit())

    async def stop(self) -> None:
        self._committing.cancel()
        self._server.stop_listening()
        await self._links.stop()
        await self._server.stop()

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(0.001)
            if self.commits and self.log.committed < self.log.last:
                self.log.committed = self.log.last
                self._links.driver.committed(self.log.last)

    def joined(self, peer: Peer) -> None:
        if peer not in self.present:
            self.present.append(peer)

    def left(self, peer: Peer, reason: str, text: str) -> None:
        self.gone.append((reason, text))
        if peer in self.present:
            self.present.remove(peer)

    async def refusal(self, host: HostId, methods: Sequence[str], plugins: Sequence[str]) -> str:
        return ""

    def committed(self, position: int) -> None:
        self.on_committed(position)

    def has_room(self) -> None:
        pass

    async def called(self, peer: Peer, method: str, argument: Any) -> Any:
        if method == "hang":
            self.hanging += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.hanging -= 1
        if method == "fail":
            raise RuntimeError("a secret of this host")
        return {"method": method, "argument": argument, "from": peer.origin}


class Satellite:
    """A link whose packages write down what they get."""

    def __init__(
        self, relay: Relay, name: str, epoch: int = 7, load: Callable[[Segment], None] = lambda segment: None
    ) -> None:
        self.got: dict[str, list[Any]] = {}
        self.gaps: list[tuple[str, str]] = []
        self.full: set[str] = set()
        self.outbox = Outbox(epoch, 2**20, lambda: None, lambda: None)
        self.link = Link(
            url=relay.url,
            host_id=HostId(name, "127.0.0.1", 2004),
            outbox=self.outbox,
            receiver=self,
            names=lambda: (["ham.spam.call_me"], ["ham.spam.X_Spam"]),
            load=load,
        )
        self._running = asyncio.ensure_future(self.link.run())

    async def stop(self) -> None:
        await self.link.leave(1.0)
        await self.kill()

    async def kill(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    def send(self, *values: Any) -> None:
        self.link.driver.publish(*sent(*values))

    def deliver(self, package: str, delivered: Delivered) -> bool:
        messages = split_batch(delivered.frame.batch)[delivered.skip :]
        values = [msgspec.msgpack.decode(message)["data"] for message in messages]
        self.got.setdefault(package, []).extend(values)
        return package not in self.full

    def snapshot(self, came: SnapshotCame) -> bool:
        """No package here wants last values."""
        raise AssertionError(came)

    def gap(self, package: str, gap: Gap) -> None:
        self.gaps.append((package, gap.reason))

    def hosts_changed(self, joined: Sequence[Host], left: Sequence[Host]) -> None:
        """Nobody here wants to know."""

    async def called(self, method: str, argument: Any) -> Any:
        if method == "fail":
            raise RuntimeError("a secret of this host")
        return {"method": method, "argument": argument}

    async def asked(self, asker: str, method: str, argument: Any) -> Any:
        return {"method": method, "argument": argument, "asker": asker}


@contextlib.asynccontextmanager
async def _network(names: tuple[str, ...]) -> AsyncIterator[tuple[Relay, list[Satellite]]]:
    relay = Relay()
    await relay.start()
    satellites = [Satellite(relay, name) for name in names]
    try:
        for satellite in satellites:
            satellite.link.core.subscribe("p")
        await until(lambda: all(satellite.link.joined.is_set() for satellite in satellites))
        yield relay, satellites
    finally:
        for satellite in satellites:
            await satellite.stop()
        await relay.stop()


def network(
    test: Callable[..., Awaitable[None]],
    *names: str,
    loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> None:
    """Run a test with a relay and satellites of these names."""

    async def run() -> None:
        async with _network(names) as (relay, satellites):
            await test(relay, *satellites)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


def refused_socket() -> socket.socket:
    """A port where nobody listens."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock
