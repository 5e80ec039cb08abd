"""Patterns over channels."""

import pytest

from co2.protocol import interests
from co2.protocol.interests import Interests, pattern_problem


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
        ("", [""], ["stage", " "]),
        ("a+b[c]", ["a+b[c]"], ["aab", "abc"]),
    ],
)
def test_a_pattern_selects(pattern: str, yes: list[str], no: list[str]) -> None:
    assert pattern_problem(pattern) == ""
    wants = Interests([pattern]).wants
    for _ in range(2):
        assert [channel for channel in [*yes, *no] if wants(channel)] == yes


def test_without_patterns_everything_is_wanted() -> None:
    nothing_said = Interests()
    assert nothing_said.everything
    assert nothing_said.wants("")
    assert nothing_said.wants_any([""])
    assert nothing_said.wants_any(None)


def test_one_channel_of_a_frame_is_enough_and_an_unlisted_frame_is_for_everybody() -> None:
    some = Interests(["stage.>", "lab", "lab"])
    assert some.patterns == ("stage.>", "lab")
    assert some.wants_any(["", "a", "lab"])
    assert some.wants_any(["stage.x"])
    assert not some.wants_any(["", "a", "stage"])
    assert not some.wants_any([])
    assert some.wants_any(None)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interests, "_MAX_KNOWN", 10)
    some = Interests(["a.*"])
    for number in range(100):
        assert some.wants(f"a.{number}")
        assert not some.wants(f"b.{number}")
    assert len(some._known) <= 10


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (7, "7 is not text"),
        (None, "None is not text"),
        ("a..b", "empty token"),
        (".", "empty token"),
        ("a.", "empty token"),
        (">.a", "before its end"),
        ("a.b*", "'b*' mixes"),
        ("a.>>", "'>>' mixes"),
        ("x" * 257, "longer than 256"),
    ],
)
def test_a_wrong_pattern_is_told(pattern: object, text: str) -> None:
    assert text in pattern_problem(pattern)
