"""More channel patterns on one satellite than one reader may have: it gets all messages, and filters."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from co2.host_id import HostId
from co2.protocol.satellite.core import SatelliteCore
from co2.protocol.satellite.outbox import Outbox, Segment
from co2.protocol.wire.channel_patterns import MAX_CHANNEL, MAX_PATTERNS
from co2.protocol.wire.host_names import MAX_NAMES, MAX_NAMES_SIZE, fitting_names, fitting_packages
from co2.protocol.wire.link_frames import (
    BEGINNING,
    MAX_EPOCHS,
    MAX_FIRST_FRAME,
    MAX_LOG_ID,
    MAX_NUMBER,
    MAX_RECEIPTS,
    MAX_SUBSCRIPTIONS,
    MAX_TOKEN,
    Hello,
    Interest,
    Receipt,
    Subscription,
    decode_satellite_frame,
    encode_link_frame,
)
from co2.protocol.wire.subscription_limits import MAX_PATTERNS_OF_SATELLITE, MAX_SUBSCRIPTIONS_SIZE, bounded
from tests.protocol.network import FakeSatellite, Network


def patterns_of(package: int, count: int, length: int) -> list[str]:
    """Return that many patterns of so many characters, which no other package has."""
    return [f"p{package}.c{number}.".ljust(length, "x") for number in range(count)]


def hello_of(core: SatelliteCore) -> tuple[Hello, int]:
    """Return what a satellite says first, and how many bytes it has."""
    core.connected()
    [data] = core.taken()
    hello = decode_satellite_frame(data)
    assert isinstance(hello, Hello)
    return hello, len(data)


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
    many = [Subscription(f"p{number}", None, ["a"] * 256, durable=True) for number in range(400)]
    net.relay.receive_some(peer, [encode_link_frame(Interest(many, [], []))])
    assert peer.state == "open"
    kept = [stream.interests.patterns for stream in peer.streams.values() if stream.interests is not None]
    assert len(kept) == 400
    assert sum(len(patterns or ()) for patterns in kept) == MAX_PATTERNS_OF_SATELLITE
    told = [subscription.channels for subscription in peer.subscriptions.values()]
    assert sum(len(channels or ()) for channels in told) == MAX_PATTERNS_OF_SATELLITE
    assert kept[-1] is None
    assert told[-1] is None


def test_a_hello_with_more_patterns_than_a_first_frame_holds_asks_for_everything_instead() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), FakeSatellite("spam", 7, 9)
    net.satellites.append(spam)
    for package in range(40):
        spam.core.subscribe(f"b{package}", patterns_of(package, 200, 34), durable=package % 2 == 0)
    assert (
        sum(len(pattern) for package in range(40) for pattern in patterns_of(package, 200, 34)) > MAX_FIRST_FRAME
    )
    hello, size = hello_of(spam.core)
    assert size <= MAX_FIRST_FRAME
    assert [sub.package for sub in hello.subscriptions] == [f"b{package}" for package in range(40)]
    spam.core.lost("cut")
    spam.take_events()
    net.connect(spam)
    for package in (0, 1, 38, 39):
        ham.send(package, channels=(patterns_of(package, 200, 34)[7],))
    ham.send("unwanted", channels=("elsewhere",))
    net.run()
    assert spam.got == {f"b{package}": [package] for package in (0, 1, 38, 39)}


def test_those_with_most_bytes_of_patterns_get_everything_first() -> None:
    few = [Subscription(f"few{number}", None, [f"few.{number}"]) for number in range(20)]
    many = [Subscription(f"many{number}", None, patterns_of(number, 200, 250)) for number in range(5)]
    told = bounded([*many, *few])
    assert [sub.package for sub in told] == [sub.package for sub in (*many, *few)]
    assert told[5:] == few
    kept = [sub for sub in told[:5] if sub.channels is not None]
    assert kept == many[: len(kept)], "of equal ones the last"
    assert 0 < len(kept) < 5
    assert sum(len(encode_link_frame(Interest([sub], [], []))) for sub in told) < MAX_SUBSCRIPTIONS_SIZE + 25 * 30
    assert bounded(told) == told, "the relay has nothing to add"


def test_what_fits_is_told_as_it_is() -> None:
    subscriptions = [
        Subscription("all", 3, None),
        Subscription("nothing", None, [], durable=True),
        Subscription("some", 4, [f"c{number}" for number in range(MAX_PATTERNS)]),
    ]
    assert bounded(subscriptions) == subscriptions


@settings(max_examples=settings().max_examples // 2, deadline=None)
@given(
    packages=st.integers(0, 2 * MAX_SUBSCRIPTIONS),
    name=st.integers(1, 400),
    letter=st.sampled_from("aä漢"),
    patterns=st.integers(0, MAX_PATTERNS),
    length=st.integers(1, MAX_CHANNEL),
    names=st.integers(0, 2 * MAX_NAMES),
    name_length=st.integers(1, 600),
)
def test_no_legal_satellite_has_a_hello_or_an_interest_that_is_too_long(
    packages: int, name: int, letter: str, patterns: int, length: int, names: int, name_length: int
) -> None:
    wanted = [f"{number}".ljust(length, "x") for number in range(patterns) if len(f"{number}") <= length]
    methods = [f"{number}".ljust(name_length, letter) for number in range(names)]
    assert_fits([f"{number}".ljust(name, letter) for number in range(packages)], wanted, methods, methods)


def test_nor_has_one_with_as_much_of_everything_as_is_legal() -> None:
    every = MAX_NAMES_SIZE // MAX_SUBSCRIPTIONS
    names = [f"{number}".ljust(MAX_NAMES_SIZE // (2 * MAX_NAMES), "x") for number in range(MAX_NAMES)]
    for length in (33, 34, 64, MAX_CHANNEL):
        patterns = [f"{number}".ljust(length, "x") for number in range(MAX_PATTERNS)]
        assert_fits([f"{number}".ljust(every, "x") for number in range(MAX_SUBSCRIPTIONS)], patterns, names, names)


def assert_fits(packages: Sequence[str], patterns: list[str], methods: list[str], plugins: list[str]) -> None:
    """Assert that a relay takes the Hello of such a satellite, and its Interest."""
    told = fitting_names(methods, plugins)
    outbox = Outbox(2**63 - 1, 10**6, lambda: None, lambda: None)
    outbox.found([Segment(2**63 - 2 - run, MAX_NUMBER - 9, MAX_NUMBER) for run in range(2 * MAX_EPOCHS)])
    core = SatelliteCore(
        HostId("h" * 64, "2001:db8:1111:1111:1111:1111:1111:1111", 65_535), outbox, lambda: told, "t" * MAX_TOKEN
    )
    core.log_id, core.run = "l" * MAX_LOG_ID, "r" * MAX_LOG_ID
    core.receipts = (Receipt(core.log_id, core.run, MAX_NUMBER, bytes(64)),) * (1 + MAX_RECEIPTS)
    carried = packages[: fitting_packages(packages)]
    for package in carried:
        core.subscribe(package, patterns, durable=True, position=MAX_NUMBER - 1)
    hello, size = hello_of(core)
    assert size <= MAX_FIRST_FRAME
    assert [sub.package for sub in hello.subscriptions] == list(carried)
    core.state = "open"
    core.names_changed()
    interest, *_ = core.taken()
    assert len(interest) <= MAX_FIRST_FRAME
    assert isinstance(decode_satellite_frame(interest), Interest)


def test_packages_that_load_at_the_same_time_are_told_together() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam")
    for package in range(40):
        spam.core.subscribe(f"b{package}", patterns_of(package, 10, 34))
        spam.core.names_changed()
    frames = [decode_satellite_frame(data) for data in spam.core.taken()]
    assert [type(frame) for frame in frames] == [Interest]
    assert len(frames[0].subscriptions) == 40
    assert spam.core.taken() == []
    net.relay.receive(net.relay.peers["spam"], encode_link_frame(frames[0]))
    ham.send(1, channels=(patterns_of(39, 10, 34)[0],))
    net.run()
    assert spam.got == {"b39": [1]}


def test_the_relay_knows_of_a_package_before_that_asks_for_something() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam")
    ham.send(1)
    net.run()
    spam.core.subscribe("b", durable=True, position=BEGINNING)
    spam.core.fell_behind("b")
    spam.core.catch_up("b")
    net.run()
    assert (spam.got, spam.ended) == ({"b": [1]}, [])


def test_a_package_that_goes_and_comes_begins_anew_at_the_relay_too() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam")
    spam.core.subscribe("b", None, durable=True)
    net.run()
    for number in range(3):
        ham.send(number)
    net.run()
    assert spam.got == {"b": [0, 1, 2]}
    position = spam.core.positions()["b"]
    spam.core.unsubscribe("b")
    spam.core.subscribe("b", None, durable=True, position=position - 1)
    net.run()
    ham.send(3)
    net.run()
    assert spam.got["b"][3:] == [2, 3]
