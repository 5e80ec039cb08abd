"""More channel patterns on one satellite than one reader may have: it gets all messages, and filters."""

import pytest

from co2.protocol.link_frames import Interest, Subscription, encode_link_frame
from co2.protocol.streams import MAX_PATTERNS_OF_SATELLITE
from tests.protocol.network import Network


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("packages", [1, 3])
def test_a_satellite_with_hundreds_of_patterns_is_linked_and_gets_what_it_wants(
    packages: int, durable: bool
) -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam")
    for package in range(packages):
        patterns = [f"p{package}.c{number}" for number in range(300 // packages)]
        spam.core.subscribe(f"b{package}", patterns, durable=durable)
    net.run()
    for round_ in range(2):  # as an Interest, and in a Hello
        ham.send(round_, channels=("p0.c1",))
        ham.send("unwanted", channels=("elsewhere",))
        net.run()
        assert {ended.reason for ended in spam.ended} <= {""}  # cut, never refused
        net.cut(spam)
        net.connect(spam)
    assert spam.got["b0"] in ([0, 1], [0, "unwanted", 1, "unwanted"])  # a plugin host looks at each message
    if packages > 1:
        assert spam.got == {"b0": [0, 1]}


def test_a_satellite_with_thousands_of_patterns_gets_what_it_wants() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam")
    packages = MAX_PATTERNS_OF_SATELLITE // 200 + 5
    for package in range(packages):
        spam.core.subscribe(f"b{package}", [f"p{package}.c{number}" for number in range(200)], durable=True)
    net.run()
    for package in (0, packages - 1):  # within what is kept, and beyond
        ham.send(package, channels=(f"p{package}.c1",))
    ham.send("unwanted", channels=("elsewhere",))
    net.run()
    assert spam.got == {"b0": [0], f"b{packages - 1}": [packages - 1]}
    assert not spam.ended


def test_what_one_frame_brings_of_patterns_is_bounded() -> None:
    net = Network()
    net.satellite("spam")
    peer = net.relay.peers["spam"]
    many = [Subscription(f"p{number}", None, ["a"] * 256, durable=True) for number in range(1000)]
    net.relay.receive_some(peer, [encode_link_frame(Interest(many, [], []))])
    assert peer.state == "open"
    kept = [stream.interests.patterns for stream in peer.streams.values() if stream.interests is not None]
    assert len(kept) == 1000
    assert sum(len(patterns or ()) for patterns in kept) == MAX_PATTERNS_OF_SATELLITE
    told = [subscription.channels for subscription in peer.subscriptions.values()]
    assert sum(len(channels or ()) for channels in told) == MAX_PATTERNS_OF_SATELLITE
    assert kept[-1] is None
    assert told[-1] is None
