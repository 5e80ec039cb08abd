"""``co2 dead-letters`` against a relay and a satellite with a plugin that does not take everything."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.cli.network import Network, at_terminal, co2
from tests.harness import HostProcess, running, wait_for, write_plugin

PICKY = '''
from co2 import plugin

class X_Picky(plugin.Co2Plugin):
    """Takes nothing at first."""

    def receive(self, data_dict):
        if "repeat" not in data_dict or data_dict["data"] == "never":
            raise ValueError("not \\x1b[2J this one")
'''

pytestmark = pytest.mark.xdist_group("dead_letters")


@pytest.fixture
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    base = tmp_path_factory.mktemp("letters")
    write_plugin(base / "satellite", "picky", picky=PICKY)
    write_plugin(base / "satellite", "other", other=PICKY)
    with (
        running(base / "relay", "relay", "--name", "house") as relay,
        running(base / "satellite", "satellite", "--relay", relay.url, "--name", "stage-pi") as satellite,
        relay.proxy() as proxy,
    ):
        wait_for(lambda: len(proxy.relay.get_satellites()) == 1, "the satellite is there")
        wait_for(lambda: "linked to" in satellite.log(), "it has its Welcome")
        me = proxy.relay.register({})["host_id"]
        for data in ("first", "never", "\x1b[31mred"):
            proxy.relay.relay({"host_id": me, "data": data.encode() if "\x1b" in data else data, "channel": "a.b"})
        proxy.relay.unregister({"host_id": me})
        wait_for(lambda: kept(satellite) == 6, "three messages, two plugins")
        yield Network(relay, satellite, base)


def kept(satellite: HostProcess) -> int:
    with satellite.proxy() as proxy:
        return int(proxy.co2.get_properties()["counters"]["dead_letters_kept"])


def test_letters_are_shown_repeated_and_dropped(net: Network) -> None:
    url = net.satellite.url
    shown = co2(net, "dead-letters", "--url", url)
    assert (shown.returncode, shown.stderr) == (0, "")
    heading, *lines = shown.stdout.splitlines()
    assert heading.split() == ["ID", "TIME", "PLUGIN", "FROM", "REASON", "MESSAGE"]
    assert len(lines) == 6
    assert re.search(
        r"picky\.picky\.X_Picky +[\w-]+@127\.0\.0\.1:0 +ValueError: not \\x1b\[2J this one", shown.stdout
    )
    assert '"data": "first"' in shown.stdout

    rows = json.loads(co2(net, "dead-letters", "--url", url, "--package", "picky", "--json").stdout)
    assert [row["message"]["data"] for row in rows][:2] == ["first", "never"]
    assert {row["package"] for row in rows} == {"picky"}
    assert rows[0]["satellite"] == net.satellite.host_id
    first, never, _ = (row["id"] for row in rows)

    done = co2(net, "dead-letters", "--url", url, "--repeat", str(first))
    assert (done.returncode, done.stdout) == (0, f"dead letter {first}: its plugin has processed it\n")
    failed = co2(net, "dead-letters", "--url", url, "--repeat", str(never))
    assert failed.returncode == 1
    assert "fault 1008: picky.picky.X_Picky.receive: ValueError: not" in failed.stderr
    again = co2(net, "dead-letters", "--url", url, "--repeat", str(first), "--json")
    assert (again.returncode, again.stdout) == (1, "")
    assert f"no dead letter has the id {first}" in again.stderr

    dropped = co2(net, "dead-letters", "--url", url, "--package", "other", "--drop-up-to", "999", "--json")
    assert (dropped.returncode, json.loads(dropped.stdout)) == (0, {"dropped": 3})
    dropped = co2(net, "dead-letters", "--url", url, "--drop-up-to", str(never))
    assert dropped.stdout == "dropped 1 dead letter\n"
    co2(net, "dead-letters", "--url", url, "--drop-up-to", "999")
    assert co2(net, "dead-letters", "--url", url).stdout == "no dead letters\n"
    assert json.loads(co2(net, "dead-letters", "--url", url, "--json").stdout) == []


def test_a_relay_shows_those_of_its_satellites_and_changes_none(net: Network) -> None:
    shown = co2(net, "dead-letters")
    assert shown.returncode == 0
    heading, *lines = shown.stdout.splitlines()
    assert heading.startswith("SATELLITE")
    assert len(lines) == 6
    assert all(line.startswith("stage-pi ") for line in lines)
    assert len(json.loads(co2(net, "dead-letters", "--json", "--package", "picky").stdout)) == 3
    for flag in ("--repeat", "--drop-up-to"):
        refused = co2(net, "dead-letters", flag, "1")
        assert refused.returncode == 2
        assert "is a relay, and satellites keep the dead letters" in refused.stderr
    denied = co2(
        net, "call", "co2.plugin.drop_dead_letters", '{"up_to": 9, "data": 0}', "--host", net.satellite.host_id
    )
    assert denied.returncode == 4
    assert "only from the satellite's own machine" in denied.stderr
    assert kept(net.satellite) == 6


def test_a_terminal_is_not_moved_by_what_others_said(net: Network) -> None:
    code, out = at_terminal(net, "dead-letters", "--url", net.satellite.url)
    assert code == 0
    assert "\x1b[2J" not in out
    assert "\x1b[31m" not in out


def test_wrong_use(net: Network) -> None:
    for args, text in (
        (("--repeat", "0"), "0 is not in the range"),
        (("--repeat", "x"), "not a valid integer"),
        (("--repeat", "1", "--drop-up-to", "2"), "--repeat takes the ID of one dead letter"),
        (("--repeat", "1", "--package", "ham"), "--repeat takes the ID of one dead letter"),
    ):
        done = co2(net, "dead-letters", "--url", net.satellite.url, *args)
        assert done.returncode == 2
        assert text in done.stderr
    assert co2(net, "dead-letters", "--url", "http://127.0.0.1:9").returncode == 3
