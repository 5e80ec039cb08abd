"""The lookup of the one host that a person names."""

from co2.errors import NotCallable, UnknownHost, Unreachable
from co2.host_name import host_label
from co2.protocol.relay.away import AwayBook
from co2.protocol.relay.names import NameBook
from co2.relay.away_words import away_words
from co2.relay.members import Member, Members

__all__ = ["linked_member", "origin_meant"]


def origin_meant(names: NameBook, away: AwayBook, host: str) -> str:
    """Return the origin of the one host that a person names.

    Args:
        names: of all hosts.
        away: the satellites that are away.
        host: a host_id; or a name, the part of a host_id before @, or the beginning of one of these.

    Raises:
        UnknownHost: there is none.
        Ambiguous: it can mean several.
    """
    if "@" in host:
        return host.partition("@")[0]
    try:
        return names.find(host)
    except UnknownHost:
        if away.get(host) is None:
            raise
        return host  # its name had no room among those of known origins


def linked_member(members: Members, away: AwayBook, names: NameBook, host: str) -> Member:
    """Return the one linked satellite that a person names.

    Args:
        members: the connected members.
        away: the satellites that are away.
        names: of all hosts.
        host: see :func:`origin_meant`.

    Raises:
        UnknownHost: there is none.
        Ambiguous: it can mean several.
        Unreachable: it is away.
        NotCallable: it has no link.
    """
    origin = origin_meant(names, away, host)
    member = members.get(origin)
    if member is None:
        if (gone := away.get(origin)) is not None:
            raise Unreachable(f"{host_label(names.get(origin), gone.host_id)} {away_words(gone, away)}")
        raise UnknownHost(f"no satellite of this relay is called {host!r:.80}")
    if member.peer is None:
        raise NotCallable(f"{member.label} has no link to this relay: it is no satellite of co2")
    return member
