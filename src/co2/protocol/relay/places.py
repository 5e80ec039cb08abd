"""Which link gives way when all places of a relay are taken: one of the address that has most of them.

There are no shares while there is room: ten thousand satellites may come from one address.
"""

from itertools import islice

from co2.protocol.relay.cursors import Peer
from co2.protocol.relay.origins import OriginBook
from co2.sources import LOOPBACK, BySource, source_of

__all__ = ["LOOK_AT", "LOOPBACK_SHARE", "Places"]

LOOPBACK_SHARE = 2
"""How many times as many places as another address this machine's loopback may have when all are taken: the same
as for HTTP connections."""

LOOK_AT = 1_000
"""Newest links of an address among which the one that gives way is chosen."""


class Places:
    """The places of all open links, by source (:mod:`co2.sources`).

    Args:
        origins: knows which origins have sent messages.
    """

    def __init__(self, origins: OriginBook) -> None:
        self._origins = origins
        self._taken: BySource[Peer] = BySource()

    def take(self, peer: Peer) -> None:
        """Add a link: it takes a place."""
        self._taken.add(source_of(peer.address[0]), peer)

    def free(self, peer: Peer) -> None:
        """Remove a link, if it has a place."""
        self._taken.discard(peer)

    def held_by(self, ip: str) -> int:
        """Return the number of places of an address's source."""
        return self._taken.count(source_of(ip))

    def giving_way(self, ip: str, others: int = 0) -> Peer | None:
        """Return the link that must end to make room for an address; None if none must.

        It is a link of the source with the most places, if that source has more even after the newcomer joins:
        otherwise two would displace each other forever. Of that source's links it is the newest, preferably one
        whose origin has never sent a message, and among these one that was not known before it connected.

        Args:
            ip: the newcomer's address.
            others: places of its source besides those of links.
        """
        source = source_of(ip)
        # The largest by share is one of the two largest: only one source has another share.
        most = max(self._taken.largest_ones(2), key=lambda one: self._taken.count(one) / _share(one), default="")
        if (self._taken.count(source) + others + 1) * _share(most) >= self._taken.count(most) * _share(source):
            return None
        found, standing = None, 4
        for peer in islice(self._taken.newest(most), LOOK_AT):
            if (its := self._standing(peer)) < standing:
                found, standing = peer, its
                if not its:
                    break
        return found

    def _standing(self, peer: Peer) -> int:
        """Return the rank of a link: higher if it was known before, and above all if it has sent messages."""
        known = self._origins.get(peer.origin)
        return 2 * (peer.published > 0 or (known is not None and known.published)) + peer.was_known


def _share(source: str) -> int:
    return LOOPBACK_SHARE if source == LOOPBACK else 1
