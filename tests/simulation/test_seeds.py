"""A thousand worlds in every run of the tests; ``make simulate`` goes on with it."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.faults import FAULTS
from tests.simulation.runner import SHOWN, SOMETIMES, Figures
from tests.simulation.world import run_seed

CHUNKS = 16
SEEDS = 1000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="session")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what chunks have counted, the same one for all workers of this run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "simulation"
    folder.mkdir(exist_ok=True)
    return folder


def counted(chunk: int, sums: Path) -> Counter[str]:
    """Run a chunk, where that was not done yet; give what it has counted."""
    path = sums / f"{chunk}.json"
    if not path.exists():
        figures = Figures()
        for seed in range(chunk, SEEDS, CHUNKS):
            outcome = run_seed(seed)
            figures.add(outcome)
            lines = "\n".join(outcome.lines[-SHOWN:])
            assert not outcome.oracle, (
                f"{lines}\nseed {seed}: {outcome.text}\nagain: python -m tests.simulation --seed {seed} --trace"
            )
        new = sums / f"{chunk}.{os.getpid()}"
        new.write_text(json.dumps(figures.counts + figures.faults))
        new.rename(path)
    return Counter(json.loads(path.read_text()))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_oracle_fires(chunk: int, sums: Path) -> None:
    assert counted(chunk, sums)


def test_every_fault_was_done_and_every_rare_branch_was_taken(sums: Path) -> None:
    seen = sum((counted(chunk, sums) for chunk in range(CHUNKS)), Counter[str]())
    assert [what for what in (*SOMETIMES, *FAULTS) if not seen[what]] == []
