"""The plugin ``map``: entries that carry values to other channels, smooth them, and limit their rate."""

import itertools
import math
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from co2.errors import ConfigError, OutboxFull
from co2.plugin import Co2Plugin
from co2.plugins.map import map as plugin
from co2.plugins.map.map import MAX_PASSED
from co2.testing import Clock, Network


class X_Mouth(Co2Plugin):
    """Only sends."""


def carry(net, clock, *entries, name=""):
    satellite = net.satellite("map", config={"map": list(entries)}, name=name)
    satellite.plugin.now = lambda: clock.now
    return satellite


@pytest.fixture
def mapped(co2_net, co2_clock):
    """Start a satellite with these entries."""
    return lambda *entries, **keys: carry(co2_net, co2_clock, *entries, **keys)


def entry(source="in", to="out", **keys):
    return {"from": source, "to": to, **keys}


def said(net, *values, channel="in", **keys):
    for value in values:
        net.send({"channel": channel, "data": value, **keys})


def got(net, channel="out"):
    return [message["data"] for message in net.received if message.get("channel") == channel]


def status(net, number=1):
    return net.call("map.map.status")[number - 1]


def test_a_message_goes_to_the_other_channel_converted(co2_net, mapped):
    mapped(entry("stage.*.level", "light.{1}.dim", range=[0.0, 1.0], out=[0, 255]))
    said(co2_net, 0.2, channel="stage.left.level")
    said(co2_net, 1, channel="stage.right.level")
    said(co2_net, 0.5, channel="stage.left.pan")
    co2_net.send({"data": "without a channel"})
    told = [(message["channel"], message["data"], message["mapped"]) for message in co2_net.received]
    assert told == [("light.left.dim", 51.0, 1), ("light.right.dim", 255.0, 1)]
    wanted = {"from": "stage.*.level", "to": "light.{1}.dim", "in": 2, "out": 2, "moving": 0, "problem": ""}
    nothing = dict.fromkeys(("unusable", "refused", "unpaced", "circle", "burst"), 0)
    assert status(co2_net) == wanted | nothing


def test_only_the_channels_of_the_entries_come(co2_net, mapped):
    satellite, idle = mapped(entry("a.*", "b"), entry("c", "d")), mapped()
    for channel in ("a.x", "b", "c", "other", "map.without"):
        said(co2_net, 1, channel=channel)
    assert [message["channel"] for message in satellite.received] == ["a.x", "c"]
    assert idle.received == []


def test_the_other_keys_of_a_message_stay_behind(co2_net, mapped):
    mapped(entry())
    said(co2_net, 1, osc={"types": "i"})
    [message] = co2_net.received
    assert sorted(message) == ["channel", "client_address", "data", "host_id", "mapped"]


@pytest.mark.parametrize("data", ["on", None, [1, "two"], {"x": 1}, b"\0", True, 7, 0.5, math.inf])
def test_data_passes_unchanged_where_nothing_converts_it(co2_net, mapped, data):
    mapped(entry())
    said(co2_net, data)
    [value] = got(co2_net)
    assert value == data and type(value) is type(data)


@pytest.mark.parametrize(
    ("keys", "data", "wanted"),
    [
        ({"field": "x"}, {"x": "text", "y": 1}, "text"),
        ({"field": 1}, [3, 4], 4),
        ({"field": "x", "out": [0, 10]}, {"x": 0.5}, 5.0),
        ({"range": [0, 1], "out": [0, 255], "round": True}, 0.5, 128),
        ({"round": True}, 2.6, 3),
        ({"out": [0, 255]}, True, 255.0),
    ],
)
def test_a_field_a_boolean_and_integers(co2_net, mapped, keys, data, wanted):
    mapped(entry(**keys))
    said(co2_net, data)
    [value] = got(co2_net)
    assert value == wanted and type(value) is type(wanted)


def test_what_cannot_be_mapped_is_logged_once_and_counted(co2_net, mapped):
    satellite = mapped(entry(range=[0, 1]), entry("in", "other", field="x"))
    said(co2_net, "text", math.nan, math.inf, None)
    assert got(co2_net) == []
    told = "data that it cannot map: found text, expected a"
    assert [line.split(";")[0] for line in satellite.logged] == [
        f"[[map]] entry 1 (in to out): {told} number or a boolean",
        f"[[map]] entry 2 (in to other): {told} dictionary with the field 'x'",
    ]
    assert (status(co2_net)["unusable"], status(co2_net, 2)["unusable"]) == (4, 4)
    assert status(co2_net)["problem"].endswith("found nothing, expected a number or a boolean")
    said(co2_net, 0.5)
    assert got(co2_net) == [0.5]


def test_what_the_network_refuses_is_counted(co2_net, mapped):
    mapped(entry("*.*", "a.very.long.way.{1}.{2}"))
    said(co2_net, 1, channel=f"{'x' * 120}.{'y' * 120}")
    assert co2_net.received == []
    assert status(co2_net)["refused"] == 1 and "256 bytes" in status(co2_net)["problem"]


def test_one_channel_may_have_several_entries_and_one_may_lead_to_the_next(co2_net, mapped):
    mapped(
        entry("in", "a", out=[0, 10]),
        entry("in", "b"),
        entry("a", "c", range=[0, 10], out=[10, 0]),
        entry("*", "x.{1}"),
    )
    said(co2_net, 0.2)
    told = Counter((message["channel"], message["data"], message["mapped"]) for message in co2_net.received)
    first = [("a", 2.0, 1), ("b", 0.2, 1), ("x.in", 0.2, 1)]
    assert told == Counter([*first, ("c", 8.0, 2), ("x.a", 2.0, 2), ("x.b", 0.2, 2), ("x.c", 8.0, 3)])


# circles and bursts


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        (
            [entry("a", "b"), entry("b", "a")],
            r"^\[\[map\]\]: entries 1 \(a to b\) and 2 \(b to a\) lead in a circle",
        ),
        ([entry("a.*", "a.b")], r"^\[\[map\]\]: entry 1 \(a\.\* to a\.b\) leads to itself"),
        ([entry(), entry("a", "b", rate=-1)], r"^\[\[map\]\] entry 2: rate: found -1"),
        ([entry(rate="fast")], r"^\[\[map\]\] entry 1: rate: expected 'float', got 'str'"),
        ([entry(scale=1)], r"^\[\[map\]\] entry 1: scale: unknown key"),
        ([entry(), entry("a", "b", smoth=1)], r"^\[\[map\]\] entry 2: smoth: unknown key; did you mean 'smooth'"),
        ([{"from": "a"}], r"^\[\[map\]\] entry 1: object missing required field 'to'"),
        ([entry()] * 2, r"^\[\[map\]\]: entries 1 and 2 \(in to out\) are equal"),
    ],
)
def test_a_wrong_entry_is_refused_by_its_number(co2_net, entries, told):
    with pytest.raises(ConfigError, match=told):
        co2_net.satellite("map", config={"map": entries})


def test_another_key_in_the_table_of_the_package_is_refused_as_such(co2_net):
    with pytest.raises(ConfigError, match=r"^\[plugin\.map\] maps: unknown key; did you mean 'map'\?"):
        co2_net.satellite("map", config={"maps": []})


def test_a_circle_over_two_satellites_comes_to_an_end(co2_net, mapped):
    one, two = mapped(entry("a", "b"), name="one"), mapped(entry("b", "a"), name="two")
    said(co2_net, 1, channel="a")
    assert [message["mapped"] for message in co2_net.received] == [*range(1, MAX_PASSED + 1)]
    assert [co2_net.call("map.map.status", host_id=host.host_id)[0]["circle"] for host in (one, two)] == [1, 0]
    assert f"a value has passed {MAX_PASSED} maps: they lead in a circle" in one.logged[0]


@pytest.mark.parametrize("found", ["1", -5, True, None, 1.5, [], 2**63])
def test_what_another_member_writes_as_the_number_of_maps_does_no_harm(co2_net, mapped, found):
    mapped(entry())
    said(co2_net, 1, mapped=found)
    assert [message["mapped"] for message in co2_net.received] == ([] if found == 2**63 else [1])


def test_a_burst_is_bounded(co2_net, mapped, monkeypatch):
    monkeypatch.setattr(plugin, "MAX_BURST", 30)
    stages = [entry(f"s{stage}.>", f"s{stage + 1}.{{1}}.{way}") for stage in range(4) for way in range(5)]
    satellite = mapped(*stages)
    said(co2_net, 1, channel="s0.x")
    assert len(co2_net.received) == 30
    assert any("more than 30 messages follow from one" in line for line in satellite.logged)


# rate


def test_a_rate_keeps_the_last_value(co2_net, co2_clock, mapped):
    mapped(entry(rate=10))
    said(co2_net, 1, 2, 3)
    assert got(co2_net) == [1]
    co2_clock.advance(0.08)
    assert got(co2_net) == [1]
    co2_clock.advance(0.03)
    assert got(co2_net) == [1, 3]
    co2_clock.advance(5)
    assert got(co2_net) == [1, 3]
    said(co2_net, 4)
    assert got(co2_net) == [1, 3, 4]


def test_each_channel_has_its_own_rate(co2_net, co2_clock, mapped):
    mapped(entry("in.*", "out.{1}", rate=10))
    for channel in ("in.a", "in.b"):
        said(co2_net, 1, "two", channel=channel)
    assert got(co2_net, "out.a") == got(co2_net, "out.b") == [1]
    co2_clock.advance(0.2)
    assert got(co2_net, "out.a") == got(co2_net, "out.b") == [1, "two"]


def test_a_stream_goes_at_the_rate(co2_net, co2_clock, mapped):
    mapped(entry(rate=10))
    for number in range(1000):
        said(co2_net, number)
        co2_clock.advance(0.01)
    co2_clock.advance(1)
    values = got(co2_net)
    assert 80 <= len(values) <= 101 and values == sorted(values) and (values[0], values[-1]) == (0, 999)


# smoothing


def times(net, clock, seconds, step=0.005):
    """Advance the clock, and return when each message came and what it contained."""
    told, seen = [], len(net.received)
    for _ in range(round(seconds / step)):
        clock.advance(step)
        told += [(clock.now, message["data"]) for message in net.received[seen:]]
        seen = len(net.received)
    return told


def test_a_value_moves_and_ends_on_its_target(co2_net, co2_clock, mapped):
    satellite = mapped(entry(out=[0, 255], smooth="100ms"))
    said(co2_net, 0)
    assert got(co2_net) == [0.0]  # the first one is there at once
    said(co2_net, 1)
    began = co2_clock.now
    told = times(co2_net, co2_clock, 2)
    values = [value for _, value in told]
    assert values == sorted(set(values)) and values[-1] == 255.0
    assert 20 <= len(values) <= 40
    for at, value in told[:-1]:
        assert value == pytest.approx(255 * (1 - math.exp(-(at - began) / 0.1)), abs=255 * 0.06)
    assert told[-1][0] - began < 0.8
    assert not satellite.plugin.entries[0].waiting and satellite.plugin.entries[0].timer is None


def test_what_stands_still_costs_nothing(co2_net, co2_clock, mapped):
    satellite = mapped(entry(smooth=0.05), entry("in", "other", rate=100))
    said(co2_net, 0.0, 1.0)
    co2_clock.advance(2)
    assert [one.timer for one in satellite.plugin.entries] == [None, None]
    said(co2_net, 1.0)
    assert [one.timer for one in satellite.plugin.entries] == [None, None]
    count = len(co2_net.received)
    co2_clock.advance(60)
    assert len(co2_net.received) == count


def test_a_target_that_changes_on_the_way_is_reached(co2_net, co2_clock, mapped):
    mapped(entry(smooth=0.1, rate=100))
    said(co2_net, 0.0, 1.0)
    co2_clock.advance(0.1)
    said(co2_net, -1.0)
    told = [value for _, value in times(co2_net, co2_clock, 2)]
    assert told == sorted(told, reverse=True) and told[-1] == -1.0


def test_a_value_that_is_there_already_goes_at_once(co2_net, co2_clock, mapped):
    mapped(entry(smooth=0.1))
    said(co2_net, 5, 5)
    assert got(co2_net) == [5, 5]


def test_an_integer_and_a_boolean_end_as_what_they_are(co2_net, co2_clock, mapped):
    mapped(entry(smooth=0.1))
    said(co2_net, 0, 10)
    co2_clock.advance(2)
    assert got(co2_net)[-1] == 10 and type(got(co2_net)[-1]) is int
    said(co2_net, True)
    co2_clock.advance(2)
    assert got(co2_net)[-1] == 1.0 and type(got(co2_net)[-1]) is float


def test_integers_on_the_way_come_once_each(co2_net, co2_clock, mapped):
    mapped(entry(out=[0, 3], smooth=0.2, round=True))
    said(co2_net, 0, 1)
    co2_clock.advance(3)
    assert got(co2_net) == [0, 1, 2, 3]
    assert all(type(value) is int for value in got(co2_net))


def test_text_ends_a_way_at_once(co2_net, co2_clock, mapped):
    mapped(entry(smooth=0.1))
    said(co2_net, 0.0, 1.0)
    co2_clock.advance(0.05)
    said(co2_net, "off")
    assert got(co2_net)[-1] == "off"
    count = len(got(co2_net))
    co2_clock.advance(2)
    assert len(got(co2_net)) == count
    said(co2_net, 0.5)
    assert got(co2_net)[-1] == 0.5


def test_a_smoothed_entry_leads_to_the_next_step_by_step(co2_net, co2_clock, mapped):
    mapped(entry("in", "a", smooth=0.1), entry("a", "b", range=[0, 1], out=[0, 100]))
    said(co2_net, 0.0, 1.0)
    co2_clock.advance(2)
    assert got(co2_net, "b") == pytest.approx([value * 100 for value in got(co2_net, "a")])
    assert got(co2_net, "b")[-1] == 100.0 and len(got(co2_net, "b")) > 10


@pytest.mark.parametrize("values", [(1.7e308, -1.7e308), (0.0, 5e-324), (-1e300, 1e300), (1, 2**62)])
def test_extreme_numbers_arrive(co2_net, co2_clock, mapped, values):
    mapped(entry(smooth=0.1))
    said(co2_net, *values)
    co2_clock.advance(3)
    assert got(co2_net)[-1] == values[-1]
    assert all(math.isfinite(value) for value in got(co2_net))


# limits


def test_beyond_the_limits_values_go_at_once(co2_net, co2_clock, mapped, monkeypatch):
    monkeypatch.setattr(plugin, "MAX_LANES", 2)
    monkeypatch.setattr(plugin, "MAX_KEPT", 1000)
    monkeypatch.setattr(plugin, "MAX_ALL_KEPT", 1500)
    satellite = mapped(entry("in.*", "out.{1}", rate=1))
    said(co2_net, 1, 2, channel="in.a")
    said(co2_net, 1, "y" * 900, channel="in.b")
    assert (got(co2_net, "out.a"), got(co2_net, "out.b")) == ([1], [1])
    said(co2_net, 3, channel="in.c")  # one channel too many
    assert got(co2_net, "out.c") == [3]
    said(co2_net, "x" * 2000, channel="in.a")  # too big to wait; what waited before is not sent after it
    assert got(co2_net, "out.a") == [1, "x" * 2000]
    assert status(co2_net)["unpaced"] == 2
    assert sum("too much waits" in line for line in satellite.logged) == 1
    co2_clock.advance(2)
    assert got(co2_net, "out.a") == [1, "x" * 2000]
    assert got(co2_net, "out.b") == [1, "y" * 900]
    assert satellite.plugin._kept == 0


def test_channels_that_stand_still_give_way(co2_net, co2_clock, mapped, monkeypatch):
    monkeypatch.setattr(plugin, "MAX_LANES", 3)
    satellite = mapped(entry("in.*", "out.{1}", rate=10))
    for number in range(20):
        said(co2_net, number, channel=f"in.{number}")
        co2_clock.advance(0.05)
    assert status(co2_net)["unpaced"] == 0 and len(satellite.plugin._lanes) <= 3


def test_a_full_outbox_loses_no_last_value(co2_net, co2_clock, mapped):
    satellite = mapped(entry(rate=10))
    send = satellite.plugin.send

    def refuse(_message):
        raise OutboxFull(0.0, "full")

    satellite.plugin.send = refuse
    said(co2_net, 1)
    assert got(co2_net) == []
    satellite.plugin.send = send
    co2_clock.advance(0.2)
    assert got(co2_net) == [1]


# reload and end


def renewed(net, clock, old, *entries):
    """Start the same with other entries, as a reload does."""
    value = msgspec.msgpack.decode(msgspec.msgpack.encode(old.plugin.handover()))
    old.stop()
    new = carry(net, clock, *entries)
    with net.working():
        new.plugin.takeover(value)
    return new


def test_an_unchanged_entry_goes_on_where_it_was(co2_net, co2_clock, mapped):
    entries = [entry(smooth=0.5), entry("in", "paced", rate=1)]
    old = mapped(*entries)
    said(co2_net, 0.0, 1.0)
    co2_clock.advance(0.25)
    before = got(co2_net)[-1]
    assert 0.2 < before < 0.5
    new = renewed(co2_net, co2_clock, old, entry("new", "newer"), *reversed(entries))
    assert got(co2_net)[-1] == before and got(co2_net, "paced") == [0.0]
    co2_clock.advance(0.1)
    assert before < got(co2_net)[-1] < 0.7
    co2_clock.advance(5)
    assert got(co2_net)[-1] == 1.0 and got(co2_net) == sorted(got(co2_net))
    assert got(co2_net, "paced") == [0.0, 1.0]
    assert [one.counts["in"] for one in new.plugin.entries] == [0, 2, 2]


def test_of_a_changed_entry_the_value_that_waits_goes_at_once(co2_net, co2_clock, mapped):
    old = mapped(entry(smooth=0.5), entry("in", "paced", rate=1))
    said(co2_net, 0.0, 1.0)
    co2_clock.advance(0.1)
    renewed(co2_net, co2_clock, old, entry(smooth=0.6), entry("paced", "next"))
    assert got(co2_net)[-1] == 1.0 and got(co2_net, "paced") == [0.0, 1.0] and got(co2_net, "next") == [1.0]


def test_at_the_end_the_last_value_goes(co2_net, co2_clock, mapped):
    satellite = mapped(entry(smooth=0.5), entry("in", "paced", rate=1))
    said(co2_net, 0.0, 1.0)
    satellite.stop()
    assert got(co2_net) == [0.0, 1.0] and got(co2_net, "paced") == [0.0, 1.0]


def test_old_code_that_goes_on_after_a_handover_loses_nothing(co2_net, co2_clock, mapped):
    satellite = mapped(entry(rate=10))
    said(co2_net, 1, 2)
    satellite.plugin.handover()
    co2_clock.advance(0.35)
    assert got(co2_net) == [1, 2]
    said(co2_net, 3, 4)
    satellite.plugin.handover()
    said(co2_net, 5)
    satellite.stop()
    assert got(co2_net) == [1, 2, 3, 5]


def test_what_is_too_much_to_hand_over_is_sent(co2_net, co2_clock, mapped, monkeypatch):
    monkeypatch.setattr(plugin, "MAX_HANDED_OVER", 1000)
    satellite = mapped(entry("in.*", "out.{1}", rate=1))
    for name in "abc":
        said(co2_net, 1, name * 300, channel=f"in.{name}")
    with co2_net.working():
        handed_over = satellite.plugin.handover()
    sent = [name for name in "abc" if got(co2_net, f"out.{name}")[-1] != 1]
    assert 0 < len(sent) < 3 and len(handed_over["lanes"]) == 3 - len(sent)


# whatever comes

steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.floats(-2, 2) | st.booleans() | st.sampled_from(["text", None])),
        st.tuples(st.just("wait"), st.floats(0, 0.3)),
        st.tuples(st.just("reload"), st.none()),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(steps, st.sampled_from([0, 3, 30, 1000]), st.sampled_from([0, 0.02, 0.3]), st.booleans())
def test_whatever_comes_the_last_value_comes_out(
    tmp_path_factory: Any, steps: Any, rate: float, smooth: float, convert: bool
) -> None:
    clock = Clock()
    net = Network(clock, tmp_path_factory.mktemp("map"))
    keys = {"range": [-1, 1], "out": [10, 0]} if convert else {}
    only = entry(rate=rate, smooth=smooth, **keys)
    satellite = carry(net, clock, only)
    last: Any = None
    said_one = False
    at: list[float] = []
    for what, value in steps:
        if what == "say":
            said(net, value)
            if not convert or isinstance(value, float | bool):
                last, said_one = value, True
        elif what == "reload":
            satellite = renewed(net, clock, satellite, only)
        else:
            for _ in range(10):
                clock.advance(value / 10)
                at += [clock.now] * (len(got(net)) - len(at))
        at += [clock.now] * (len(got(net)) - len(at))
    clock.advance(5)
    values = got(net)
    assert bool(values) == said_one
    if said_one:
        wanted = 10 - (min(max(float(last), -1), 1) + 1) * 5 if convert else last
        assert values[-1] == (pytest.approx(wanted) if isinstance(wanted, float) else wanted)
        if convert:
            assert all(0 <= value <= 10 for value in values)
    if rate:
        # The clock was read a tenth of a wait too late at most.
        assert all(
            len(at) <= 1 or later - sooner > 0.85 / rate - 0.031 for sooner, later in itertools.pairwise(at)
        )
    assert not satellite.plugin.entries[0].waiting and satellite.plugin.entries[0].timer is None
    net.close()
