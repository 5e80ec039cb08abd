"""Whose link gives way where all places of a relay are taken: one of the address that has most of them.

Nobody has a share as long as there is room: ten thousand satellites may come from one address.
"""

from itertools import islice

from co2.protocol.relay.cursors import Peer
from co2.protocol.relay.origins import OriginBook
from co2.sources import LOOPBACK, BySource, source_of

__all__ = ["LOOK_AT", "LOOPBACK_SHARE", "Places"]

LOOPBACK_SHARE = 2
"""Times as many places as any other address that this machine's loopback may have where all are taken: as of HTTP
connections."""

LOOK_AT = 1_000
"""Links, the newest of an address, among which the one that gives way is looked for."""


class Places:
    """The places of all links that are open, by the source that has them (:mod:`co2.sources`).

    Args:
        origins: knows who has sent something.
    """

    def __init__(self, origins: OriginBook) -> None:
        self._origins = origins
        self._taken: BySource[Peer] = BySource()

    def take(self, peer: Peer) -> None:
        """Add a link: it has a place."""
        self._taken.add(source_of(peer.address[0]), peer)

    def free(self, peer: Peer) -> None:
        """Remove a link, if it has a place."""
        self._taken.discard(peer)

    def held_by(self, ip: str) -> int:
        """Return how many places those have who come from where an address does."""
        return self._taken.count(source_of(ip))

    def giving_way(self, ip: str, others: int = 0) -> Peer | None:
        """Return the link that has to end so that somebody can come from an address; None where nobody has to.

        It is one of the source that has most, where that has more even when the newcomer is in: else two would
        send each other away for ever. Of its links it is the newest one, of those whose origin has never sent
        anything, as far as there are such, and of these one that was not known before it came.

        Args:
            ip: where the newcomer comes from.
            others: places that its source has besides those of links.
        """
        source = source_of(ip)
        # Who has most by its share is one of the two that have most: only one source has another share.
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
        """Return how much speaks for a link: that it was known before, and above all what it has sent."""
        known = self._origins.get(peer.origin)
        return 2 * (peer.published > 0 or (known is not None and known.published)) + peer.was_known


def _share(source: str) -> int:
    return LOOPBACK_SHARE if source == LOOPBACK else 1
