"""What a relay writes to its disk for messages that come one at a time, as the system counts it."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.harness import HostProcess, running, wait_for, write_plugin

GLIDE = '''
import threading, time
from co2 import plugin

class X_Fader(plugin.Co2Plugin):
    """Sends a number at a steady rate until it has sent enough."""

    def x_glide(self, data_dict):
        """Take {rate, count}; return at once."""
        threading.Thread(target=self._glide, args=(data_dict["data"],), daemon=True).start()
        return True

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


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count what is written")
@pytest.mark.parametrize(
    ("text", "most"), [("", 8192), ('[relay]\ndurability = "1s"\n', 200e6 / 3600 / 50)], ids=["as it comes", "1s"]
)
def test_messages_that_come_alone_write_little(tmp_path: Path, text: str, most: float) -> None:
    count = 200
    write_plugin(tmp_path / "sat", "desk", mod=GLIDE)
    with (
        running(tmp_path / "relay", "relay", *configured(tmp_path / "config", text)) as relay,
        running(tmp_path / "sat", "satellite", "--relay", relay.url) as satellite,
    ):
        satellite.call("desk.mod.flush", 0)
        before, ours, sent = written(relay.pid), counters(relay)["bytes_written"], counters(relay)["relayed"]
        satellite.call("desk.mod.glide", {"rate": 50, "count": count})
        wait_for(lambda: counters(relay)["relayed"] == sent + count, timeout=30)
        satellite.call("desk.mod.flush", 0)
        each = (counters(relay)["bytes_written"] - ours) / count
        assert 0 < each <= most
        if found := (written(relay.pid) - before) / count:  # 0: this folder is in memory
            assert found <= most * 1.1  # with the lines of the logs
            assert each == pytest.approx(found, rel=0.3, abs=500)  # as above


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
        waits = [satellite.call("desk.mod.flush", 0) for _ in range(3)]
        assert max(waits) > 0.5
        assert max(waits) < 3.0
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
