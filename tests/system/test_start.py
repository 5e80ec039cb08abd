"""A start is mostly imports: what a host has not imported when it is ready, and what brings it in."""

import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.harness import PATIENCE

RUN = """
import sys
from co2.cli import main
code = main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""
"""A host that tells at its end what it has imported."""

LATE = {
    "aiohttp",
    "jinja2",
    "prometheus_client",
    "rich",
    "watchfiles",
    "packaging",
    "tomllib",
    "importlib.metadata",
}

CARRIES = {"co2.plugin.parent.package", "co2.plugin.parent.lifecycle", "co2.plugin.parent.process"}
"""What only a host with packages needs."""


def imported(folder: Path, role: str, *args: str, pages: Sequence[str] = ()) -> set[str]:
    """Start a host, ask for pages once it is ready, end it; give the modules that it has imported."""
    command = [sys.executable, "-c", RUN, role, "--port", "0", "--state", str(folder / "state"), *args]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith(f"ready {role} ")
            for page in pages:
                with urllib.request.urlopen(said.split()[-1] + page, timeout=PATIENCE) as answer:
                    assert answer.status == 200
            process.terminate()
            _, told = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0, told
    return set(told.splitlines()[-1].split())


def test_a_relay_without_relay_plugins_imports_nothing_for_them_nor_for_pages(tmp_path: Path) -> None:
    modules = imported(tmp_path, "relay")
    assert "co2.relay.host" in modules
    assert not (LATE | CARRIES) & modules


def test_a_relay_with_one_does(tmp_path: Path) -> None:
    assert imported(tmp_path, "relay", "--plugin", "throttle") >= CARRIES


@pytest.mark.parametrize("page", ["/healthz", "/static/style.css"])
def test_what_needs_no_template_brings_none_in(tmp_path: Path, page: str) -> None:
    assert not LATE & imported(tmp_path, "relay", pages=[page])


def test_a_satellite_with_a_plugin_imports_nothing_for_pages(tmp_path: Path) -> None:
    modules = imported(tmp_path, "satellite", "--plugin", "example", "--plugin-dir", str(tmp_path))
    assert modules >= CARRIES
    assert not LATE & modules


def test_pages_and_scrapes_bring_in_what_writes_them(tmp_path: Path) -> None:
    assert LATE & imported(tmp_path, "relay", pages=["/plugins", "/metrics"]) == {"jinja2", "prometheus_client"}
