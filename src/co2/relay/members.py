"""The members registered at the relay, with their cursors."""

import asyncio
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from co2.errors import BadParams, BadRequest, IdentityRefused, TooManySatellites, UnknownHost
from co2.host_id import HostId
from co2.host_name import host_label
from co2.protocol.relay.away import fitting_claims
from co2.protocol.relay.cursors import Peer
from co2.protocol.wire.host_names import check_names
from co2.protocol.wire.package_health import Health
from co2.protocol.wire.plugin_frames.frames import Host
from co2.sources import LOOPBACK, BySource, source_of

__all__ = [
    "GIVES_WAY_AFTER",
    "MAX_DEPARTED",
    "MAX_FOREIGN_OF_ADDRESS",
    "MAX_GAPS",
    "Member",
    "Members",
    "Totals",
    "names_in",
]

MAX_GAPS = 100
"""Gaps of one member that wait to be reported; further ones are merged with the last."""

MAX_DEPARTED = 10_000
"""Cursors kept for hosts dropped for silence; beyond it, the oldest of the address with the most is removed."""

MAX_FOREIGN_OF_ADDRESS = 64
"""Members without a link that one address may have; no limit for the loopback address of this machine."""

FEW = 16
"""Limit of members below which all of them may be without a link."""

GIVES_WAY_AFTER = 5.0
"""Seconds of silence after which a watcher may give way to another one of its address."""


@dataclass(slots=True)
class Member:
    """One registered satellite.

    Attributes:
        host_id: with the address that the relay observed; port 0 if it only fetches.
        kind: ``co2`` (linked), ``notified`` (no link, a port) or ``watcher`` (no link, no port).
        name: for people, unique in this network.
        cursor: position of the last message that it got; a linked one has its cursor on the link.
        registered_at: seconds on the monotonic clock.
        seen_at: when it last answered or fetched, the same clock.
        methods: names of its methods.
        offered: the same names for look-ups, each with the number of its claim (:meth:`offer`).
        held: claims of names that it does not offer now, as while its plugins load; they are valid again once it
            offers the names.
        held_at: monotonic seconds at which it was last connected before it returned with these claims.
        plugins: names of its plugins.
        state: ``new``, ``ok`` or ``unreachable``.
        last_error: why it could not be reached, '' for no error.
        sent: number of messages that it got.
        refused: number of messages that it answered with a Fault.
        gaps: number of gaps reported to it.
        gaps_to_tell: gaps to report with its next message or answer.
        overlong: number of its answers to the relay's calls that were too long.
        unconfirmed: those of them that the last answer to a fetch reported.
        told_next: ``next`` of that answer: a call from there acknowledges them.
        has_fetched: whether it has called relay.fetch.
        fetches: number of calls of relay.fetch under way.
        live_next: its cursor for live messages; None if it has not asked for them.
        live_call: its latest call for live messages, the one that gets them.
        wake: set when there may be messages to read.
        notifier: the task that calls its ``notify``.
        peer: its link, None for none.
    """

    host_id: HostId
    kind: str
    cursor: int
    registered_at: float
    seen_at: float
    methods: tuple[str, ...] = ()
    offered: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    held_at: float = -inf
    plugins: tuple[str, ...] = ()
    state: str = "new"
    last_error: str = ""
    sent: int = 0
    refused: int = 0
    gaps: int = 0
    gaps_to_tell: list[dict[str, Any]] = field(default_factory=list)
    overlong: int = 0
    unconfirmed: list[dict[str, Any]] = field(default_factory=list)
    told_next: int | None = None
    has_fetched: bool = False
    live_next: int | None = None
    live_call: object = None
    fetches: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    notifier: asyncio.Task[None] | None = None
    peer: Peer | None = None
    name: str = ""

    @property
    def label(self) -> str:
        """Its name and host_id, as in texts for people."""
        return host_label(self.name, self.host_id)

    @property
    def position(self) -> int:
        """Position of the last message that it got."""
        return self.cursor if self.peer is None else self.peer.position

    def offer(self, number: int) -> None:
        """Offer its methods to callers, and claim the names that it did not have before.

        Args:
            number: of this claim, larger than all before it: the first owner of a name has the smallest.
        """
        held = {**self.offered, **self.held}
        self.offered = {name: held.pop(name, number) for name in self.methods}
        self.held = fitting_claims(held)

    def miss(self, after: int, following: int, reason: str) -> bool:
        """Record a gap to report; return False if it is merged with the last one.

        Args:
            after: position of the last message before it.
            following: position of the last missing message.
            reason: the cause.
        """
        last = self.gaps_to_tell[-1] if self.gaps_to_tell else None
        if last is not None:
            follows = last["reason"] == reason and last["after"] <= after <= last["next"]
            if follows or len(self.gaps_to_tell) >= MAX_GAPS:
                # A new object: the last one may have been reported already, and counts as another gap then.
                self.gaps_to_tell[-1] = {**last, "next": max(last["next"], following)}
                return False
        self.gaps += 1
        self.gaps_to_tell.append({"after": after, "next": following, "reason": reason})
        return True

    def has_heard(self, gaps: Sequence[dict[str, Any]]) -> None:
        """Remove gaps that the member knows now; one that has grown since it was reported stays."""
        known = set(map(id, gaps))
        self.gaps_to_tell = [gap for gap in self.gaps_to_tell if id(gap) not in known]

    def behind(self, last: int) -> dict[str, int]:
        """Return the number of messages that each of its packages has not got yet, as last reported.

        Args:
            last: position of the last message in the log.
        """
        if self.peer is None:
            return {}
        return {package: max(0, last - position) for package, position in self.peer.applied.items()}

    def health(self, now: float) -> list[Health] | None:
        """Return the health of its plugin packages; None if it does not report it."""
        if self.peer is None or self.peer.health is None:
            return None
        return [row.later(max(0.0, now - self.peer.health_at)) for row in self.peer.health]

    def trouble(self, now: float) -> list[dict[str, Any]] | None:
        """Return its plugin packages that need attention; None if it does not report them."""
        health = self.health(now)
        if health is None:
            return None
        return [
            {
                "name": row.name,
                "state": row.state,
                "load": row.load,
                "last_error": row.error,
                "last_error_age": row.error_age,
                "hangs": row.hangs,
                "dead_letters": row.dead_letters,
                "refused": row.refused,
            }
            for row in health
            if row.words(str)
        ]

    def as_host(self) -> Host:
        """Return the member as plugins see it."""
        return Host(str(self.host_id), [*self.methods], [*self.plugins], name=self.name)

    def silence(self, now: float) -> float:
        """Return the seconds since the last sign of life; 0 for a link, which pings keep checking."""
        return now - self.seen_at if self.peer is None else 0.0

    @property
    def delivered(self) -> int:
        """Number of messages that it got."""
        return self.sent if self.peer is None else self.peer.delivered

    @property
    def gaps_told(self) -> int:
        """Number of gaps reported to it."""
        return self.gaps if self.peer is None else self.peer.gaps

    @property
    def url(self) -> str:
        """URL of its ``/RPC2``, always at the address from which it registered."""
        ip = self.host_id.ip
        return f"http://{f'[{ip}]' if ':' in ip else ip}:{self.host_id.port}/RPC2"


@dataclass(frozen=True, slots=True)
class _Departed:
    ip: str
    cursor: int
    gaps_to_tell: list[dict[str, Any]]


@dataclass(slots=True)
class Totals:
    """Counters of all members, including those that have left."""

    sent: int = 0
    refused: int = 0
    gaps: int = 0
    repeats: int = 0
    live_dropped: int = 0

    def add(self, member: Member) -> None:
        """Add the counters of a member."""
        self.sent += member.delivered
        self.refused += member.refused
        self.gaps += member.gaps_told
        if member.peer is not None:
            self.repeats += member.peer.repeats
            self.live_dropped += member.peer.live_dropped


class Members:
    """The members, by origin.

    Args:
        max_sats: limit of their number.
    """

    def __init__(self, max_sats: int) -> None:
        self.max_sats = max_sats
        self._members: dict[str, Member] = {}
        self._foreign: dict[str, Member] = {}
        self._foreign_of: BySource[str] = BySource()
        self._departed: dict[str, _Departed] = {}
        self._departed_of: BySource[str] = BySource()
        self._gone = Totals()

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members.values()))

    def __len__(self) -> int:
        return len(self._members)

    @property
    def foreign(self) -> list[Member]:
        """Members without a link."""
        return list(self._foreign.values())

    @property
    def room_for_links(self) -> int:
        """Number of members that may have a link."""
        return self.max_sats - len(self._foreign)

    def totals(self) -> Totals:
        """Return the counters since the start; they never decrease."""
        totals = replace(self._gone)
        for member in self._members.values():
            totals.add(member)
        return totals

    def new_origin(self) -> str:
        """Return a new random origin."""
        return secrets.token_hex(8)

    def find(self, host_id: HostId) -> Member:
        """Return the member with this origin and address.

        Raises:
            UnknownHost: it is not registered, or has another address.
        """
        member = self._members.get(host_id.origin)
        if member is None or member.host_id.ip != host_id.ip:
            raise UnknownHost(f"{host_id} is not registered here; call relay.register first")
        return member

    def check_owner(self, host_id: HostId) -> None:
        """Refuse an origin that another address holds.

        Raises:
            IdentityRefused: it belongs to a connected member elsewhere.
        """
        member = self._members.get(host_id.origin)
        if member is not None and member.host_id.ip != host_id.ip:
            raise IdentityRefused(f"{host_id.origin} is registered from another address")

    def foreign_address(self, origin: str) -> str:
        """Return the address of the member without a link with this origin, connected or silent; '' for none."""
        member = self._foreign.get(origin)
        if member is not None:
            return member.host_id.ip
        departed = self._departed.get(origin)
        return "" if departed is None else departed.ip

    def forget(self, origin: str) -> None:
        """Forget the cursor of a host that has left."""
        self._departed.pop(origin, None)
        self._departed_of.discard(origin)

    def get(self, origin: str) -> Member | None:
        """Return the member with this origin; None for none."""
        return self._members.get(origin)

    def add(self, host_id: HostId, kind: str, head: int, now: float, *, resume: bool) -> Member:
        """Register a new member; one that was dropped for silence resumes at its cursor.

        Args:
            host_id: checked against the caller's address.
            kind: see :class:`Member`.
            head: the log's head, where a new member starts.
            now: seconds on the monotonic clock.
            resume: False starts at the head even if an old cursor is known.

        Raises:
            TooManySatellites: the relay is full.
        """
        if len(self._members) >= self.max_sats:
            raise TooManySatellites(self.max_sats)
        if kind != "co2":
            self._check_share(source_of(host_id.ip))
        self._departed_of.discard(host_id.origin)
        departed = self._departed.pop(host_id.origin, None)
        known = resume and departed is not None and departed.ip == host_id.ip
        cursor = departed.cursor if departed is not None and known else head
        member = Member(host_id, kind, cursor, now, now)
        if departed is not None and known:
            member.gaps_to_tell = departed.gaps_to_tell
        self._members[host_id.origin] = member
        if kind != "co2":
            self._foreign[host_id.origin] = member
            self._foreign_of.add(source_of(host_id.ip), host_id.origin)
        return member

    @property
    def max_foreign(self) -> int:
        """Limit of members without a link: half of all, so that the other half is for co2's satellites.

        With few places there is no reserve: all of them may be without a link.
        """
        return self.max_sats // 2 if self.max_sats >= FEW else self.max_sats

    def share_of(self, source: str) -> int:
        """Return the number of members without a link that a source may have."""
        return self.max_foreign if source == LOOPBACK else min(MAX_FOREIGN_OF_ADDRESS, self.max_foreign)

    def giving_way(self, ip: str, now: float, links: int = 0) -> Member | None:
        """Return the member that must give way to a new one without a link from an address; None for none.

        It is the watcher that has been silent longest; members that have never fetched go first. If the
        address has its full share, it is one of its own, and only after :data:`GIVES_WAY_AFTER`. If another
        address has more members, it is one of theirs.

        Args:
            ip: address of the new member.
            now: seconds on the monotonic clock.
            links: number of links of its address: they count when all places are taken, not only those without a
                link.
        """
        source = source_of(ip)
        own = self._foreign_of.count(source)
        if own >= self.share_of(source):
            return self._silent_longest(source, now, GIVES_WAY_AFTER)
        if len(self._foreign) < self.max_foreign:
            if len(self._members) < self.max_sats:
                return None
            own += links
        if not self._foreign:
            return None
        largest = self._foreign_of.largest()
        patience = 0.0 if self._foreign_of.count(largest) > own + 1 else GIVES_WAY_AFTER
        return self._silent_longest(largest, now, patience)

    def lacks_a_place(self, ip: str) -> bool:
        """Return whether a member without a link could join from an address if links had not taken all places."""
        source = source_of(ip)
        is_full = len(self._members) >= self.max_sats
        has_share = self._foreign_of.count(source) < self.share_of(source)
        return is_full and has_share and len(self._foreign) < self.max_foreign

    def foreign_from(self, ip: str) -> int:
        """Return the number of members without a link at the source of an address."""
        return self._foreign_of.count(source_of(ip))

    def _silent_longest(self, source: str, now: float, patience: float) -> Member | None:
        members = (self._foreign[origin] for origin in self._foreign_of.of(source))
        found = [one for one in members if one.kind == "watcher" and not one.fetches]
        found = [one for one in found if one.silence(now) >= patience]
        return min(found, key=lambda one: (one.has_fetched, one.seen_at), default=None)

    def _check_share(self, source: str) -> None:
        if len(self._foreign) >= self.max_foreign:
            raise TooManySatellites(self.max_sats, f"{self.max_foreign} members without a link, half of max_sats")
        if self._foreign_of.count(source) >= (share := self.share_of(source)):
            raise TooManySatellites(
                self.max_sats, (f"{share} members without a link from your address, the most for one address")
            )

    def remove(self, member: Member, *, keep_cursor: bool) -> None:
        """Remove a member; with ``keep_cursor`` it can return and resume."""
        self._members.pop(member.host_id.origin, None)
        self._foreign.pop(member.host_id.origin, None)
        self._foreign_of.discard(member.host_id.origin)
        self._gone.add(member)
        if keep_cursor:
            origin = member.host_id.origin
            self._departed[origin] = _Departed(member.host_id.ip, member.cursor, member.gaps_to_tell)
            self._departed_of.discard(origin)
            self._departed_of.add(source_of(member.host_id.ip), origin)
            while len(self._departed) > MAX_DEPARTED:
                oldest = self._departed_of.oldest_of_largest()
                self._departed_of.discard(oldest)
                del self._departed[oldest]


def names_in(argument: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of methods and plugins in an argument.

    Raises:
        BadParams: they are not lists of names, or are too many or too long.
    """
    found = [argument.get(key, []) for key in ("methods", "plugins")]
    for key, names in zip(("methods", "plugins"), found, strict=True):
        if not isinstance(names, list) or not all(isinstance(name, str) and len(name) <= 256 for name in names):
            raise BadParams(f"key {key!r}: expected a list of names of at most 256 characters each")
    try:
        check_names(*found)
    except BadRequest as error:
        raise BadParams(str(error)) from None
    methods, plugins = map(tuple, found)
    return methods, plugins
