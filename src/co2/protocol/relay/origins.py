"""Whose an origin is: it belongs to the first who said Hello with it, and who can show the same token again.

Every message tells all members its sender's origin, so the origin alone proves nothing. A satellite makes a random
token with its state folder and shows it in each Hello; the relay keeps a hash of it with the first one (trust on
first use) and refuses whoever comes with another, or with none. ``store/member_store.py`` has the file.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from co2.host_id import HostId
from co2.sources import source_of

__all__ = ["MAX_AT_ONE_ADDRESS", "MAX_KNOWN", "KnownOrigin", "OriginBook", "hash_of_token"]

MAX_KNOWN = 20_000
"""Origins that a relay knows; of those that have never published the one that was silent longest goes."""

MAX_AT_ONE_ADDRESS = MAX_KNOWN // 4
"""Of those, so many of one source (:mod:`co2.sources`), where they were first seen: who floods the relay with
origins takes room from itself."""


class KnownOrigin(msgspec.Struct):
    """What a relay knows of an origin, for good.

    Attributes:
        origin: the random part of a host_id.
        token: SHA-256 of its token, b'' for a satellite that has never shown one.
        address: where it was first seen.
        first_seen: wall time, a label only.
        published: it has sent something: it stays known, whoever comes.
    """

    origin: str
    token: bytes
    address: str
    first_seen: float
    published: bool = False


def hash_of_token(token: str) -> bytes:
    """Return what is kept of a token, b'' for none. It is random and long, so a plain hash does."""
    return hashlib.sha256(token.encode()).digest() if token else b""


class OriginBook:
    """All origins that are known.

    Args:
        known: those of before, the one that was silent longest first.
        wall: wall time, a label only.
        seen_before: returns the address that messages of an origin in the log came from, '' for none. An origin
            that had sent before anybody showed a token belongs to nobody but whoever comes from there.

    Attributes:
        unrecorded: Hellos of new origins for which there was no room.
    """

    def __init__(
        self,
        known: Iterable[KnownOrigin] = (),
        *,
        wall: Callable[[], float] = lambda: 0.0,
        seen_before: Callable[[str], str] = lambda _origin: "",
    ) -> None:
        self.unrecorded = 0
        self._wall = wall
        self._seen_before = seen_before
        self._known: dict[str, KnownOrigin] = {}
        self._silent: dict[str, dict[str, None]] = {}  # that never published, by source, in order
        self._count: Counter[str] = Counter()
        self._order: dict[str, None] = {}  # of all these
        self._changes: dict[str, KnownOrigin | None] = {}
        self._on_disk: set[str] = set()
        self._on_disk_before: set[str] = set()  # of what is being written
        for one in known:
            self._on_disk.add(one.origin)
            self._put(one)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, origin: str) -> KnownOrigin | None:
        """Return what is known of an origin, None for nothing."""
        return self._known.get(origin)

    def has_owner(self, origin: str) -> bool:
        """Return whether an origin belongs to a satellite that shows a token."""
        known = self._known.get(origin)
        return known is not None and bool(known.token)

    def is_owner(self, origin: str, token: bytes) -> bool:
        """Return whether an origin is of whoever shows this token, as a hash, or of nobody."""
        known = self._known.get(origin)
        return known is None or not known.token or hmac.compare_digest(known.token, token)

    def claim(self, host_id: HostId, token: bytes) -> bool:
        """Note that somebody who may speak for an origin has come; return whether that is news for the disk.

        An origin that was known before tokens were gets its token from whoever first shows one, but only from the
        address where it was first seen: from elsewhere it is let in as it was, and gets no right to it.

        Args:
            host_id: with the address that the relay has observed.
            token: as a hash, b'' for none.
        """
        known = self._known.get(host_id.origin)
        if known is None:
            address = self._seen_before(host_id.origin) or host_id.ip
            own = token if address == host_id.ip else b""
            return self._make_room(address) and self._change(
                KnownOrigin(host_id.origin, own, address, self._wall())
            )
        if host_id.origin in self._order:  # it was not silent longest any more
            self._take_out(known)
            self._put(known)
        if token and not known.token and known.address == host_id.ip:
            known.token = token
            self._changes[known.origin] = known
            return True
        return False

    def has_published(self, origin: str) -> bool:
        """Note that an origin has sent something; return whether that is news for the disk."""
        known = self._known.get(origin)
        if known is None or known.published:
            return False
        self._take_out(known)
        known.published = True
        return self._change(known)

    def forget(self, origin: str) -> bool:
        """Forget an origin: the next Hello with it is the first one. Return whether it was known."""
        known = self._known.get(origin)
        if known is None:
            return False
        self._take_out(known)
        if origin in self._on_disk:
            self._changes[origin] = None
        else:
            self._changes.pop(origin, None)  # else a flood of Hellos leaves one each while the disk is full
        return True

    def take_changes(self) -> dict[str, KnownOrigin | None]:
        """Return what is to be brought to disk, by origin; None for what is forgotten."""
        changes, self._changes = self._changes, {}
        self._on_disk_before = self._on_disk & changes.keys()
        for origin, known in changes.items():
            (self._on_disk.add if known is not None else self._on_disk.discard)(origin)
        return {
            origin: None if known is None else msgspec.structs.replace(known) for origin, known in changes.items()
        }

    def give_back(self, changes: dict[str, KnownOrigin | None]) -> None:
        """Take back what the disk did not take; what has changed since counts."""
        self._on_disk.difference_update(changes)
        self._on_disk |= self._on_disk_before
        self._changes = {
            origin: known
            for origin, known in {**changes, **self._changes}.items()
            if known is not None or origin in self._on_disk
        }

    @property
    def has_changes(self) -> bool:
        """Whether something is to be brought to disk."""
        return bool(self._changes)

    # ---- bounds ----------------------------------------------------------------------------------------

    def _make_room(self, address: str) -> bool:
        """Have room for one more; whoever has published stays."""
        source = source_of(address)
        if self._count[source] >= MAX_AT_ONE_ADDRESS:
            victim = next(iter(self._silent.get(source, ())), None)
        elif len(self._known) >= MAX_KNOWN:
            victim = next(iter(self._order), None)
        else:
            return True
        if victim is None:
            self.unrecorded += 1
            return False
        return self.forget(victim)

    def _change(self, known: KnownOrigin) -> bool:
        self._put(known)
        self._changes[known.origin] = known
        return True

    def _put(self, known: KnownOrigin) -> None:
        self._known[known.origin] = known
        source = source_of(known.address)
        self._count[source] += 1
        if not known.published:
            self._order[known.origin] = None
            self._silent.setdefault(source, {})[known.origin] = None

    def _take_out(self, known: KnownOrigin) -> None:
        del self._known[known.origin]
        source = source_of(known.address)
        self._count[source] -= 1
        if not self._count[source]:
            del self._count[source]
        if not known.published:
            del self._order[known.origin]
            silent = self._silent[source]
            del silent[known.origin]
            if not silent:
                del self._silent[source]
