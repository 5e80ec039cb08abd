"""ZeroMQ with pyzmq: PUB to an XSUB/XPUB proxy in a process of its own, SUB behind it.

Every high-water mark is 0, so that nobody drops messages. ``proxy IN OUT`` is the proxy.
"""

import contextlib
import sys
from collections.abc import Iterator

import zmq

from bench.peers.brokers import free_port, program, temporary_folder
from bench.peers.worker import LibraryPeer, SyncSender, Take, decode


class Sender(SyncSender):
    def __init__(self, address: str) -> None:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
        socket.set_hwm(0)
        socket.connect(address.partition(" ")[0])
        self.send = socket.send

    def flush(self) -> None:
        """Its own thread does that; there is no way to wait for it."""


class Pyzmq(LibraryPeer):
    title = "pyzmq, XSUB/XPUB proxy"
    module = __name__

    @contextlib.contextmanager
    def broker(self) -> Iterator[str]:
        into, out = free_port(), free_port()
        with temporary_folder() as folder:
            command = [sys.executable, "-m", "bench.peers.pyzmq", str(into), str(out)]
            with program(command, out, folder):
                yield f"tcp://127.0.0.1:{into} tcp://127.0.0.1:{out}"

    def sender(self, address: str) -> Sender:
        return Sender(address)

    def receive(self, address: str, take: Take) -> None:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        socket.set_hwm(0)
        socket.subscribe(b"")
        socket.connect(address.partition(" ")[2])
        receive = socket.recv
        while True:
            take(decode(receive()))


def proxy(into: str, out: str) -> None:
    """Pass everything on, in the library's own C++ loop."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    frontend, backend = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
    for socket, port in ((frontend, into), (backend, out)):
        socket.set_hwm(0)
        socket.bind(f"tcp://127.0.0.1:{port}")
    zmq.proxy(frontend, backend)


PEER = Pyzmq()

if __name__ == "__main__":
    proxy(*sys.argv[1:])
