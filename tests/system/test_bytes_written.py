"""What a relay writes to its disk for messages that come one at a time, as the system counts it."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from co2.store.journal import HALF
from tests.harness import HostProcess, running, wait_for, write_plugin

ROOT = Path(__file__).parents[2]

GLIDE = '''
import threading, time
from co2 import plugin

class X_Fader(plugin.Co2Plugin):
    """Sends a number at a steady rate until it has sent enough."""

    def x_glide(self, data_dict):
        """Take {rate, count}; return at once."""
        self.gliding = threading.Thread(target=self._glide, args=(data_dict["data"],), daemon=True)
        self.gliding.start()
        return True

    def x_is_at_the_end(self, data_dict):
        return not self.gliding.is_alive()

    def _glide(self, told):
        begun = time.monotonic()
        for number in range(told["count"]):
            time.sleep(max(0.0, begun + number / told["rate"] - time.monotonic()))
            self.send({"data": number, "channel": "stage.fader1"})

    def x_flush(self, data_dict):
        """Return the seconds that a message takes to the relay's disk."""
        self.send({"data": "last"})
        begun = time.monotonic()
        self.flush(20)
        return time.monotonic() - begun
'''

LISTEN = '''
import time
from co2 import plugin

class X_Lamp(plugin.Co2Plugin):
    """Counts."""

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.heard = []

    def receive(self, data_dict):
        self.heard.append(time.monotonic())

    def x_heard(self, data_dict):
        return self.heard
'''


def written(pid: int) -> int:
    rows = dict(row.split(": ") for row in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(rows["write_bytes"])


def counters(relay: HostProcess) -> dict[str, Any]:
    with relay.proxy() as proxy:
        found: dict[str, Any] = proxy.co2.get_properties()["counters"]
        return found


def configured(folder: Path, text: str) -> tuple[str, str]:
    folder.mkdir(parents=True)
    path = folder / "co2.toml"
    path.write_text(text)
    path.chmod(0o600)
    return "--config", str(path)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a real disk, where there is one: what is written in memory the system does not count."""
    if on_disk(tmp_path) or not on_disk(ROOT):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix=".bytes-written-", dir=ROOT) as folder:
        yield Path(folder)


def on_disk(folder: Path) -> bool:
    """Return whether a folder is on a file system of which the system counts what goes to its disk."""
    rows = [row.split(" ") for row in Path("/proc/self/mountinfo").read_text().splitlines()]
    mounts = {Path(row[4]): row[row.index("-") + 1] for row in rows}  # of two at one place the later one counts
    place = next(one for one in (folder.resolve(), *folder.resolve().parents) if one in mounts)
    return mounts[place] in ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "overlay")


class Written:
    """What one message writes, between two moments at which nothing is under way."""

    def __init__(self, relay: HostProcess, satellite: HostProcess, folder: Path) -> None:
        self._relay, self._satellite, self._counted = relay, satellite, on_disk(folder)
        self._satellite.call("desk.mod.flush", 0)
        told = counters(relay)
        self._come_to_rest()
        self._system, self._ours, self._sent = written(relay.pid), told["bytes_written"], told["relayed"]

    def _come_to_rest(self) -> None:
        """Wait for what a new member costs: who is there is written down a second after it has changed."""
        last, since = -1, 0.0

        def at_rest() -> bool:
            nonlocal last, since
            if (now := written(self._relay.pid)) != last:
                last, since = now, time.monotonic()
            return time.monotonic() - since > 1.5

        wait_for(at_rest, "nothing is written")

    def each(self, count: int, most: float) -> float:
        """Return the bytes of a message by our own counter, once as many have come; check it by the system's."""
        # Nobody asks the relay meanwhile: each line of its log would write a page.
        wait_for(lambda: self._satellite.call("desk.mod.is_at_the_end", 0), timeout=40)
        self._satellite.call("desk.mod.flush", 0)
        system = (written(self._relay.pid) - self._system) / count
        assert counters(self._relay)["relayed"] == self._sent + count + 1
        ours = (counters(self._relay)["bytes_written"] - self._ours) / count
        print(f"{ours:,.0f} bytes a message, {system:,.0f} by the system's count")
        assert system > 0 or not self._counted, "the system counts what is written here"
        if system:
            assert system <= most * 1.1  # with the lines of the logs
            # The system counts all that the relay writes: a line of its log, and that it is still there.
            assert ours == pytest.approx(system, rel=0.3, abs=500 + 20_480 / count)
        return ours


COUNTED = pytest.mark.skipif(
    not Path("/proc/self/io").exists(), reason="the system does not count what is written"
)


@COUNTED
@pytest.mark.parametrize(
    ("text", "rate", "count", "most"),
    [("", 50, 200, 8192), ("", 4, 16, 8192), ('[relay]\ndurability = "1s"\n', 50, 200, 200e6 / 3600 / 50)],
    ids=["as it comes", "4 a second", "1s"],
)
def test_messages_that_come_alone_write_little(disk: Path, text: str, rate: int, count: int, most: float) -> None:
    write_plugin(disk / "sat", "desk", mod=GLIDE)
    with (
        running(disk / "relay", "relay", *configured(disk / "config", text)) as relay,
        running(disk / "sat", "satellite", "--relay", relay.url) as satellite,
    ):
        found = Written(relay, satellite, disk)
        satellite.call("desk.mod.glide", {"rate": rate, "count": count})
        assert 0 < found.each(count, most) <= most


CHECKPOINTS = """
from co2.cli import main
from co2.store import log_writer
log_writer.CHECKPOINT_PAGES = 16
raise SystemExit(main())
"""
"""A relay that moves its WAL into the database 64 times as often: that writes more, never less."""


@COUNTED
def test_what_goes_from_the_journal_into_the_database_and_from_the_wal_there_is_in_it(disk: Path) -> None:
    count, rate = 700, 100
    write_plugin(disk / "sat", "desk", mod=GLIDE.replace('"data": number', '"data": [number, "x" * 900]'))
    program = (sys.executable, "-c", CHECKPOINTS)
    with (
        running(disk / "relay", "relay", program=program) as relay,
        running(disk / "sat", "satellite", "--relay", relay.url) as satellite,
    ):
        found = Written(relay, satellite, disk)
        database = relay.state / "log.db"
        before = database.stat().st_size
        satellite.call("desk.mod.glide", {"rate": rate, "count": count})
        each = found.each(count, 8192)
        assert database.stat().st_size - before > HALF / 2, (
            "a half of the journal went there, and the WAL was moved"
        )
        assert 4096 <= each <= 8192, "a page for each, for they came alone, and what was moved"


def test_in_a_window_messages_pass_at_once_and_are_acknowledged_together(tmp_path: Path) -> None:
    write_plugin(tmp_path / "sat", "desk", mod=GLIDE)
    write_plugin(tmp_path / "lamp", "lamp", mod=LISTEN)
    with (
        running(
            tmp_path / "relay", "relay", *configured(tmp_path / "config", '[relay]\ndurability = "1s"\n')
        ) as relay,
        running(tmp_path / "lamp", "satellite", "--relay", relay.url) as lamp,
        running(tmp_path / "sat", "satellite", "--relay", relay.url) as satellite,
        relay.proxy() as proxy,
    ):
        wait_for(lambda: len(proxy.relay.get_satellites()) == 2)
        assert proxy.co2.get_properties()["limits"]["durability"] == 1.0
        satellite.call("desk.mod.flush", 0)
        begun = time.monotonic()
        satellite.call("desk.mod.glide", {"rate": 20, "count": 10})
        heard = wait_for(lambda: len(found := lamp.call("lamp.mod.heard", 0)) >= 11 and found)
        assert heard[1] - begun < 0.5  # long before its commit
        waiters = [satellite.call("desk.mod.flush", 0) for _ in range(3)]
        assert max(waiters) > 0.5
        assert max(waiters) < 3.0
        # Somebody waits for what comes over XML-RPC, and others behind it: that is not held up.
        me = proxy.relay.register({})["host_id"]
        begun = time.monotonic()
        for number in range(3):
            proxy.relay.relay({"host_id": me, "data": number})
        assert time.monotonic() - begun < 1.5


def test_what_waits_in_a_window_is_sent_again_where_the_relay_dies(tmp_path: Path) -> None:
    write_plugin(tmp_path / "sat", "desk", mod=GLIDE)
    options = configured(tmp_path / "config", '[relay]\ndurability = "1s"\n')
    relay = HostProcess(tmp_path / "relay", "relay", *options)
    with running(tmp_path / "sat", "satellite", "--relay", relay.url) as satellite:
        satellite.call("desk.mod.flush", 0)
        satellite.call("desk.mod.glide", {"rate": 50, "count": 40})
        wait_for(lambda: counters(relay)["relayed"] >= 20)
        os.kill(relay.pid, 9)
        relay.kill()
        with (
            running(tmp_path / "relay", "relay", "--port", str(relay.port), *options) as again,
            again.proxy() as proxy,
        ):
            me = proxy.relay.register({})["host_id"]

            def numbers() -> list[Any]:
                answer = proxy.relay.fetch({"host_id": me, "after": 0, "max": 1000, "wait": 0})
                return [message["data"] for message in answer["messages"] if message["data"] != "last"]

            wait_for(lambda: len(numbers()) >= 40)
            assert numbers() == list(range(40))
