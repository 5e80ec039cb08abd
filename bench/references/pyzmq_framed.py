"""ZeroMQ through its proxy, where the program puts 256 messages into each frame by hand."""

import zmq

from bench.peers import pyzmq
from bench.peers.worker import SyncSender, Take, decode

MESSAGES = 256
"""In a frame."""


class Sender(SyncSender):
    def __init__(self, address: str) -> None:
        self._send = pyzmq.opened(zmq.PUB, address.partition(" ")[0]).send
        self._waiting: list[bytes] = []

    def send(self, packed: bytes) -> None:
        """Send the messages that wait once they fill a frame."""
        self._waiting.append(packed)
        if len(self._waiting) == MESSAGES:
            self.flush()

    def flush(self) -> None:
        """Send what waits as one array of MessagePack."""
        self._send(b"".join((b"\xdd", len(self._waiting).to_bytes(4, "big"), *self._waiting)))
        self._waiting.clear()


class Framed(pyzmq.Pyzmq):
    title = f"pyzmq, XSUB/XPUB proxy, {MESSAGES} messages put into a frame by hand"
    module = __name__

    def sender(self, address: str) -> Sender:
        return Sender(address)

    def receive(self, address: str, take: Take) -> None:
        socket = pyzmq.opened(zmq.SUB, address.partition(" ")[2])
        socket.subscribe(b"")
        receive = socket.recv
        while True:
            for message in decode(receive()):
                take(message)


PEER = Framed()
