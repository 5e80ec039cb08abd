"""A relay whose disk is full keeps its links: what has to be stored waits with its sender, and comes in order."""

import random
import zlib
from typing import Any

import pytest

from co2.errors import StorageFull
from co2.protocol.wire.link_frames import Hello, Hold, Publish, decode_relay_frame, encode_link_frame
from co2.server.express.relay_forecast import RelayForecast
from co2.server.express.satellite_forecast import SatelliteForecast
from tests.protocol.network import FakeSatellite, Network, batch_of, sent


def full(net: Network) -> None:
    net.log.takes = False


def has_room(net: Network) -> None:
    net.log.takes = True
    net.relay.has_room()
    net.run()


def linked() -> tuple[Network, FakeSatellite, FakeSatellite]:
    net = Network()
    return net, net.satellite("ham"), net.satellite("spam", "p")


def test_what_comes_while_the_disk_is_full_waits_and_the_link_stays() -> None:
    net, ham, spam = linked()
    ham.send(1)
    net.run()
    full(net)
    mark = dict(net.log.marks)
    for value in range(2, 20):
        ham.send(value)
        net.run()
    assert ham.peer is not None
    assert ham.peer.state == "open"
    assert "disk is full" in ham.core.held
    assert not ham.ended
    assert net.log.marks == mark  # what was refused moves no mark
    assert len(ham.outbox) == 18
    assert spam.got == {"p": [1]}
    has_room(net)
    assert not ham.core.held
    assert spam.got == {"p": list(range(1, 20))}
    assert len(ham.outbox) == 0
    assert not ham.ended
    ham.send(20)
    net.run()
    assert spam.got["p"][-1] == 20


def test_live_messages_pass_a_full_disk() -> None:
    net, ham, spam = linked()
    full(net)
    ham.send("stored")
    net.run()
    ham.core.publish_live(*sent("live", channels=["meter"]))
    net.run()
    assert spam.got == {"p": ["live"]}
    has_room(net)
    assert spam.got == {"p": ["live", "stored"]}


def test_what_is_in_the_log_is_served_to_who_comes_while_it_is_full() -> None:
    net, ham, _ = linked()
    ham.send(1, 2, 3)
    net.run()
    full(net)
    late = net.satellite("eggs", "p", position=1)
    assert late.got == {"p": [1, 2, 3]}


def test_who_does_not_know_of_waiting_is_sent_away_for_a_moment() -> None:
    net = Network()
    peer = net.relay.opened(("10.0.0.9", 1))
    hello = Hello("old@10.0.0.9:1", "", "", [], [(7, 1)], [], [], "token of old")
    net.relay.receive(peer, encode_link_frame(hello))
    net.relay.taken(peer)
    full(net)
    batch = batch_of(1)
    net.relay.receive(peer, encode_link_frame(Publish(7, 1, "p", "p.m.X_P", [""], zlib.crc32(batch), batch)))
    assert peer.state == "closed"


def test_a_satellite_that_is_told_to_wait_foresees_nothing_and_neither_does_the_relay() -> None:
    net, ham, _ = linked()
    at_relay = RelayForecast(net.relay, {}, net.log.pass_over)
    at_ham = SatelliteForecast(ham.core, {}, lambda: None, lambda: None)
    ham.send(1)
    net.run()
    assert at_relay.recent
    full(net)
    ham.send(2)
    net.run()
    assert at_ham.next_publish("p", "p.m.X_P", [""]) is None
    net.log.takes = True  # nobody has told yet
    assert all(at_relay.next_publish(stretch) is None for stretch in at_relay.recent)


def test_a_new_link_forgets_that_the_one_before_was_told_to_wait() -> None:
    net, ham, spam = linked()
    full(net)
    ham.send(1)
    net.run()
    net.cut(ham)
    assert not ham.core.held
    net.log.takes = True
    net.connect(ham)
    assert spam.got == {"p": [1]}
    net.relay.has_room()  # nobody is told twice
    net.run()
    assert spam.got == {"p": [1]}


def test_a_disk_that_is_full_again_before_all_has_come_again() -> None:
    net, ham, spam = linked()
    full(net)
    for value in range(5):
        ham.send(value)
    net.run()
    net.log.takes = True
    net.relay.has_room()
    full(net)
    net.run()
    assert "disk is full" in ham.core.held
    assert not ham.ended
    has_room(net)
    assert spam.got == {"p": list(range(5))}


@pytest.mark.parametrize("seed", range(60))
def test_whatever_was_on_its_way_when_the_disk_filled_and_emptied(seed: int) -> None:
    """Frames and answers are held up on their way in every order that one connection allows."""
    dice = random.Random(seed)
    net, ham, spam = linked()
    net.auto_commit = False
    peer = ham.peer
    assert peer is not None
    there: list[bytes] = []
    back: list[bytes] = []
    sent = 0
    for _ in range(300):
        act = dice.random()
        if act < 0.3 and sent < 60:
            ham.send(*range(sent, sent + (count := dice.choice((1, 1, 3)))))
            sent += count
        elif act < 0.5:
            there += ham.core.taken()
        elif act < 0.7 and there:
            net.relay.receive(peer, there.pop(0))
        elif act < 0.8:
            back += net.relay.taken(peer)
        elif act < 0.9 and back:
            ham.core.receive(back.pop(0))
            ham.take_events()
        elif act < 0.95:
            net.log.takes = not net.log.takes
            net.relay.has_room()
        else:
            net.commit()
    for data in there:
        net.relay.receive(peer, data)
    for data in [*back, *net.relay.taken(peer)]:
        ham.core.receive(data)
    ham.take_events()
    net.auto_commit = True
    has_room(net)
    net.commit()
    net.run()
    assert not ham.ended, ham.ended
    assert peer.state == "open"
    assert spam.got.get("p", []) == list(range(sent))
    assert len(ham.outbox) == 0
    assert [entry.seq for entry in net.log.entries] == sorted({entry.seq for entry in net.log.entries})


def test_room_that_is_made_just_when_something_is_refused_does_not_end_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, ham, spam = linked()
    append = net.log.append

    def refusing(**values: Any) -> Any:
        """Another thread writes meanwhile: there is room when this is told."""
        monkeypatch.undo()
        raise StorageFull("67108864 bytes wait for the relay's disk")

    monkeypatch.setattr(net.log, "append", refusing)
    ham.send(1, 2)
    net.run()
    assert net.log.append == append
    assert not ham.ended
    assert not ham.core.held
    assert spam.got == {"p": [1, 2]}


def test_both_kinds_of_hold_travel() -> None:
    assert decode_relay_frame(encode_link_frame(Hold("full"))) == Hold("full")
    assert decode_relay_frame(encode_link_frame(Hold())) == Hold()
