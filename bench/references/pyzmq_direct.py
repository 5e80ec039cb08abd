"""ZeroMQ without a proxy: the receiver's SUB connects to the sender's PUB."""

import zmq

from bench.peers.pyzmq import opened
from bench.peers.worker import SyncSender, Take, take_all
from bench.references.direct import DirectPeer


class Sender(SyncSender):
    def __init__(self, address: str) -> None:
        self.send = opened(zmq.PUB, address, binds=True).send

    def flush(self) -> None:
        """Its own thread does that; there is no way to wait for it."""


class Pyzmq(DirectPeer):
    title = "pyzmq, no proxy"
    module = __name__

    def sender(self, address: str) -> Sender:
        return Sender(address)

    def receive(self, address: str, take: Take) -> None:
        socket = opened(zmq.SUB, address)
        socket.subscribe(b"")
        take_all(socket.recv, take)


PEER = Pyzmq()
