"""The methods about members at a relay, ``relay.register`` and others, for members without a link."""

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from co2.errors import BadParams, Denied, IdentityRefused, UnknownHost
from co2.host_id import HostId
from co2.host_name import check_host_name
from co2.protocol.relay.away import Absence, Away, AwayBook
from co2.protocol.relay.core import RelayCore
from co2.protocol.relay.names import NameBook
from co2.protocol.wire.host_names import names_size
from co2.protocol.wire.link_frames import BEGINNING
from co2.relay.callers import check_not_passed_on, check_unowned
from co2.relay.durable_log import DurableLog
from co2.relay.host_lookup import origin_meant
from co2.relay.links import Links
from co2.relay.members import GIVES_WAY_AFTER, Member, Members, names_in
from co2.relay.relay import RelayRole
from co2.server.rpc.answer_turns import AnswerTurns
from co2.server.rpc.arguments import callers_host_id, integer, one_dict, text
from co2.server.rpc.long_list import LongList
from co2.xmlrpc.registry import Caller

__all__ = ["MemberMethods", "away_rows"]

MAX_ROWS = 1_000
"""Satellites in one page of relay.get_satellites."""

MOST_ROWS = 10_000
"""Satellites in an answer of relay.get_satellites without a page."""

NAMES_TOLD = 384 * 1024
"""Bytes of names in one answer of relay.get_satellites, roughly."""

MAX_AWAY_TOLD = 1_000
"""Satellites that are away in one answer of relay.get_satellites, the latest ones."""

MAX_AWAY_NAMES_TOLD = 256 * 1024
"""Characters of their names of methods and plugins; further names are left out."""


class MemberMethods:
    """Handlers of the other methods ``relay.…``.

    Args:
        relay: adds and removes members.
        members: the table of members.
        links: of linked members.
        core: of the links.
        log: read by members.
        turns: of answers that take long.
    """

    def __init__(
        self,
        relay: RelayRole,
        members: Members,
        links: Links,
        core: RelayCore,
        log: DurableLog,
        *,
        turns: AnswerTurns,
    ) -> None:
        self._relay = relay
        self._members = members
        self._links = links
        self._core = core
        self._log = log
        self._turns = turns
        self._one_at_a_time = asyncio.Lock()

    def register(self, params: Sequence[Any], caller: Caller) -> dict[str, Any] | Awaitable[dict[str, Any]]:
        """Become a member of this relay's network.

        Takes {port?, host_id?, name?}. With a port the relay calls ``notify`` there, without one the caller
        fetches with relay.fetch. A known host_id from the same address resumes where it was. ``name`` is for
        people; the relay adds a number if another host has it. Returns {host_id, position, log_id, name}.
        """
        argument = one_dict(params)
        check_not_passed_on(caller, "register")
        host_id = self._registering(argument, caller)
        if host_id.port and caller.proxied:
            raise Denied(
                "a member with a port is called back at its address, which here is a proxy's: register without "
                "a port, and fetch"
            )
        self._members.check_owner(host_id)
        self._check_unlinked(host_id)
        names_in(argument)
        _wish(argument)
        if self._core.asks:
            return self._register_if_admitted(argument, host_id)
        return self._register(argument, host_id)

    async def _register_if_admitted(self, argument: Mapping[str, Any], host_id: HostId) -> dict[str, Any]:
        names = names_in(argument)
        if why := await self._relay.refusal(host_id, *names):
            raise Denied(why)
        self._members.check_owner(host_id)
        self._check_unlinked(host_id)  # it may have opened a link meanwhile
        return self._register(argument, host_id)

    def _register(self, argument: Mapping[str, Any], host_id: HostId) -> dict[str, Any]:
        kind, wish = _kind(argument), _wish(argument)
        member = self._members.get(host_id.origin)
        known = member is not None
        if member is None:
            head, now = self._log.committed, self._relay.now()
            resume = argument.get("resume") is not False
            self._replace_ended(host_id, kind, wish)
            self._make_room(host_id.ip, now)
            member = self._members.add(host_id, kind, head, now, resume=resume)
            self._core.names.arrived(host_id.origin)
            member.name = self._core.names.give(host_id.origin, wish)
            self._relay.say(logging.INFO, host_id.origin, "%s registered (%s)", member.label, kind)
        elif argument.get("resume") is False:
            member.cursor = self._log.committed
        member.name = self._core.names.give(host_id.origin, wish)
        if argument.get("log_id", self._log.log_id) != self._log.log_id:
            self._other_log(member)
        member.methods, member.plugins = names_in(argument)
        if host_id.port:
            self._end_others_at(host_id)
        self._relay.show(member)
        self._relay.settle(member, host_id, kind, known=known)
        return {
            "host_id": str(host_id),
            "position": member.cursor,
            "log_id": self._log.log_id,
            "name": member.name,
        }

    def _replace_ended(self, host_id: HostId, kind: str, wish: str) -> None:
        """Remove an earlier watcher with the name of a new one at its address, if it has stopped fetching.

        It has ended without unregistering, and would be listed for a minute beside the one that takes its place.
        """
        before = self._members.get(self._core.names.owner(wish))
        if before is None or (before.kind, kind) != ("watcher", "watcher") or before.host_id.ip != host_id.ip:
            return
        if not before.fetches and before.silence(self._relay.now()) >= GIVES_WAY_AFTER:
            self._relay.say(logging.INFO, host_id.origin, "%s makes way: it registers anew", before.label)
            self._relay.take_out(before, keep_cursor=True)

    def _make_room(self, ip: str, now: float) -> None:
        """Free a place for a member without a link: drop a silent member, or one of too many links."""
        members, links = self._members, self._links
        silent = members.giving_way(ip, now, self._core.places.held_by(ip))
        rests = silent is not None and silent.silence(now) >= GIVES_WAY_AFTER
        if not rests and members.lacks_a_place(ip) and links.make_room(ip, members.foreign_from(ip)):
            return
        if silent is not None:
            self._relay.drop(silent, "too many members without a link, and this one was silent longest")

    def unregister(self, params: Sequence[Any], caller: Caller) -> bool:
        """Leave the network. Takes {host_id}, returns true; nothing more is delivered."""
        check_not_passed_on(caller, "unregister")
        member = self._members.find(callers_host_id(one_dict(params), caller))
        self._check_unlinked(member.host_id)
        self._relay.take_out(member, keep_cursor=False)
        self._relay.say(logging.INFO, member.host_id.origin, "%s said goodbye", member.label)
        return True

    def get_satellites(self, params: Sequence[Any], _caller: Caller) -> LongList:
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
            raise BadParams("key 'names': expected true or false")
        is_page = "max" in argument or "after" in argument
        maximum = integer(argument, "max", MAX_ROWS, 1, MAX_ROWS)
        after = text(argument, "after").partition("@")[0] if "after" in argument else ""
        if not is_page and len(self._members) > MOST_ROWS:
            raise BadParams(
                f"{len(self._members)} satellites are too many for one answer: call with "
                f"{{max: {MAX_ROWS}}}, then with after = the last host_id received, until the answer is empty"
            )
        away = self._relay.away if argument.get("away") is True and not is_page else None
        listed = partial(self._page, maximum, after) if is_page else lambda: list(self._members)
        produce = partial(self._rows, listed, away, with_names=with_names, is_page=is_page)
        return LongList(produce, self._turns, self._one_at_a_time)

    def _page(self, maximum: int, after: str) -> list[Member]:
        """Return the members of a page, by their origins."""
        following = (member for member in self._members if member.host_id.origin > after)
        return heapq.nsmallest(maximum, following, key=lambda member: member.host_id.origin)

    def _rows(
        self, listed: Callable[[], list[Member]], away: AwayBook | None, *, with_names: bool, is_page: bool
    ) -> Iterator[dict[str, Any]]:
        """Produce the rows of members, as far as their names fit; on a page the rows end where they do not.

        Which members are listed is asked for with the first row: until then nothing is kept.
        """
        left = NAMES_TOLD if with_names else -1
        number = 0
        for member in listed():
            if self._members.get(member.host_id.origin) is not member:
                continue  # it has left since the first row was produced
            row = self._row(member)
            left -= _names_size(row)
            if left < 0:
                if with_names and is_page and number:
                    break
                if not (is_page and not number and with_names):  # one row is always complete
                    row["left_out"] = len(row["methods"]) + len(row["plugins"])
                    row |= {"methods": [], "plugins": [], "behind": {}}
            yield row
            number += 1
        if away is not None:
            yield from away_rows(away, self._core.names)

    def forget(self, params: Sequence[Any], caller: Caller) -> bool:
        """Forget a satellite that is away: its row, whose its host_id is, where it was. Only from this machine.

        Takes {host_id}: all of it, its random part or its name, or enough of the beginning of one of these.
        Returns true; false for one that nobody knows. A Fault for one that is connected, and for what can mean
        several.
        """
        if not caller.is_local:
            raise Denied("allowed only from the relay's own machine: call 127.0.0.1, not through a relay")
        word = text(one_dict(params), "host_id")
        try:
            origin = origin_meant(self._core.names, self._relay.away, word)
        except UnknownHost:
            return False
        if (member := self._members.get(origin)) is not None:
            raise BadParams(f"{member.label} is connected: stop it first, then forget it")
        return self._relay.forget(origin)

    def _row(self, member: Member) -> dict[str, Any]:
        """Return the row of a member."""
        now = self._relay.now()
        buffered = self._links.buffered
        return {
            "left_out": 0,
            "name": member.name,
            "host_id": str(member.host_id),
            "kind": member.kind,
            "state": self._relay.state_of(member),
            "age": round(now - member.registered_at, 3),
            "silent": round(self._relay.silence_of(member), 3),
            "methods": list(member.methods),
            "plugins": list(member.plugins),
            "position": member.position,
            "lag": max(0, self._log.last - member.position),
            "sent": member.delivered,
            "refused": member.refused,
            "gaps": member.gaps_told,
            "behind": member.behind(self._log.last),
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
            return HostId(self._members.new_origin(), caller.address, port)
        host_id = callers_host_id(argument, caller)
        port = integer(argument, "port", host_id.port, 0, 65535)
        return HostId(host_id.origin, host_id.ip, port)

    def _end_others_at(self, host_id: HostId) -> None:
        """Drop other members at the same port: only one host can listen there."""
        for other in self._members:
            same = (other.host_id.ip, other.host_id.port) == (host_id.ip, host_id.port)
            if same and other.kind == "notified" and other.host_id.origin != host_id.origin:
                self._relay.drop(other, f"{host_id} now listens at its port")

    def _check_unlinked(self, host_id: HostId) -> None:
        check_unowned(self._core.origins, host_id)
        member = self._members.get(host_id.origin)
        if member is not None and member.peer is not None:
            raise IdentityRefused(
                f"{host_id.origin} has a link to this relay, and only that link registers and unregisters it"
            )

    def _other_log(self, member: Member) -> None:
        member.cursor = BEGINNING
        member.miss(0, BEGINNING, "log replaced")


def away_rows(book: AwayBook, names: NameBook) -> Iterator[dict[str, Any]]:
    """Produce the rows of satellites that are away, with names as far as they fit."""
    left = MAX_AWAY_NAMES_TOLD
    for one in book.rows()[:MAX_AWAY_TOLD]:
        left -= sum(map(len, (*one.methods, *one.plugins)))
        yield _away_row(one, names.get(one.origin), book.absence(one), with_names=left >= 0)


def _away_row(one: Away, name: str, absence: Absence, *, with_names: bool) -> dict[str, Any]:
    """Return the row of a satellite that is away, with every key of a connected one's."""
    return {
        "left_out": 0 if with_names else len(one.methods) + len(one.plugins),
        "name": name,
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


def _kind(argument: Mapping[str, Any]) -> str:
    return "notified" if argument.get("port") else "watcher"


def _wish(argument: Mapping[str, Any]) -> str:
    """Return the name that a member without a link wishes for, '' for none.

    Raises:
        BadParams: it is no name.
    """
    if "name" not in argument:
        return ""
    try:
        return check_host_name(text(argument, "name"))
    except ValueError as error:
        raise BadParams(f"key 'name': expected {error}") from None


def _names_size(row: Mapping[str, Any]) -> int:
    """Return the size of the names in a row as sent, roughly in bytes."""
    return sum(names_size(row[key]) + 32 * len(row[key]) for key in ("methods", "plugins", "behind"))
