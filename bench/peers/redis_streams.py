"""Redis Streams with redis-py: on disk before it acknowledges.

The sender pipelines, receivers read in blocks.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from bench.peers.brokers import Broker
from bench.peers.redis_pubsub import connect, redis_server
from bench.peers.worker import LibraryPeer, SyncSender, Take, decode

STREAM = "co2.bench"

READ = 1000
"""Messages that one XREAD gives at most."""


class Sender(SyncSender):
    def __init__(self, address: str) -> None:
        self._pipeline = connect(address).pipeline(transaction=False)
        add = self._pipeline.xadd
        self.send = lambda packed: add(STREAM, {b"m": packed})

    def block_done(self) -> None:
        self._pipeline.execute()

    def flush(self) -> None:
        """All is acknowledged at the end of every block."""


class RedisStreams(LibraryPeer):
    title = "Redis Streams, fsync"
    module = __name__
    durable = True

    @contextlib.contextmanager
    def broker(self) -> Iterator[Broker]:
        with redis_server("--save", "", "--appendonly", "yes", "--appendfsync", "always") as broker:
            yield broker

    def sender(self, address: str) -> SyncSender:
        return Sender(address)

    def receive(self, address: str, take: Take) -> None:
        client = connect(address)
        last = b"0"
        while True:
            answer: Any = client.xread({STREAM: last}, count=READ, block=1000)
            for _, entries in answer or ():
                for _, fields in entries:
                    take(decode(fields[b"m"]))
                last = entries[-1][0]


PEER = RedisStreams()
