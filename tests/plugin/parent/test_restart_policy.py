"""Deaths at the limits, in words, and where the plugins of other code begin."""

import itertools
import random

import pytest

from co2.plugin.child.progress import ProgressWords
from co2.plugin.parent.restart_policy import (
    LONGEST_DELAY,
    PARK_DEATHS,
    PARK_WITHIN,
    RestartPolicy,
    backoff,
    read_progress,
    taken_up,
)
from co2.protocol.wire.plugin_frames.frames import PluginInfo, Progress


def plugins(*names: str, deaf: str = "") -> list[PluginInfo]:
    return [PluginInfo(name, name, name != deaf, "") for name in names]


def test_a_death_counts_for_as_long_as_it_is_said_to() -> None:
    policy = RestartPolicy()
    for number in range(PARK_DEATHS):
        policy.add(0.0, [("a", number)])
    assert policy.park(PARK_WITHIN)
    assert not policy.park(PARK_WITHIN + 0.1)
    assert not policy.park(0.0), "what was forgotten is forgotten"


@pytest.mark.parametrize(("deaths", "parks"), [(2, True), (3, True), (4, False)])
def test_how_many_deaths_park_can_be_said(deaths: int, parks: bool) -> None:
    policy = RestartPolicy()
    for number in range(3):
        policy.add(0.0, [("a", number)])
    assert policy.park(0.0, deaths) is parks


def test_another_death_in_the_same_message_makes_its_cause_a_new_one() -> None:
    policy = RestartPolicy()
    policy.add(0.0, [("a", 1)])
    policy.add(50.0, [("a", 1), ("b", 2)])
    policy.add(55.0, [("b", 2)])
    assert not policy.park(55.0, 2), "they are one cause"
    assert policy.park(PARK_WITHIN + 55.0, 1), "the last one counts"


def test_a_message_that_became_a_letter_may_be_tried_as_often_again() -> None:
    policy = RestartPolicy()
    letters = [policy.add(0.0, [("a", 5)]) for _ in range(6)]
    assert letters == [[], [], [("a", 5)]] * 2


def test_only_messages_that_are_done_are_forgotten() -> None:
    policy = RestartPolicy()
    for _ in range(2):
        policy.add(0.0, [("a", 4), ("b", 5), ("c", 6)])
    policy.forget_up_to(5)
    assert policy.add(0.0, [("a", 4), ("b", 5), ("c", 6)]) == [("c", 6)]


@pytest.mark.parametrize(
    ("inside", "outside", "words"),
    [
        (0, 1, "died once"),
        (0, 2, "died 2 times"),
        (1, 0, "died in a message"),
        (2, 0, "died in 2 different messages"),
        (1, 1, "died in a message and once outside any message"),
        (3, 2, "died in 3 different messages and 2 times outside any message"),
    ],
)
def test_deaths_in_words(inside: int, outside: int, words: str) -> None:
    policy = RestartPolicy()
    for number in range(inside):
        policy.add(0.0, [("a", number)])
    for _ in range(outside):
        policy.add(0.0, [])
    assert str(policy) == words


def test_delays_are_spread_around_their_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = set()

    def uniform(low: float, high: float) -> float:
        bounds.add((low, high))
        return 2.0

    monkeypatch.setattr(random, "uniform", uniform)
    delays = list(itertools.islice(backoff(), 9))
    assert delays == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 2 * LONGEST_DELAY, 2 * LONGEST_DELAY])
    assert bounds == {(0.75, 1.25)}


def test_the_place_of_each_plugin_that_receives_is_read_from_its_own_word() -> None:
    words = ProgressWords()
    words.words[0] = 2 * 7 + 1
    words.words[2] = 2 * 9 + 1  # it does not receive: this is no message
    words.words[4] = 2 * 4 + 2
    before = {"c": Progress(4, 4), "d": Progress(5, 6)}
    assert read_progress(words, plugins("a", "b", "c", "d", "e", deaf="b"), before) == {
        "a": Progress(6, 7),
        "c": Progress(4, 0),
        "d": Progress(5, 6),
        "e": Progress(0, 0),
    }
    words.close()


@pytest.mark.parametrize(
    ("names", "stood", "begin"),
    [
        (("a", "b"), {"a": Progress(5, 6), "b": Progress(7, 0)}, {"a": Progress(5, 6), "b": Progress(7, 0)}),
        (("a", "new"), {"a": Progress(5, 6), "b": Progress(7, 0)}, {"a": Progress(5, 6), "new": Progress(7, 0)}),
        (("a", "new"), {"a": Progress(5, 6)}, {"a": Progress(5, 6), "new": Progress(5, 0)}),
        (("new",), {"a": Progress(5, 6), "b": Progress(7, 0)}, {"new": Progress(5, 0)}),
        (("a", "new"), {}, {"a": Progress(0, 0), "new": Progress(0, 0)}),
        (("deaf",), {"a": Progress(5, 6)}, {}),
    ],
)
def test_where_the_plugins_of_other_code_begin(
    names: tuple[str, ...], stood: dict[str, Progress], begin: dict[str, Progress]
) -> None:
    assert taken_up(plugins(*names, deaf="deaf"), stood) == begin
