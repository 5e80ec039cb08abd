"""A relay whose disk fails or is full, as a process: it ends, or refuses, and recovers."""

import os
import shutil
import signal
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from co2.errors import StorageFailed, StorageFull
from tests.harness import RECORDER, HostProcess, running, wait_for, write_plugin

ROOT = Path(__file__).parents[2]
IN_A_SMALL_DISK = (
    "unshare",
    "-rm",
    "sh",
    "-c",
    'mount -t tmpfs -o size=26m,mode=700 tmpfs state && exec "$@"',
    "sh",
)
"""Runs a program whose folder ``state`` is a disk with room for the reserve and some megabytes."""


def own_mounts() -> bool:
    """Tell whether a process here may mount something that only it sees."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def relay_message(host: HostProcess, member: str, data: Any) -> int:
    with host.proxy(10) as proxy:
        position: Any = proxy.relay.relay({"host_id": member, "data": data})
        return int(position)


def register(host: HostProcess) -> str:
    with host.proxy() as proxy:
        answer: Any = proxy.relay.register({})
        return str(answer["host_id"])


def fetched(host: HostProcess, after: int = 0) -> list[Any]:
    """Everything that is in the log, as a newcomer reads it."""
    found: list[Any] = []
    with host.proxy() as proxy:
        member = register(host)
        while True:
            answer: Any = proxy.relay.fetch({"host_id": member, "after": after, "max": 1000, "wait": 0})
            if not answer["messages"] and answer["next"] == after:
                return found
            found += [message["data"] for message in answer["messages"]]
            after = answer["next"]


def test_a_relay_whose_disk_cannot_sync_ends_and_has_acknowledged_nothing_that_is_lost(tmp_path: Path) -> None:
    program = (sys.executable, str(ROOT / "tests/system/relay_on_a_failing_disk.py"))
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    relay = HostProcess(tmp_path, "relay", env={"PYTHONPATH": os.pathsep.join(paths)}, program=program)
    member = register(relay)
    relay_message(relay, member, "safe")
    os.kill(relay.pid, signal.SIGUSR1)
    with pytest.raises((xmlrpc.client.Fault, OSError)) as caught:
        relay_message(relay, member, "lost")
    if isinstance(caught.value, xmlrpc.client.Fault):
        assert caught.value.faultCode == StorageFailed.code
    assert relay._ended() == 1
    assert "does not do its work" in relay.stderr
    assert "Traceback" not in relay.stderr
    with running(tmp_path, "relay") as again:
        assert fetched(again)[:1] == ["safe"]


def test_a_relay_that_cannot_open_its_log_says_why(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "lock").touch(mode=0o600)  # a state folder, and no other
    (tmp_path / "state" / "log.db").mkdir()
    command = [sys.executable, "-m", "co2", "relay", "--port", "0", "--state", str(tmp_path / "state")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == 1
    assert "log.db cannot be opened" in ended.stderr
    assert "Traceback" not in ended.stderr


class SmallDisk:
    """A relay whose state folder is a small disk of its own, and a satellite that sends."""

    def __init__(self, folder: Path) -> None:
        (folder / "relay" / "state").mkdir(parents=True)
        self.folder = folder
        write_plugin(folder / "a", "tell", spam=RECORDER)
        program = (*IN_A_SMALL_DISK, sys.executable, "-m", "co2")
        self.relay = HostProcess(folder / "relay", "relay", program=program)
        self.satellite = HostProcess(folder / "a", "satellite", "--relay", self.relay.url)
        self.disk = Path(f"/proc/{self.relay.pid}/root{self.relay.state}")
        with self.relay.proxy() as proxy:
            wait_for(lambda: proxy.relay.get_satellites(), "the satellite is linked")

    def send(self, data: Any) -> None:
        with self.satellite.proxy() as proxy:
            proxy.tell.spam.send({"data": {"data": data}})

    def fill(self) -> None:
        """Leave no room but the reserve's."""
        with (self.disk / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while file.write(bytes(4096)):
                pass

    def close(self) -> None:
        for host in (self.satellite, self.relay):
            if host.process.poll() is None:
                host.stop()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    if not own_mounts():
        pytest.skip("no mounts of one's own here")
    made = SmallDisk(tmp_path)
    yield made
    made.close()


def refused(relay: HostProcess, member: str) -> bool:
    try:
        relay_message(relay, member, "x" * 100_000)
    except xmlrpc.client.Fault as fault:
        assert fault.faultCode == StorageFull.code, fault
        return True
    except TimeoutError:
        return False
    return False


def test_a_relay_on_a_full_disk_refuses_serves_and_recovers_unattended(small: SmallDisk) -> None:
    relay = small.relay
    member = register(relay)
    relay_message(relay, member, "old")
    small.fill()
    taken = 0
    while not refused(relay, member):
        taken += 1
        assert taken < 300
    assert fetched(relay)[0] == "old"
    with relay.proxy() as proxy:
        assert proxy.ping() is True
    small.send("while it was full")
    (small.disk / "ballast").unlink()
    wait_for(lambda: not refused(relay, member), "messages are taken again", 10)
    wait_for(lambda: "while it was full" in fetched(relay), "what waited at the satellite arrives", 40)
    assert relay.process.poll() is None
