"""The table of members: what they got together."""

from co2.host_id import HostId
from co2.relay.members import Members
from tests.protocol.network import Network


def test_what_was_counted_of_a_link_stays_counted_when_it_has_ended() -> None:
    members = Members(10)
    counts = {"delivered": 7, "gaps": 1, "repeats": 3, "live_dropped": 2}
    for origin in ("ham", "spam"):
        member = members.add(HostId(origin, "10.0.0.2", 2004), "co2", 0, 0.0, resume=False)
        member.peer = Network().relay.opened(("10.0.0.2", 1))
        for name, value in counts.items():
            setattr(member.peer, name, value)
    foreign = members.add(HostId("eggs", "10.0.0.2", 0), "fetching", 0, 0.0, resume=False)
    foreign.sent = 100
    before = members.totals()
    assert (before.sent, before.gaps, before.repeats, before.live_dropped) == (114, 2, 6, 4)
    for member in members:
        members.remove(member, keep_cursor=True)
    assert members.totals() == before
