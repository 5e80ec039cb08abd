"""A start is mostly imports: what a host has not imported when it is ready, and what brings it in."""

import re
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


ROOT = Path(__file__).parents[2]


def process_map() -> dict[str, str]:
    """Return the processes of each file and folder below src/co2, from the table of the architecture page."""
    page = (ROOT / "docs/architecture.md").read_text()
    section = page.partition("## In which process")[2].partition("\n## ")[0].partition("| files |")[2]
    found: dict[str, str] = {}
    folder = ""
    for row in re.findall(r"^\| (.*) \|$", section, re.M):
        files, *processes = row.split(" | ")
        told = re.sub(r"plugin hosts?", "", " ".join(processes))
        names = re.findall(r"(\*\*)?`([\w./]+)`", files)
        for bold, name in names:
            if name.endswith("/"):
                folder = name
                if bold:
                    found[name] = told
            elif name.endswith(".py"):
                folder = name.rpartition("/")[0] + "/" if "/" in name else folder
                found[name if "/" in name or (ROOT / "src/co2" / name).exists() else folder + name] = told
    return found


def told_of(file: str, told: dict[str, str]) -> str:
    if file in told:
        return told[file]
    return told.get(f"{next((folder for folder in folders_of(file) if folder in told), '')}", "")


def folders_of(file: str) -> Sequence[str]:
    """Return the folders of a file, the innermost first."""
    parts = file.split("/")[:-1]
    return ["/".join(parts[:count]) + "/" for count in range(len(parts), 0, -1)]


def files_of(modules: set[str]) -> set[str]:
    """Return the files below src/co2 of modules, without packages."""
    names = [name.split(".")[1:] for name in modules if name.startswith("co2.")]
    return {file for name in names if (ROOT / "src/co2" / (file := "/".join(name) + ".py")).exists()}


@pytest.mark.parametrize("role", ["relay", "satellite"])
def test_the_map_of_processes_names_all_that_a_host_imports(tmp_path: Path, role: str) -> None:
    (tmp_path / "plugins").mkdir()
    found = files_of(imported(tmp_path, role, pages=["/", "/plugins", "/metrics"]))
    assert len(found) > 100
    told = process_map()
    assert sorted(file for file in found if not re.search(rf"\b({role}|hosts|all)\b", told_of(file, told))) == []


def test_the_map_of_processes_names_all_that_a_command_imports(tmp_path: Path) -> None:
    (tmp_path / "ham.py").write_text("from co2 import plugin\nclass X_Ham(plugin.Co2Plugin):\n    pass\n")
    run = [sys.executable, "-c", RUN]
    found: set[str] = set()
    for command in (["plugin", "check", "ham.py"], ["ps", "--url", "http://127.0.0.1:9"], ["config"]):
        done = subprocess.run([*run, *command], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
        found |= files_of(set(done.stderr.splitlines()[-1].split()))
    assert len(found) > 10
    told = process_map()
    assert sorted(file for file in found if not re.search(r"\b(commands?|all)\b", told_of(file, told))) == []
