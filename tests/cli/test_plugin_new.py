"""``co2 plugin new``: what it writes passes its test as it is, and pip makes it found."""

import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from co2.cli import main
from tests.harness import running


def run(*command: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=100, env={**os.environ, **env}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["fader", "my_Fader2"])
def test_it_passes_its_own_test(tmp_path: Path, name: str) -> None:
    run("-m", "co2", "plugin", "new", name, cwd=tmp_path)
    told = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path / name)
    assert "7 passed" in told


@pytest.mark.parametrize("name", ["limits", "my_Limits2"])
def test_a_relay_plugin_passes_its_own_test(tmp_path: Path, name: str) -> None:
    run("-m", "co2", "plugin", "new", name, "--relay", cwd=tmp_path)
    told = run("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", cwd=tmp_path / name)
    assert "7 passed" in told
    assert "relay plugin" in (tmp_path / name / "pyproject.toml").read_text()
    code = (tmp_path / name / f"{name}.py").read_text()
    assert f'channels = ("{name}",)' in code
    assert '"channel"' not in code, "what the host selects it need not look for"


def test_it_runs_from_its_folder(tmp_path: Path) -> None:
    run("-m", "co2", "plugin", "new", "fader", cwd=tmp_path)
    args = ("--plugin-dir", str(tmp_path), "--plugin", "fader")
    with running(tmp_path / "one", "satellite", *args) as host, host.proxy() as proxy:
        assert proxy.fader.fader.set({"data": {"level": 2}}) == 1.0


def test_pip_makes_it_found_by_its_entry_point(tmp_path: Path) -> None:
    run("-m", "co2", "plugin", "new", "fader", cwd=tmp_path)
    site = tmp_path / "site"
    quiet = ("--quiet", "--disable-pip-version-check", "--no-build-isolation", "--no-index")
    run("-m", "pip", "install", *quiet, "--target", str(site), "./fader", cwd=tmp_path)
    assert sorted(entry.name for entry in (site / "fader").iterdir() if entry.suffix) == [
        "__init__.py",
        "fader.py",
    ]
    env = {"PYTHONPATH": str(site)}
    with running(tmp_path / "one", "satellite", "--plugin", "fader", env=env) as host, host.proxy() as proxy:
        assert proxy.fader.fader.set({"data": {"level": 0.25}}) == 0.25


def test_it_wants_nothing_by_a_name_that_anybody_may_register(tmp_path: Path) -> None:
    for flags in ((), ("--relay",)):
        run("-m", "co2", "plugin", "new", f"fader{len(flags)}", *flags, cwd=tmp_path)
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or "python-co2" not in file.read_text()
    project = tomllib.loads((tmp_path / "fader0" / "pyproject.toml").read_text())["project"]
    assert (project["dependencies"], project["optional-dependencies"]) == ([], {"test": ["pytest"]})


def test_what_it_prints_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert main(["plugin", "new", "fader"]) == 0
    told = capsys.readouterr().out
    assert "pip install" not in told
    [line] = [line for line in told.splitlines() if line.startswith("test it:")]
    done = subprocess.run(line.partition(":")[2], shell=True, capture_output=True, text=True, timeout=100)
    assert "7 passed" in done.stdout, done.stdout + done.stderr
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pytest" else find(name))
    assert main(["plugin", "new", "other"]) == 0
    told = capsys.readouterr().out
    assert f"install pytest, which the test needs:  {shlex.quote(sys.executable)} -m pip install pytest\n" in told
    assert f"test it:  cd other && {shlex.quote(sys.executable)} -m pytest\n" in told


def test_it_says_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plugin", "new", "fader", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["package"] == "fader"
    assert all(Path(file).is_file() for file in told["files"])
    assert main(["plugin", "new", "fader"]) == 1
    assert "already exists" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sys", "relay", "9a", "a-b", "../x", "_x", "json", "tests"])
def test_names_that_no_package_can_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plugin", "new", name]) == 2
    assert not [*tmp_path.iterdir()]
