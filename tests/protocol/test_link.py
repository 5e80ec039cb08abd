"""Satellites and relay, joined in memory: who gets what, once, in order, or is told."""

from zlib import crc32

import msgspec
import pytest

from co2.host_id import ADDRESS_PREFIX, HostId
from co2.protocol.relay import core as relay_core
from co2.protocol.relay.core import ASKED_AT_ONCE, RelayCore
from co2.protocol.relay.filter_chain import InFlight
from co2.protocol.relay.takeovers import RETURN
from co2.protocol.satellite import core as satellite_core
from co2.protocol.satellite.core import NumbersTaken, SatelliteCore
from co2.protocol.wire import close_reasons
from co2.protocol.wire.channel_patterns import Interests
from co2.protocol.wire.link_frames import (
    Ack,
    Applied,
    Call,
    Deliver,
    Gap,
    Hello,
    Publish,
    Replay,
    Result,
    Welcome,
    decode_relay_frame,
    encode_link_frame,
)  # fmt: skip
from co2.protocol.wire.package_health import MAX_ERROR, MAX_HEALTH, MAX_HEALTH_TEXT, Health, health_text
from tests.protocol.network import FakeSatellite, Network, batch_of, sent
from tests.protocol.test_transitions import HELLO


def test_a_message_reaches_every_package_of_the_others_and_not_its_sender() -> None:
    net = Network()
    ham, spam = net.satellite("ham", "a"), net.satellite("spam", "b", "c")
    ham.send(1, 2)
    ham.send(3)
    net.run()
    assert spam.got == {"b": [1, 2, 3], "c": [1, 2, 3]}
    assert ham.got == {}


def test_live_messages_are_passed_on_before_they_are_on_disk_and_acknowledged_after() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    net.auto_commit = False
    ham.send(1)
    net.run()
    assert spam.got == {"b": [1]}
    assert len(ham.outbox) == 1
    net.commit()
    net.run()
    assert len(ham.outbox) == 0
    assert ham.outbox.acked_messages == 1


def test_a_durable_package_gets_only_what_is_on_disk_and_its_own_satellites_messages_too() -> None:
    net = Network()
    ham = net.satellite("ham", "d", durable=True)
    net.auto_commit = False
    ham.send(1)
    net.run()
    assert ham.got == {}
    net.commit()
    net.run()
    assert ham.got == {"d": [1]}


def test_the_relay_says_whether_messages_have_causes_at_each_connection() -> None:
    net = Network()
    ham = net.satellite("ham")
    assert ham.core.causes
    assert ham.core.next_number() == (7, 1)
    ham.send("a", "b")
    assert ham.core.next_number() == (7, 3)
    net.relay.causes = False
    assert ham.core.causes, "until it connects again"
    net.cut(ham)
    net.connect(ham)
    assert (ham.core.causes, ham.core.next_number()) == (False, (0, 0))
    net.relay.causes = True
    net.cut(ham)
    net.connect(ham)
    assert ham.core.next_number() == (7, 3)


def test_a_relay_older_than_causes_wants_none() -> None:
    ham = welcomed(Welcome("ham@10.0.0.2:2004", "relay@10.0.0.1:2003", "log", "run", 1, []))
    assert not ham.core.causes


def test_a_relay_with_causes_is_understood_by_a_satellite_that_knows_none() -> None:
    class Older(msgspec.Struct, array_like=True, tag="Welcome"):
        host_id: str
        relay: str

    data = encode_link_frame(Welcome("ham@1.2.3.4:5", "relay@1.2.3.4:6", "log", "run", 1, [], causes=True))
    assert msgspec.msgpack.decode(data, type=Older).host_id == "ham@1.2.3.4:5"


def test_what_was_on_its_way_when_the_connection_broke_comes_once() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    ham.send(1)
    net.run()
    ham.send(2)
    for data in ham.core.taken():
        assert ham.peer
        net.relay.receive(ham.peer, data)  # the relay has it, its Ack gets lost
    net.cut(ham)
    ham.send(3)
    net.connect(ham)
    assert spam.got == {"b": [1, 2, 3]}
    assert len(ham.outbox) == 0


def test_a_repeat_is_recognised_acknowledged_and_not_passed_on() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    net.auto_commit = False
    ham.send(1)
    net.run()
    net.cut(ham)
    net.connect(ham)  # not on disk yet, so it comes again
    net.auto_commit = True
    net.run()
    assert spam.got == {"b": [1]}
    assert len(ham.outbox) == 0
    assert sum(peer.repeats for peer in net.relay.peers.values()) == 1


def test_after_a_crash_that_followed_passing_on_nobody_gets_it_twice() -> None:
    net = Network()
    ham, spam, eggs = net.satellite("ham"), net.satellite("spam", "b"), net.satellite("eggs", "c")
    ham.send(1)
    net.run()
    net.auto_commit = False
    net.cut(eggs)
    ham.send(2)
    net.run()
    assert spam.got == {"b": [1, 2]}
    net.crash()
    net.auto_commit = True
    for satellite in (eggs, spam, ham):
        net.connect(satellite)
    net.run()
    assert spam.got == {"b": [1, 2]}
    assert eggs.got == {"c": [1, 2]}
    assert spam.core.repeats == 1


def test_a_receiver_that_was_away_gets_what_it_missed() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    net.cut(spam)
    ham.send(*range(10))
    net.run()
    ham.send(10)
    net.connect(spam)
    assert spam.got == {"b": list(range(11))}


def test_what_is_older_than_memory_comes_from_disk() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    net.cut(spam)
    for number in range(20):
        ham.send(number)
    net.run()
    net.log.in_memory_from = net.log.last - 5
    net.connect(spam)
    assert spam.got == {"b": list(range(20))}


def test_what_retention_took_is_a_gap() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    ham.send(0)
    net.run()
    net.cut(spam)
    ham.send(1)
    ham.send(2)
    net.run()
    net.log.entries = net.log.entries[2:]
    net.log.gone = net.log.entries[0].position - 1
    net.connect(spam)
    assert spam.got == {"b": [0, 2]}
    assert spam.gaps == [("b", "retention")]


def test_a_package_that_lags_catches_up_beside_a_live_one() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "slow", "quick")
    ham.send(1)
    net.run()
    spam.core.fell_behind("slow")
    for number in range(2, 6):
        ham.send(number)
    net.run()
    assert spam.got == {"slow": [1], "quick": [1, 2, 3, 4, 5]}
    spam.core.catch_up("slow")
    ham.send(6)
    net.run()
    ham.send(7)
    net.run()
    assert spam.got == {"slow": [1, 2, 3, 4, 5, 6, 7], "quick": [1, 2, 3, 4, 5, 6, 7]}


def test_what_a_replay_brought_is_not_sent_once_more_when_the_package_lags_again() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "slow")
    for number in range(4):
        spam.core.fell_behind("slow")
        net.run()
        ham.send(number)
        net.run()
        spam.core.catch_up("slow")
        net.run()
        spam.core.fell_behind("slow")
        spam.core.catch_up("slow")
        net.run()
    assert spam.got == {"slow": [0, 1, 2, 3]}
    assert spam.core.repeats == 0
    assert next(iter(net.relay.peers["spam"].streams.values()), None) is None
    assert net.relay.peers["spam"].delivered == 4


@pytest.mark.parametrize("durable", [False, True])
def test_a_package_that_lags_while_the_link_breaks_goes_on_where_it_was(durable: bool) -> None:
    net = Network()
    ham = net.satellite("ham")
    spam = net.satellite("spam", "slow", durable=durable)
    ham.send(1)
    net.run()
    spam.core.fell_behind("slow")
    ham.send(2)
    net.run()
    net.cut(spam)
    ham.send(3)
    net.connect(spam)
    assert spam.got == {"slow": [1]}
    spam.core.catch_up("slow")
    net.run()
    ham.send(4)
    net.run()
    assert spam.got == {"slow": [1, 2, 3, 4]}


def test_a_cut_in_the_middle_of_a_replay_loses_nothing() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    ham.send(1)
    net.run()
    spam.core.fell_behind("b")
    ham.send(2)
    ham.send(3)
    net.run()
    spam.core.catch_up("b")
    for data in spam.core.taken():
        assert spam.peer
        net.relay.receive(spam.peer, data)
    assert spam.peer
    first = net.relay.taken(spam.peer)[0]
    spam.core.receive(first)
    spam.take_events()
    net.cut(spam)
    net.connect(spam)
    assert spam.got == {"b": [1, 2, 3]}


def test_channels_decide_who_gets_a_frame() -> None:
    net = Network()
    ham = net.satellite("ham")
    left = net.satellite("left", "b", channels=["stage.left.>"])
    both = net.satellite("both", "c")
    ham.send(1, channels=["stage.left.fader1"])
    ham.send(2, channels=["stage.right.fader1"])
    ham.send(3)
    net.run()
    assert left.got == {"b": [1]}
    assert both.got == {"c": [1, 2, 3]}
    left.core.subscribe("b", ["stage.right.*"])
    net.run()
    ham.send(4, channels=["stage.right.fader2"])
    ham.send(5, channels=["stage.left.fader2"])
    net.run()
    assert left.got == {"b": [1, 4]}


def test_a_package_loaded_later_begins_now_and_one_unloaded_gets_nothing() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    ham.send(1)
    net.run()
    spam.core.subscribe("new")
    net.run()
    ham.send(2)
    net.run()
    spam.core.unsubscribe("b")
    net.run()
    ham.send(3)
    net.run()
    assert spam.got == {"b": [1, 2], "new": [2, 3]}


def test_a_replaced_log_is_a_gap_and_everything_in_the_new_one_comes() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    ham.send(1)
    ham.send(2)
    net.run()
    net.crash()
    net.log.entries, net.log.marks, net.log.log_id = [], {}, "another"
    net.log.committed, net.log.next = 1, 2
    net.connect(ham)
    ham.send(3)
    net.run()
    net.connect(spam)
    assert spam.got == {"b": [1, 2, 3]}
    assert ("b", "log replaced") in spam.gaps


@pytest.mark.parametrize("durable", [False, True])
def test_what_a_replaced_log_has_and_was_had_before_does_not_come_again(durable: bool) -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b", durable=durable)
    ham.send(1, 2)
    net.run()
    net.cut(spam)
    net.log.replace_id()
    ham.send(3)
    net.run()
    net.connect(spam)
    net.run()
    assert spam.gaps == [("b", "log replaced")]
    assert spam.got == {"b": [1, 2, 3]}


def test_a_log_that_was_rolled_back_takes_a_new_id_at_once() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    for number in range(5):
        ham.send(number)
    net.run()
    before = net.log.log_id
    _restore_older_copy(net)
    net.connect(spam)
    assert net.log.log_id != before
    assert ("b", "log replaced") in spam.gaps


def test_a_rolled_back_log_is_found_out_also_when_it_has_gone_further_since() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    for number in range(5):
        ham.send(number)
    net.run()
    _restore_older_copy(net)
    other = net.satellite("other")
    for number in range(10, 20):
        other.send(number)
    net.run()
    assert spam.core.live_position < net.log.last
    net.connect(spam)
    assert ("b", "log replaced") in spam.gaps
    assert [value for value in spam.got["b"] if value >= 10] == list(range(10, 20))


def _restore_older_copy(net: Network) -> None:
    net.give_receipts()
    net.crash()
    net.log.entries = net.log.entries[:2]
    net.log.committed, net.log.next = net.log.last, net.log.last + 1
    net.log.marks = {("ham", 7): 2}
    net.log.runs = {"run-1": 2}
    net.log.begin_run()


@pytest.mark.parametrize("durable", [False, True])
def test_what_the_relay_lost_after_acknowledging_is_told_to_all_receivers(durable: bool) -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b", durable=durable)
    ham.send(1, 2, 3)
    net.run()
    net.roll_back(0, {("ham", 7): 1})
    net.connect(spam)
    net.connect(ham)
    net.run()
    assert any("lost messages 2 to 3 of ham@10.0.0.2:2004" in reason for _, reason in spam.gaps)
    ham.send(4)
    net.run()
    assert spam.got["b"][-1] == 4


def test_a_run_that_the_relay_should_know_and_does_not_is_a_loss_too() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    ham.send(1, 2, 3)
    net.run()
    net.roll_back(0, {})
    net.connect(spam)
    net.connect(ham)
    net.run()
    lost = "the relay lost messages 1 to 3 of ham@10.0.0.2:2004"
    assert [reason for _, reason in spam.gaps] == [lost]
    net.cut(ham)
    net.connect(ham)
    net.run()
    assert len(spam.gaps) == 1


def test_who_reads_later_is_told_of_the_loss_in_its_place() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b", durable=True)
    net.cut(spam)
    ham.send(1)
    ham.send(2, 3)
    net.run()
    net.roll_back(1, {("ham", 7): 1})
    net.connect(ham)
    ham.send(4)
    net.run()
    told: list[object] = []
    peer = net.relay.opened(spam.address)
    spam.core.connected()
    for data in spam.core.taken():
        net.relay.receive(peer, data)
    for data in net.relay.taken(peer):
        frame = decode_relay_frame(data)
        told += [frame.batch] if isinstance(frame, Deliver) else [frame.reason] if isinstance(frame, Gap) else []
    assert told == [
        batch_of(1),
        "the relay lost messages 2 to 3 of ham@10.0.0.2:2004",
        batch_of(4),
    ]


def test_the_newer_of_two_links_wins() -> None:
    net = Network()
    older = net.satellite("ham", "b")
    newer = FakeSatellite("ham", 8, 9)
    net.satellites.append(newer)
    net.connect(newer)
    assert [ended.reason for ended in older.ended] == [close_reasons.TAKEN_OVER]
    assert older.ended[0].retry_after == RETURN
    assert newer.core.state == "open"
    assert str(newer.core.host_id) == "ham@10.0.0.9:2004"


def test_two_clones_are_both_refused() -> None:
    net = Network()
    clones = [FakeSatellite("ham", 8 + number, number) for number in range(5)]
    net.satellites += clones
    for clone in clones:
        net.connect(clone)
    assert [clone.ended[0].reason for clone in clones[-2:]] == [close_reasons.CLONED, close_reasons.CLONED]
    assert "state folder" in clones[-1].ended[0].text
    net.now += 61
    net.connect(clones[0])
    assert clones[0].core.state == "open"


def test_a_satellite_with_a_bad_cable_takes_its_own_place_as_often_as_it_must() -> None:
    net = Network()
    ham, spam = net.satellite("ham", "b"), net.satellite("spam")
    for number in range(20):
        net.now += 3
        ham.core.taken()
        ham.core.lost("no answer for 20 s")  # and the relay does not know yet
        ham.take_events()
        net.connect(ham)
        assert ham.core.state == "open"
        spam.send(number)
        net.run()
    assert ham.got == {"b": list(range(20))}
    assert {ended.reason for ended in ham.ended} == {""}
    assert net.relay.takeovers.count == 20


def test_a_number_used_for_another_message_is_shown_and_not_passed_on() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    ham.send(1)
    net.run()
    net.cut(ham)
    clone = FakeSatellite("ham", 7, 2)
    net.satellites.append(clone)
    clone.send("other")
    clone.core.connected()
    clone.peer = net.relay.opened(clone.address)
    net.run()
    assert spam.got == {"b": [1]}
    frame = Publish(7, 1, "p", "x", [""], crc32(batch_of("else")), batch_of("else"))
    net.relay.receive(clone.peer, encode_link_frame(frame))
    net.run()
    assert [(reused.epoch, reused.seq) for reused in net.reused] == [(7, 1)]
    assert spam.got == {"b": [1]}


def test_what_is_left_of_an_old_run_is_acknowledged_before_the_first_of_the_new_one() -> None:
    net = Network()
    spam = net.satellite("spam", "b")
    ham = FakeSatellite("ham", 7, 9)
    net.satellites.append(ham)
    ham.send(1)
    ham.send(2)
    ham.outbox.epoch, ham.outbox._next = 8, 1  # it starts again with what was spilled
    ham.send(3)
    net.auto_commit = False
    net.connect(ham)
    assert spam.got == {"b": [1, 2]}
    net.auto_commit = True
    net.run()
    assert spam.got == {"b": [1, 2, 3]}
    assert len(ham.outbox) == 0


def test_a_full_relay_says_so() -> None:
    net = Network(max_peers=1)
    net.satellite("ham")
    late = net.satellite("spam", "b")
    assert [ended.reason for ended in late.ended] == [close_reasons.FULL]
    assert late.ended[0].retry_after > 0


def test_a_link_without_room_reads_on_later_and_misses_nothing() -> None:
    net = Network()
    ham, slow, quick = net.satellite("ham"), net.satellite("slow", "b"), net.satellite("quick", "c")
    assert slow.peer
    net.relay.pause(slow.peer)
    for number in range(50):
        ham.send(number)
    net.run()
    assert quick.got == {"c": list(range(50))}
    assert slow.got == {}
    assert slow.peer.out_bytes == 0  # it stands still in the log, and costs nothing
    net.relay.resume(slow.peer)
    net.run()
    assert slow.got == {"b": list(range(50))}


def test_what_has_no_number_is_passed_on_after_the_commit_and_in_its_place() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    net.auto_commit = False
    ham.send(1)
    net.run()
    net.relay.append_unnumbered("x", InFlight("x@10.0.0.9:0", ("10.0.0.9", 1), batch_of(2), 1, ("",)))
    ham.send(3)
    net.run()
    assert spam.got == {"b": [1]}
    net.commit()
    net.run()
    assert spam.got == {"b": [1, 2, 3]}


def test_live_messages_go_to_who_is_there_and_leave_no_trace() -> None:
    net = Network()
    ham, spam, slow = net.satellite("ham"), net.satellite("spam", "b"), net.satellite("slow", "c")
    assert slow.peer
    net.relay.pause(slow.peer)
    ham.core.publish_live(*sent("peak", channels=["meter.1"]))
    net.run()
    net.relay.resume(slow.peer)
    net.run()
    assert spam.got == {"b": ["peak"]}
    assert slow.got == {}
    assert slow.peer.live_dropped == 1
    assert net.log.entries == []
    net.cut(ham)
    ham.core.publish_live(*sent("peak", channels=["meter.1"]))
    assert ham.core.live_dropped == 1


# ---- frames that break a rule ------------------------------------------------------------------------------


def _relay_takes(data: bytes) -> RelayCore:
    net = Network()
    peer = net.relay.opened(("10.0.0.2", 1))
    net.relay.receive(peer, encode_link_frame(HELLO))
    peer.taken()
    net.relay.receive(peer, data)
    assert peer.state == "closed"
    return net.relay


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (Publish(7, 2, "p", "x", [""], crc32(batch_of(1)), batch_of(1)), close_reasons.OUT_OF_ORDER),
        (Publish(9, 1, "p", "x", [""], crc32(batch_of(1)), batch_of(1)), close_reasons.OUT_OF_ORDER),
        (Publish(7, 1, "p", "x", [""], 1, batch_of(1)), close_reasons.DAMAGED),
        (Publish(7, 1, "p", "x", [""], 0, b""), close_reasons.GARBAGE),
        (Publish(7, 1, "p", "x", [""], 0, b"\xdd\x00\x00\x00\x00"), close_reasons.GARBAGE),
        (Replay("nobody", 1, 1), close_reasons.GARBAGE),
    ],
)
def test_a_frame_that_breaks_a_rule_ends_the_link_with_a_word(frame: Publish, reason: str) -> None:
    net = Network()
    peer = net.relay.opened(("10.0.0.2", 1))
    net.relay.receive(peer, encode_link_frame(HELLO))
    peer.taken()
    net.relay.receive(peer, encode_link_frame(frame))
    assert peer.state == "closed"
    assert reason.encode() in b"".join(peer.taken())


def test_garbage_ends_the_link_of_either_side() -> None:
    for garbage in (b"", b"\x00", b"\x92\xa5Hello", b"\xc1" * 100, encode_link_frame(HELLO)[:-1]):
        _relay_takes(garbage)
        core: SatelliteCore = FakeSatellite("ham", 7, 2).core
        core.connected()
        core.receive(garbage)
        assert core.state == "away"


def test_what_a_satellite_reports_of_its_packages_is_at_the_relay() -> None:
    net = Network()
    ham = net.satellite("ham", "a")
    health = [Health("a", "running")]
    net.now = 7.0
    ham.core.tell_health(health, "10.0.0.9")
    net.run()
    assert ham.peer is not None
    assert (ham.peer.health, ham.peer.health_at, ham.peer.listens) == (health, 7.0, "10.0.0.9")
    net.now = 8.0
    ham.core.tell_applied()
    net.run()
    assert (ham.peer.health, ham.peer.health_at) == (health, 7.0), "positions alone leave it as it was"
    net.cut(ham)
    ham.core.tell_health(health, "")
    ham.core.tell_applied()
    assert ham.core.taken() == []


def test_a_frame_that_was_damaged_on_its_way_ends_the_link_and_comes_again() -> None:
    net = Network()
    ham = net.satellite("ham", "a")
    batch = batch_of(1)
    frame = Deliver(9, "", "spam@10.0.0.9:2004", ("10.0.0.9", 1), 7, 1, "p", "x", [""], crc32(batch) ^ 1, batch)
    ham.core.receive(encode_link_frame(frame))
    ham.take_events()
    assert [ended.reason for ended in ham.ended] == [close_reasons.DAMAGED]
    assert ham.got == {}
    spam = net.satellite("spam")
    net.connect(ham)
    spam.send(1)
    net.run()
    assert ham.got == {"a": [1]}


def test_an_acknowledgement_of_what_was_never_sent_ends_the_link() -> None:
    net = Network()
    ham = net.satellite("ham")
    ham.send(1)
    net.run()
    ham.core.receive(encode_link_frame(Ack(7, 1)))
    assert ham.core.state == "open"
    ham.core.receive(encode_link_frame(Ack(7, 5)))
    assert NumbersTaken(7, 5) in ham.core.events
    ham.take_events()
    assert [ended.reason for ended in ham.ended] == [close_reasons.OUT_OF_ORDER]


def test_a_link_that_has_ended_does_not_end_again() -> None:
    net = Network()
    ham = net.satellite("ham")
    ham.core.end("stopped", "done")
    assert ham.core.taken()
    ham.core.end("stopped", "done")
    ham.core.lost("cut")
    ham.core.answer(Result(1, b"\xc0"))
    assert ham.core.taken() == []
    ham.take_events()
    assert len(ham.ended) == 1


def test_packages_that_nobody_knows_change_nothing() -> None:
    net = Network()
    ham = net.satellite("ham", "a")
    ham.core.fell_behind("nobody")
    ham.core.catch_up("nobody")
    ham.core.catch_up("a")
    ham.core.unsubscribe("nobody")
    assert ham.core.is_settled
    assert ham.core.count("current") == 1
    assert [reader.package for reader in ham.core.live_readers(("",))] == ["a"]


def test_names_that_have_changed_are_at_the_relay() -> None:
    net = Network()
    methods: list[str] = []
    ham = FakeSatellite("ham", 7, 2)
    ham.core = SatelliteCore(HostId("ham", "10.0.0.2", 2004), ham.outbox, lambda: (methods, []), "token")
    net.satellites.append(ham)
    net.connect(ham)
    methods.append("p.m.x_go")
    ham.core.names_changed()
    assert not ham.core.is_settled
    net.run()
    assert ham.core.is_settled
    assert ham.peer is not None
    assert list(ham.peer.methods) == ["p.m.x_go"]


@pytest.mark.parametrize("host_id", ["", "ham", "ham@nowhere at all:2004", f"{ADDRESS_PREFIX}x@10.0.0.2:2004"])
def test_a_satellite_without_a_proper_identity_is_sent_away(host_id: str) -> None:
    net = Network()
    peer = net.relay.opened(("10.0.0.2", 1))
    net.relay.receive(peer, encode_link_frame(Hello(host_id, "", "", [], [(7, 1)], [], [])))
    assert peer.state == "closed"
    assert close_reasons.IDENTITY.encode() in b"".join(peer.taken())
    assert not net.relay.peers
    net.relay.end(peer, "stopped", "again")
    net.relay.receive(peer, encode_link_frame(HELLO))
    net.relay.answer(peer, Result(1, b"\xc0"))
    assert peer.taken() == [], "a link that has ended gets and does nothing more"


def test_a_second_hello_is_out_of_place() -> None:
    net = Network()
    peer = net.relay.opened(("10.0.0.2", 1))
    net.relay.receive(peer, encode_link_frame(HELLO))
    assert peer.state == "open"
    peer.taken()
    net.relay.receive(peer, encode_link_frame(HELLO))
    assert peer.state == "closed"
    assert close_reasons.OUT_OF_PLACE.encode() in b"".join(peer.taken())


def test_frames_that_cost_much_take_turns_and_messages_do_not() -> None:
    net = Network()
    ham = net.satellite("ham", "a")
    peer = ham.peer
    assert peer is not None
    applied = [encode_link_frame(Applied({}))] * (2 * ASKED_AT_ONCE)
    peer.asked = 0
    assert net.relay.receive_some(peer, applied) == ASKED_AT_ONCE
    peer.asked = 0
    for value in range(2 * ASKED_AT_ONCE):
        ham.send(value)
    messages = ham.core.taken()
    assert len(messages) > ASKED_AT_ONCE
    assert net.relay.receive_some(peer, messages) == len(messages)
    assert net.log.last >= 2 * ASKED_AT_ONCE


def test_positions_that_were_never_assigned_end_the_link() -> None:
    for frame in (Applied({"p": 10**12}), Replay("p", 10**12, 1)):
        _relay_takes(encode_link_frame(frame))


def test_too_long_a_health_report_ends_the_link() -> None:
    error = "x" * MAX_ERROR
    rows = [Health(f"p{number}", "failed", error=error) for number in range(MAX_HEALTH)]
    assert health_text(rows) > MAX_HEALTH_TEXT
    _relay_takes(encode_link_frame(Applied({}, rows)))


def test_a_full_transport_stops_streams_and_nothing_is_missed() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    assert spam.peer is not None
    net.relay.pause(spam.peer)
    ham.send(1)
    ham.send(2)
    net.run()
    assert spam.got == {}
    assert len(ham.outbox) == 0, "what is on disk is acknowledged all the same"
    net.relay.resume(spam.peer)
    net.run()
    assert spam.got == {"b": [1, 2]}


def test_the_relay_knows_how_far_behind_each_link_is() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b", "c")
    peer = spam.peer
    assert peer is not None
    ham.send(1)
    net.run()
    assert (peer.behind, peer.replaying, peer.position) == (0, 0, net.log.last)
    before = net.log.last
    spam.core.fell_behind("b")
    net.run()
    ham.send(2)
    net.run()
    assert (peer.behind, peer.replaying, peer.position) == (1, 0, before)
    spam.core.catch_up("b")
    net.run()
    assert (peer.behind, peer.position) == (0, net.log.last)
    assert spam.got == {"b": [1, 2], "c": [1, 2]}


def test_calls_and_their_results_go_both_ways() -> None:
    net = Network()
    ham = net.satellite("ham")
    peer = ham.peer
    assert peer is not None
    call, result = Call(1, "co2.ping", b"\x80", 5.0), Result(1, b"\xc0")
    ham.core.call(call)
    net.relay.receive(peer, *ham.core.taken())
    assert relay_core.CallReceived(peer, call) in net.relay.events
    net.relay.answer(peer, result)
    net.relay.call(peer, call)
    for data in net.relay.taken(peer):
        ham.core.receive(data)
    assert satellite_core.ResultReceived(result) in ham.core.events
    assert satellite_core.CallReceived(call) in ham.core.events
    ham.core.answer(result)
    net.relay.receive(peer, *ham.core.taken())
    assert relay_core.ResultReceived(peer, result) in net.relay.events


def welcomed(welcome: Welcome) -> FakeSatellite:
    """Return a satellite that has sent message 1, and was told this by a relay that is none of ours."""
    ham = FakeSatellite("ham", 7, 2)
    ham.send(1)
    ham.core.connected()
    ham.core.taken()
    ham.core.receive(encode_link_frame(welcome))
    return ham


def test_a_welcome_to_nobody_ends_the_link() -> None:
    ham = welcomed(Welcome("nobody", "relay@10.0.0.1:2003", "log", "run", 1, []))
    ham.take_events()
    assert [ended.reason for ended in ham.ended] == [close_reasons.GARBAGE]
    assert (str(ham.core.host_id), len(ham.outbox)) == ("ham@10.0.0.2:2004", 1)


def test_a_welcome_that_acknowledges_what_was_never_sent_ends_the_link_before_anything_is_sent() -> None:
    ham = welcomed(Welcome("ham@10.0.0.2:2004", "relay@10.0.0.1:2003", "log", "run", 1, [(7, 5)]))
    assert NumbersTaken(7, 5) in ham.core.events
    ham.take_events()
    assert [ended.reason for ended in ham.ended] == [close_reasons.OUT_OF_ORDER]
    assert len(ham.outbox) == 1, "it goes out in another run"


def test_a_commit_acknowledges_what_is_on_disk_and_nothing_behind_it() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam")
    net.auto_commit = False
    for value in range(3):
        ham.send(value)
        net.run()
    spam.send(3)
    net.run()
    net.log.committed = net.log.entries[1].end
    net.relay.committed(net.log.committed)
    net.run()
    assert (len(ham.outbox), len(spam.outbox)) == (1, 1)
    net.commit()
    net.run()
    assert (len(ham.outbox), len(spam.outbox)) == (0, 0)


def test_a_relay_that_closes_takes_no_more_messages_and_their_senders_keep_them() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "p")
    ham.send(1)
    net.run()
    net.relay.closing = True
    ham.send(2)
    ham.core.publish_live(*sent("live"))
    net.run()
    assert spam.got == {"p": [1]}
    assert (len(ham.outbox), ham.ended) == (1, [])


def test_live_messages_are_heard_for_members_without_a_link_too() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "p")
    heard: list[tuple[str, int]] = []
    net.relay.live_heard = lambda entry: heard.append((entry.origin, entry.count))
    ham.core.publish_live(*sent("a", "b"))
    net.run()
    assert (heard, spam.got) == ([("ham", 2)], {"p": ["a", "b"]})


def test_a_package_remembers_so_many_senders_those_heard_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(satellite_core, "MAX_SEEN", 2)
    reader = satellite_core.PackageReader("p", Interests(None), False, None)
    for origin in ("ham", "spam", "ham", "eggs"):
        reader.is_new(origin, 7, 1)
    assert [reader.is_new(origin, 7, 1) for origin in ("ham", "eggs")] == [False, False]
    assert len(reader.seen) == 2
