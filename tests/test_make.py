"""What ``make`` says and does where things are missing."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")


def install(folder: Path, *pairs: str) -> "subprocess.CompletedProcess[str]":
    """Run the script where there is nothing but bash."""
    bash = shutil.which("bash")
    assert bash is not None
    command = [bash, str(ROOT / "tools/install-peers.sh"), *pairs]
    return subprocess.run(command, env={"PATH": str(folder)}, capture_output=True, text=True, check=False)


def test_where_there_is_no_apt_get_the_tests_go_on_and_homebrews_command_is_told(tmp_path: Path) -> None:
    done = install(tmp_path, "co2-oscsend:liblo-tools:liblo", "co2-wrk:wrk:wrk")
    assert done.returncode == 0
    assert done.stderr == (
        "missing: liblo-tools wrk; what needs them is skipped. Install with: brew install liblo wrk\n"
    )


def test_what_nothing_goes_on_without_fails(tmp_path: Path) -> None:
    done = install(tmp_path, "co2-oscsend:liblo-tools:liblo", "co2-python:python3-venv")
    assert done.returncode == 1
    assert done.stderr == "missing: liblo-tools python3-venv; install them with your package manager\n"
    assert install(tmp_path).returncode == 0


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_help_lists_the_targets_whatever_sed_there_is() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert {"demo", "test", "elsewhere", "lint"} <= lines.keys()
    assert lines["test"] == "the whole suite"
