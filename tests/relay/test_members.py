"""The table of members: what they got together, and who has to give way."""

import itertools

import pytest

from co2.errors import TooManySatellites
from co2.host_id import HostId
from co2.relay.members import MAX_FOREIGN_OF_ADDRESS, Member, Members
from tests.protocol.network import Network

_numbers = itertools.count()


def test_what_was_counted_of_a_link_stays_counted_when_it_has_ended() -> None:
    members = Members(10)
    counts = {"delivered": 7, "gaps": 1, "repeats": 3, "live_dropped": 2}
    for origin in ("ham", "spam"):
        member = members.add(HostId(origin, "10.0.0.2", 2004), "co2", 0, 0.0, resume=False)
        member.peer = Network().relay.opened(("10.0.0.2", 1))
        for name, value in counts.items():
            setattr(member.peer, name, value)
    foreign = members.add(HostId("eggs", "10.0.0.2", 0), "watcher", 0, 0.0, resume=False)
    foreign.sent = 100
    before = members.totals()
    assert (before.sent, before.gaps, before.repeats, before.live_dropped) == (114, 2, 6, 4)
    for member in members:
        members.remove(member, keep_cursor=True)
    assert members.totals() == before


def registered(members: Members, ip: str, number: int, now: float = 0.0) -> list[Member]:
    """Register so many of an address that fetch."""
    return [
        members.add(HostId(f"m{next(_numbers)}", ip, 0), "watcher", 0, now, resume=True) for _ in range(number)
    ]


def test_half_of_all_is_for_satellites_with_a_link() -> None:
    members = Members(20)
    for n in range(10):
        registered(members, f"192.0.2.{n}", 1)
    with pytest.raises(TooManySatellites, match="10 members without a link, half of max_sats"):
        registered(members, "192.0.2.99", 1)
    assert members.room_for_links == 10


def test_an_address_has_its_share_and_loopback_all_of_it() -> None:
    members = Members(512)
    registered(members, "192.0.2.1", MAX_FOREIGN_OF_ADDRESS)
    with pytest.raises(TooManySatellites, match="64 members without a link from your address"):
        registered(members, "192.0.2.1", 1)
    registered(members, "127.0.0.1", 150)
    registered(members, "127.0.0.2", 256 - 64 - 150)
    with pytest.raises(TooManySatellites, match="256 members without a link, half"):
        registered(members, "127.0.0.3", 1)


def test_of_a_full_address_the_one_that_is_silent_longest_gives_way_and_who_never_fetched_first() -> None:
    members = Members(512)
    first, second, *others = registered(members, "192.0.2.1", MAX_FOREIGN_OF_ADDRESS)
    for one in (first, *others):
        one.has_fetched = True
        one.seen_at = 3.0
    first.seen_at = 1.0
    first.fetches = 1
    second.seen_at = 4.5
    assert members.giving_way("192.0.2.1", 5.0) is None, "all of them were heard a moment ago"
    assert members.giving_way("192.0.2.1", 10.0) is second
    assert members.giving_way("192.0.2.2", 10.0) is None, "another address has room"
    members.remove(second, keep_cursor=True)
    registered(members, "192.0.2.1", 1, now=10.0)
    assert members.giving_way("192.0.2.1", 10.0) is others[0], "one that waits in relay.fetch is not silent"


def test_where_all_is_full_those_of_the_address_that_has_most_give_way_at_once() -> None:
    members = Members(40)
    greedy = registered(members, "192.0.2.1", 15)
    modest = registered(members, "192.0.2.2", 5)
    for one in (*greedy, *modest):
        one.has_fetched, one.seen_at = True, 100.0
    modest[0].seen_at = 1.0
    assert members.giving_way("192.0.2.3", 100.0) is greedy[0]
    assert members.giving_way("192.0.2.1", 100.0) is None, "one of the greedy has to wait"


def test_cursors_of_hosts_that_are_gone_are_kept_for_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("co2.relay.members.MAX_DEPARTED", 10)
    members = Members(1000)
    honest = members.add(HostId("honest", "192.0.2.2", 0), "watcher", 7, 0.0, resume=True)
    members.remove(honest, keep_cursor=True)
    for _ in range(50):
        for one in registered(members, "192.0.2.1", 1):
            members.remove(one, keep_cursor=True)
            assert members.get(one.host_id.origin) is None
        members.add(HostId("x", "192.0.2.3", 0), "co2", 0, 0.0, resume=False)
        members.remove(members.get("x"), keep_cursor=False)  # type: ignore[arg-type]
    assert members.add(honest.host_id, "watcher", 100, 1.0, resume=True).cursor == 7


def test_who_was_forgotten_when_it_was_gone_has_no_place_among_those_that_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("co2.relay.members.MAX_DEPARTED", 10)
    members = Members(1000)
    gone = [
        members.add(HostId(f"{number}", "192.0.2.1", 0), "watcher", 7, 0.0, resume=True) for number in range(12)
    ]
    members.remove(gone[0], keep_cursor=True)
    members.forget("0")
    for one in gone[1:]:
        members.remove(one, keep_cursor=True)
    assert [members.foreign_address(f"{number}") for number in (0, 1, 2)] == ["", "", "192.0.2.1"]


def test_where_somebody_without_a_link_was_is_known_also_when_it_is_silent() -> None:
    members = Members(10)
    host = HostId("ham", "10.0.0.2", 0)
    assert members.foreign_address("ham") == ""
    member = members.add(host, "watcher", 1, 0.0, resume=True)
    assert members.foreign_address("ham") == "10.0.0.2"
    members.remove(member, keep_cursor=True)
    assert members.foreign_address("ham") == "10.0.0.2", "nobody takes its place by a link from elsewhere"
    members.add(host, "co2", 1, 0.0, resume=False)
    assert members.foreign_address("ham") == ""
