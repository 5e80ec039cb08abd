"""Redis pub/sub with redis-py: at most once, nothing on disk; the sender pipelines."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import redis

from bench.peers.brokers import Broker, free_port, program, temporary_folder
from bench.peers.worker import LibraryPeer, SyncSender, Take, decode

CHANNEL = "co2.bench"


class Sender(SyncSender):
    def __init__(self, address: str) -> None:
        self._pipeline = connect(address).pipeline(transaction=False)
        publish = self._pipeline.publish
        self.send = lambda packed: publish(CHANNEL, packed)

    def block_done(self) -> None:
        self._pipeline.execute()

    def flush(self) -> None:
        """All is sent at the end of every block."""


class RedisPubSub(LibraryPeer):
    title = "Redis pub/sub"
    module = __name__

    @contextlib.contextmanager
    def broker(self) -> Iterator[Broker]:
        # By default a subscriber that is slow for a moment is cut off.
        with redis_server("--save", "", "--client-output-buffer-limit", "pubsub 0 0 0") as broker:
            yield broker

    def sender(self, address: str) -> SyncSender:
        return Sender(address)

    def receive(self, address: str, take: Take) -> None:
        client: Any = connect(address)  # its types say nothing of what it gives
        subscription = client.pubsub(ignore_subscribe_messages=True)
        subscription.subscribe(CHANNEL)
        for message in subscription.listen():
            take(decode(message["data"]))


def connect(address: str) -> redis.Redis:
    return redis.Redis(host="127.0.0.1", port=int(address))


@contextlib.contextmanager
def redis_server(*arguments: str) -> Iterator[Broker]:
    """Run a real redis-server with its data in a temporary folder."""
    binary = shutil.which("redis-server")
    if not binary:
        raise FileNotFoundError("no redis-server here")
    port = free_port()
    with temporary_folder() as folder:
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, *arguments]
        with program(command, port, folder) as pid:
            yield Broker(str(port), pid)


PEER = RedisPubSub()
