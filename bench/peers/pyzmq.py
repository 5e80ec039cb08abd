"""ZeroMQ with pyzmq: PUB to an XSUB/XPUB proxy in a process of its own, SUB behind it.

Every high-water mark is 0, so that nobody drops messages. ``proxy IN OUT CONNECTS`` is the proxy, ``filter FROM
TO`` a process that decodes every message, looks at it, encodes it and sends it on.
"""

import contextlib
import gc
import json
import sys
from collections.abc import Iterator

import zmq

from bench.peers.brokers import Broker, free_port, program, temporary_folder
from bench.peers.filtering import look
from bench.peers.worker import End, PairedLibraryPeer, Reply, SyncSender, Take, decode, encode, take_all
from bench.processes import python


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
    def broker(self) -> Iterator[Broker]:
        into = f"tcp://127.0.0.1:{free_port()}"
        with proxy(into) as (out, pid):
            yield Broker(f"{into} {out}", pid)

    def sender(self, address: str) -> Sender:
        return Sender(address)

    def receive(self, address: str, take: Take) -> None:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        socket.set_hwm(0)
        socket.subscribe(b"")
        socket.connect(address.partition(" ")[2])
        take_all(socket.recv, take)

    def end(self, address: str, out: str, into: str) -> End:
        return Both(address, out, into)


class TwoProxies(Pyzmq):
    """A proxy behind a proxy: what :class:`Filtered` is without its filter."""

    title = "pyzmq, two proxies"

    @contextlib.contextmanager
    def broker(self) -> Iterator[Broker]:
        with super().broker() as (first, pid), proxy(first.partition(" ")[2], connects=True) as (out, _):
            yield Broker(f"{first.partition(' ')[0]} {out}", pid)


class Filtered(Pyzmq):
    """A filter process between two proxies: a SUB at the first, a PUB at the second."""

    title = "pyzmq with a filter process"

    @contextlib.contextmanager
    def broker(self) -> Iterator[Broker]:
        with super().broker() as (first, pid), super().broker() as (second, _):
            (into, source), (to, out) = first.split(), second.split()
            with python("-m", "bench.peers.pyzmq", "filter", source, to):
                yield Broker(f"{into} {out}", pid)


@contextlib.contextmanager
def proxy(into: str, *, connects: bool = False) -> Iterator[tuple[str, int]]:
    """Run a proxy until the end of the block; yield the address of its way out, and its process id.

    Args:
        into: address of its way in.
        connects: there is somebody at that address already.
    """
    port = free_port()
    out = f"tcp://127.0.0.1:{port}"
    command = [sys.executable, "-m", "bench.peers.pyzmq", "proxy", into, out, json.dumps(connects)]
    with temporary_folder() as folder, program(command, port, folder) as pid:
        yield out, pid


def pass_on(into: str, out: str, connects: str) -> None:
    """Pass everything on, in the library's own C++ loop."""
    frontend, backend = opened(zmq.XSUB, into, binds=not json.loads(connects)), opened(zmq.XPUB, out, binds=True)
    zmq.proxy(frontend, backend)


def pass_through_filter(source: str, to: str) -> None:
    """Decode, look at, encode and pass on everything."""
    receives, sends = opened(zmq.SUB, source), opened(zmq.PUB, to)
    receives.subscribe(b"")
    receive, send = receives.recv, sends.send
    gc.freeze()  # as in the workers
    while True:
        if (message := look(decode(receive()), change=False)) is not None:
            send(encode(message))


def opened(kind: int, address: str, *, binds: bool = False) -> "zmq.Socket[bytes]":
    """Return a socket that drops nothing."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    socket.set_hwm(0)
    if binds:
        socket.bind(address)
    else:
        socket.connect(address)
    return socket


PEER = Pyzmq()

if __name__ == "__main__":
    {"proxy": pass_on, "filter": pass_through_filter}[sys.argv[1]](*sys.argv[2:])
