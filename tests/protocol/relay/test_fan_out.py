"""Reading on from the log: what one link may have examined and read from disk before others have their turn."""

import pytest

from co2.protocol.relay.core import DiskWanted
from co2.protocol.relay.cursors import CHUNK, Peer
from co2.protocol.relay.fan_out import MAX_DISK_READS, MAX_SCANNED, READ_IN_VAIN
from co2.protocol.relay.filter_chain import InFlight
from co2.protocol.relay.log import Reading
from co2.protocol.wire.link_frames import (
    Deliver,
    Hello,
    Replay,
    Subscription,
    decode_relay_frame,
    encode_link_frame,
)
from tests.protocol.network import Network, batch_of

PACKAGES = [f"p{n}" for n in range(5)]


@pytest.fixture
def network() -> Network:
    """A log of ten messages, all on disk and none in memory."""
    network = Network()
    spam = network.satellite("spam")
    for value in range(10):
        spam.send(value)
    network.run()
    network.log.in_memory_from = network.log.last + 1
    return network


def joined(network: Network) -> Peer:
    peer = network.relay.opened(("127.0.0.1", 1))
    subscriptions = [Subscription(package) for package in PACKAGES]
    network.relay.receive(peer, encode_link_frame(Hello("ham@127.0.0.1:1", "", "", subscriptions, [], [], [])))
    network.relay.events.clear()
    peer.taken()
    return peer


def wanted(network: Network) -> list[DiskWanted]:
    found = [event for event in network.relay.events if isinstance(event, DiskWanted)]
    network.relay.events.clear()
    return found


def read(network: Network, event: DiskWanted) -> None:
    network.relay.disk_read(event.stream, network.log.read_disk(event.stream.position, CHUNK))


def delivered(peer: Peer) -> list[tuple[str, int]]:
    frames = [decode_relay_frame(data) for data in peer.taken()]
    return [(frame.package, frame.position) for frame in frames if isinstance(frame, Deliver)]


def test_a_flood_of_replays_is_one_read_and_then_one_for_the_newest(network: Network) -> None:
    peer = joined(network)
    for position in (2, 3, 4, 5, 6, 7):
        network.relay.receive(peer, *[encode_link_frame(Replay("p0", position, 2**20))] * 100)
    (first,) = wanted(network)
    read(network, first)
    assert delivered(peer) == [], "what was read for a Replay that another has taken the place of is nobody's"
    (second,) = wanted(network)
    assert second.stream.position == 7
    read(network, second)
    assert delivered(peer) == [("p0", position) for position in (8, 9, 10, 11)]
    assert wanted(network) == []


def test_who_has_the_disk_read_in_vain_has_asked_for_much(network: Network) -> None:
    peer = joined(network)
    network.relay.receive(peer, encode_link_frame(Replay("p0", 2, 2**20)))
    network.relay.receive(peer, encode_link_frame(Replay("p0", 3, 2**20)))
    (first,) = wanted(network)
    before = peer.asked
    read(network, first)
    assert peer.asked == before + 9 // READ_IN_VAIN
    before = peer.asked
    (second,) = wanted(network)
    read(network, second)
    assert peer.asked == before, "what it gets it has asked for once"


def test_the_packages_of_a_link_take_turns_and_all_of_them_get_theirs(network: Network) -> None:
    peer = joined(network)
    for package in PACKAGES:
        network.relay.receive(peer, encode_link_frame(Replay(package, 9, 2**20)))
    under_way = wanted(network)
    assert len(under_way) == MAX_DISK_READS
    order = []
    while under_way:
        event = under_way.pop(0)
        order.append(event.stream.package)
        read(network, event)
        under_way += wanted(network)
        assert len(under_way) <= MAX_DISK_READS
    assert order == PACKAGES
    assert delivered(peer) == [(package, position) for package in PACKAGES for position in (10, 11)]


def test_a_link_that_ends_leaves_no_wishes(network: Network) -> None:
    peer = joined(network)
    for package in PACKAGES:
        network.relay.receive(peer, encode_link_frame(Replay(package, 9, 2**20)))
    under_way = wanted(network)
    network.relay.lost(peer, "gone")
    for event in under_way:
        read(network, event)
    assert wanted(network) == []


def test_a_flood_of_replays_in_memory_leaves_others_their_turn() -> None:
    network = Network()
    spam = network.satellite("spam")
    for value in range(3000):
        spam.send(value)
    network.run()
    peer = network.relay.opened(("127.0.0.1", 1))
    subscriptions = [Subscription(package, None, ["nobody.>"]) for package in PACKAGES]
    network.relay.receive(peer, encode_link_frame(Hello("ham@127.0.0.1:1", "", "", subscriptions, [], [], [])))
    network.relay.events.clear()
    looked_at = 0
    read = network.log.read

    def counting(after: int, max_bytes: int) -> Reading:
        nonlocal looked_at
        reading = read(after, min(max_bytes, 5_000))
        looked_at += len(reading.entries)
        return reading

    network.log.read = counting  # type: ignore[method-assign]
    replays = [encode_link_frame(Replay(package, 2, 2**20)) for package in PACKAGES] * 40
    network.relay.receive(peer, *replays)
    assert looked_at < 2 * MAX_SCANNED, "200 times 3000 otherwise"
    # Others have their turn, and then all of it is read all the same.
    while under_way := wanted(network):
        assert len(under_way) <= MAX_DISK_READS
        for event in under_way:
            read_disk = network.log.read_disk(event.stream.position, CHUNK)
            network.relay.disk_read(event.stream, read_disk)
    assert peer.streams == {}, "all have caught up"
    assert peer.asked > 5 * 3000 // 200


def test_a_message_without_a_number_is_passed_on_when_it_is_on_disk_itself_and_not_only_what_follows_it() -> None:
    network = Network()
    ham = network.satellite("ham", "p")
    network.auto_commit = False
    for value in (1, 2):
        message = InFlight("spam@127.0.0.1:1", ("127.0.0.1", 1), batch_of(value), 1, ("",), lambda _: None)
        network.relay.append_unnumbered("spam", message)
    network.run()
    assert ham.got == {}
    first = network.log.entries[0].end
    network.log.committed = first
    network.relay.committed(first)
    network.run()
    assert ham.got == {"p": [1]}
    network.commit()
    network.run()
    assert ham.got == {"p": [1, 2]}
