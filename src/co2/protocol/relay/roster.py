"""The roster of connected satellites, sent to every link in parts.

Every satellite must know all others, so the data grows with the square of their number. A link gets the changes
since its last part, and the relay spends a limited number of bytes at a time on it: with few satellites all know
at once, with thousands it takes some time, and messages do not wait for it.
"""

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from itertools import islice

import msgspec

from co2.protocol.relay.cursors import Peer
from co2.protocol.wire.host_names import MAX_NAMES_SIZE
from co2.protocol.wire.link_frames import Roster, encode_link_frame

__all__ = ["FRAME_COST", "MAX_GONE", "MAX_ROW", "PART", "RosterBook"]

PART = 64 * 1024
"""Approximate bytes of one frame."""

MAX_ROW = MAX_NAMES_SIZE + 24 * 1024
"""Bytes of one satellite's row: all names that it may have, with a length before each."""

MAX_GONE = 10_000
"""Satellites that have left and are remembered until all links know; with one more, all links start anew."""

FRAME_COST = 4 * 1024
"""Bytes that a frame counts for at least: to write it takes time, however small it is."""

_KEPT_PARTS = 64

_encode = msgspec.msgpack.Encoder().encode


class RosterBook:
    """The connected satellites, in the order of their changes, and how far each link knows them.

    Args:
        peers: all open links by origin.
    """

    def __init__(self, peers: Mapping[str, Peer]) -> None:
        self._peers = peers
        self._version = 0
        self._latest: dict[str, tuple[int, msgspec.Raw | None]] = {}
        self._names: dict[str, str] = {}
        self._order: list[tuple[int, str]] = []
        self._gone: set[str] = set()
        self._waiting: deque[Peer] = deque()
        self._parts: OrderedDict[int, tuple[int, bytes]] = OrderedDict()

    def put(
        self, origin: str, host_id: str, methods: Sequence[str], plugins: Sequence[str], name: str = ""
    ) -> bool:
        """Add a satellite or its changes; return whether the names of its methods and plugins fit its row."""
        self._names[origin] = name
        packed = _encode((host_id, methods, plugins))
        fits = len(packed) <= MAX_ROW
        self._gone.discard(origin)
        self._change(origin, msgspec.Raw(packed if fits else _encode((host_id, (), ()))))
        return fits

    def remove(self, origin: str) -> None:
        """Note that a satellite has left."""
        if origin not in self._latest:
            return
        self._change(origin, None)
        self._names.pop(origin, None)
        self._gone.add(origin)
        if len(self._gone) > MAX_GONE:
            for peer in self._peers.values():
                peer.roster = 0
            self._forget_gone()

    def tell(self, max_bytes: int) -> bool:
        """Send changes to links, up to ``max_bytes``; return whether some links still lack changes."""
        if not self._waiting:
            self._waiting.extend(peer for peer in self._peers.values() if peer.roster < self._version)
        # Links without room get theirs in another round.
        while self._waiting and max_bytes > 0:
            peer = self._waiting.popleft()
            if peer.roster < self._version and peer.has_room:
                max_bytes -= max(FRAME_COST, self._tell(peer))
                if peer.roster < self._version:
                    self._waiting.append(peer)
        if self._waiting or any(peer.roster < self._version for peer in self._peers.values()):
            return True
        self._forget_gone()
        return False

    def _tell(self, peer: Peer) -> int:
        since = peer.roster
        known = self._parts.get(since)
        if known is None:
            known = self._parts[since] = self._part(since)
            while len(self._parts) > _KEPT_PARTS:
                self._parts.popitem(last=False)
        peer.roster, data = known
        peer.write(data)
        return len(data)

    def _part(self, since: int) -> tuple[int, bytes]:
        """Encode the changes since a version, as many as one frame holds; return it with the version reached."""
        rows: list[msgspec.Raw] = []
        names: list[str] = []
        gone: list[str] = []
        size, reached = 0, self._version
        begin = bisect_right(self._order, since, key=lambda change: change[0])
        for version, origin in islice(self._order, begin, None):
            latest = self._latest.get(origin)
            if latest is None or latest[0] != version:
                continue  # it has changed again since
            if latest[1] is None:
                gone.append(origin)
                size += len(origin)
            else:
                rows.append(latest[1])
                names.append(self._names[origin])
                size += len(bytes(latest[1])) + len(names[-1])
            if size >= PART:
                reached = version
                break
        return reached, encode_link_frame(
            Roster(rows, gone, since == 0, reached == self._version, names)  # type: ignore[arg-type] # encoded rows
        )

    def _forget_gone(self) -> None:
        """Forget the satellites that have left: new links need not learn of them."""
        for origin in self._gone:
            del self._latest[origin]
        self._gone.clear()
        self._parts.clear()

    def _change(self, origin: str, row: msgspec.Raw | None) -> None:
        self._version += 1
        self._latest[origin] = (self._version, row)
        self._order.append((self._version, origin))
        self._parts.clear()
        if len(self._order) > 2 * len(self._latest) + 1000:
            self._order = sorted((version, name) for name, (version, _) in self._latest.items())
