"""A second relay on one machine is a second network: it does not begin unless somebody says so."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import running, wait_for


def start(folder: Path, port: int, *args: str) -> tuple[int, str]:
    """Start a relay whose default port is this one; give how it ended, and what it said on stderr."""
    code = (
        "import dataclasses, sys\n"
        "from co2.config import schema\n"
        f"schema.KEYS = tuple(dataclasses.replace(key, default={{'relay': {port}, 'satellite': {port + 1}}})\n"
        "                    if key.name == 'port' else key for key in schema.KEYS)\n"
        "from co2.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CO2_")}
    with subprocess.Popen(
        [sys.executable, "-c", code, "relay", *args],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean, "XDG_STATE_HOME": str(folder / "state-home")},
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline():  # it is ready
            process.terminate()
        _, err = process.communicate(timeout=30)
        return process.returncode, err


@pytest.mark.parametrize("args", [(), ("--bind", "0.0.0.0")], ids=["by itself", "for all addresses"])
def test_a_relay_does_not_start_beside_another_one(tmp_path: Path, args: tuple[str, ...]) -> None:
    with (
        running(tmp_path / "first", "relay") as relay,
        running(tmp_path / "satellite", "satellite", "--relay", relay.url) as satellite,
    ):
        wait_for(lambda: "linked to" in satellite.log(), "it is linked")
        code, err = start(tmp_path, relay.port, *args)
        assert code == 2
        found = re.fullmatch(
            rf"co2: port: a relay is already running here: {relay.url} \(up [^,]+, 1 satellite\)\. Stop it; or, "
            rf"to "
            r"run a second network beside it, choose another port with --port N\n",
            err,
        )
        assert found, err
        assert not (tmp_path / "state-home").exists(), "nothing was begun"
        code, err = start(tmp_path, relay.port, "--port", str(relay.port), *args)
        assert (code, "a relay is already running here" in err) == (2, True)
        code, err = start(tmp_path, relay.port, "--port", "0")
        assert (code, err.count("is already running here")) == (0, 0), "who asks for a second network gets it"


def test_nor_beside_one_that_was_stopped_and_does_not_answer(tmp_path: Path) -> None:
    with running(tmp_path / "first", "relay") as relay:
        # The first one is known by the state folder of its port, as where it was started without --state.
        folder = tmp_path / "state-home" / "co2" / f"relay-{relay.port}"
        folder.parent.mkdir(parents=True)
        folder.symlink_to(relay.state)
        os.kill(relay.pid, signal.SIGSTOP)
        try:
            code, err = start(tmp_path, relay.port, "--bind", "0.0.0.0")
        finally:
            os.kill(relay.pid, signal.SIGCONT)
        assert code == 2
        assert err.startswith(
            f"co2: port: a relay is already running here, process {relay.pid}, and does not answer: it may be "
            "stopped"
        )


def test_a_port_that_something_else_has_is_replaced_as_ever(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, err = start(tmp_path, port)
    assert code == 0
    assert f"co2: port {port} is taken, using " in err


def test_a_satellite_beside_another_one_takes_the_next_port(tmp_path: Path) -> None:
    with running(tmp_path / "satellite", "satellite", "--relay", "http://127.0.0.1:1") as satellite:
        code, err = start(tmp_path, satellite.port)
        assert code == 0, "a satellite at a relay's port is no relay"
        assert f"co2: port {satellite.port} is taken, using " in err
