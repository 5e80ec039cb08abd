"""The commands without what Windows does not have, with a relay elsewhere: hosts do not run there, they do."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.network import environ
from tests.harness import PATIENCE, RECORDER, HostProcess, running, wait_for, write_plugin

ENV = {"PYTHONPATH": str(Path(__file__).with_name("windows"))}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux stands for Windows here")

NAMES = """
import os, select, signal, socket
for name in ("fcntl", "pwd", "grp", "resource", "termios"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    print(name)
for module, names in (
    (os, ("geteuid", "getuid", "fork", "killpg")), (select, ("poll",)), (signal, ("SIGHUP", "SIGKILL")),
    (socket, ("AF_UNIX", "MSG_DONTWAIT")),
):
    print(*(name for name in names if hasattr(module, name)))
"""


class Machine:
    """One without the names, with a co2.toml that says where the relay is."""

    def __init__(self, folder: Path, relay: HostProcess, satellite: HostProcess) -> None:
        self.relay, self.satellite = relay, satellite
        self._folder = folder
        folder.mkdir()
        (folder / "co2.toml").write_text(f'[satellite]\nrelay = "{relay.url}"\n')

    def begin(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "co2", *args],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ(**ENV),
        )

    def co2(self, *args: str) -> str:
        """Run a command to its good end; return what it wrote."""
        with self.begin(*args) as process:
            out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (0, ""), (args, err)
        return out


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    base = tmp_path_factory.mktemp("windows")
    write_plugin(base / "satellite", "recorder", rec=RECORDER)
    with (
        running(base / "relay", "relay") as relay,
        running(base / "satellite", "satellite", "--relay", relay.url) as satellite,
    ):
        wait_for(lambda: any(row["methods"] for row in relay.call("relay.get_satellites")), "the plugin is there")
        yield Machine(base / "machine", relay, satellite)


def test_names_are_gone() -> None:
    command = [sys.executable, "-c", NAMES]
    done = subprocess.run(command, env={**os.environ, **ENV}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_ps(machine: Machine) -> None:
    assert machine.satellite.host_id in machine.co2("ps")
    (row,) = json.loads(machine.co2("ps", "--json"))["satellites"]
    assert row["host_id"] == machine.satellite.host_id


def test_call(machine: Machine) -> None:
    assert machine.co2("call", "recorder.rec.send", '{"data": {"data": "called"}}') == "true\n"
    assert json.loads(machine.co2("call", "co2.get_properties"))["role"] == "relay"


def test_send(machine: Machine) -> None:
    received = machine.satellite.folder / "received.jsonl"
    assert re.fullmatch(r"sent, position \d+\n", machine.co2("send", '{"data": "from there → here"}'))
    wait_for(lambda: received.exists() and "from there \\u2192 here" in received.read_text(), "the plugin has it")


def test_watch(machine: Machine) -> None:
    with machine.begin("watch", "--once", "--json") as watch:
        try:

            def ended() -> bool:
                machine.co2("send", '{"data": [1, "shrubbery"], "channel": "stage"}')
                return watch.poll() is not None

            wait_for(ended, "watch has what it wants")
        finally:
            watch.kill()
        out, err = watch.communicate()
    assert (watch.returncode, err) == (0, "")
    shown = json.loads(out)
    assert (shown["data"], shown["channel"]) == ([1, "shrubbery"], "stage")
