"""A state folder that was copied, as with a whole memory card: both who run with it are told, and what to do."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from co2.store.state_folder import StateFolder, default_state_path
from tests.cli.network import environ
from tests.harness import RECORDER, HostProcess, running, wait_for, write_plugin


def state(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "co2", "state", "new-id", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env=environ())


def test_both_are_told_within_seconds_and_a_new_identity_mends_it(tmp_path: Path) -> None:
    write_plugin(tmp_path / "card", "ham", mod=RECORDER)
    with running(tmp_path / "relay", "relay") as relay:
        with running(tmp_path / "card", "satellite", "--relay", relay.url) as satellite:
            wait_for(lambda: "linked to" in satellite.log(), "it is linked")
        shutil.copytree(tmp_path / "card", tmp_path / "copy")
        hosts = [
            HostProcess(tmp_path / name, "satellite", "--relay", relay.url, args)
            for name, args in (("card", "--watch"), ("copy", "--watch"))
        ]
        try:
            began = time.monotonic()
            said = "cloned: two satellites use the same identity, from 127.0.0.1 and 127.0.0.1: was a state folder"
            wait_for(lambda: all(said in host.stderr for host in hosts), "both are told", 40)
            assert time.monotonic() - began < 20
            for host in hosts:
                assert f"(for this one: co2 state new-id --state {host.state})" in host.stderr
            with relay.proxy() as proxy:
                assert proxy.relay.get_satellites() == [], "both are refused"
            done = state(tmp_path, "--state", str(hosts[1].state))
            assert done.returncode == 2
            assert f"is in use by process {hosts[1].pid}; stop it" in done.stderr
            assert hosts[1].stop() == 0
            (hosts[1].state / "outbox.db").touch()
            before = (hosts[1].state / "origin").read_text().strip()
            done = state(tmp_path, "--state", str(hosts[1].state), "--json")
            assert (done.returncode, done.stderr) == (0, "")
            told = json.loads(done.stdout)
            assert told["before"] == before != told["after"]
            assert told["aside"] == [str(hosts[1].state / f"outbox.db.of-{before}")]
            assert Path(told["aside"][0]).exists() and not (hosts[1].state / "outbox.db").exists()
            assert (hosts[1].state / "secret").read_text() != (hosts[0].state / "secret").read_text()
            with running(tmp_path / "copy", "satellite", "--relay", relay.url) as mended:
                wait_for(lambda: "linked to" in mended.log().rpartition("co2 0.")[2], "it has a link of its own")
                assert mended.host_id.partition("@")[0] == told["after"]
        finally:
            for host in hosts:
                if host.process.poll() is None:
                    host.kill()


def test_of_several_folders_none_is_taken_unnamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    one, other = (default_state_path("satellite", port) for port in (2004, 2005))
    StateFolder.open(one).close()
    before = (one / "origin").read_text()
    assert state(tmp_path).returncode == 0, "the only one there is"
    changed = (one / "origin").read_text()
    assert changed != before
    StateFolder.open(other).close()
    done = state(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"choose one with --state: {one}, {other}\n" in done.stderr
    assert (one / "origin").read_text() == changed


def test_what_is_no_state_folder_gets_no_identity(tmp_path: Path) -> None:
    done = state(tmp_path, "--state", str(tmp_path))
    assert done.returncode == 2
    assert "is not a state folder" in done.stderr
    assert list(tmp_path.iterdir()) == []
