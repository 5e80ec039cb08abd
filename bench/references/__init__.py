"""Programs beside which a page shows what a hub, isolation and durability cost: each does less than co2 does.

They run in the same layout as the peers and send the same messages. They are references, not peers: no ratio and
no floor asks for them.
"""

from bench import peers
from bench.peers.base import Peer

__all__ = ["NAMES", "make"]

MODULES = {
    "pyzmq-framed": "bench.references.pyzmq_framed",
    "pyzmq-direct": "bench.references.pyzmq_direct",
    "pynng": "bench.references.pynng_direct",
    "iceoryx2": "bench.references.iceoryx2_shared",
}

NAMES = tuple(MODULES)


def make(name: str) -> Peer:
    """Return a reference; its library is imported only now."""
    return peers.load(MODULES[name])
