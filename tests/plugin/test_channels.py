"""``plugin.Channels``: the patterns of the network, for what only a configuration knows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2 import plugin
from co2.errors import BadRequest
from co2.protocol.wire.channel_patterns import MAX_PATTERNS, Interests


@pytest.mark.parametrize(
    ("channel", "pattern", "expected"),
    [
        ("stage.fader1", ">", True),
        ("", ">", False),
        ("", "*", False),
        (None, ">", False),
        (5, ">", False),
        (["stage"], ">", False),
        ("stage", "stage", True),
        ("stage", "stage.>", False),
        ("stage.a", "stage.>", True),
        ("stage.a.b", "stage.>", True),
        ("stage.a.b", "stage.*", False),
        ("stage.a.b", "stage.*.b", True),
        ("stage.a", "*.a", True),
        ("stage.a", "stage", False),
    ],
)
def test_what_is_in_it(channel: object, pattern: str, expected: bool) -> None:
    assert (channel in plugin.Channels((pattern,))) is expected
    assert (channel in plugin.Channels(["something.else", pattern])) is expected
    assert channel not in plugin.Channels(())


tokens = st.sampled_from(["a", "b", "*", ">", "c\n", "."])


@given(st.lists(st.lists(tokens, min_size=1, max_size=4).map(".".join), max_size=3), st.text("abc.\n"))
def test_patterns_are_those_of_the_network(patterns: list[str], channel: str) -> None:
    try:
        interests = Interests(patterns)
    except BadRequest:
        with pytest.raises(ValueError, match="pattern"):
            plugin.Channels(patterns)
        return
    assert (channel in plugin.Channels(patterns)) == interests.wants_one(channel)


@pytest.mark.parametrize(
    ("patterns", "told"),
    [
        ("stage.>", r"found the text 'stage.>', expected a tuple of patterns such as \(\"stage.\*\""),
        (None, "found NoneType, expected a tuple of patterns"),
        ([5], "found 5, expected text"),
        ([""], "1 to 256 bytes: ''"),
        (["ok", "a..b"], "not a channel pattern: 'a..b'"),
        ([">.a"], "> only at the end"),
        (["."], "not a channel pattern: '.'"),
        (["a*"], "'a\\*' would match only literally"),
        (["\ud800"], "not valid Unicode"),
        (["a"] * (MAX_PATTERNS + 1), f"the limit is {MAX_PATTERNS}"),
    ],
)
def test_what_is_no_pattern_is_told(patterns: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        plugin.Channels(patterns)


def test_two_of_the_same_patterns_are_equal() -> None:
    one, other = plugin.Channels(("a.*", "b")), plugin.Channels(["a.*", "b"])
    assert one == other and hash(one) == hash(other)
    assert one != plugin.Channels(("a.*",)) and one != ("a.*", "b")
    assert repr(one) == "Channels(('a.*', 'b'))"
