"""Patterns over channels."""

import pytest

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
