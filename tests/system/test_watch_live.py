"""``co2 watch`` shows live channels, and a program can fetch them."""

import subprocess
import sys
from pathlib import Path

from tests.cli.network import environ
from tests.harness import running, wait_for, write_plugin

METER = """
from co2 import plugin

class X_Meter(plugin.Co2Plugin):
    live = ("meter.*",)

    def x_send(self, data_dict):
        for number in range(data_dict["data"]):
            self.send({"channel": "meter.left", "data": number})
        return True
"""


def test_live_messages_are_watched_and_fetched(tmp_path: Path) -> None:
    write_plugin(tmp_path / "satellite", "meter", mod=METER)
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "satellite", "satellite", "--relay", relay.url, "--name", "stage-pi") as satellite,
        relay.proxy() as proxy,
    ):
        wait_for(lambda: "linked to" in satellite.log(), "it is linked")
        me = {"host_id": proxy.relay.register({})["host_id"]}
        assert "live" not in proxy.relay.fetch(me), "who does not ask gets what was there before"
        assert proxy.relay.fetch({**me, "live": True})["live"] == []
        command = [sys.executable, "-m", "co2", "watch", "--count", "3", "--timeout", "40"]
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ(relay.url),
        ) as watch:
            # It is there once it fetches: until then there is nobody for whom anything is kept.
            wait_for(lambda: satellite.call("meter.mod.send", 1) and watch.poll() is not None, "it has seen three")
            out, err = watch.communicate(timeout=30)
        assert (watch.returncode, err) == (0, "")
        assert all(line.endswith(" stage-pi meter.left 0") for line in out.splitlines())
        assert len(out.splitlines()) == 3
        proxy.relay.fetch({**me, "live": True, "max": 1000})
        satellite.call("meter.mod.send", 50)
        found: list[int] = []
        while len(found) < 50:
            answer = proxy.relay.fetch({**me, "live": True, "wait": 10})
            assert answer["messages"] == [] and answer["live_missed"] == 0
            assert all("position" not in message for message in answer["live"])
            found += [message["data"] for message in answer["live"]]
        assert found == list(range(50))
        proxy.relay.unregister(me)
