"""A reference without a hub: sender and receiver meet at an address of the loopback."""

import contextlib
from collections.abc import Iterator

from bench.peers.brokers import Broker, free_port
from bench.peers.worker import LibraryPeer

__all__ = ["DirectPeer"]


class DirectPeer(LibraryPeer):
    """A peer whose programs connect to each other."""

    @contextlib.contextmanager
    def broker(self) -> Iterator[Broker]:
        yield Broker(f"tcp://127.0.0.1:{free_port()}", None)
