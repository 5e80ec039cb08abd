"""ZeroMQ without a proxy: the receiver's SUB connects to the sender's PUB."""

import contextlib
from collections.abc import Iterator

import zmq

from bench.peers.brokers import Broker, free_port
from bench.peers.pyzmq import opened
from bench.peers.worker import LibraryPeer, SyncSender, Take, decode


class Sender(SyncSender):
    def __init__(self, address: str) -> None:
        self.send = opened(zmq.PUB, address, binds=True).send

    def flush(self) -> None:
        """Its own thread does that; there is no way to wait for it."""


class Direct(LibraryPeer):
    title = "pyzmq, no proxy"
    module = __name__

    @contextlib.contextmanager
    def broker(self) -> Iterator[Broker]:
        yield Broker(f"tcp://127.0.0.1:{free_port()}", None)

    def sender(self, address: str) -> Sender:
        return Sender(address)

    def receive(self, address: str, take: Take) -> None:
        socket = opened(zmq.SUB, address)
        socket.subscribe(b"")
        receive = socket.recv
        while True:
            take(decode(receive()))


PEER = Direct()
