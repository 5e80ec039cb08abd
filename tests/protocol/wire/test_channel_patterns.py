"""Patterns over channels."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2.errors import BadRequest
from co2.protocol.wire import channel_patterns
from co2.protocol.wire.channel_patterns import (
    MAX_CHANNEL,
    MAX_PATTERNS,
    Interests,
    channels_of_frame,
    check_pattern,
)
from co2.protocol.wire.plugin_frames.frames import MAX_CHANNELS


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("stage.left", ["stage.left"], ["stage", "stage.left.x", "Stage.left", "stage.right", ""]),
        ("stage.*", ["stage.left", "stage.*"], ["stage", "stage.left.x", "lab.left", ""]),
        ("*", ["stage"], ["stage.left", ""]),
        ("*.meter", ["left.meter"], ["meter", "stage.left.meter", "left.meters"]),
        ("stage.*.fader", ["stage.left.fader"], ["stage.fader", "stage.left.right.fader"]),
        ("stage.>", ["stage.left", "stage.left.fader1"], ["stage", "stages.left", ""]),
        (">", ["stage", "stage.left.fader1"], [""]),
        ("*.>", ["stage.left", "stage.left.x"], ["stage"]),
        ("*.*", ["a.b"], ["a", "a.b.c"]),
        ("a+b[c]", ["a+b[c]"], ["aab", "abc"]),
    ],
)
def test_a_pattern_selects(pattern: str, yes: list[str], no: list[str]) -> None:
    check_pattern(pattern)
    wants = Interests([pattern]).wants_one
    for _ in range(2):
        assert [channel for channel in [*yes, *no] if wants(channel)] == yes


def test_everything_and_nothing() -> None:
    for channels in (("",), ("", "a"), None):
        assert Interests(None).wants(channels)
        assert not Interests([]).wants(channels)


def test_nobody_wants_a_frame_of_which_all_was_dropped() -> None:
    for patterns in (None, [], [">"], ["a.*"]):
        assert not Interests(patterns).wants(())


def test_one_channel_of_a_frame_is_enough_and_an_unlisted_frame_is_for_everybody() -> None:
    some = Interests(["stage.>", "lab"])
    assert some.wants(("", "a", "lab"))
    assert some.wants(("stage.x",))
    assert not some.wants(("", "a", "stage"))
    assert not some.wants(())
    assert some.wants(None)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_patterns, "_REMEMBERED", 10)
    some = Interests(["a.*"])
    for number in range(100):
        assert some.wants_one(f"a.{number}")
        assert not some.wants_one(f"b.{number}")
    assert len(some._known) <= 10


def test_what_is_remembered_of_long_sets_is_bounded_too() -> None:
    some = Interests(["a.*"])
    tracemalloc.start()
    try:
        for number in range(5_000):
            assert not some.wants(
                tuple(f"{number}.{place}.".ljust(MAX_CHANNEL, "x") for place in range(MAX_CHANNELS))
            )
        assert tracemalloc.get_traced_memory()[0] < 2**20
    finally:
        tracemalloc.stop()


def selects(pattern: list[str], tokens: list[str]) -> bool:
    """Compare token by token, as the glossary says it."""
    if pattern[-1] == ">":
        return len(tokens) >= len(pattern) and selects([*pattern[:-1], "*"], tokens[: len(pattern)])
    return len(tokens) == len(pattern) and all(
        wanted in ("*", token) for wanted, token in zip(pattern, tokens, strict=True)
    )


tokens = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=5)


@given(
    st.lists(st.tuples(tokens, st.booleans()), min_size=1, max_size=6), st.lists(tokens, min_size=1, max_size=8)
)
def test_many_patterns_select_what_one_of_them_selects(
    patterns: list[tuple[list[str], bool]], channels: list[list[str]]
) -> None:
    all_ = [[*start, ">"] if is_open else start for start, is_open in patterns]
    some = Interests([".".join(pattern) for pattern in all_])
    for channel in channels:
        assert some.wants_one(".".join(channel)) == any(selects(pattern, channel) for pattern in all_)


@pytest.mark.parametrize("pattern", ["", "a..b", ".", "a.", ">.a", "x" * (MAX_CHANNEL + 1), "ä" * 129])
def test_a_wrong_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(BadRequest, match="pattern"):
        Interests([pattern])


def test_patterns_are_bounded() -> None:
    Interests(["a"] * MAX_PATTERNS)
    with pytest.raises(BadRequest, match="more than"):
        Interests(["a"] * (MAX_PATTERNS + 1))


def test_what_a_frame_says_of_its_channels() -> None:
    assert channels_of_frame({"b", "", "a"}) == ["", "a", "b"]
    assert channels_of_frame({str(number) for number in range(MAX_CHANNELS)}) is not None
    assert channels_of_frame({str(number) for number in range(MAX_CHANNELS + 1)}) is None
    assert channels_of_frame({"ä" * 128}) == ["ä" * 128]
    assert channels_of_frame({"a", "ä" * 129}) is None


def test_what_several_want_together_is_everything_where_it_is_too_much_to_name() -> None:
    assert Interests.together(["a"] * MAX_PATTERNS).patterns is not None
    assert Interests.together(["a"] * (MAX_PATTERNS + 1)).patterns is None
    with pytest.raises(BadRequest):
        Interests.together([""])
