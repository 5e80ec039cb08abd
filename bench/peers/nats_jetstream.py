"""NATS JetStream with nats-py: a stream in files, every publish acknowledged.

With the server's defaults: it acknowledges when the operating system has a message, and syncs it to the disk every
two minutes. The library keeps up to 4,000 publishes in flight by itself.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import nats
from nats.aio.msg import Msg
from nats.js.api import PubAck, StorageType
from nats.js.errors import NotFoundError

from bench.peers.brokers import Broker
from bench.peers.nats_core import FLUSH_TIMEOUT, SUBJECT, nats_server
from bench.peers.worker import AsyncSender, LibraryPeer, Take, decode

STREAM = "bench"


async def stream(context: nats.js.JetStreamContext) -> None:
    """Make the stream where nobody has yet."""
    try:
        await context.stream_info(STREAM)
    except NotFoundError:
        await context.add_stream(name=STREAM, subjects=[SUBJECT], storage=StorageType.FILE)


class Sender(AsyncSender):
    async def open(self, address: str) -> None:
        self._client = await nats.connect(address)
        self._context = self._client.jetstream()
        await stream(self._context)
        self._publish = self._context.publish_async
        self._failed: list[BaseException] = []

    async def send(self, packed: bytes) -> None:
        (await self._publish(SUBJECT, packed)).add_done_callback(self._acknowledged)

    async def flush(self) -> None:
        await asyncio.wait_for(self._context.publish_async_completed(), FLUSH_TIMEOUT)
        if self._failed:
            raise self._failed[0]

    def _acknowledged(self, answer: "asyncio.Future[PubAck]") -> None:
        if error := answer.exception():
            self._failed.append(error)


class JetStream(LibraryPeer):
    title = "NATS JetStream"
    module = __name__
    durable = True

    @contextlib.contextmanager
    def broker(self) -> Iterator[Broker]:
        with nats_server("-js") as broker:
            yield broker

    def sender(self, address: str) -> AsyncSender:
        return Sender()

    def receive(self, address: str, take: Take) -> None:
        async def received(message: Msg) -> None:
            take(decode(message.data))

        async def subscribe() -> None:
            client = await nats.connect(address)
            context = client.jetstream()
            await stream(context)
            await context.subscribe(SUBJECT, stream=STREAM, cb=received, ordered_consumer=True)
            await asyncio.Event().wait()

        asyncio.run(subscribe())


PEER = JetStream()
