"""A relay whose disk fails or is full, as a process: it ends, or refuses, and recovers."""

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from co2.errors import StorageFailed, StorageFull
from co2.store.log_writer import CHECKPOINT_PAGES
from co2.store.sqlite import PAGE_SIZE
from tests.cli.network import Network, at_terminal, co2
from tests.harness import RECORDER, HostProcess, running, wait_for, write_plugin
from tests.needs import IN_CI, skip_or_fail

ROOT = Path(__file__).parents[2]
SMALL, LARGER = 26, 64
"""MiB of a disk with room for the reserve and some megabytes; of one with room for a large WAL besides."""


def in_a_small_disk(size: int) -> tuple[str, ...]:
    """Return what runs a program whose folder ``state`` is a disk of so many MiB."""
    mounted = f'mount -t tmpfs -o size={size}m,mode=700 tmpfs state && exec "$@"'
    return ("unshare", "-rm", "sh", "-c", mounted, "sh")


def need_own_mounts() -> None:
    """Skip the test where no process may mount something that only it sees; in CI fail."""
    if shutil.which("unshare") is None:
        skip_or_fail("no unshare here (util-linux)")
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:  # a container forbids it; tests/store/test_failing_disk.py needs none
        skip_or_fail(f"no mounts of one's own here ({tried.stderr.strip()})", strict=IN_CI)


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
    assert "disk failed" in relay.stderr
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

    def __init__(self, folder: Path, size: int = SMALL) -> None:
        (folder / "relay" / "state").mkdir(parents=True)
        self.folder = folder
        write_plugin(folder / "a", "tell", spam=PLUGIN)
        write_plugin(folder / "b", "hear", spam=RECORDER)
        program = (*in_a_small_disk(size), sys.executable, "-m", "co2")
        self.relay = HostProcess(folder / "relay", "relay", program=program)
        self.satellite = HostProcess(folder / "a", "satellite", "--relay", self.relay.url)
        self.listener = HostProcess(folder / "b", "satellite", "--relay", self.relay.url)
        self.disk = Path(f"/proc/{self.relay.pid}/root{self.relay.state}")
        with self.relay.proxy() as proxy:
            wait_for(lambda: len(proxy.relay.get_satellites()) == 2, "the satellites are linked")

    def send(self, data: Any, **keys: Any) -> None:
        with self.satellite.proxy() as proxy:
            proxy.tell.spam.send({"data": {"data": data, **keys}})

    @property
    def ballast(self) -> Path:
        """What somebody else has put there."""
        return self.disk / "ballast"

    def fill(self) -> None:
        """Leave no room but the reserve's."""
        with self.ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while file.write(bytes(4096)):
                pass

    def make_room(self, size: int) -> None:
        """Make so many MiB of room, and no more."""
        left = self.ballast.stat().st_size - size * 2**20
        assert left > 0
        os.truncate(self.ballast, left)

    def close(self) -> None:
        for host in (self.listener, self.satellite, self.relay):
            if host.process.poll() is None:
                host.stop()


@pytest.fixture
def small(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SmallDisk]:
    need_own_mounts()
    made = SmallDisk(tmp_path, getattr(request, "param", SMALL))
    yield made
    made.close()


PLUGIN = (
    RECORDER
    + """
    live = ("meter.*",)

    def x_answer(self, data_dict):
        return data_dict["data"]

    def x_flush(self, data_dict):
        self.flush(data_dict["data"])
        return True
"""
)


def heard(small: "SmallDisk") -> str:
    path = small.listener.folder / "received.jsonl"
    return path.read_text() if path.exists() else ""


def link_age(relay: HostProcess) -> float:
    with relay.proxy() as proxy:
        ages = [row["age"] for row in proxy.relay.get_satellites() if "tell.spam.answer" in row["methods"]]
        return float(min(ages))


def told_everywhere(small: "SmallDisk") -> int:
    """Everywhere where somebody may look it says how much room is wanted, and where; return the least, in MiB."""
    relay = small.relay
    where = re.escape(f"the disk of {relay.state} is full: ")
    room = rf"{where}free ([0-9]+) MiB there"
    network = Network(relay, small.satellite, small.folder)
    code, red = at_terminal(network, "ps")
    assert code == 0
    said = {
        "the log": relay.stderr,
        "readyz": unready(relay),
        "the page": html.unescape(page(relay)),
        "ps": co2(network, "ps").stdout,
        "ps in red": "".join(re.findall(r"^\x1b\[31m\x1b\[1mPROBLEM: (.*)\x1b\[0m$", red, re.MULTILINE)),
    }
    told = {place: int(re.findall(room, text)[-1]) for place, text in said.items()}
    assert 'co2_lagging{kind="disk_full"} 1.0' in page(relay, "/metrics")
    assert "co2_ready 0.0" in page(relay, "/metrics")
    assert "sent again" not in small.satellite.stderr, "a satellite sends them itself"
    waiters = r"[1-9] messages wait here: the relay's disk is full, ([0-9]+) MiB more are needed"
    told["the satellite"] = int(re.findall(waiters, unready(small.satellite))[0])
    assert max(told.values()) - min(told.values()) <= 1, told  # what waited there has got to disk meanwhile
    return min(told.values())


def unready(host: HostProcess) -> str:
    """Return why a host is not ready."""
    status, problems = ready(host)
    assert status == 503
    return problems[0]


def refused(relay: HostProcess, member: str, size: int = 100_000) -> bool:
    try:
        relay_message(relay, member, "x" * size)
    except xmlrpc.client.Fault as fault:
        assert fault.faultCode == StorageFull.code, fault
        return True
    except TimeoutError:
        return False
    return False


def ready(host: HostProcess) -> tuple[int, list[str]]:
    try:
        with urllib.request.urlopen(f"{host.url}/readyz", timeout=20) as answer:
            return answer.status, json.load(answer)["problems"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["problems"]


def page(host: HostProcess, path: str = "/") -> str:
    with urllib.request.urlopen(f"{host.url}{path}", timeout=20) as answer:
        return str(answer.read().decode())


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
    begun = link_age(relay)
    small.send("while it was full")
    wait_for(lambda: "wait here" in small.satellite.stderr, "the satellite is told to wait")
    wanted = told_everywhere(small)
    with relay.proxy() as proxy:  # its methods are there
        asked = {"method_name": "tell.spam.answer", "data": 7, "host_id": small.satellite.host_id}
        assert proxy.method_call(asked) == 7
    small.send("passes", channel="meter.left")
    wait_for(lambda: '"passes"' in heard(small), "live channels pass")
    assert '"while it was full"' not in heard(small)
    with small.satellite.proxy() as proxy, pytest.raises(xmlrpc.client.Fault, match="flush"):
        proxy.tell.spam.flush({"data": 1.0})  # it waits
    small.make_room(wanted)
    wait_for(lambda: not refused(relay, member), "messages are taken again", 10)
    wait_for(lambda: "while it was full" in fetched(relay), "what waited at the satellite arrives", 40)
    wait_for(lambda: ready(relay) == (200, []), "it is ready again")
    assert 'co2_lagging{kind="disk_full"} 0.0' in page(relay, "/metrics")
    wait_for(lambda: ready(small.satellite) == (200, []), "so is the satellite")
    wait_for(lambda: '"while it was full"' in heard(small), "plugins get it")
    with small.satellite.proxy() as proxy:
        assert proxy.tell.spam.flush({"data": 20.0})
    assert link_age(relay) >= begun  # it is the same link
    assert "the link of" not in relay.stderr
    assert relay.process.poll() is None


@pytest.mark.parametrize("small", [LARGER], indirect=True)
def test_the_room_that_is_told_suffices_where_the_log_has_filled_the_disk_itself(small: SmallDisk) -> None:
    relay = small.relay
    member = register(relay)
    # With the last message the WAL is so long that it should go into the database, where there is no room.
    free = shutil.disk_usage(small.disk).free - CHECKPOINT_PAGES * PAGE_SIZE
    small.ballast.write_bytes(bytes(free))
    taken = 0
    while not refused(relay, member, 700_000):
        taken += 1
        assert taken < 30
    small.send("while it was full")
    wait_for(lambda: "wait here" in small.satellite.stderr, "the satellite is told to wait")
    small.make_room(told_everywhere(small))
    wait_for(lambda: ready(relay) == (200, []), "messages are taken again", 10)
    wait_for(lambda: '"while it was full"' in heard(small), "what waited at the satellite arrives", 40)
    assert [refused(relay, member) for _ in range(10)] == [False] * 10
    assert ready(relay) == (200, [])
