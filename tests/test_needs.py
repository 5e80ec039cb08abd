"""A test whose peer is missing skips on somebody's machine; in CI, where every peer is installed, it fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere not every peer can be had")

TESTS = """
from tests.needs import needs, skip_or_fail

@needs(None, "no such peer")
def test_marked():
    pass

@needs("/usr/bin/peer", "no such peer")
def test_that_has_it():
    pass

def test_that_finds_out_late():
    skip_or_fail("no network")
"""


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, "1 passed, 2 skipped"),
        ({"CI": "1"}, "1 failed, 1 passed, 1 error"),
        ({"CO2_TEST_STRICT": "1"}, "1 failed, 1 passed, 1 error"),
    ],
)
def test_what_is_missing_skips_and_fails_in_ci(tmp_path: Path, variables: dict[str, str], told: str) -> None:
    (tmp_path / "test_ham.py").write_text(TESTS)
    clean = {name: value for name, value in os.environ.items() if name not in ("CI", "CO2_TEST_STRICT")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-c", "pyproject.toml", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=ROOT, env={**clean, **variables}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert told in done.stdout, done.stdout + done.stderr
    assert "no such peer" in done.stdout and "no network" in done.stdout


def test_the_run_of_ci_says_that_it_is_one(tmp_path: Path) -> None:
    (tmp_path / "make").write_text('#!/bin/sh\necho "$1 CI=$CI"\n')
    (tmp_path / "make").chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if name != "CI"}
    env = {**clean, "PATH": f"{tmp_path}:{clean['PATH']}"}
    done = subprocess.run([str(ROOT / ".ci" / "run")], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "lint CI=1\ntest CI=1\n"
