"""Values and channels of ``[[map]]``: scales, curves, routes, circles, and the keys of an entry."""

import math
import re

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from co2.plugins.map.routes import MAX_CHAIN, Route, circle_or_chain_problem
from co2.plugins.map.scale import CURVES, MAX_BOUND, Scale, Unusable, curve_of, number_of, picked
from co2.plugins.map.settings import MAX_ENTRIES, MapEntry, MapSettings

FADER = {"from": "stage.fader1", "to": "light.dimmer1"}

bounds = st.floats(-MAX_BOUND, MAX_BOUND) | st.integers(-1000, 1000)
curves = st.sampled_from(sorted(CURVES)) | st.floats(0.01, 100)


def entry(**keys):
    return msgspec.convert({**FADER, **keys}, MapEntry)


# values


@pytest.mark.parametrize(
    ("table", "value", "wanted"),
    [
        ({"range": [0, 1], "out": [0, 255]}, 0.5, 127.5),
        ({"range": [0.0, 1.0], "out": [0, 255]}, 1, 255),
        ({"range": [0, 127], "out": [-1, 1]}, 0, -1),
        ({"range": [1, 0], "out": [0, 10]}, 0.25, 7.5),  # reversed
        ({"range": [0, 1], "out": [10, 0]}, 0.25, 7.5),
        ({"range": [0, 1], "out": [0, 255]}, 1.5, 255),  # beyond the range
        ({"range": [0, 1], "out": [0, 255]}, -3, 0),
        ({"range": [1, 0], "out": [0, 255]}, 7, 0),
        ({"out": [0, 255]}, 0.2, 51),
        ({"range": [0, 100]}, 50, 0.5),
        ({"out": [7, 7]}, 0.3, 7),
        ({"curve": "s"}, 0.25, 0.15625),
        ({"curve": 2}, 0.5, 0.25),
        ({"curve": 0.5}, 0.25, 0.5),
        ({"curve": "exp"}, 0.5, 1 / 11),
        ({"curve": "log"}, 1 / 11, 0.5),
        ({"range": [0, 1]}, True, 1),
        ({"out": [5, 9]}, False, 5),
    ],
)
def test_a_value_is_converted(table, value, wanted):
    assert entry(**table).scaling(number_of(value)) == pytest.approx(wanted)


@given(bounds, bounds, bounds, bounds, curves, st.floats(allow_nan=False, allow_infinity=False))
@example(0.0, 5e-324, 0, 1, "log", 1.7e308)
@example(-1e300, 1e300, -1e300, 1e300, 100.0, 0.0)
def test_whatever_comes_goes_within_the_bounds(low, high, out_low, out_high, curve, value):
    assume(float(low) != float(high))
    found = entry(range=[low, high], out=[out_low, out_high], curve=curve).scaling
    assert min(out_low, out_high) <= found(value) <= max(out_low, out_high)
    assert (found(float(low)), found(float(high))) == (float(out_low), float(out_high))


@given(curves, st.floats(0, 1), st.floats(0, 1))
def test_a_curve_rises_and_keeps_its_ends(curve, one, other):
    shape = curve_of(curve)
    assert (shape(0.0), shape(1.0)) == (0.0, pytest.approx(1.0))
    low, high = sorted([one, other])
    assert shape(low) <= shape(high) + 1e-12


@given(st.floats(0, 1))
def test_log_is_the_inverse_of_exp(part):
    assert curve_of("log")(curve_of("exp")(part)) == pytest.approx(part, abs=1e-9)


@given(st.floats(0, 100), st.floats(0, 100), curves)
def test_a_reversed_range_is_the_same_the_other_way_round(value, end, curve):
    assume(end > 1e-3)
    shape = curve_of(curve)
    there, back = Scale(0, end, 0, 1, shape), Scale(0, end, 1, 0, shape)
    assert there(value) == pytest.approx(1 - back(value))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (math.nan, "found nan, expected a finite number"),
        (math.inf, "found inf"),
        (-math.inf, "found -inf"),
        (10**400, "too large"),
        ("0.5", "found text, expected a number or a boolean"),
        (b"1", "found bytes"),
        (None, "found nothing"),
        ([1], "found a list"),
        ({"x": 1}, "found a dictionary"),
    ],
)
def test_what_is_no_finite_number_is_refused(data, told):
    with pytest.raises(Unusable, match=re.escape(told)):
        number_of(data)


@pytest.mark.parametrize(
    ("data", "field", "wanted"),
    [
        (0.5, None, 0.5),
        ({"x": 1, "y": 2}, "y", 2),
        ([1, 2, 3], 2, 3),
        ((1, 2), 0, 1),
        ({"x": {"deep": 1}}, "x", {"deep": 1}),
    ],
)
def test_a_part_of_the_data_is_picked(data, field, wanted):
    assert picked(data, field) == wanted


@pytest.mark.parametrize(
    ("data", "field", "told"),
    [
        (0.5, "x", "found a number, expected a dictionary with the field 'x'"),
        ([1], "x", "found a list, expected a dictionary"),
        ({"y": 1}, "x", "has no field 'x'"),
        ({0: 1}, 0, "found a dictionary, expected a list with an item 0"),
        ("text", 0, "found text, expected a list"),
        ([1], 1, "the list of 1 has no item 1; the first one is 0"),
        ([], 0, "no item 0"),
    ],
)
def test_a_part_that_is_not_there_is_told(data, field, told):
    with pytest.raises(Unusable, match=re.escape(told)):
        picked(data, field)


# channels


@pytest.mark.parametrize(
    ("source", "to", "channel", "wanted"),
    [
        ("a", "b", "a", "b"),
        ("a", "b", "a.c", None),
        ("stage.*.level", "light.{1}.dim", "stage.left.level", "light.left.dim"),
        ("stage.*.level", "light.{1}.dim", "stage.level", None),
        ("stage.*.level", "light.{1}.dim", "stage.left.right.level", None),
        ("stage.*.level", "light.{1}.dim", "stage.left.pan", None),
        ("*.*", "to.{2}.{1}.{2}", "a.b", "to.b.a.b"),
        ("stage.>", "mirror.{1}", "stage.left.fader1", "mirror.left.fader1"),
        ("stage.>", "mirror.{1}", "stage", None),
        ("*.x.>", "y.{2}.z.{1}", "a.x.b.c", "y.b.c.z.a"),
        ("fader.*", "light.dimmer{1}", "fader.7", "light.dimmer7"),
        ("fader.*", "all", "fader.7", "all"),
    ],
)
def test_a_channel_leads_to_another(source, to, channel, wanted):
    assert Route(source, to).channel(channel) == wanted


tokens = st.sampled_from(["a", "b", "c"])
sources = st.lists(tokens | st.just("*"), min_size=1, max_size=4).flatmap(
    lambda found: st.sampled_from([".".join(found), ".".join([*found[:-1], ">"])])
)


@st.composite
def routes_of_all_kinds(draw):
    source = draw(sources)
    wild = [place for place in source.split(".") if place in ("*", ">")]
    holes = [f"{{{number}}}" for number in range(1, len(wild) + 1)]
    inside = [f"b{hole}" for hole, place in zip(holes, wild, strict=True) if place == "*"]
    parts = st.sampled_from(["a", "b", "c", "bb", *holes, *inside])
    return Route(source, ".".join(draw(st.lists(parts, min_size=1, max_size=4))))


@given(routes_of_all_kinds(), sources, st.lists(tokens, min_size=1, max_size=6))
def test_no_way_into_another_entry_is_overlooked(route, source, channel):
    other = Route(source, "x")
    to = route.channel(".".join(channel))
    if to is not None and other.channel(to) is not None:
        assert route.leads_to(other)


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        (("stage.*.level", "light.{1}.dim"), ("light.*.dim", "x"), True),
        (("stage.*.level", "light.{1}.dim"), ("light.left.dim", "x"), True),
        (("stage.*.level", "light.{1}.dim"), ("stage.*.level", "x"), False),
        (("a.*", "b.dimmer{1}"), ("b.dimmer7", "x"), True),
        (("a.*", "b.dimmer{1}"), ("b.fader7", "x"), False),
        (("a.>", "b.{1}.c"), ("b.*.*.c", "x"), True),
        (("a.>", "b.{1}.c"), ("b.c", "x"), False),
        (("a.>", "b.{1}"), ("b", "x"), False),
    ],
)
def test_entries_that_follow_each_other(one, other, wanted):
    assert Route(*one).leads_to(Route(*other)) is wanted


@pytest.mark.parametrize(
    ("routes", "told"),
    [
        ([("a", "b"), ("c", "c")], "entry 2 (c to c) leads to itself: its 'to' matches its own 'from'"),
        ([("a.*", "a.x")], "entry 1 (a.* to a.x) leads to itself"),
        ([(">", "x")], "entry 1 (> to x) leads to itself"),
        (
            [("x", "y"), ("a", "b"), ("b", "a")],
            "entries 2 (a to b) and 3 (b to a) lead in a circle: the 'to' of each matches the 'from' of the next",
        ),
        (
            [("a.*", "b.{1}"), ("b.x", "c"), ("c", "a.y")],
            "entries 1 (a.* to b.{1}), 2 (b.x to c) and 3 (c to a.y)",
        ),
        ([(f"n{at}", f"n{(at + 1) % 10}") for at in range(10)], "6 (n5 to n6) and 4 more lead in a circle"),
        (
            [(f"n{at}", f"n{at + 1}") for at in range(MAX_CHAIN + 1)],
            f"and 11 more follow each other: {MAX_CHAIN + 1} entries; the limit is {MAX_CHAIN}",
        ),
    ],
)
def test_circles_and_long_chains_are_refused_with_the_names_of_the_entries(routes, told):
    assert told in circle_or_chain_problem([Route(*route) for route in routes])


@given(st.lists(routes_of_all_kinds(), max_size=5), st.lists(tokens, min_size=1, max_size=4))
def test_entries_that_are_accepted_come_to_an_end(routes, channel):
    assume(not circle_or_chain_problem(routes))
    waiting = {".".join(channel)}
    for _ in range(MAX_CHAIN + 1):
        waiting = {to for one in routes for found in waiting if (to := one.channel(found)) is not None}
    assert not waiting


def test_chains_and_branches_without_a_circle_are_accepted():
    chain = [Route(f"n{at}", f"n{at + 1}") for at in range(MAX_CHAIN)]
    assert circle_or_chain_problem(chain) == ""
    assert circle_or_chain_problem([Route("a", "b"), Route("a", "c"), Route("b", "d"), Route("c", "d")]) == ""
    many = [Route(f"from.{at}.*", f"to.x{{1}}.{at}") for at in range(MAX_ENTRIES)]
    assert circle_or_chain_problem(many) == ""


# keys


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"from": "a..b"}, "from: not a channel pattern: 'a..b'"),
        ({"from": "f*"}, "from: 'f*': '*' and '>' must be whole tokens"),
        ({"from": ""}, "from: a channel pattern has 1 to 256 bytes"),
        ({"to": ""}, "to: a channel pattern has"),
        ({"to": "x" * 257}, "to: a channel pattern has 1 to 256 bytes"),
        ({"to": "light.*"}, "to: found 'light.*', expected a channel; {1} stands for the first"),
        ({"to": "light.>"}, "to: found 'light.>', expected a channel"),
        ({"to": "light.{1}"}, "to: {1} in 'light.{1}' stands for nothing: 'from' has no * or >"),
        ({"from": "a.*", "to": "b.{2}"}, "{2} in 'b.{2}' stands for nothing: 'from' has 1 of * and >"),
        ({"from": "a.*", "to": "b.{0}"}, "{0} in 'b.{0}' stands for nothing"),
        ({"from": "a.>", "to": "b.x{1}"}, "{1} in 'b.x{1}' is several tokens, so it stands alone"),
        ({"from": "a.*", "to": "b.{x}"}, "braces are only for {1}, {2}"),
        ({"from": "a.*", "to": "b.{1"}, "braces are only for {1}, {2}"),
        ({"range": [1, 1.0]}, "range: found [1, 1.0], expected two different numbers"),
        ({"range": [0, math.nan]}, "range: found nan, expected numbers up to 1e+300"),
        ({"out": [0, math.inf]}, "out: found inf, expected numbers up to 1e+300"),
        ({"out": [0, 1, 2]}, "length 2"),
        ({"out": [0, True]}, "got 'bool'"),
        ({"curve": "exponential"}, 'curve: found \'exponential\', expected "linear", "exp"'),
        ({"curve": 0}, "curve: found 0.0, expected a name or a number from 0.01 to 100"),
        ({"curve": math.nan}, "curve: found nan"),
        ({"smooth": "100"}, "smooth: found '100', expected a duration such as \"100ms\""),
        ({"smooth": 61}, "smooth: found 61"),
        ({"smooth": -1}, "smooth: found -1"),
        ({"smooth": math.nan}, "smooth: found nan"),
        ({"rate": -1}, "rate: found -1, expected messages per second, from 0 to 1000"),
        ({"rate": 1001}, "rate: found 1001"),
        ({"rate": math.nan}, "rate: found nan"),
        ({"rate": "fast"}, "got 'str'"),
        ({"field": -1}, "field: found -1, expected a name, or a number from 0 to 9999"),
        ({"field": 1.5}, "got 'float'"),
        ({"round": "yes"}, "got 'str'"),
    ],
)
def test_a_wrong_key_is_refused(keys, told):
    with pytest.raises(msgspec.ValidationError) as caught:
        entry(**keys)
    assert told in str(caught.value).replace("`", "'")


@pytest.mark.parametrize(
    ("found", "seconds"),
    [("100ms", 0.1), ("1.5s", 1.5), (" 2 s ", 2), (0.25, 0.25), (0, 0), ("0ms", 0), ("60s", 60)],
)
def test_a_time_constant(found, seconds):
    assert entry(smooth=found).time_constant == pytest.approx(seconds)


def test_equal_entries_are_refused_and_so_are_too_many():
    for entries, told in (
        (
            [FADER, {**FADER, "rate": 1}, FADER],
            "entries 1 and 3 (stage.fader1 to light.dimmer1) are equal: remove one",
        ),
        ([{"from": "a", "to": f"b.{at}"} for at in range(MAX_ENTRIES + 1)], "found 257 entries; the limit is 256"),
    ):
        with pytest.raises(msgspec.ValidationError, match=re.escape(told)):
            msgspec.convert({"map": entries}, MapSettings)
    assert len(msgspec.convert({"map": [FADER, {**FADER, "rate": 1}]}, MapSettings).map) == 2
