"""ZeroMQ with pyzmq: PUB to an XSUB/XPUB proxy in a process of its own, SUB behind it.

Every high-water mark is 0, so that nobody drops messages. ``proxy IN OUT`` is the proxy.
"""

import contextlib
import sys
from collections.abc import Iterator

import zmq

from bench.peers.brokers import free_port, program, temporary_folder
from bench.peers.worker import End, PairedLibraryPeer, Reply, SyncSender, Take, decode, encode


class Sender(SyncSender):
    def __init__(self, address: str) -> None:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
        socket.set_hwm(0)
        socket.connect(address.partition(" ")[0])
        self.send = socket.send

    def flush(self) -> None:
        """Its own thread does that; there is no way to wait for it."""


class Both(End):
    def __init__(self, address: str, out: str, into: str) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._out, self._in, self._topic = context.socket(zmq.PUB), context.socket(zmq.SUB), out.encode()
        for socket, where in zip((self._out, self._in), address.split(), strict=True):
            socket.set_hwm(0)
            socket.connect(where)
        self._in.subscribe(into.encode())

    def send(self, packed: bytes) -> None:
        self._out.send_multipart((self._topic, packed))

    def receive(self, reply: Reply) -> None:
        while True:
            if (message := reply(decode(self._in.recv_multipart()[1]))) is not None:
                self.send(encode(message))


class Pyzmq(PairedLibraryPeer):
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

    def end(self, address: str, out: str, into: str) -> End:
        return Both(address, out, into)


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
