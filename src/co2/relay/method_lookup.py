"""The lookup of the member that has a method, and the errors if it is not exactly one."""

from itertools import islice
from math import inf

from co2.errors import Ambiguous, NoSuchMethod
from co2.host_name import host_label
from co2.near import nearest
from co2.protocol.relay.away import AwayBook
from co2.protocol.relay.names import NameBook
from co2.relay.away_words import method_away
from co2.relay.members import Member, Members
from co2.server.rpc.method_call import is_reserved

__all__ = ["NAME_KEPT", "member_having"]

NAME_KEPT = 300.0
"""Seconds for which a method's name stays with a satellite that is away, not with later hosts elsewhere."""

MAX_COMPARED = 32
"""Names that are compared with an unknown one."""

MAX_LOOKED_AT = 4_000
"""Names among which similar ones are searched: half a millisecond for each mistyped call."""

MAX_LOOKED_AT_OF_ONE = 250
"""How many of them may be one host's: a host with many names leaves room for those of the others."""

MAX_NAMED = 8
"""Hosts that are named if several have a method."""


def member_having(members: Members, away_book: AwayBook, names: NameBook, now: float, method: str) -> Member:
    """Return the one member that has a method.

    Args:
        members: the connected members.
        away_book: the satellites that are away.
        names: of all hosts.
        now: monotonic seconds.
        method: name of the method.

    Raises:
        NoSuchMethod: no member has it; the error names a similar one.
        Unreachable: its satellite is away.
        Ambiguous: several have it, or an earlier owner left lately: the caller must choose.
    """
    if is_reserved(method):
        raise NoSuchMethod(method)
    having = [member for member in members if method in member.offered]
    away = away_book.having(method)
    if not having:
        if away:
            raise method_away(method, away, away_book, names)
        raise NoSuchMethod(method, _meant(members, method))
    if len(having) > 1:
        named = [member.label for member in having[:MAX_NAMED]]
        more = f" and {len(having) - MAX_NAMED} more" if len(having) > MAX_NAMED else ""
        raise Ambiguous(
            f"several hosts have {method}: {', '.join(named)}{more}; choose one: method_call with host_id, "
            "or co2 call --host"
        )
    member = having[0]
    claim, ip = member.offered[method], member.host_id.ip
    # A host that claims a name while its owner is away must not get its calls unnoticed; and a host that came
    # later than the owner and has left takes no name along. An address counts as one owner.
    for other in away:
        before = other.claims.get(method, 0) < claim
        if before and other.ip != ip and away_book.absence(other).seconds < NAME_KEPT:
            raise _had_it(
                method, f"{host_label(names.get(other.origin), other.host_id)} had {method} and is away", member
            )
    since = now - NAME_KEPT
    for back in members:  # its plugins may still load
        if back.held.get(method, inf) < claim and back.host_id.ip != ip and back.held_at > since:
            raise _had_it(method, f"{back.label} had {method}, was away, and has not announced it again", member)
    return member


def _had_it(method: str, who: str, member: Member) -> Ambiguous:
    return Ambiguous(
        f"{who}; {member.label} now announces it. Choose one: method_call with host_id, or co2 call --host; "
        f"co2 forget gives the method to {member.name or member.host_id}"
    )


def _meant(members: Members, method: str) -> str:
    """Return a similar name: of the same package, or the same except for its package."""
    package, last = f"{method.partition('.')[0]}.", f".{method.rpartition('.')[2]}"
    names = (name for member in members for name in islice(member.offered, MAX_LOOKED_AT_OF_ONE))
    alike = (name for name in islice(names, MAX_LOOKED_AT) if name.startswith(package) or name.endswith(last))
    return nearest(method, islice(alike, MAX_COMPARED))
