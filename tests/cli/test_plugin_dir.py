"""A plugin folder that is not there: an error where it was asked for, else one line that says where we looked."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.network import environ
from tests.harness import HostProcess, running, wait_for


def refused(folder: Path, *args: str, **env: str) -> str:
    """Run a host that must not start; give what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "co2", *args, "--port", "0", "--state", str(folder / "state")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env=environ(**env),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert not (folder / "state").exists(), "nothing was started"
    return done.stderr


@pytest.mark.parametrize("role", ["relay", "satellite"])
def test_a_folder_that_was_given_and_is_not_there_is_an_error(role: str, tmp_path: Path) -> None:
    problem = f"there is no folder {tmp_path}/plugs\n"
    assert refused(tmp_path, role, "--plugin-dir", "plugs") == f"co2: --plugin-dir: {problem}"
    assert refused(tmp_path, role, CO2_PLUGIN_DIR="plugs") == f"co2: CO2_PLUGIN_DIR: {problem}"
    (tmp_path / "plugs").write_text("a file")
    file = tmp_path / "co2.toml"
    file.write_text(f'[{role}]\nplugin_dir = "plugs"\n')
    assert refused(tmp_path, role) == f"co2: {file}: [{role}] plugin_dir: {problem}"


class WithoutFolder(HostProcess):
    """A satellite that is started where there is no folder plugins."""

    def __init__(self, folder: Path, *args: str) -> None:
        remove = f"import os, sys; os.rmdir({str(folder / 'plugins')!r}); "
        run = "from co2.cli.main import main; sys.exit(main(sys.argv[1:]))"
        super().__init__(folder, "satellite", *args, program=(sys.executable, "-c", remove + run))


def test_a_satellite_without_a_plugin_says_where_it_looked(tmp_path: Path) -> None:
    satellite = WithoutFolder(tmp_path / "satellite")
    try:
        line = f"this satellite has no plugins: there is no folder {tmp_path}/satellite/plugins; choose another"
        wait_for(lambda: line in satellite.stderr, "it says so")
        assert satellite.stderr.count("has no plugins") == 1
        assert line in satellite.log()
    finally:
        assert satellite.stop() == 0


def test_nothing_is_said_where_a_package_is_named_or_the_folder_is_there(tmp_path: Path) -> None:
    satellite = WithoutFolder(tmp_path / "named", "--plugin", "example")
    assert satellite.stop() == 0
    assert "has no plugins" not in satellite.log()
    with running(tmp_path / "empty", "satellite") as other:
        assert "has no plugins" not in other.log()
