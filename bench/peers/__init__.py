"""The brokers beside which co2 is measured, and co2 itself, all behind the same few methods.

Each peer runs in the same layout: a process for the broker, one for every sender, one for every receiver; co2's
senders and receivers are plugins in isolated plugin hosts of satellites.
"""

import importlib

from bench.peers.base import Peer

__all__ = ["NAMES", "load", "make"]

MODULES = {
    "co2": "bench.peers.co2",
    "pyzmq": "bench.peers.pyzmq",
    "zenoh": "bench.peers.zenoh_router",
    "nats": "bench.peers.nats_core",
    "jetstream": "bench.peers.nats_jetstream",
    "redis": "bench.peers.redis_pubsub",
    "redis-streams": "bench.peers.redis_streams",
    "mosquitto": "bench.peers.mosquitto",
}

NAMES = tuple(MODULES)


def make(name: str) -> Peer:
    """Return a peer; its library is imported only now."""
    return load(MODULES[name])


def load(module: str) -> Peer:
    """Return the peer that a module brings."""
    peer = importlib.import_module(module).PEER
    assert isinstance(peer, Peer)
    return peer
