"""Ids of messages lately relayed."""

import pytest

from co2.relay import dedupe
from co2.relay.dedupe import IDS_PER_HOST, RecentIds


def test_a_repeat_gets_the_first_position_and_another_host_has_its_own_ids() -> None:
    recent = RecentIds()
    recent.remember("a", "1", 17)
    assert recent.position("a", "1") == 17
    assert recent.position("b", "1") is None


def test_the_last_ten_thousand_are_remembered() -> None:
    recent = RecentIds()
    for number in range(IDS_PER_HOST + 1):
        recent.remember("a", str(number), number)
    assert recent.position("a", "0") is None
    assert recent.position("a", "1") == 1


def test_the_host_that_was_silent_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "MAX_IDS", 10)
    recent = RecentIds()
    for origin in ("a", "b", "c"):
        for number in range(5):
            recent.remember(origin, str(number), number)
    assert recent.position("a", "0") is None
    assert recent.position("b", "0") == 0
