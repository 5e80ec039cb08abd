"""The relay's methods over XML-RPC, ``relay.…``: for everybody who has no link."""

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from co2.errors import BadParams, BadRequest, Denied, IdentityRefused, Unreachable, ValueRefused
from co2.host_id import HostId
from co2.protocol.relay.away import Absence, Away, AwayBook
from co2.protocol.relay.filter_chain import InFlight
from co2.protocol.relay.log import LogGap
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.host_names import check_names, names_size
from co2.protocol.wire.link_frames import BEGINNING
from co2.relay.members import GIVES_WAY_AFTER, Member
from co2.relay.message_reader import Messages, unreadable
from co2.relay.notifier import write_live, write_plain
from co2.server.rpc.arguments import callers_host_id, integer, number, one_dict, text
from co2.xmlrpc.forms import message_in
from co2.xmlrpc.registry import Caller
from co2.xmlrpc.writer import Written

if TYPE_CHECKING:
    from co2.relay.relay import RelayRole

__all__ = ["FETCH_BYTES", "FETCH_MAX", "FETCH_WAIT", "MAX_ID_LENGTH", "RelayMethods", "names_in"]

FETCH_MAX = 1_000
"""Messages in one answer to relay.fetch."""

FETCH_WAIT = 25.0
"""Seconds that relay.fetch waits at most."""

FETCH_BYTES = 1024 * 1024
"""Bytes, in XML, after which an answer to relay.fetch is cut; one message is always given."""

MAX_ID_LENGTH = 64
"""Characters of an ``id`` of relay.relay."""

MAX_ROWS = 1_000
"""Satellites in one page of relay.get_satellites."""

MOST_ROWS = 10_000
"""Satellites in an answer of relay.get_satellites to somebody who does not ask for a page."""

NAMES_TOLD = 384 * 1024
"""Bytes of names in one answer of relay.get_satellites, about."""

MAX_AWAY_TOLD = 1_000
"""Satellites that are away in one answer to relay.get_satellites, those that went last."""

MAX_AWAY_NAMES_TOLD = 256 * 1024
"""Characters of their names of methods and plugins; of those beyond none are told."""


_NO_NEWS: Mapping[str, Any] = MappingProxyType({"live": [], "live_missed": 0})


class RelayMethods:
    """Handlers of ``relay.…``.

    Args:
        relay: that they are of.
    """

    def __init__(self, relay: "RelayRole") -> None:
        self.relayed = 0
        self.repeats = 0
        self._relay = relay
        self._under_way: dict[tuple[str, str], asyncio.Future[int]] = {}

    def register(self, params: Sequence[Any], caller: Caller) -> dict[str, Any] | Awaitable[dict[str, Any]]:
        """Become a member of this relay's network.

        Takes {port?, host_id?}. With a port the relay calls ``notify`` there, without one the caller fetches
        with relay.fetch. A known host_id from the same address resumes where it was. Returns {host_id,
        position, log_id}.
        """
        argument = one_dict(params)
        _only_itself(caller, "register")
        host_id = self._registering(argument, caller)
        if host_id.port and caller.proxied:
            raise Denied(
                "with a port a member is called back, and a proxy is not it: register without one, and fetch"
            )
        self._relay.members.check_owner(host_id)
        self._check_unlinked(host_id)
        names_in(argument)
        if self._relay.links.core.asks:
            return self._register_if_admitted(argument, host_id)
        return self._register(argument, host_id)

    async def _register_if_admitted(self, argument: Mapping[str, Any], host_id: HostId) -> dict[str, Any]:
        names = names_in(argument)
        if why := await self._relay.refusal(host_id, *names):
            raise Denied(why)
        self._relay.members.check_owner(host_id)
        self._check_unlinked(host_id)  # it may have come another way meanwhile
        return self._register(argument, host_id)

    def _register(self, argument: Mapping[str, Any], host_id: HostId) -> dict[str, Any]:
        kind = _kind(argument)
        member = self._relay.members.get(host_id.origin)
        known = member is not None
        if member is None:
            head, now = self._relay.log.committed, self._relay.now()
            resume = argument.get("resume") is not False
            self._make_room(host_id.ip, now)
            member = self._relay.members.add(host_id, kind, head, now, resume=resume)
            self._relay.say(logging.INFO, host_id.origin, "%s registered (%s)", host_id, kind)
        elif argument.get("resume") is False:
            member.cursor = self._relay.log.committed
        if argument.get("log_id", self._relay.log.log_id) != self._relay.log.log_id:
            self._other_log(member)
        member.methods, member.plugins = names_in(argument)
        if host_id.port:
            self._end_others_at(host_id)
        self._relay.show(member)
        self._relay.settle(member, host_id, kind, known=known)
        return {
            "host_id": str(host_id),
            "position": member.cursor,
            "log_id": self._relay.log.log_id,
        }

    def _make_room(self, ip: str, now: float) -> None:
        """Drop a silent member, or one of too many links, so that a member without a link has a place."""
        members, links = self._relay.members, self._relay.links
        silent = members.giving_way(ip, now, links.core.places.held_by(ip))
        rests = silent is not None and silent.silence(now) >= GIVES_WAY_AFTER
        if not rests and members.lacks_a_place(ip) and links.make_room(ip, members.foreign_from(ip)):
            return
        if silent is not None:
            self._relay.drop(silent, "there are too many members without a link, and this one was silent longest")

    def unregister(self, params: Sequence[Any], caller: Caller) -> bool:
        """Leave the network. Takes {host_id}, returns true; nothing more is delivered."""
        _only_itself(caller, "unregister")
        member = self._relay.members.find(callers_host_id(one_dict(params), caller))
        self._check_unlinked(member.host_id)
        self._relay.take_out(member, keep_cursor=False)
        self._relay.say(logging.INFO, member.host_id.origin, "%s said goodbye", member.host_id)
        return True

    async def relay(self, params: Sequence[Any], caller: Caller) -> int:
        """Send a message to all other members.

        Takes {data, host_id?, id?, …}; other keys travel along. Who has not registered needs no host_id, and gets
        one of its address. Returns the message's position in the log, once it is on disk. A repeated ``id`` (at
        most 64 characters, within the host's last 10,000) returns the first one's position, also after a restart
        of the relay.
        """
        argument = one_dict(params)
        _only_itself(caller, "relay")
        host_id = _sender(argument, caller)
        self._relay.members.check_owner(host_id)
        self._check_unowned(host_id)
        if self._relay.links.core.closing:
            raise Unreachable("the relay stops; send it again to the one that follows")
        message_id = text(argument, "id", MAX_ID_LENGTH) if "id" in argument else ""
        if message_id and (first := self._relay.log.ids.position(host_id.origin, message_id)) is not None:
            self.repeats += 1
            await self._relay.waiters.on_disk(first)
            return first
        packed, channels = message_in(argument)
        message = InFlight(str(host_id), (caller.address, caller.port), make_batch([packed]), 1, channels)
        position = await self._through(host_id.origin, message, message_id)
        await self._relay.waiters.on_disk(position)
        return position

    async def _through(self, origin: str, message: InFlight, message_id: str) -> int:
        """Take in a message, one with an id once: also where it is still on its way through the relay plugins."""
        if not message_id:
            self.relayed += 1
            return await self._relay.pass_unnumbered(origin, message)
        key = (origin, message_id)
        if (under_way := self._under_way.get(key)) is not None:
            self.repeats += 1
        else:
            self.relayed += 1
            under_way = asyncio.ensure_future(self._relay.pass_unnumbered(origin, message, message_id))
            self._under_way[key] = under_way
            under_way.add_done_callback(lambda _task: self._under_way.pop(key))
        return await asyncio.shield(under_way)  # whether or not this caller waits for it

    async def fetch(self, params: Sequence[Any], caller: Caller) -> dict[str, Any]:
        """Read messages, waiting for the next one where there is none.

        Takes {host_id, after, max, wait}: ``after`` the position read last (0: the oldest kept), at most ``max``
        messages, ``wait`` up to 25 seconds. Returns {messages, next, gaps}; ``next`` is the next call's
        ``after``, which acknowledges this answer. Own messages are left out. With ``live`` true it also returns
        {live, live_missed}: live messages since the last such call, and how many had gone by then.
        """
        argument = one_dict(params)
        _only_itself(caller, "fetch")
        member = self._relay.members.find(callers_host_id(argument, caller))
        after = integer(argument, "after", member.cursor, 0, 2**63 - 1)
        maximum = integer(argument, "max", 100, 1, FETCH_MAX)
        deadline = self._relay.now() + number(argument, "wait", 0, 0, FETCH_WAIT)
        gaps: list[dict[str, Any]] = []
        if member.kind == "fetching":
            # What comes after a call has acknowledged what came before it, but for the oldest kept.
            member.cursor = min(after, self._relay.log.committed) if after else member.cursor
            if after == member.told_next:
                # It goes on after the answer that told them: only now is it certain that it knows.
                member.gaps_to_tell = []
            gaps = list(member.gaps_to_tell)
        live = argument.get("live", False)
        if not isinstance(live, bool):
            raise BadParams("key 'live': a boolean is wanted")
        if live:
            head = self._relay.live.watch()
            member.live_next = head if member.live_next is None else member.live_next
        wish = _Fetch(after, maximum, deadline, (caller.address, caller.port), live)
        if live:
            member.live_call = wish
        member.has_fetched = True
        member.fetches += 1
        try:
            return await self._fetch(member, wish, gaps)
        finally:
            member.fetches -= 1

    async def _fetch(self, member: Member, wish: "_Fetch", gaps: list[dict[str, Any]]) -> dict[str, Any]:
        after = wish.after
        while True:
            member.seen_at = self._relay.now()
            seen = self._relay.waiters.committed
            if after >= self._relay.log.lease:
                gaps.append({"after": after, "next": BEGINNING, "reason": "log replaced"})
                after = BEGINNING
            read = await self._relay.reader.read(after, wish.maximum, FETCH_BYTES, member.host_id.origin)
            if read.gap:
                gaps.append(_told(read.gap))
                member.gaps += 1
            after = read.next
            left = wish.deadline - self._relay.now()
            # Whoever calls again may have hung up on the call before, which we need not have seen.
            is_latest = member.live_call is wish
            news = await self._live_news(member, wish) if is_latest else _NO_NEWS if wish.live else {}
            if read.messages or gaps or left <= 0 or news.get("live") or news.get("live_missed"):
                break
            if not await self._relay.waiters.appended(seen, left, wish.end, live=is_latest):
                break
        return {**await self._fetched(member, read, gaps), **news}

    async def _live_news(self, member: Member, wish: "_Fetch") -> dict[str, Any]:
        """Return what has come live since this member asked last; what it does not read now it never will."""
        assert member.live_next is not None
        read = self._relay.live.read(member.live_next, wish.maximum, FETCH_BYTES, member.host_id.origin)
        member.live_next, missed = read.next, read.missed
        messages: list[Written] = []
        size = 0
        for message in read.messages:
            try:
                written = await self._relay.reader.written(message, write_live)
            except ValueRefused:
                missed += 1
                continue
            size += len(written)
            if messages and size > FETCH_BYTES:
                missed += 1  # in XML it is far larger than it was
                continue
            messages.append(Written(written))
        member.sent += len(messages)
        return {"live": messages, "live_missed": missed}

    def get_satellites(self, params: Sequence[Any], _caller: Caller) -> list[dict[str, Any]]:
        """List the connected satellites: {host_id, kind, state, age, methods, plugins, lag, …} each.

        Takes {after?, max?, names?}. With ``max``, 1 to 1,000, or ``after``, the last host_id that you have got,
        it gives a page; the one that is empty is the last. ``names: false`` leaves out methods and plugins.
        Without a page all are listed, with names as far as they fit; ``left_out`` says how many were left out.

        With ``away: true`` and no page those who are away are listed too, behind the others, with the state
        ``away`` or, after a goodbye, ``stopped``; ``silent`` says for how many seconds, ``last_seen`` since when.
        Where ``before_start`` is true it was here last before the relay's start: ``silent`` counts from that,
        ``last_seen`` is by the clock of then.
        """
        argument = params[0] if params and isinstance(params[0], dict) else {}
        with_names = argument.get("names", True)
        if not isinstance(with_names, bool):
            raise BadParams("key 'names': true or false is wanted")
        members: Iterable[Member] = self._relay.members
        is_page = "max" in argument or "after" in argument
        if is_page:
            maximum = integer(argument, "max", MAX_ROWS, 1, MAX_ROWS)
            after = text(argument, "after").partition("@")[0] if "after" in argument else ""
            following = (member for member in members if member.host_id.origin > after)
            members = heapq.nsmallest(maximum, following, key=lambda member: member.host_id.origin)
        elif len(self._relay.members) > MOST_ROWS:
            raise BadParams(
                f"{len(self._relay.members)} satellites are too many for one answer: ask with "
                f"{{max: {MAX_ROWS}}}, then with after: the last host_id that you got, until the answer is empty"
            )
        rows: list[dict[str, Any]] = []
        left = NAMES_TOLD if with_names else -1
        for member in members:
            row = self._row(member)
            left -= _names_size(row)
            if left < 0:
                if with_names and is_page and rows:
                    break
                if not (is_page and not rows and with_names):  # one row is always whole
                    row["left_out"] = len(row["methods"]) + len(row["plugins"])
                    row |= {"methods": [], "plugins": [], "behind": {}}
            rows.append(row)
        if argument.get("away") is True and not is_page:
            rows += away_rows(self._relay.away)
        return rows

    def forget(self, params: Sequence[Any], caller: Caller) -> bool:
        """Forget a satellite that is away: its row, whose its host_id is, where it was. Only from this machine.

        Takes {host_id}: all of it, or its random part. Returns true; false for one that nobody knows. A Fault for
        one that is connected.
        """
        if not caller.is_local:
            raise Denied("this is done from the relay's own machine only: call 127.0.0.1, and not through a relay")
        origin = text(one_dict(params), "host_id").partition("@")[0]
        if self._relay.members.get(origin) is not None:
            raise BadParams(f"{origin} is connected: stop it first, what it is then known by can be forgotten")
        return self._relay.forget(origin)

    def _row(self, member: Member) -> dict[str, Any]:
        """Return what is told of a member."""
        now = self._relay.now()
        buffered = self._relay.links.buffered
        return {
            "left_out": 0,
            "host_id": str(member.host_id),
            "kind": member.kind,
            "state": self._relay.state_of(member),
            "age": round(now - member.registered_at, 3),
            "silent": round(self._relay.silence_of(member), 3),
            "methods": list(member.methods),
            "plugins": list(member.plugins),
            "position": member.position,
            "lag": max(0, self._relay.log.last - member.position),
            "sent": member.delivered,
            "refused": member.refused,
            "gaps": member.gaps_told,
            "behind": member.behind(self._relay.log.last),
            "link": None
            if member.peer is None
            else {
                "bytes": buffered(member.peer),
                "full": member.peer.paused,
                "behind": member.peer.behind,
                "replaying": member.peer.replaying,
                "repeats": member.peer.repeats,
                "live_dropped": member.peer.live_dropped,
            },
            "last_error": member.last_error,
            "listens": "" if member.peer is None else member.peer.listens,
            "trouble": member.trouble(now),
        }

    def _registering(self, argument: Mapping[str, Any], caller: Caller) -> HostId:
        if "host_id" not in argument:
            port = integer(argument, "port", 0, 0, 65535)
            return HostId(self._relay.members.new_origin(), caller.address, port)
        host_id = callers_host_id(argument, caller)
        port = integer(argument, "port", host_id.port, 0, 65535)
        return HostId(host_id.origin, host_id.ip, port)

    def _end_others_at(self, host_id: HostId) -> None:
        """Only one host listens at a port: who was registered there before is gone."""
        for other in self._relay.members:
            same = (other.host_id.ip, other.host_id.port) == (host_id.ip, host_id.port)
            if same and other.kind == "notified" and other.host_id.origin != host_id.origin:
                self._relay.drop(other, f"{host_id} listens at its port now")

    def _check_unowned(self, host_id: HostId) -> None:
        """Refuse an origin that belongs to a satellite of ours, whether or not that is here."""
        if self._relay.links.core.origins.has_owner(host_id.origin):
            raise IdentityRefused(
                f"{host_id.origin} belongs to a satellite that has a link of its own; leave host_id out of "
                "relay.register to get another"
            )

    def _check_unlinked(self, host_id: HostId) -> None:
        self._check_unowned(host_id)
        member = self._relay.members.get(host_id.origin)
        if member is not None and member.peer is not None:
            raise IdentityRefused(f"{host_id.origin} has a link to this relay, which says when it comes and goes")

    def _other_log(self, member: Member) -> None:
        member.cursor = BEGINNING
        member.miss(0, BEGINNING, "log replaced")

    async def _fetched(self, member: Member, read: Messages, gaps: list[dict[str, Any]]) -> dict[str, Any]:
        messages: list[Written] = []
        following, size = read.next, 0
        last = 0
        for message in read.messages:
            try:
                written = await self._relay.reader.written(message, write_plain)
            except ValueRefused:
                gaps.append(_told(unreadable(message.position - 1, message.position)))
                member.gaps += 1
            else:
                size += len(written)
                if messages and size > FETCH_BYTES:
                    following = last
                    break
                messages.append(Written(written))
            last = message.position
        member.sent += len(messages)
        member.told_next = following if member.gaps_to_tell else None
        return {"messages": messages, "next": following, "gaps": gaps, "log_id": self._relay.log.log_id}


@dataclass(frozen=True, slots=True)
class _Fetch:
    """What relay.fetch is asked for: from where, how many, until when, by whom, and whether live ones too."""

    after: int
    maximum: int
    deadline: float
    end: tuple[str, int]
    live: bool = False


def _sender(argument: Mapping[str, Any], caller: Caller) -> HostId:
    """Return who sends: whom the host_id names, else whoever is at the caller's address."""
    if "host_id" in argument:
        return callers_host_id(argument, caller)
    if "id" in argument:
        raise BadParams(
            "key 'id': it is known by the host_id that it came with; give that of relay.register, "
            "so that nobody else at your address uses the same"
        )
    return HostId.of_address(caller.address)


def _only_itself(caller: Caller, method: str) -> None:
    """Refuse what concerns whoever asks where somebody else passes it on: the address is not the asker's then.

    Raises:
        Denied: it is passed on.
    """
    if caller.relayed:
        raise Denied(f"relay.{method} is called at the relay itself, not through another host")


def away_rows(book: AwayBook) -> list[dict[str, Any]]:
    """Return the rows of satellites that are away; names as long as they have room."""
    rows, left = [], MAX_AWAY_NAMES_TOLD
    for one in book.rows()[:MAX_AWAY_TOLD]:
        left -= sum(map(len, (*one.methods, *one.plugins)))
        rows.append(_away_row(one, book.absence(one), with_names=left >= 0))
    return rows


def _away_row(one: Away, absence: Absence, *, with_names: bool) -> dict[str, Any]:
    """Return the row of one; it has every key that a connected one has."""
    return {
        "left_out": 0 if with_names else len(one.methods) + len(one.plugins),
        "host_id": one.host_id,
        "kind": "co2",
        "state": one.state,
        "age": 0.0,
        "silent": round(absence.seconds, 3),
        "last_seen": datetime.fromtimestamp(absence.seen_at, UTC),
        "before_start": absence.before_start,
        "methods": list(one.methods) if with_names else [],
        "plugins": list(one.plugins) if with_names else [],
        "position": 0,
        "lag": 0,
        "sent": 0,
        "refused": 0,
        "gaps": 0,
        "behind": {},
        "link": None,
        "last_error": "",
        "listens": "",
        "trouble": None,
    }


def _told(gap: LogGap) -> dict[str, Any]:
    return {"after": gap.after, "next": gap.next, "reason": gap.reason}


def _kind(argument: Mapping[str, Any]) -> str:
    return "notified" if argument.get("port") else "fetching"


def _names_size(row: Mapping[str, Any]) -> int:
    """Return about how many bytes the names in a row have as they are sent."""
    return sum(names_size(row[key]) + 32 * len(row[key]) for key in ("methods", "plugins", "behind"))


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
