"""Worlds in which a half of the journal is moved into the database while commits go into the other one."""

from collections import Counter
from typing import Any

import pytest

from tests.simulation.relay_host import SimWriter
from tests.simulation.world import run_seed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEEDS = 60
FOUND_AT = 217
"""The seed that finds the planted bug first; others do too, but it takes longer to look for them."""


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimWriter, "moves_apart", True)


def test_no_oracle_fires() -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        outcome = run_seed(seed)
        assert not outcome.oracle, f"seed {seed}: {outcome.text}"
        counts += Counter(outcome.counts)
    assert counts["half of the journal moved"] > SEEDS // 3


def test_a_half_that_is_written_over_before_it_is_moved_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(writer: Any, record: bytes) -> bool:
        journal = writer._journal
        if not journal.takes(record) and writer._in_journal:
            writer._moving = len(writer._in_journal)
            journal.turn_over()
            writer._wake_mover()
        return bool(journal.takes(record))

    monkeypatch.setattr(SimWriter, "_has_room", careless)
    assert any(run_seed(seed).oracle for seed in (FOUND_AT, *range(1000)))
