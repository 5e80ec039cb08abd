"""``co2 ps`` names the plugin packages that are in trouble, and what to type next."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from co2.cli.asking import ask_satellites
from co2.cli.packages import RECENT, in_trouble
from co2.cli.packages import trouble as words
from co2.errors import CallTimeout
from tests.cli.network import Network, co2
from tests.harness import RECORDER, running, wait_for, write_plugin

DIES = """
import os, threading
from co2 import plugin

class X_Dies(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        threading.Timer(0.3, os._exit, [3]).start()
"""
STUCK = """
import os, time
from co2 import plugin

class X_Stuck(plugin.Co2Plugin):
    def receive(self, data_dict):
        while not os.path.exists("go on"):
            time.sleep(0.02)
"""
PICKY = """
from co2 import plugin

class X_Picky(plugin.Co2Plugin):
    def receive(self, data_dict):
        raise ValueError("not this one")
"""
ERRS = """
from co2 import plugin

class X_Errs(plugin.Co2Plugin):
    def x_err(self, data_dict):
        raise ValueError("no such parrot")
"""
CONFIG = """
[satellite]
plugin_list = ["good", "broken", "dies", "nosuch"]
[limits.dies]
deaths = 1
"""


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    base = tmp_path_factory.mktemp("trouble")
    write_plugin(base / "satellite", "good", rec=RECORDER)
    write_plugin(base / "satellite", "broken", mod="1 / 0")
    write_plugin(base / "satellite", "dies", mod=DIES)
    (base / "satellite" / "co2.toml").write_text(CONFIG)
    (base / "relay").mkdir()
    (base / "relay" / "co2.toml").write_text('[relay]\nplugin_list = ["absent"]\n')
    with (
        running(base / "relay", "relay", "--name", "house") as relay,
        running(base / "satellite", "satellite", "--relay", relay.url, "--name", "stage-pi") as satellite,
    ):
        yield Network(relay, satellite, base)


def trouble(net: Network) -> dict[str, str]:
    done = co2(net, "ps", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)["satellites"]
    return {row["name"]: row["state"] for satellite in rows for row in satellite["trouble"] or ()}


def test_packages_that_have_failed_or_are_parked_are_named_with_what_to_do(net: Network) -> None:
    expected = {"broken": "failed", "dies": "parked", "nosuch": "failed"}
    wait_for(lambda: trouble(net) == expected, "all three are told")
    done = co2(net, "ps")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "TROUBLE" in lines[1]
    assert "broken failed, dies parked, nosuch failed" in lines[2]
    host_id = net.satellite.host_id
    url = f"http://127.0.0.1:{host_id.rpartition(':')[2]}"
    for name, state, error, what in (
        ("broken", "failed", "ZeroDivisionError", "reload"),
        ("dies", "parked", "is parked: its plugin host died once", "reload"),
        ("nosuch", "failed", "there is no package 'nosuch'", "load"),
    ):
        [at] = [at for at, line in enumerate(lines) if line.startswith(f"{name} on stage-pi is {state}: ")]
        assert error in lines[at]
        assert lines[at].count(state) == 1, "it is said once"
        assert lines[at + 1] == f"    fix it, then on that machine: co2 plugin {what} {name} --url {url}"
    [at] = [at for at, line in enumerate(lines) if line.startswith("absent on house is failed: ")]
    assert lines[at + 1].endswith(f": co2 plugin load absent --url {net.relay.url}"), "relays carry packages too"
    assert "good" not in "".join(lines[3:])


def test_what_is_mended_is_not_told_any_more(net: Network) -> None:
    write_plugin(net.folder / "satellite", "broken", mod=RECORDER)
    done = co2(net, "plugin", "reload", "broken", "--url", net.satellite.url)
    assert done.returncode == 0, done.stderr
    assert "broken" not in trouble(net)


def test_satellites_that_do_not_tell_in_time_are_unknown(net: Network) -> None:
    with net.relay.proxy() as proxy:
        [row] = proxy.relay.get_satellites()
    foreign, absent = {**row, "kind": "watcher"}, {**row, "name": "nobody", "host_id": "nobody@127.0.0.1:1"}
    known, nothing, error = ask_satellites(net.relay.url, [row, foreign, absent], 10)
    assert isinstance(known, dict)
    assert known["host_id"] == row["host_id"]
    assert nothing is None
    assert "nobody@127.0.0.1:1" in str(error)
    late = ask_satellites(net.relay.url, [row] * 20, 1e-9)
    assert {type(one) for one in late} == {CallTimeout}
    assert all(isinstance(one, dict) for one in ask_satellites(net.relay.url, [row] * 20, 10))


def test_packages_that_run_and_are_in_trouble_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "satellite"
    for name, code in (("stuck", STUCK), ("picky", PICKY), ("errs", ERRS), ("old", RECORDER), ("good", RECORDER)):
        write_plugin(folder, name, mod=code)
    (folder / "co2.toml").write_text("[satellite]\nreceive_warning = 0.3\n")
    with (
        running(tmp_path / "relay", "relay", "--name", "house") as relay,
        running(folder, "satellite", "--relay", relay.url, "--name", "stage-pi") as satellite,
    ):
        net = Network(relay, satellite, tmp_path)
        wait_for(lambda: "good" in co2(net, "ps", "--plugins").stdout, "the packages are there")
        assert trouble(net) == {}
        write_plugin(folder, "old", mod="1 / 0")
        assert co2(net, "plugin", "reload", "old", "--url", satellite.url).returncode == 1
        assert co2(net, "call", "errs.mod.err", "--url", satellite.url).returncode == 1
        for _ in range(2):
            co2(net, "send", '{"data": 1}')
        wait_for(
            lambda: "stuck hangs" in (out := co2(net, "ps").stdout) and "2 dead letters" in out, "all is told"
        )
        lines = co2(net, "ps").stdout.splitlines()
        for said in ("stuck hangs", "picky: 2 dead letters", "old: new code refused", "errs: error "):
            assert said in lines[2]
        assert "good" not in "".join(lines[3:])
        for told, next_step in (
            ("stuck on stage-pi hangs: ", "its log, on that machine: co2 plugin logs stuck"),
            ("picky on stage-pi has 2 dead letters: ", "co2 dead-letters --package picky"),
            ("old on stage-pi runs its old code: ", "co2 plugin reload old"),
            ("errs on stage-pi had an error ", "its log, on that machine: co2 plugin logs errs"),
        ):
            [at] = [at for at, line in enumerate(lines) if line.startswith(told)]
            assert lines[at + 1].endswith(f"{next_step} --url {satellite.url}")
        assert "ZeroDivisionError" in "".join(lines) and "no such parrot" in "".join(lines)
        packages = co2(net, "ps", "--plugins").stdout
        assert "running, hangs for " in packages
        assert "running, new code refused" in packages
        assert "running, hangs for " in co2(net, "plugin", "ls", "--url", satellite.url).stdout
        (folder / "go on").touch()
        wait_for(lambda: "stuck" not in trouble(net), "it has got on")
        co2(net, "dead-letters", "--drop-up-to", "2", "--url", satellite.url)
        write_plugin(folder, "old", mod=RECORDER)
        assert co2(net, "plugin", "reload", "old", "--url", satellite.url).returncode == 0
        assert "dead letters" not in (out := co2(net, "ps").stdout) and "old: " not in out


def test_an_older_satellite_and_an_old_error_are_no_trouble() -> None:
    row = {"name": "ham", "state": "running", "load": 1, "last_error": "E: no"}
    assert in_trouble({"plugins": [row]}) == []
    assert in_trouble({"plugins": [{**row, "last_error_age": RECENT}]}) == []
    [found] = in_trouble({"plugins": [{**row, "last_error_age": 61.0, "dead_letters": 0}]}) or []
    assert words(found) == ["ham: error 1 min ago"]
    [found] = in_trouble({"plugins": [{**row, "dead_letters": 1}]}) or []
    assert words(found) == ["ham: 1 dead letter"]
    assert in_trouble({"plugins": [{**row, "dead_letters": 1}], "counters": {"dead_letters_kept": 0}}) == []
