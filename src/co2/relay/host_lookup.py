"""The lookup of the one satellite that a person names."""

from co2.errors import NotCallable, UnknownHost, Unreachable
from co2.protocol.relay.away import AwayBook
from co2.relay.away_words import away_words
from co2.relay.members import Member, Members

__all__ = ["MIN_PREFIX", "linked_member"]

MIN_PREFIX = 4
"""Characters of the beginning of a host_id that name a satellite, if no other one begins so."""

MAX_NAMED = 8
"""Satellites that are named if several are meant."""


def linked_member(members: Members, away: AwayBook, host: str) -> Member:
    """Return the one linked satellite that a person names.

    Args:
        members: the connected members.
        away: the satellites that are away.
        host: its host_id, the part of it before @, or the beginning of that.

    Raises:
        UnknownHost: there is none, or there are several.
        Unreachable: it is away.
        NotCallable: it has no link.
    """
    origin = host.partition("@")[0]
    member = members.get(origin)
    if member is None and (gone := away.get(origin)) is not None:
        raise Unreachable(f"{gone.host_id} {away_words(gone, away)}")
    if member is None:
        found = [one for one in members if len(origin) >= MIN_PREFIX and one.host_id.origin.startswith(origin)]
        if len(found) > 1:
            named = ", ".join(str(one.host_id) for one in found[:MAX_NAMED])
            more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
            raise UnknownHost(f"{host!r:.80} may be {named}{more}: type more of it")
        if not found:
            raise UnknownHost(f"no satellite of this relay is called {host!r:.80}")
        member = found[0]
    if member.peer is None:
        raise NotCallable(f"{member.host_id} has no link to this relay: it is no satellite of co2")
    return member
