"""The latest value per channel at a given rate, with a clock that stands still until it is turned."""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from co2.errors import ConfigError
from co2.plugin import Co2Plugin
from co2.plugins.throttle import lanes, throttle
from co2.plugins.throttle.throttle import X_Throttle
from co2.testing import Clock, Network

TENTH = {"rate": 10}


class X_Mouth(Co2Plugin):
    """Only sends."""


class X_Ear(Co2Plugin):
    def receive(self, data_dict):
        """It is written down."""


@pytest.fixture
def mouth(co2_net):
    return co2_net.satellite(X_Mouth).plugin


@pytest.fixture
def ear(co2_net):
    return co2_net.satellite(X_Ear)


def data_of(messages):
    return [message["data"] for message in messages]


def say(mouth, *values, channel="a"):
    for value in values:
        mouth.send({"data": value, "channel": channel})


def test_the_first_passes_and_the_last_comes_when_its_time_has_come(co2_net, co2_clock, mouth, ear):
    relay = co2_net.relay.load("throttle", config=TENTH)
    say(mouth, 1, 2, 3)
    assert data_of(ear.received) == [1]
    co2_clock.advance(0.09)
    assert data_of(ear.received) == [1]
    co2_clock.advance(0.011)
    assert data_of(ear.received) == [1, 3]
    first, last = ear.received
    assert first["host_id"] == last["origin_host_id"] != last["host_id"] == relay.host_id
    assert "origin_host_id" not in first
    co2_clock.advance(10)
    assert data_of(ear.received) == [1, 3]
    status = co2_net.call("throttle.throttle.status")
    wanted = {"passed": 1, "sent": 1, "dropped": 1, "unthrottled": 0, "rate": 10, "channels": 0, "kept": 0}
    assert status == wanted


def test_a_stream_comes_at_the_rate(co2_net, co2_clock, mouth, ear):
    co2_net.relay.load("throttle", config=TENTH)
    for number in range(1000):
        say(mouth, number)
        co2_clock.advance(0.01)
    co2_clock.advance(1)
    got = data_of(ear.received)
    assert 80 <= len(got) <= 101 and got == sorted(got) and (got[0], got[-1]) == (0, 999)


def test_what_comes_after_a_silence_passes_at_once(co2_net, co2_clock, mouth, ear):
    co2_net.relay.load("throttle", config=TENTH)
    for number in range(4):
        say(mouth, number)
        assert ear.received[-1]["data"] == number
        assert ear.received[-1]["host_id"] != co2_net.relay.host_id
        co2_clock.advance(0.13)


def test_after_a_kept_one_the_next_is_sent_behind_it_and_later_ones_pass_again(co2_net, co2_clock, mouth, ear):
    co2_net.relay.load("throttle", config=TENTH)
    say(mouth, 1, 2)
    co2_clock.advance(0.5)
    say(mouth, 3)
    assert data_of(ear.received) == [1, 2, 3]
    assert ear.received[-1]["host_id"] == co2_net.relay.host_id
    co2_clock.advance(1.5)
    say(mouth, 4)
    assert ear.received[-1]["host_id"] != co2_net.relay.host_id


def test_each_channel_and_sender_has_its_own(co2_net, co2_clock, mouth, ear):
    co2_net.relay.load("throttle", config=TENTH)
    other = co2_net.satellite(X_Mouth).plugin
    say(mouth, 1, 2)
    say(mouth, 11, 12, channel="b")
    say(other, 21, 22)
    assert data_of(ear.received) == [1, 11, 21]
    mouth.send({"data": "no channel"})
    mouth.send({"data": "no channel"})
    assert data_of(ear.received)[3:] == ["no channel"] * 2
    co2_clock.advance(0.2)
    assert sorted(data_of(ear.received)[5:]) == [2, 12, 22]


def test_only_the_channels_that_are_named(co2_net, mouth, ear):
    co2_net.relay.load("throttle", config={"channels": ["stage.*"]})
    say(mouth, 1, 2, channel="stage.left")
    say(mouth, 3, 4, channel="stage")
    assert data_of(ear.received) == [1, 3, 4]


def test_at_the_end_what_is_kept_is_sent(co2_net, mouth, ear):
    relay = co2_net.relay.load("throttle", config=TENTH)
    say(mouth, 1, 2, 3)
    relay.stop()
    assert data_of(ear.received) == [1, 3]


def test_new_code_takes_over_what_is_kept(co2_net, co2_clock, mouth, ear):
    old = co2_net.relay.load("throttle", config=TENTH)
    say(mouth, 1, 2, 3)
    value = msgspec.msgpack.decode(msgspec.msgpack.encode(old.plugin.handover()))
    old.stop()
    assert data_of(ear.received) == [1]
    new = co2_net.relay.load("throttle", config=TENTH)
    new.plugin.takeover(value)
    say(mouth, 4)
    assert data_of(ear.received) == [1]
    co2_clock.advance(0.2)
    assert data_of(ear.received) == [1, 4]
    assert new.plugin.counts == {"passed": 1, "dropped": 2, "sent": 1}


def test_old_code_that_goes_on_after_a_handover_loses_nothing(co2_net, co2_clock, mouth, ear):
    old = co2_net.relay.load("throttle", config=TENTH)
    say(mouth, 1, 2)
    old.plugin.handover()
    co2_clock.advance(0.2)
    say(mouth, 3, 4)
    old.plugin.handover()
    say(mouth, 5)
    old.stop()
    assert data_of(ear.received) == [1, 2, 3, 5]


def test_what_is_too_much_to_hand_over_is_sent(co2_net, mouth, ear, monkeypatch):
    monkeypatch.setattr(lanes, "MAX_HANDED_OVER", 1000)
    relay = co2_net.relay.load("throttle", config=TENTH)
    for channel in "abc":
        say(mouth, "first", channel * 300, channel=channel)
    assert len(relay.plugin.handover()["lanes"]) == 2
    assert data_of(ear.received) == ["first"] * 3 + ["c" * 300]


def test_beyond_its_limits_messages_pass(co2_net, co2_clock, mouth, ear, monkeypatch):
    monkeypatch.setattr(throttle, "MAX_KEYS", 2)
    monkeypatch.setattr(lanes, "MAX_KEPT_MESSAGE", 1000)
    monkeypatch.setattr(lanes, "MAX_KEPT_BYTES", 1500)
    relay = co2_net.relay.load("throttle", config=TENTH)
    say(mouth, 1, 2, channel="a")
    say(mouth, 3, channel="b")
    say(mouth, 4, 5, channel="c")
    assert data_of(ear.received) == [1, 3, 4, 5]
    say(mouth, "x" * 1001, channel="a")  # too big to be kept: it passes, and what it follows is not sent after it
    assert data_of(ear.received)[4:] == ["x" * 1001]
    say(mouth, "y" * 900, channel="a")
    say(mouth, "z" * 900, channel="b")
    assert data_of(ear.received)[5:] == ["z" * 900]
    co2_clock.advance(1)
    assert data_of(ear.received)[6:] == ["y" * 900]
    assert relay.plugin.x_status({})["unthrottled"] == 4
    assert relay.plugin._lanes.bytes == 0
    co2_clock.advance(5)
    assert not relay.plugin._lanes.by_key


def test_what_is_nested_deeper_than_it_can_keep_passes(co2_net, mouth, ear, monkeypatch):
    def refuse(_message):
        raise RecursionError

    relay = co2_net.relay.load("throttle", config=TENTH)
    say(mouth, 1, 2)
    monkeypatch.setattr(throttle, "_encode", refuse)
    say(mouth, 3)
    assert data_of(ear.received) == [1, 3]
    assert relay.plugin._lanes.kept == 0


def test_messages_of_a_relay_plugin_before_it_are_told_apart_by_their_first_senders(co2_net, ear):
    relay = co2_net.relay.load(X_Throttle)
    for origin in ("one@10.0.0.7:1", "two@10.0.0.7:1", ["no host_id"]):
        message = {"data": origin, "channel": "a", "host_id": relay.host_id, "origin_host_id": origin}
        assert relay.plugin.relay(dict(message)) == message
        assert relay.plugin.relay(dict(message)) is None
    kept = [msgspec.msgpack.decode(queue.kept) for _, queue in relay.plugin._lanes]
    assert [message["origin_host_id"] for message in kept] == ["one@10.0.0.7:1", "two@10.0.0.7:1", ["no host_id"]]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": 1001}, "rate"),
        ({"rate": "fast"}, "rate"),
        ({"channels": "stage"}, "channels"),
        ({"channels": ["a..b"]}, "a..b"),
        ({"channels": ["a.>.b"]}, "a.>.b"),
        ({"chanels": []}, "channels"),
    ],
)
def test_a_wrong_configuration_is_refused(co2_net, table, told):
    with pytest.raises(ConfigError, match=told):
        co2_net.relay.load("throttle", config=table)


steps = st.lists(
    st.one_of(st.tuples(st.just("say"), st.sampled_from("ab")), st.tuples(st.just("wait"), st.floats(0, 0.4))),
    max_size=40,
)


@settings(deadline=None)
@given(steps, st.sampled_from([1, 10, 30, 1000]))
def test_whatever_comes_the_last_one_comes_out_and_nothing_comes_before_an_older_one(
    tmp_path_factory: Any, steps: Any, rate: int
) -> None:
    clock = Clock()
    net = Network(clock, tmp_path_factory.mktemp("throttle"))
    times: dict[str, list[float]] = {"a": [], "b": []}
    mouth, ear = net.satellite(X_Mouth).plugin, net.satellite(X_Ear)
    net.relay.load(X_Throttle, config={"rate": rate})
    said: dict[str, list[int]] = {"a": [], "b": []}
    seen = 0

    def look() -> None:
        nonlocal seen
        for message in ear.received[seen:]:
            times[message["channel"]].append(clock.now)
        seen = len(ear.received)

    for number, (what, value) in enumerate(steps):
        if what == "say":
            said[value].append(number)
            mouth.send({"data": number, "channel": value})
            look()
        else:
            for _ in range(20):
                clock.advance(value / 20)
                look()
    clock.advance(3)
    for channel, all_of in said.items():
        got = [message["data"] for message in ear.received if message["channel"] == channel]
        assert got == sorted(set(got)) and got[:1] == all_of[:1] and got[-1:] == all_of[-1:]
        at = times[channel]
        # Looked at every 1/20 of a wait, so that much later than they came.
        assert all(later - sooner > 1 / rate - 0.021 for sooner, later in itertools.pairwise(at))
    net.close()
