"""nng with pynng: a PAIR over TCP, without a hub.

Its PUB and SUB drop messages where a queue is full; PUSH and PULL lose none either, and are slower.
"""

import pynng

from bench.peers.worker import SyncSender, Take, take_all
from bench.references.direct import DirectPeer

QUEUE = 128
"""Messages that wait at each end. With 8,192, the most that the library takes, it is slower."""


class Sender(SyncSender):
    def __init__(self, address: str) -> None:
        self._socket = pynng.Pair0(dial=address, block_on_dial=False, send_buffer_size=QUEUE)
        self.send = self._socket.send

    def flush(self) -> None:
        """Its own threads do that; there is no way to wait for it."""


class Pynng(DirectPeer):
    title = "pynng, PAIR, no hub"
    module = __name__

    def sender(self, address: str) -> Sender:
        return Sender(address)

    def receive(self, address: str, take: Take) -> None:
        with pynng.Pair0(listen=address, recv_buffer_size=QUEUE) as socket:
            take_all(socket.recv, take)


PEER = Pynng()
