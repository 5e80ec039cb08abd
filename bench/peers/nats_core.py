"""NATS core with nats-py: at most once, nothing on disk."""

import asyncio
import contextlib
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.peers.brokers import Broker, free_port, program, temporary_folder
from bench.peers.worker import AsyncSender, End, PairedLibraryPeer, Reply, Take, decode, encode

SUBJECT = "co2.bench"

FLUSH_TIMEOUT = 60


class Sender(AsyncSender):
    async def open(self, address: str) -> None:
        self._client = await nats.connect(address)
        self._publish = self._client.publish

    async def send(self, packed: bytes) -> None:
        await self._publish(SUBJECT, packed)

    async def flush(self) -> None:
        await self._client.flush(FLUSH_TIMEOUT)


class Both(End):
    def __init__(self, address: str, out: str, into: str) -> None:
        self._address, self._out, self._in = address, f"{SUBJECT}.{out}", f"{SUBJECT}.{into}"
        self._loop: asyncio.AbstractEventLoop
        self._client: Client
        self._open = threading.Event()

    def send(self, packed: bytes) -> None:
        self._open.wait()
        asyncio.run_coroutine_threadsafe(self._client.publish(self._out, packed), self._loop)

    def receive(self, reply: Reply) -> None:
        async def received(message: Msg) -> None:
            if (answer := reply(decode(message.data))) is not None:
                await self._client.publish(self._out, encode(answer))

        async def subscribe() -> None:
            self._loop, self._client = asyncio.get_running_loop(), await nats.connect(self._address)
            await self._client.subscribe(self._in, cb=received)
            self._open.set()
            await asyncio.Event().wait()

        asyncio.run(subscribe())


class Nats(PairedLibraryPeer):
    title = "NATS core"
    module = __name__

    @contextlib.contextmanager
    def broker(self) -> Iterator[Broker]:
        with nats_server() as broker:
            yield broker

    def sender(self, address: str) -> AsyncSender:
        return Sender()

    def receive(self, address: str, take: Take) -> None:
        async def received(message: Msg) -> None:
            take(decode(message.data))

        async def subscribe() -> None:
            client: Client = await nats.connect(address)
            # No bound: by default a receiver that is slow for a moment drops messages.
            await client.subscribe(SUBJECT, cb=received, pending_msgs_limit=0, pending_bytes_limit=0)
            await asyncio.Event().wait()

        asyncio.run(subscribe())

    def end(self, address: str, out: str, into: str) -> End:
        return Both(address, out, into)


@contextlib.contextmanager
def nats_server(*arguments: str) -> Iterator[Broker]:
    """Run a real nats-server with its data in a temporary folder."""
    beside = Path(sys.executable).parent / "nats-server"
    binary = str(beside) if beside.exists() else shutil.which("nats-server")
    if not binary:
        raise FileNotFoundError("no nats-server here")
    port = free_port()
    with temporary_folder() as folder:
        config = Path(folder) / "nats.conf"
        # A receiver that is slow for a moment is not to be cut off.
        config.write_text(f'port: {port}\nhost: "127.0.0.1"\nwrite_deadline: "60s"\nmax_pending: 4294967296\n')
        with program(
            [binary, "-c", str(config), "--store_dir", f"{folder}/store", *arguments], port, folder
        ) as pid:
            yield Broker(f"nats://127.0.0.1:{port}", pid)


PEER = Nats()
