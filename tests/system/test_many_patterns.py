"""Packages that want more channels, or have more names, than can be told: the link is there, each gets its own."""

import json
import sys
from pathlib import Path

from co2.protocol.wire.link_frames import MAX_FIRST_FRAME
from tests.cli.network import Network, co2
from tests.harness import RECORDER, HostProcess, Proxy, running, wait_for, write_plugin

ROOT = Path(__file__).parents[2]

LISTENER = """
from co2 import plugin

class X_Listener(plugin.Co2Plugin):
    channels = tuple(f"{name}.c{{number}}" for number in range({count}))

    def receive(self, data_dict):
        with open("heard.txt", "a") as file:
            file.write("{name} " + data_dict["channel"] + "\\n")
"""


def test_a_satellite_with_hundreds_of_patterns_takes_part(tmp_path: Path) -> None:
    receiver = tmp_path / "receiver"
    for name in ("one", "two", "three"):
        write_plugin(receiver, name, ear=LISTENER.format(name=name, count=100))
    # One package whose plugins together want more than one of them may.
    write_plugin(
        receiver, "four", a=LISTENER.format(name="foura", count=200), b=LISTENER.format(name="fourb", count=200)
    )
    write_plugin(tmp_path / "sender", "recorder", rec=RECORDER)
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(receiver, "satellite", "--relay", relay.url) as ears,
        running(tmp_path / "sender", "satellite", "--relay", relay.url) as sender,
        Proxy(ears.url) as at_ears,
        Proxy(sender.url) as proxy,
    ):
        wait_for(lambda: at_ears.co2.get_properties()["registered"], "the link")
        for channel in ("one.c99", "two.c0", "three.c1", "foura.c199", "fourb.c0", "one.c100", "nobody"):
            proxy.recorder.rec.send({"data": {"data": 1, "channel": channel}})
        heard = receiver / "heard.txt"
        wanted = {"one one.c99", "two two.c0", "three three.c1", "foura foura.c199", "fourb fourb.c0"}
        wait_for(lambda: heard.exists() and set(heard.read_text().split("\n")) >= wanted, "all of it")
        assert sorted(heard.read_text().split("\n")) == sorted([*wanted, ""])


LONG = """
from co2 import plugin

class X_Listener(plugin.Co2Plugin):
    channels = tuple(f"{name}.c{{number}}.".ljust(250, "x") for number in range(250))
    durable = {durable}

    def receive(self, data_dict):
        with open("heard.txt", "a") as file:
            file.write(f"{name} {{data_dict['data']}}\\n")
"""


def test_a_satellite_with_more_patterns_than_a_hello_holds_is_back_after_each_start_of_its_relay(
    tmp_path: Path,
) -> None:
    names = ("one", "two", "three", "four", "five")
    assert len(names) * 250 * 250 > MAX_FIRST_FRAME
    receiver, heard = tmp_path / "receiver", tmp_path / "receiver" / "heard.txt"
    for name in names:
        write_plugin(receiver, name, ear=LONG.format(name=name, durable=name in ("two", "five")))
    write_plugin(tmp_path / "sender", "recorder", rec=RECORDER)
    relay = HostProcess(tmp_path / "relay", "relay")
    try:
        with (
            running(receiver, "satellite", "--relay", relay.url) as ears,
            running(tmp_path / "sender", "satellite", "--relay", relay.url) as sender,
            Proxy(ears.url) as at_ears,
            Proxy(sender.url) as proxy,
        ):
            expected: list[str] = []
            for number in range(3):
                if number:
                    port = relay.port
                    assert relay.stop() == 0
                    wait_for(lambda: not at_ears.co2.get_properties()["registered"], "the link is gone")
                    relay = HostProcess(tmp_path / "relay", "relay", "--port", str(port))
                for host in (at_ears, proxy):
                    wait_for(lambda at=host: at.co2.get_properties()["registered"], "the link")
                for name in names:
                    wait_for(lambda one=name: knows(at_ears, one), f"{name} runs")
                    channel = f"{name}.c249.".ljust(250, "x")
                    proxy.recorder.rec.send({"data": {"data": number, "channel": channel}})
                    expected.append(f"{name} {number}")
                proxy.recorder.rec.send({"data": {"data": "unwanted", "channel": "elsewhere"}})
                wait_for(lambda: heard.exists() and len(heard.read_text().split()) >= 2 * len(expected), "all")
                assert sorted(heard.read_text().splitlines()) == sorted(expected)
    finally:
        if relay.process.poll() is None:
            assert relay.stop() == 0, relay.stderr


def knows(satellite: Proxy, package: str) -> bool:
    """Tell whether a package runs."""
    rows = satellite.co2.get_properties()["plugins"]
    return any(row["name"] == package and row["state"] == "running" for row in rows)  # type: ignore[index, union-attr, call-overload]


WORDY = """
from co2 import plugin

class X_Wordy(plugin.Co2Plugin):
    def x_1(self, data_dict):
        return "called"

for number in range(551):
    setattr(X_Wordy, f"x_{number}_".ljust(112, "a"), X_Wordy.x_1)
"""


def test_names_that_are_told_to_nobody_cost_no_link_and_are_told_to_people(tmp_path: Path) -> None:
    write_plugin(tmp_path / "satellite", "wordy", mod=WORDY)
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "satellite", "satellite", "--relay", relay.url, "--name", "stage-pi") as satellite,
    ):
        net = Network(relay, satellite, tmp_path)
        told = "6 names of methods and plugins are not announced to other hosts: a host may have 4096 of each"
        wait_for(lambda: f"PROBLEM: stage-pi: {told}" in co2(net, "ps").stdout, "it is told")
        [row] = json.loads(co2(net, "ps", "--json").stdout)["satellites"]
        assert row["problems"][0].startswith(told)
        assert told in satellite.log()
        assert "called" in co2(net, "call", "wordy.mod.1").stdout


def test_a_package_more_than_can_be_told_is_not_loaded_and_that_is_told(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_plugin(tmp_path / "satellite", name, mod=RECORDER)
    program = (sys.executable, str(ROOT / "tests/system/satellite_with_few_packages.py"))
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(
            tmp_path / "satellite", "satellite", "--relay", relay.url, "--name", "stage-pi", program=program
        ) as satellite,
    ):
        net = Network(relay, satellite, tmp_path)
        told = "c on stage-pi is failed: a satellite carries at most "
        wait_for(lambda: told in co2(net, "ps").stdout, "it is told")
        assert "start another satellite for it" in satellite.log()
        done = co2(net, "plugin", "load", "c", "--url", satellite.url)
        assert (done.returncode, "start another satellite for it" in done.stderr) == (1, True)
        assert co2(net, "plugin", "unload", "b", "--url", satellite.url).returncode == 0
        assert co2(net, "plugin", "load", "c", "--url", satellite.url).returncode == 0
        assert "PROBLEM" not in co2(net, "ps").stdout and "failed" not in co2(net, "ps").stdout
