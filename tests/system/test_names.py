"""Hosts have names: shown first, accepted in place of a host_id, steady, and nobody else's."""

import json
import re
import subprocess
import sys
import tempfile
import urllib.request
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.network import Network, co2, environ, watching
from tests.harness import HostProcess, running, wait_for, write_plugin

WHO = """
from co2 import plugin

class X_Who(plugin.Co2Plugin):
    def x_me(self, data_dict):
        return next(host.name for host in self.hosts() if host.own)

    def x_all(self, data_dict):
        return sorted(host.name for host in self.hosts())

    def x_of(self, data_dict):
        return self.call("who.who.me", host_id=data_dict["data"], timeout=10)
"""


def rows(relay: HostProcess, **argument: Any) -> list[dict[str, Any]]:
    with relay.proxy() as proxy:
        return proxy.relay.get_satellites(argument)  # type: ignore[return-value]


def names(relay: HostProcess, **argument: Any) -> list[str]:
    return sorted(row["name"] for row in rows(relay, **argument))


def satellite_of(folder: Path, relay: HostProcess, name: str) -> HostProcess:
    """Start a satellite that wishes for a name; return it when the relay knows its methods."""
    write_plugin(folder, "who", who=WHO)
    satellite = HostProcess(folder, "satellite", "--relay", relay.url, "--name", name)
    wait_for(
        lambda: any(row["host_id"] == satellite.host_id and row["methods"] for row in rows(relay)), "it is there"
    )
    return satellite


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A relay with foyer-pi, stage-pi and a second foyer-pi, which is ``satellite``."""
    base = tmp_path_factory.mktemp("names")
    with running(base / "relay", "relay", "--name", "house") as relay:
        hosts = [satellite_of(base / f"{at}", relay, name) for at, name in enumerate(("foyer-pi", "stage-pi"))]
        hosts.append(satellite_of(base / "second", relay, "foyer-pi"))
        try:
            yield Network(relay, hosts[-1], base)
        finally:
            for host in hosts:
                host.stop()


def called(net: Network, host: str, method: str = "who.who.me") -> Any:
    done = co2(net, "call", method, "--host", host)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def refused(net: Network, host: str) -> str:
    done = co2(net, "call", "who.who.me", "--host", host)
    assert done.returncode != 0
    return done.stderr


def test_ps_shows_the_names_first(net: Network) -> None:
    head, first, *table = co2(net, "ps").stdout.splitlines()
    assert head.startswith("relay house (")
    assert first.split()[0] == "NAME"
    assert [line.split()[0] for line in table] == ["foyer-pi", "stage-pi", "foyer-pi-2"]
    assert table[2].endswith(net.satellite.host_id)
    told = json.loads(co2(net, "ps", "--json").stdout)
    assert told["relay"]["name"] == "house"
    assert [row["name"] for row in told["satellites"]] == ["foyer-pi", "stage-pi", "foyer-pi-2"]
    assert "foyer-pi-2  who" in co2(net, "ps", "--plugins").stdout
    assert "on stage-pi" in co2(net, "methods").stdout


@pytest.mark.parametrize("host", ["foyer-pi-2", "foyer-pi", "stage-pi", "s"])
def test_a_call_by_name_or_the_beginning_of_one(net: Network, host: str) -> None:
    assert called(net, host) == ("stage-pi" if host == "s" else host)


def test_a_call_by_host_id_its_origin_or_the_beginning_of_that(net: Network) -> None:
    for host in (net.satellite.host_id, net.satellite.host_id.partition("@")[0], net.satellite.host_id[:9]):
        assert called(net, host) == "foyer-pi-2"
    assert called(net, "house", "co2.get_properties")["role"] == "relay"
    assert called(net, "hou", "co2.get_properties")["role"] == "relay"


def test_what_can_mean_several_lists_them(net: Network) -> None:
    said = refused(net, "foyer")
    assert re.search(
        r"'foyer' can mean several hosts: foyer-pi \([0-9a-f]{16}\), foyer-pi-2 \([0-9a-f]{16}\); type more", said
    )


def test_an_unknown_name_is_told_with_the_nearest(net: Network) -> None:
    assert "there is no host 'stag-pi'; did you mean 'stage-pi'?" in refused(net, "stag-pi")
    assert "not a host: 'Stage Pi'; expected a name such as foyer-pi, or a host_id" in refused(net, "Stage Pi")


def test_plugins_know_names_and_call_by_them(net: Network) -> None:
    known = ["foyer-pi", "foyer-pi-2", "stage-pi"]
    wait_for(lambda: called(net, "stage-pi", "who.who.all") == known, "all are known there")
    assert net.satellite.call("who.who.of", "stage") == "stage-pi"
    with pytest.raises(xmlrpc.client.Fault, match="CallRefused"):
        net.satellite.call("who.who.of", "foyer-pi-2")
    with pytest.raises(xmlrpc.client.Fault, match="CallRefused"):
        net.satellite.call("who.who.of", net.satellite.host_id[:9])


def test_a_satellite_passes_a_call_by_name_on(net: Network) -> None:
    done = co2(net, "call", "who.who.me", "--host", "stage", "--url", net.satellite.url)
    assert (done.stdout, done.stderr) == ('"stage-pi"\n', "")
    assert net.satellite.call("co2.get_properties")["name"] == "foyer-pi-2"


def test_pages_of_both_roles_and_log_lines_show_names(net: Network) -> None:
    def page(host: HostProcess, path: str) -> str:
        with urllib.request.urlopen(f"{host.url}{path}", timeout=10) as answer:
            return " ".join(re.sub(r"<[^>]*>", " ", answer.read().decode()).split())

    assert "Relay house" in page(net.relay, "/")
    assert all(name in page(net.relay, "/satellites") for name in ("foyer-pi ", "foyer-pi-2 ", "stage-pi "))
    assert "Satellite foyer-pi-2" in page(net.satellite, "/")
    assert f"foyer-pi-2 ({net.satellite.host_id}) joined" in net.relay.log()
    assert f" as foyer-pi-2 ({net.satellite.host_id})" in net.satellite.log()


def test_watch_shows_who_sent_by_name(net: Network) -> None:
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(
            [sys.executable, "-m", "co2", "watch", "--once"],
            cwd=net.folder,
            stdout=out,
            env=environ(net.relay.url),
        ) as process,
    ):
        wait_for(lambda: any(row["kind"] == "watcher" for row in rows(net.relay)), "it is registered")
        assert co2(net, "send", '{"channel": "hello", "data": 1}').returncode == 0
        assert process.wait(30) == 0
        out.seek(0)
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} send-[a-z0-9-]+ hello 1\n", out.read())


def test_a_watch_is_a_watcher_with_a_steady_name(net: Network) -> None:
    def watchers() -> list[str]:
        return [row["name"] for row in rows(net.relay) if row["kind"] == "watcher"]

    found = []
    for _ in range(2):
        with watching(net) as process:
            wait_for(watchers, "it is listed")
            found.append(watchers())
            process.terminate()
            process.wait(10)
        assert watchers() == []
    assert found[0] == found[1]
    assert re.fullmatch(r"watch-[a-z0-9-]+", found[0][0])


def test_a_watch_that_was_killed_makes_way_for_the_next_one(net: Network) -> None:
    with net.relay.proxy() as proxy:
        first = proxy.relay.register({"name": "desk"})
        assert first["name"] == "desk"
        assert proxy.relay.register({"name": "desk"})["name"] == "desk-2", (
            "the first one may be between two fetches"
        )

        def taken() -> dict[str, Any]:
            made = proxy.relay.register({"name": "desk"})
            if made["name"] != "desk":
                proxy.relay.unregister({"host_id": made["host_id"]})
            return made if made["name"] == "desk" else {}

        again = wait_for(taken, "the first one has been silent for some seconds", 20)
        assert again["host_id"] != first["host_id"], "its cursor is its own"
        assert names(net.relay).count("desk") == 1
        assert proxy.relay.register({"host_id": again["host_id"]})["name"] == "desk", "the row stays"
        back = proxy.relay.register({"host_id": first["host_id"], "name": "desk"})
        assert back["name"].startswith("desk-"), "it was only silent, and comes back"
        for row in rows(net.relay):
            if row["kind"] == "watcher":
                proxy.relay.unregister({"host_id": row["host_id"]})


@pytest.mark.parametrize("name", ["Desk", "8f3a61c29b04d7e5", "a@b", 5, ""])
def test_a_member_without_a_link_is_told_what_a_name_is(net: Network, name: Any) -> None:
    with net.relay.proxy() as proxy, pytest.raises(xmlrpc.client.Fault, match="key 'name': expected a"):
        proxy.relay.register({"name": name})


def test_names_stay_with_their_satellites_until_they_are_forgotten(tmp_path: Path) -> None:
    with running(tmp_path / "relay", "relay") as relay:
        first = satellite_of(tmp_path / "first", relay, "foyer-pi")
        second = satellite_of(tmp_path / "second", relay, "foyer-pi")
        assert names(relay) == ["foyer-pi", "foyer-pi-2"]
        first.stop()
        second.stop()
    with running(tmp_path / "relay", "relay") as relay:
        network = Network(relay, relay, tmp_path)
        assert names(relay, away=True) == ["foyer-pi", "foyer-pi-2"]
        assert "foyer-pi-2 (" in co2(network, "ps").stdout
        second = satellite_of(tmp_path / "second", relay, "foyer-pi")
        assert names(relay) == ["foyer-pi-2"], "the first one is only away"
        said = refused(network, "foyer-pi")
        assert re.search(rf"foyer-pi \({first.host_id}\) was stopped before the relay's start", said)
        assert "'foyer' can mean several hosts" in refused(network, "foyer")
        done = co2(network, "forget", "foyr-pi")
        assert (done.returncode, "did you mean foyer-pi?" in done.stderr) == (1, True)
        assert "is connected: stop it first" in co2(network, "forget", "foyer-pi-2").stderr
        done = co2(network, "forget", "foyer-pi")
        assert (done.returncode, done.stdout) == (0, f"forgot foyer-pi ({first.host_id})\n")
        second.stop()
        second = satellite_of(tmp_path / "second", relay, "foyer-pi")
        assert names(relay) == ["foyer-pi"], "its wish is free now"
        second.stop()


def test_the_default_is_the_machine_s_name(tmp_path: Path) -> None:
    import socket

    from co2.host_name import default_host_name

    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "satellite", "satellite", "--relay", relay.url),
    ):
        wait_for(lambda: names(relay), "it is there")
        assert names(relay) == [default_host_name("satellite", socket.gethostname())]
        assert relay.call("co2.get_properties")["name"] == default_host_name("relay", socket.gethostname())
