"""A test whose peer is missing skips on somebody's machine; in CI, where every peer is installed, it fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere not every peer can be had")

TESTS = """
from tests.needs import IN_CI, needs, skip_or_fail

@needs(None, "no such peer")
def test_marked():
    pass

@needs("/usr/bin/peer", "no such peer")
def test_that_has_it():
    pass

def test_that_finds_out_late():
    skip_or_fail("no network")

def test_of_what_no_package_brings():
    skip_or_fail("no namespaces", strict=IN_CI)
"""

ROOTS = """
from tests.needs import ROOT_ONLY

@ROOT_ONLY
def test_that_gives_a_file_away():
    pass
"""


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, "1 passed, 3 skipped"),
        ({"CI": "1"}, "2 failed, 1 passed, 1 error"),
        ({"CO2_TEST_STRICT": "1"}, "1 failed, 1 passed, 1 skipped, 1 error"),
    ],
)
def test_what_is_missing_skips_and_fails_in_ci(tmp_path: Path, variables: dict[str, str], told: str) -> None:
    shown = ended(tmp_path, TESTS, variables)
    assert told in shown
    assert all(why in shown for why in ("no such peer", "no network", "no namespaces"))


@pytest.mark.parametrize(("user", "told"), [(0, "1 passed"), (1000, "1 skipped")])
@pytest.mark.parametrize("variables", [{}, {"CI": "1"}])
def test_what_only_root_can_do_skips_for_everybody_else(
    tmp_path: Path, variables: dict[str, str], user: int, told: str
) -> None:
    (tmp_path / "user.py").write_text(f"import os\nos.geteuid = lambda: {user}\n")
    assert f"\n{told} in " in ended(tmp_path, ROOTS, variables, "-p", "user")


def ended(folder: Path, tests: str, variables: dict[str, str], *first: str) -> str:
    """Run tests; return what pytest said."""
    (folder / "test_ham.py").write_text(tests)
    ours = ("CI", "CO2_TEST_STRICT", "PYTEST_ADDOPTS")
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    paths = os.pathsep.join([str(folder), str(ROOT), clean.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", *first, "-p", "tests.conftest", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "-c", "pyproject.toml", "--rootdir", str(folder), str(folder)],
        cwd=ROOT, env={**clean, **variables, "PYTHONPATH": paths}, text=True, timeout=60, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ).stdout  # fmt: skip


def test_the_run_of_ci_says_that_it_is_one(tmp_path: Path) -> None:
    (tmp_path / "make").write_text('#!/bin/sh\necho "$1 CI=$CI"\n')
    (tmp_path / "make").chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if name != "CI"}
    env = {**clean, "PATH": f"{tmp_path}:{clean['PATH']}"}
    done = subprocess.run([str(ROOT / ".ci" / "run")], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "lint CI=1\ntest CI=1\n"
