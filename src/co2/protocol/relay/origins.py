"""Owners of origins: an origin belongs to the first satellite that said Hello with it, proved by its token.

Every message shows all members its sender's origin, so the origin alone proves nothing. A satellite makes a random
token with its state folder and shows it in each Hello; the relay keeps a hash of the first one (trust on first
use) and refuses a Hello with another token, or with none. ``store/member_store.py`` has the file.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from co2.host_id import HostId
from co2.host_name import is_host_name
from co2.protocol.relay.names import NameBook
from co2.sources import source_of

__all__ = ["MAX_AT_ONE_ADDRESS", "MAX_KNOWN", "KnownOrigin", "OriginBook", "hash_of_token"]

MAX_KNOWN = 20_000
"""Origins that a relay knows; of those that have never published, the one that was silent longest is forgotten."""

MAX_AT_ONE_ADDRESS = MAX_KNOWN // 4
"""Of those, at most so many of one source (:mod:`co2.sources`), by the address where they were first seen: a flood
of origins takes room only from its own source."""


class KnownOrigin(msgspec.Struct):
    """A relay's lasting knowledge of an origin.

    Attributes:
        origin: the random part of a host_id.
        token: SHA-256 of its token, b'' for a satellite that has never shown one.
        address: where it was first seen.
        first_seen: wall time, a label only.
        published: it has sent a message: it stays known, however many others come.
        name: that no other host gets as long as this origin is known; '' for none yet.
    """

    origin: str
    token: bytes
    address: str
    first_seen: float
    published: bool = False
    name: str = ""


def hash_of_token(token: str) -> bytes:
    """Return the stored form of a token, b'' for none. A token is random and long, so a plain hash suffices."""
    return hashlib.sha256(token.encode()).digest() if token else b""


class OriginBook:
    """All known origins.

    Args:
        known: those of earlier runs, the one that was silent longest first.
        wall: wall time, a label only.
        seen_before: returns the address that messages of an origin in the log came from, '' for none. An origin
            that sent messages before any token was shown can be claimed only from that address.

    Attributes:
        names: of all hosts; those of known origins are kept with them.
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
        self.names = NameBook()
        self._wall = wall
        self._seen_before = seen_before
        self._known: dict[str, KnownOrigin] = {}
        self._silent: dict[str, dict[str, None]] = {}  # without a published message, by source, in order
        self._count: Counter[str] = Counter()
        self._order: dict[str, None] = {}  # of all these
        self._changes: dict[str, KnownOrigin | None] = {}
        self._on_disk: set[str] = set()
        self._on_disk_before: set[str] = set()  # of the changes that are being written
        for one in known:
            self._on_disk.add(one.origin)
            self._put(one)
            if not (is_host_name(one.name) and self.names.restore(one.origin, one.name)):
                one.name = ""  # the file was damaged, or is older than names

    def __len__(self) -> int:
        return len(self._known)

    def get(self, origin: str) -> KnownOrigin | None:
        """Return the known origin, None if it is unknown."""
        return self._known.get(origin)

    def has_owner(self, origin: str) -> bool:
        """Return whether an origin belongs to a satellite that shows a token."""
        known = self._known.get(origin)
        return known is not None and bool(known.token)

    def is_owner(self, origin: str, token: bytes) -> bool:
        """Return whether an origin belongs to the satellite with this token, given as a hash, or to nobody."""
        known = self._known.get(origin)
        return known is None or not known.token or hmac.compare_digest(known.token, token)

    def claim(self, host_id: HostId, token: bytes, wish: str = "") -> bool:
        """Note that an owner of an origin has come; return whether that must be written to disk.

        An origin older than tokens gets the first token shown for it, but only from the address where it was first
        seen: from another address it may join as before, and gets no right to the origin.

        Args:
            host_id: with the address that the relay has observed.
            token: as a hash, b'' for none.
            wish: name for a new origin, see :meth:`name`.
        """
        known = self._known.get(host_id.origin)
        if known is None:
            address = self._seen_before(host_id.origin) or host_id.ip
            own = token if address == host_id.ip else b""
            if not self._make_room(address):
                return False
            self._change(KnownOrigin(host_id.origin, own, address, self._wall()))
            self.name(host_id.origin, wish)
            return True
        if host_id.origin in self._order:  # it is no longer the one that was silent longest
            self._take_out(known)
            self._put(known)
        if token and not known.token and known.address == host_id.ip:
            known.token = token
            self._changes[known.origin] = known
            return True
        return False

    def name(self, origin: str, wish: str) -> str:
        """Return the name of an origin, after its wish if that is possible; kept for one that is known.

        Args:
            origin: of a host.
            wish: a valid name, '' for none.
        """
        name = self.names.give(origin, wish)
        known = self._known.get(origin)
        if known is not None:
            self.names.keep(origin)
            if known.name != name:
                known.name = name
                self._changes[origin] = known
        return name

    def has_published(self, origin: str) -> bool:
        """Note that an origin has sent a message; return whether that must be written to disk."""
        known = self._known.get(origin)
        if known is None or known.published:
            return False
        self._take_out(known)
        known.published = True
        return self._change(known)

    def forget(self, origin: str) -> bool:
        """Forget an origin: the next Hello with it counts as the first one. Return whether it was known."""
        known = self._known.get(origin)
        if known is None:
            return False
        self._take_out(known)
        self.names.drop(origin)
        if origin in self._on_disk:
            self._changes[origin] = None
        else:
            self._changes.pop(origin, None)  # else a flood of Hellos leaves one each while the disk is full
        return True

    def take_changes(self) -> dict[str, KnownOrigin | None]:
        """Return the changes to write to disk, by origin; None for a forgotten origin."""
        changes, self._changes = self._changes, {}
        self._on_disk_before = self._on_disk & changes.keys()
        for origin, known in changes.items():
            (self._on_disk.add if known is not None else self._on_disk.discard)(origin)
        return {
            origin: None if known is None else msgspec.structs.replace(known) for origin, known in changes.items()
        }

    def give_back(self, changes: dict[str, KnownOrigin | None]) -> None:
        """Restore changes that the disk refused; newer changes take precedence."""
        self._on_disk.difference_update(changes)
        self._on_disk |= self._on_disk_before
        self._changes = {
            origin: known
            for origin, known in {**changes, **self._changes}.items()
            if known is not None or origin in self._on_disk
        }

    @property
    def has_changes(self) -> bool:
        """Whether there are changes to write to disk."""
        return bool(self._changes)

    # ---- bounds ----------------------------------------------------------------------------------------

    def _make_room(self, address: str) -> bool:
        """Make room for one more origin; those that have published stay."""
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
