"""Who is registered at the relay, and where each one's cursor stands."""

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from co2.errors import BadParams, BadRequest, IdentityRefused, TooManySatellites, UnknownHost
from co2.host_id import HostId
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
"""Gaps of one member that wait to be told; further ones are one with the last."""

MAX_DEPARTED = 10_000
"""So many cursors of hosts that were dropped for silence are kept, for when they come back; one more, and the
oldest of the address that has most of them goes."""

MAX_FOREIGN_OF_ADDRESS = 64
"""Members without a link that one address may have. This machine's loopback may have all that there may be."""

FEW = 16
"""Members of a relay below which all of them may be without a link."""

GIVES_WAY_AFTER = 5.0
"""Seconds for which a member that fetches must have been silent to give way to another one of its address."""


@dataclass(slots=True)
class Member:
    """One registered satellite.

    Attributes:
        host_id: with the host part that the relay observed; port 0 where it only fetches.
        kind: ``co2`` (ours), ``notified`` (foreign, with a port) or ``fetching`` (foreign, without).
        cursor: position of the last message that it got; a linked one has its own on the link.
        registered_at: seconds on the monotonic clock.
        seen_at: when it last answered or fetched, the same clock.
        methods: names of what can be called there.
        offered: the same names, to be looked up, each with the number with which it was claimed (:meth:`offer`).
        held: claims of names that it had and does not offer now, as while its plugins load: they count again
            when it offers these again.
        held_at: second on the monotonic clock when it was here last with what it held when it came.
        plugins: names of its plugins.
        state: ``new``, ``ok`` or ``unreachable``.
        last_error: why it could not be reached, '' for never.
        sent: messages that it got.
        refused: messages that it answered with a Fault.
        gaps: how many gaps it was told.
        gaps_to_tell: gaps that go out with its next message or answer.
        overlong: answers to the relay's own calls that were over their limit.
        told_next: ``next`` of the answer that told them: who goes on from there knows them.
        has_fetched: it has called relay.fetch.
        fetches: calls of relay.fetch under way.
        live_next: where it goes on with live messages; None for one that has not asked for them.
        live_call: its latest call for live messages, the one that gets them.
        wake: set when there may be something to read.
        notifier: the task that calls its ``notify``.
        peer: its link.
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
    told_next: int | None = None
    has_fetched: bool = False
    live_next: int | None = None
    live_call: object = None
    fetches: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    notifier: asyncio.Task[None] | None = None
    peer: Peer | None = None

    @property
    def position(self) -> int:
        """Position of the last message that it got."""
        return self.cursor if self.peer is None else self.peer.position

    def offer(self, number: int) -> None:
        """Offer its methods to callers, and claim the names that it did not have before.

        Args:
            number: of this claim, larger than all before it: whoever came with a name first has the smaller one.
        """
        held = {**self.offered, **self.held}
        self.offered = {name: held.pop(name, number) for name in self.methods}
        self.held = fitting_claims(held)

    def miss(self, after: int, following: int, reason: str) -> bool:
        """Note a gap to be told; give whether it is one more: one that follows the last, for this reason, is not.

        Args:
            after: position of the last message before it.
            following: position up to which they are missing.
            reason: why.
        """
        last = self.gaps_to_tell[-1] if self.gaps_to_tell else None
        if last is not None:
            follows = last["reason"] == reason and last["after"] <= after <= last["next"]
            if follows or len(self.gaps_to_tell) >= MAX_GAPS:
                last["next"] = max(last["next"], following)
                return False
        self.gaps += 1
        self.gaps_to_tell.append({"after": after, "next": following, "reason": reason})
        return True

    def behind(self, last: int) -> dict[str, int]:
        """Give how many messages each of its packages has not got yet, as it told lately.

        Args:
            last: position of the last message in the log.
        """
        if self.peer is None:
            return {}
        return {package: max(0, last - position) for package, position in self.peer.applied.items()}

    def health(self, now: float) -> list[Health] | None:
        """Return how its plugin packages are; None where it does not tell."""
        if self.peer is None or self.peer.health is None:
            return None
        return [row.later(max(0.0, now - self.peer.health_at)) for row in self.peer.health]

    def trouble(self, now: float) -> list[dict[str, Any]] | None:
        """Return its plugin packages that somebody should look at; None where it does not tell."""
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
        """Give it as plugins see it."""
        return Host(str(self.host_id), [*self.methods], [*self.plugins])

    def silence(self, now: float) -> float:
        """Give for how many seconds nothing was heard of it; a link that is there is alive, pings see to that."""
        return now - self.seen_at if self.peer is None else 0.0

    @property
    def delivered(self) -> int:
        """Messages that it got."""
        return self.sent if self.peer is None else self.peer.delivered

    @property
    def gaps_told(self) -> int:
        """How many gaps it was told."""
        return self.gaps if self.peer is None else self.peer.gaps

    @property
    def url(self) -> str:
        """Where it listens: always the address that its registration came from."""
        ip = self.host_id.ip
        return f"http://{f'[{ip}]' if ':' in ip else ip}:{self.host_id.port}/RPC2"


@dataclass(frozen=True, slots=True)
class _Departed:
    ip: str
    cursor: int
    gaps_to_tell: list[dict[str, Any]]


@dataclass(slots=True)
class Totals:
    """What all members together got, those that have left included."""

    sent: int = 0
    refused: int = 0
    gaps: int = 0
    repeats: int = 0
    live_dropped: int = 0

    def add(self, member: Member) -> None:
        """Count a member in."""
        self.sent += member.delivered
        self.refused += member.refused
        self.gaps += member.gaps_told
        if member.peer is not None:
            self.repeats += member.peer.repeats
            self.live_dropped += member.peer.live_dropped


class Members:
    """The table of members, by origin.

    Args:
        max_sats: how many the relay carries.
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
        """Those that have no link."""
        return list(self._foreign.values())

    @property
    def room_for_links(self) -> int:
        """How many may have a link."""
        return self.max_sats - len(self._foreign)

    def totals(self) -> Totals:
        """Give what has been delivered since the start; never goes down."""
        totals = replace(self._gone)
        for member in self._members.values():
            totals.add(member)
        return totals

    def new_origin(self) -> str:
        """Make a random part that nobody here has."""
        return secrets.token_hex(8)

    def find(self, host_id: HostId) -> Member:
        """Give the member of that origin and address.

        Raises:
            UnknownHost: not registered, or not from there.
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
        """Return the address of the member of that origin without a link, also a silent one's; '' for none."""
        member = self._foreign.get(origin)
        if member is not None:
            return member.host_id.ip
        departed = self._departed.get(origin)
        return "" if departed is None else departed.ip

    def forget(self, origin: str) -> None:
        """Forget where somebody was that has left."""
        self._departed.pop(origin, None)
        self._departed_of.discard(origin)

    def get(self, origin: str) -> Member | None:
        """Give the member of that origin, None for none."""
        return self._members.get(origin)

    def add(self, host_id: HostId, kind: str, head: int, now: float, *, resume: bool) -> Member:
        """Register a new member; one that was dropped for silence resumes where it was.

        Args:
            host_id: checked against the caller's address.
            kind: see :class:`Member`.
            head: the log's head, where a new member starts.
            now: seconds on the monotonic clock.
            resume: False starts at the head even where an old cursor is known.

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
        """How many may be without a link: half, so that the other half is for our own satellites.

        Where there are few places, nobody is kept out of one for somebody who may come.
        """
        return self.max_sats // 2 if self.max_sats >= FEW else self.max_sats

    def share_of(self, source: str) -> int:
        """Return how many members without a link a source may have."""
        return self.max_foreign if source == LOOPBACK else min(MAX_FOREIGN_OF_ADDRESS, self.max_foreign)

    def giving_way(self, ip: str, now: float, links: int = 0) -> Member | None:
        """Return the member that has to go so that one without a link can come from an address, None for none.

        It is one that fetches, and the one that has been silent for longest; whoever has never fetched goes before
        the others. Where the address has its share it is one of its own, and only after :data:`GIVES_WAY_AFTER`;
        where others have more than it has, it is one of theirs.

        Args:
            ip: where the new one comes from.
            now: seconds on the monotonic clock.
            links: that its address has: they count where all places are taken, and not those without a link only.
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
        """Return whether one without a link could come from an address, had links not taken all places."""
        source = source_of(ip)
        is_full = len(self._members) >= self.max_sats
        has_share = self._foreign_of.count(source) < self.share_of(source)
        return is_full and has_share and len(self._foreign) < self.max_foreign

    def foreign_from(self, ip: str) -> int:
        """Return how many members without a link are from where an address is."""
        return self._foreign_of.count(source_of(ip))

    def _silent_longest(self, source: str, now: float, patience: float) -> Member | None:
        members = (self._foreign[origin] for origin in self._foreign_of.of(source))
        found = [one for one in members if one.kind == "fetching" and not one.fetches]
        found = [one for one in found if one.silence(now) >= patience]
        return min(found, key=lambda one: (one.has_fetched, one.seen_at), default=None)

    def _check_share(self, source: str) -> None:
        if len(self._foreign) >= self.max_foreign:
            raise TooManySatellites(self.max_sats, f"{self.max_foreign} members without a link, half of max_sats")
        if self._foreign_of.count(source) >= (share := self.share_of(source)):
            raise TooManySatellites(self.max_sats, f"{share} members without a link at your address, its share")

    def remove(self, member: Member, *, keep_cursor: bool) -> None:
        """Take a member out; with ``keep_cursor`` it may come back and resume."""
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
    """Return the names of methods and plugins.

    Raises:
        BadParams: they are no lists of names, or too much.
    """
    found = [argument.get(key, []) for key in ("methods", "plugins")]
    for key, names in zip(("methods", "plugins"), found, strict=True):
        if not isinstance(names, list) or not all(isinstance(name, str) and len(name) <= 256 for name in names):
            raise BadParams(f"key {key!r}: a list of names is wanted, each of at most 256 characters")
    try:
        check_names(*found)
    except BadRequest as error:
        raise BadParams(str(error)) from None
    methods, plugins = map(tuple, found)
    return methods, plugins
