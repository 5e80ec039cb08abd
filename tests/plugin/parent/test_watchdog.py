"""What hangs is told at its limits, of each plugin and of each of its two words."""

import pytest

from co2.plugin.child.progress import EXITING, ProgressWords
from co2.plugin.parent.watchdog import Watchdog
from tests.plugin.parent.test_bookkeeping import PLUGINS


@pytest.fixture
def words() -> ProgressWords:
    return ProgressWords()


def test_a_call_is_slow_from_the_very_limit_on(words: ProgressWords) -> None:
    watchdog = Watchdog(words, PLUGINS, 1.0, 3.0)
    assert (watchdog.slowest, watchdog.hangs) == (0.0, 0.0)
    words.words[0] = 3
    found = []
    for now in (10.0, 10.5, 11.0, 11.5, 12.5, 13.0, 13.5):
        slow = watchdog.look(now)
        found.append([(one.seconds, one.late) for one in slow])
    assert found == [[], [], [(1.0, False)], [], [], [(3.0, True)], []]
    assert (watchdog.slowest, watchdog.hangs) == (3.5, 3.5)


def test_only_what_is_slow_now_hangs(words: ProgressWords) -> None:
    watchdog = Watchdog(words, PLUGINS, 1.0, 3.0)
    words.words[0] = words.words[3] = 3
    watchdog.look(0.0)
    watchdog.look(0.5)
    assert watchdog.hangs == 0.0
    words.words[3] = 4
    watchdog.look(1.0)
    assert watchdog.hangs == 1.0
    words.words[0] = 4
    watchdog.look(1.5)
    assert (watchdog.hangs, watchdog.slowest) == (0.0, 1.0)
    words.words[0] = 3
    assert watchdog.look(2.0) == [], "the same number again is a new call, as for one that is given again"
    assert [one.seconds for one in watchdog.look(3.0)] == [1.0]


def test_each_word_of_each_plugin_is_looked_at(words: ProgressWords) -> None:
    watchdog = Watchdog(words, PLUGINS, 1.0, 3.0)
    words.words[0] = 8  # before them others that do nothing, or that end
    words.words[1] = EXITING
    for index in range(2, 8):
        words.words[index] = 2 * (10 + index) + 1
    words.words[8] = 3  # nobody's
    watchdog.look(0.0)
    slow = watchdog.look(2.0)
    assert [(one.plugin, one.inside, one.call_id) for one in slow] == [
        ("b", 12, 0),
        ("b", 0, 13),
        ("c", 14, 0),
        ("c", 0, 15),
        ("d", 16, 0),
        ("d", 0, 17),
    ]
    assert watchdog.look(2.5) == []


def test_a_call_that_is_long_under_way_when_it_is_first_seen_counts_from_there(words: ProgressWords) -> None:
    watchdog = Watchdog(words, PLUGINS, 1.0, 3.0)
    words.words[0] = 1
    assert watchdog.look(1000.0) == []
    words.words[0] = 3
    assert watchdog.look(1000.9) == []
    assert watchdog.look(1001.0) == []
    assert len(watchdog.look(1001.9)) == 1
