"""The short commands start at once: nothing heavy is imported, and 200 ms are enough."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.harness import HostProcess, running

LIMIT = 0.2
"""Seconds from the start of Python to the end of a short command, on a machine where YARDSTICK takes a third of it
or less."""

YARDSTICK = "import click, http.client"
"""The libraries that a short command cannot do without. On a slow machine it may take three times as long as they
do (two are usual)."""

TRIES = 20
"""Runs of which the best counts: a machine that is busy with other tests is not what is measured."""

HEAVY = {"aiohttp", "asyncio", "rich", "jinja2", "prometheus_client", "platformdirs", "uvloop"}

SHORT = ("send", "watch", "call", "ps", "methods")

LIST_MODULES = """
import sys
from co2.cli import main
code = main(sys.argv[1:])
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
print(" ".join(name for name in sys.modules if name.startswith("co2.")), file=sys.stderr)
sys.exit(code)
"""

pytestmark = pytest.mark.xdist_group("start_up")


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    with running(tmp_path_factory.mktemp("start_up"), "relay") as host:
        yield host


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """As on a machine of a user: bytecode is written once, here into a folder of ours."""
    left_out = ("PYTHONDONTWRITEBYTECODE", "COVERAGE_PROCESS_START", "COV_CORE_SOURCE", "PYTHONDEVMODE")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CO2_") and k not in left_out}
    return {**clean, "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("bytecode"))}


def real(relay: HostProcess) -> dict[str, Sequence[str]]:
    """Each command as it is used."""
    return {
        "send": ("send", '{"data": 1}', "--relay", relay.url),
        "call": ("call", "ping", '{"data": 1}', "--url", relay.url),
        "ps": ("ps", "--relay", relay.url),
        "methods": ("methods", "--url", relay.url),
        "watch": ("watch", "--timeout", "0.01", "--relay", relay.url),
        "--version": ("--version",),
        "--help": ("--help",),
    }


def imported(args: Sequence[str], environ: dict[str, str], folder: Path) -> tuple[set[str], set[str]]:
    """Run a command; give the top-level modules, and those of co2, that it had imported at its end."""
    command = [sys.executable, "-c", LIST_MODULES, *args]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, env=environ)
    assert done.returncode in (0, 5), done.stderr
    *_, top, ours = done.stderr.splitlines()
    return set(top.split()), set(ours.split())


@pytest.mark.parametrize("command", [*SHORT, "--version", "--help"])
def test_nothing_heavy_is_imported(
    command: str, relay: HostProcess, environ: dict[str, str], tmp_path: Path
) -> None:
    top, ours = imported(real(relay)[command], environ, tmp_path)
    assert "co2.cli.main" in ours
    assert not HEAVY & top
    assert not {name for name in ours if name.startswith(("co2.server", "co2.satellite", "co2.relay", "co2.web"))}


@pytest.mark.parametrize("command", ["relay", "satellite", *SHORT])
def test_help_imports_even_less(command: str, environ: dict[str, str], tmp_path: Path) -> None:
    top, _ = imported((command, "--help"), environ, tmp_path)
    assert not (HEAVY | {"msgspec"}) & top


@pytest.fixture(scope="module")
def limit(environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> float:
    folder = tmp_path_factory.mktemp("yardstick")
    return max(LIMIT, 3 * best([sys.executable, "-c", YARDSTICK], environ, folder, LIMIT / 3))


def best(command: Sequence[str], environ: dict[str, str], folder: Path, limit: float) -> float:
    """Give the seconds of the first run within the limit, or of the best of many.

    A run counts with the time that passed or with the time of the processor that it used, whichever is less: these
    commands wait for next to nothing, so what is between the two is other programs' share of a busy machine.
    """
    took, passed = [float("inf")], [float("inf")]
    while len(took) <= TRIES and min(took) > limit:
        before, started = children(), time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, env=environ, timeout=60)
        passed.append(time.perf_counter() - started)
        took.append(min(passed[-1], children() - before))
        assert done.returncode in (0, 5), done.stderr
    assert min(passed) < 10 * limit, "it waits for something"
    return min(took)


def children() -> float:
    """Give the seconds of the processor that ended processes of ours have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("command", [*SHORT, "--version", "--help"])
def test_it_is_done_at_once(
    command: str, relay: HostProcess, environ: dict[str, str], tmp_path: Path, limit: float
) -> None:
    assert best([sys.executable, "-m", "co2", *real(relay)[command]], environ, tmp_path, limit) <= limit


@pytest.mark.parametrize("command", SHORT)
def test_its_help_is_there_at_once(command: str, environ: dict[str, str], tmp_path: Path, limit: float) -> None:
    assert best([sys.executable, "-m", "co2", command, "--help"], environ, tmp_path, limit) <= limit
