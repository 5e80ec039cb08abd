"""Zenoh: clients at a router.

The router is a process with a session in mode ``router``, opened through the Python package: it is the same Rust
runtime that the program ``zenohd`` wraps, which no Python package brings. No message passes Python in it.
"""

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from functools import partial

import zenoh

from bench.peers.brokers import Broker, free_port, program, temporary_folder
from bench.peers.worker import End, PairedLibraryPeer, Reply, SyncSender, Take, decode, encode

KEY = "co2/bench"


def session(mode: str, **config: object) -> zenoh.Session:
    """Open a session that finds nobody by itself."""
    settings = {"mode": mode, "scouting": {"multicast": {"enabled": False}}, **config}
    return zenoh.open(zenoh.Config.from_json5(json.dumps(settings)))


class Sender(SyncSender):
    def __init__(self, address: str) -> None:
        self._session = session("client", connect={"endpoints": [address]})
        # The default drops messages where a queue is full.
        publisher = self._session.declare_publisher(KEY, congestion_control=zenoh.CongestionControl.BLOCK)
        self.send = publisher.put

    def flush(self) -> None:
        """Its own threads do that; there is no way to wait for it."""


class Both(End):
    def __init__(self, address: str, out: str, into: str) -> None:
        self._session = session("client", connect={"endpoints": [address]})
        self._publisher = self._session.declare_publisher(
            f"{KEY}/{out}", congestion_control=zenoh.CongestionControl.BLOCK
        )
        self._key = f"{KEY}/{into}"

    def send(self, packed: bytes) -> None:
        self._publisher.put(packed)

    def receive(self, reply: Reply) -> None:
        def came(sample: zenoh.Sample) -> None:
            if (message := reply(decode(sample.payload.to_bytes()))) is not None:
                self.send(encode(message))

        self._session.declare_subscriber(self._key, came)
        threading.Event().wait()


class Zenoh(PairedLibraryPeer):
    title = "zenoh, router"
    module = __name__

    @contextlib.contextmanager
    def broker(self) -> Iterator[Broker]:
        port = free_port()
        with (
            temporary_folder() as folder,
            program([sys.executable, "-m", "bench.peers.zenoh_router", str(port)], port, folder) as pid,
        ):
            yield Broker(f"tcp/127.0.0.1:{port}", pid)

    def sender(self, address: str) -> Sender:
        return Sender(address)

    def receive(self, address: str, take: Take) -> None:
        with session("client", connect={"endpoints": [address]}) as opened:
            opened.declare_subscriber(KEY, partial(received, take))
            threading.Event().wait()

    def end(self, address: str, out: str, into: str) -> End:
        return Both(address, out, into)


def received(take: Take, sample: zenoh.Sample) -> None:
    take(decode(sample.payload.to_bytes()))


PEER = Zenoh()

if __name__ == "__main__":
    with session("router", listen={"endpoints": [f"tcp/127.0.0.1:{sys.argv[1]}"]}):
        threading.Event().wait()
