"""Where all places are taken, a link of the address that has most gives way; where there is room nobody does."""

from typing import Any

import pytest

from co2.protocol.relay import places
from co2.protocol.relay.core import AdmissionWanted
from co2.protocol.relay.cursors import Peer
from co2.protocol.wire import close_reasons
from co2.protocol.wire.link_frames import Goodbye, Hello, decode_relay_frame, encode_link_frame
from tests.protocol.network import FakeSatellite, Network

LOOPBACK = "127.0.0.1"


def come(net: Network, name: str, ip: str) -> FakeSatellite:
    """Connect a satellite from an address."""
    satellite = FakeSatellite(name, 7, 2)
    satellite.address = (ip, 40_000)
    net.satellites.append(satellite)
    net.connect(satellite)
    return satellite


def filled(number: int, ip: str = "10.0.0.2") -> tuple[Network, list[FakeSatellite]]:
    """Return a relay all of whose places one address has."""
    net = Network(max_peers=number)
    return net, [come(net, f"greedy{n}", ip) for n in range(number)]


def there(*satellites: FakeSatellite) -> list[bool]:
    return [one.peer is not None and one.peer.state == "open" for one in satellites]


def hello(net: Network, ip: str, origin: str, **changes: Any) -> Peer:
    """Open a link from an address and send a Hello."""
    peer = net.relay.opened((ip, 1))
    fields: dict[str, Any] = {
        "host_id": f"{origin}@{ip}:9", "log_id": "", "run": "", "subscriptions": [], "outbox": [], "methods": [],
        "plugins": [], **changes,
    }  # fmt: skip
    net.relay.receive(peer, encode_link_frame(Hello(**fields)))
    return peer


def test_of_a_full_relay_everybody_gets_a_part() -> None:
    net, greedy = filled(4)
    assert there(*greedy) == [True] * 4, "nobody else wants them"
    others = [come(net, f"other{n}", "10.0.0.3") for n in range(3)]
    assert there(*others) == [True, True, False]
    assert there(*greedy) == [True, True, False, False]
    assert net.relay.gave_way == 2
    (refused,) = others[2].ended
    assert (refused.reason, refused.retry_after) == (close_reasons.FULL, 10.0)
    net.connect(greedy[3])
    assert there(*greedy, *others) == [True, True, False, False, True, True, False], "and that comes to rest"
    third = [come(net, f"third{n}", "10.0.0.4") for n in range(2)]
    assert there(*third) == [True, False], "who had most, had one more than it has now"
    assert sum(there(*greedy)) + sum(there(*others)) == 3


def test_who_gives_way_is_told_why_and_what_to_do() -> None:
    net, greedy = filled(3)
    come(net, "other", "10.0.0.3")
    (ended,) = greedy[-1].ended
    assert (ended.reason, ended.retry_after) == (close_reasons.FULL, 10.0)
    assert "10.0.0.2 has the most satellites, 3" in ended.text
    assert "Raise max_sats" in ended.text


def test_the_one_that_gives_way_is_new_and_has_sent_nothing_as_far_as_there_is_one() -> None:
    net = Network(max_peers=6)
    speaker, listener = come(net, "speaker", "10.0.0.2"), come(net, "listener", "10.0.0.2")
    speaker.send(1)
    net.run()
    for one in (speaker, listener):
        net.cut(one)
    new = [come(net, f"new{n}", "10.0.0.2") for n in range(2)]
    for one in (speaker, listener):
        net.connect(one)
    late = [come(net, f"late{n}", "10.0.0.2") for n in range(2)]
    late[1].send(2)
    net.run()
    gone: list[FakeSatellite] = []
    for number, expected in enumerate((late[0], new[1], new[0], listener), 3):
        come(net, f"other{number}", f"10.0.0.{number}")
        gone.append(expected)
        assert there(*gone) == [False] * len(gone)
    assert there(speaker, late[1]) == [True, True]
    assert net.relay.gave_way == 4


def test_loopback_has_a_share_twice_as_large() -> None:
    net, own = filled(6, LOOPBACK)
    others = [come(net, f"other{n}", "10.0.0.2") for n in range(4)]
    assert there(*others) == [True, True, False, False]
    assert there(*own) == [True] * 4 + [False] * 2
    net, greedy = filled(6)
    own = [come(net, f"own{n}", f"127.0.0.{n + 1}") for n in range(5)]
    assert there(*own) == [True] * 4 + [False]
    assert sum(there(*greedy)) == 2


def test_who_takes_its_own_place_again_sends_nobody_away() -> None:
    net, greedy = filled(3)
    other = come(net, "other", "10.0.0.3")
    other.core.lost("half-open")
    other.take_events()
    net.connect(other)
    assert there(*greedy, other) == [True, True, False, True]
    assert (net.relay.takeovers.count, net.relay.gave_way) == (1, 1)


def test_nobody_gives_way_to_one_that_is_refused() -> None:
    net, greedy = filled(3)
    peer = hello(net, "10.0.0.3", "greedy0", token="another")
    told = decode_relay_frame(peer.taken()[-1])
    assert isinstance(told, Goodbye)
    assert told.reason == close_reasons.IDENTITY
    net.relay.asks = True
    asked = hello(net, "10.0.0.3", "other")
    wanted = net.relay.events.pop()
    assert isinstance(wanted, AdmissionWanted)
    assert there(*greedy) == [True] * 3, "nobody has let it in yet"
    net.relay.end(asked, close_reasons.REFUSED, "no")
    assert there(*greedy) == [True] * 3
    hello(net, "10.0.0.3", "third")
    wanted = net.relay.events.pop()
    assert isinstance(wanted, AdmissionWanted)
    net.relay.admit(wanted)
    assert wanted.peer.state == "open"
    assert there(*greedy) == [True, True, False]


def test_of_very_many_only_the_newest_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "LOOK_AT", 2)
    net, greedy = filled(4)
    for one in greedy[1:]:
        one.send(1)
    net.run()
    come(net, "other", "10.0.0.3")
    assert there(*greedy) == [True, True, True, False]


def test_places_of_members_without_a_link_count_for_their_address() -> None:
    net, greedy = filled(4)
    assert net.relay.make_room("10.0.0.3", 2)
    assert not net.relay.make_room("10.0.0.3", 2)
    assert there(*greedy) == [True, True, True, False]
