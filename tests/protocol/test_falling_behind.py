"""Packages that take their messages too slowly, at the moments when a link ends or something is on its way."""

import pytest

from co2.host_id import HostId
from co2.protocol.relay.losses import Loss
from co2.protocol.satellite import core
from co2.protocol.satellite.core import GapTold, SatelliteCore
from co2.protocol.satellite.outbox import Outbox
from co2.protocol.wire.link_frames import BEGINNING
from tests.protocol.network import FakeSatellite, Network


def hand_over(network: Network, satellite: FakeSatellite) -> None:
    """Carry to a satellite what is out for it, and nothing back."""
    assert satellite.peer is not None
    for data in network.relay.taken(satellite.peer):
        satellite.core.receive(data)
    satellite.take_events()


def test_what_is_on_its_way_to_a_durable_package_that_falls_behind_comes_again_in_its_place() -> None:
    network = Network()
    ham = network.satellite("ham", "p", durable=True)
    spam = network.satellite("spam")
    spam.send(1)
    network.run()
    assert spam.peer is not None
    # Two frames are on their way; the package has no room for the first, and has room again before the second.
    spam.send(2)
    for data in spam.core.taken():
        network.relay.receive(spam.peer, data)
    network.commit()
    ham.core.fell_behind("p")
    hand_over(network, ham)
    spam.send(3)
    for data in spam.core.taken():
        network.relay.receive(spam.peer, data)
    network.commit()
    ham.core.catch_up("p")
    hand_over(network, ham)
    network.run()
    assert ham.got["p"] == [1, 2, 3]


def test_a_package_that_fell_behind_twice_is_still_where_it_was() -> None:
    network = Network()
    ham = network.satellite("ham", "p", durable=True)
    spam = network.satellite("spam")
    spam.send(1)
    network.run()
    ham.core.fell_behind("p")
    ham.core.catch_up("p")
    ham.core.fell_behind("p")
    spam.send(2)
    network.run()
    assert ham.got["p"] == [1]
    ham.core.catch_up("p")
    network.run()
    assert ham.got["p"] == [1, 2]


def test_a_link_lost_before_its_welcome_leaves_packages_where_they_were() -> None:
    network = Network()
    ham = network.satellite("ham", "p", "q")
    spam = network.satellite("spam")
    network.run()
    ham.core.fell_behind("p")
    for value in range(3):
        spam.send(value)
    network.run()
    ham.core.catch_up("p")  # it asks for what it has missed
    network.cut(ham)
    ham.core.connected()  # and this link ends before the relay has said Welcome
    ham.core.taken()
    ham.core.lost("cut again")
    ham.take_events()
    network.connect(ham)
    assert ham.got == {"p": [0, 1, 2], "q": [0, 1, 2]}


def test_a_package_that_falls_behind_while_there_is_no_link_goes_on_where_it_was() -> None:
    network = Network()
    ham = network.satellite("ham", "p", "q")
    spam = network.satellite("spam")
    network.run()
    ham.core.fell_behind("p")
    for value in range(3):
        spam.send(value)
    network.run()
    ham.core.catch_up("p")
    network.cut(ham)
    ham.core.fell_behind("p")
    network.connect(ham)
    ham.core.catch_up("p")
    network.run()
    assert ham.got["p"] == [0, 1, 2]


def test_what_a_package_wants_that_loads_between_hello_and_welcome_is_told() -> None:
    network = Network()
    spam = network.satellite("spam")
    ham = FakeSatellite("ham", 7, 9)
    network.satellites.append(ham)
    ham.peer = network.relay.opened(ham.address)
    ham.core.connected()
    frames = ham.core.taken()
    ham.core.subscribe("p", durable=True)
    for data in frames:
        network.relay.receive(ham.peer, data)
    network.run()
    spam.send(1)
    network.run()
    assert ham.got["p"] == [1]


def test_that_the_log_is_another_is_told_by_the_next_run_where_this_one_did_not_come_to_it() -> None:
    network = Network()
    ham = network.satellite("ham", "p", durable=True)
    network.cut(ham)
    network.log.replace_id()
    network.connect(ham)
    assert [reason for _, reason in ham.gaps] == ["log replaced"]
    # Its plugin was not told yet: what is written down says so.
    assert ham.core.durable_beginnings() == {"p": 0}
    later = SatelliteCore(HostId("ham", "10.0.0.2", 2004), Outbox(9, 10**6, print, print), lambda: ([], []),
                          "token of ham")  # fmt: skip
    later.log_id, later.run = ham.core.log_id, ham.core.run
    later.subscribe("p", durable=True, position=0)
    later.connected()
    peer = network.relay.opened(ham.address)
    for data in later.taken():
        network.relay.receive(peer, data)
    for data in network.relay.taken(peer):
        later.receive(data)
    told = [event for event in later.events if isinstance(event, GapTold)]
    assert [(event.packages, event.gap.reason) for event in told] == [(["p"], "log replaced")]
    assert later.positions()["p"] == BEGINNING


def test_a_loss_is_told_also_to_whoever_jumps_over_its_place() -> None:
    """As when retention took what was around it, or nothing was there to be given."""
    network = Network()
    ham = network.satellite("ham", "p", durable=True)
    spam = network.satellite("spam")
    spam.send(1)
    network.run()
    network.cut(ham)
    network.log.add_loss(Loss(network.log.last, "spam", "the relay lost messages 2 to 9"))
    spam.send(2, 3, 4)
    network.run()
    network.log.gone = network.log.last
    spam.send(5)
    network.connect(ham)
    network.run()
    assert ham.got["p"] == [1, 5]
    assert sorted(reason for _, reason in ham.gaps) == ["retention", "the relay lost messages 2 to 9"]


def lagging(count: int) -> tuple[Network, FakeSatellite, FakeSatellite]:
    """Return a satellite whose package "p" has fallen behind by so many messages, and their sender."""
    network = Network()
    ham, spam = network.satellite("ham", "p"), network.satellite("spam")
    ham.core.fell_behind("p")
    for value in range(count):
        spam.send(value)
    network.run()
    return network, ham, spam


def test_more_than_one_request_brings_comes_in_several_each_message_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "REPLAY_ROOM", 50)
    network, ham, spam = lagging(20)
    ham.core.catch_up("p")
    network.run()
    spam.send(20)
    network.run()
    assert ham.got["p"] == list(range(21))
    assert ham.core.count("current") == 1


def test_a_package_that_falls_behind_again_while_it_catches_up_gets_what_it_has_asked_for_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core, "REPLAY_ROOM", 50)
    network, ham, spam = lagging(20)
    ham.core.catch_up("p")
    ham.core.fell_behind("p")
    network.run()
    first = len(ham.got["p"])
    assert 0 < first < 20
    assert ham.core.count("behind") == 1
    spam.send(20)
    network.run()
    assert len(ham.got["p"]) == first
    ham.core.catch_up("p")
    network.run()
    assert ham.got["p"] == list(range(21))


def test_a_package_that_falls_behind_again_just_before_it_has_caught_up_gets_nothing_live() -> None:
    network, ham, spam = lagging(5)
    ham.core.catch_up("p")
    ham.core.fell_behind("p")
    network.run()
    assert ham.got["p"] == list(range(5)), "this was on its way"
    assert ham.core.count("behind") == 1
    spam.send(5)
    network.run()
    assert ham.got["p"] == list(range(5))
    ham.core.catch_up("p")
    network.run()
    assert ham.got["p"] == list(range(6))


def test_a_package_that_has_room_again_while_it_catches_up_goes_on_with_that() -> None:
    network, ham, spam = lagging(5)
    ham.core.catch_up("p")
    ham.core.fell_behind("p")
    ham.core.catch_up("p")
    network.run()
    spam.send(5)
    network.run()
    assert ham.got["p"] == list(range(6))


@pytest.mark.parametrize("again", [False, True], ids=["without a link", "with the next"])
def test_a_package_that_catches_up_while_there_is_no_link_gets_what_it_missed(again: bool) -> None:
    network, ham, spam = lagging(3)
    network.cut(ham)
    if not again:
        ham.core.catch_up("p")
    network.connect(ham)
    if again:
        assert ham.got == {}
        ham.core.catch_up("p")
        network.run()
    spam.send(3)
    network.run()
    assert ham.got["p"] == [0, 1, 2, 3]


def test_a_package_that_has_room_before_the_relay_knows_that_it_had_none_goes_on_with_the_next_link() -> None:
    network, ham, spam = lagging(0)
    ham.core.catch_up("p")
    network.run()
    ham.core.fell_behind("p")
    ham.core.catch_up("p")
    network.cut(ham)
    spam.send(0)
    network.run()
    network.connect(ham)
    assert ham.got["p"] == [0]
    assert ham.core.count("current") == 1


def test_a_package_that_is_loaded_anew_while_it_catches_up_begins_at_the_end() -> None:
    network, ham, spam = lagging(5)
    ham.core.catch_up("p")
    ham.core.unsubscribe("p")
    network.run()
    assert ham.got == {}
    ham.core.subscribe("p")
    network.run()
    spam.send(5)
    network.run()
    assert ham.got["p"] == [5]


def test_a_package_that_is_loaded_anew_gets_no_answers_to_what_the_old_one_asked() -> None:
    network, ham, spam = lagging(5)
    ham.core.catch_up("p")
    ham.core.unsubscribe("p")
    ham.core.subscribe("p")
    network.run()
    spam.send(5)
    network.run()
    assert ham.got["p"] == [5]


def test_a_gap_on_its_way_to_a_package_that_falls_behind_is_told_again_in_its_place() -> None:
    network = Network()
    ham, spam = network.satellite("ham", "p", durable=True), network.satellite("spam")
    assert ham.peer is not None
    network.relay.pause(ham.peer)
    spam.send(1, 2, 3)
    network.run()
    network.log.gone = network.log.last
    network.log.entries = []
    spam.send(4)
    network.run()
    network.relay.resume(ham.peer)
    ham.core.fell_behind("p")
    hand_over(network, ham)
    assert (ham.gaps, ham.got) == ([], {})
    ham.core.catch_up("p")
    network.run()
    assert ham.gaps == [("p", "retention")]
    assert ham.got["p"] == [4]
    assert len(ham.gaps) == 1


def test_a_gap_on_its_way_to_a_package_that_is_unloaded_is_told_to_nobody() -> None:
    network, ham, spam = lagging(5)
    network.log.gone = network.log.last
    network.log.entries = []
    spam.send(5)
    network.run()
    ham.core.catch_up("p")
    for data in ham.core.taken():
        assert ham.peer is not None
        network.relay.receive(ham.peer, data)
    ham.core.unsubscribe("p")
    network.run()
    assert (ham.gaps, ham.got) == ([], {})
