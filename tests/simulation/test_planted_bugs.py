"""The oracles find bugs: each of these, planted in the product, within a thousand seeds."""

import pytest

from tests.simulation.bugs import BUGS
from tests.simulation.runner import search

FOUND_AT: dict[str, int] = {}
"""A seed that finds it, so that this takes seconds; where it does not any more, it is looked for from 0 on."""

SEEDS = 1000


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", BUGS)
def test_it_is_found(name: str) -> None:
    outcome = search(name, [FOUND_AT[name], *range(SEEDS)])
    assert outcome is not None, f"{BUGS[name].breaks}: nobody notices"
    assert outcome.oracle[0] in BUGS[name].oracles, outcome.text


def test_there_are_enough_of_them_and_each_says_what_it_breaks() -> None:
    assert len(BUGS) >= 20
    assert set(FOUND_AT) == set(BUGS)
    assert all(bug.breaks for bug in BUGS.values())
