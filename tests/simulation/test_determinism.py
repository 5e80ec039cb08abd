"""The same seed is the same world, to the last event; or a failure could not be looked into."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.world import run_seed

SEEDS = (1, 2, 3, 11)

_PROGRAM = """
import logging
logging.disable(logging.CRITICAL)
from tests.simulation.world import run_seed
print(" ".join(run_seed(seed).digest for seed in {seeds}))
"""


def digests(hash_seed: str) -> list[str]:
    """Run worlds in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(seeds=SEEDS)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_a_seed_gives_the_same_trace_every_time_also_with_another_hash_seed() -> None:
    here = [run_seed(seed).digest for seed in SEEDS]
    assert here == [run_seed(seed).digest for seed in SEEDS]
    assert digests("1") == digests("31337") == here


def test_another_seed_gives_another_trace() -> None:
    assert len({run_seed(seed).digest for seed in range(5)}) == 5


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_keeping_the_trace_changes_nothing(seed: int) -> None:
    kept = run_seed(seed, keep_all=True)
    assert kept.digest == run_seed(seed).digest
    assert len(kept.lines) > 100
