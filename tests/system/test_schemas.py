"""Schemas as programs get them: at the satellite, through the relay, and on the command line."""

import json
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import pytest

from tests.harness import HostProcess, running, wait_for

ZOO = Path(__file__).parent.parent / "zoo"
GOLDEN: dict[str, Any] = json.loads((ZOO / "schemas.json").read_text())
METHODS = [name for name in GOLDEN if name.startswith("described.")]
FADE = "described.mixer.fade"
ASK = "co2.get_method_schema"


@dataclass
class Network:
    relay: HostProcess
    satellite: HostProcess

    def through_relay(self, method: str, data: str) -> Any:
        with self.relay.proxy() as proxy:
            return proxy.method_call({"method_name": method, "data": data, "host_id": self.satellite.host_id})

    def co2(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "co2", *args]
        if "--url" not in args:
            command += ["--relay", self.relay.url]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)


def described(folder: Path, relay: HostProcess) -> HostProcess:
    """A satellite with the package that has everything."""
    package = folder / "plugins" / "described"
    shutil.copytree(ZOO / "plugins" / "described", package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "co2.toml").write_text("[plugin.described]\nport = 7\n")
    return HostProcess(folder, "satellite", "--relay", relay.url)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    base = tmp_path_factory.mktemp("schemas")
    with running(base / "relay", "relay") as relay:
        satellite = described(base / "a", relay)
        try:
            with relay.proxy() as proxy:
                wait_for(lambda: any(row["methods"] for row in proxy.relay.get_satellites()), "its methods known")
            yield Network(relay, satellite)
        finally:
            assert satellite.stop() == 0


@pytest.mark.parametrize("method", METHODS)
def test_the_satellite_says_what_its_plugin_takes_and_so_does_the_relay(network: Network, method: str) -> None:
    with network.satellite.proxy() as proxy:
        found = proxy.co2.get_method_schema(method)
        assert found == proxy.co2.get_method_schema({"data": method}) == network.through_relay(ASK, method)
    assert as_json(found) == GOLDEN[method]


@pytest.mark.parametrize("method", ["described.mixer.run", "described.mixer.move"])
def test_the_json_door_has_the_schema_as_any_program_reads_it(network: Network, method: str) -> None:
    for url in (network.satellite.url, network.relay.url):
        query = urllib.parse.urlencode({"host": network.satellite.host_id})
        request = urllib.request.Request(
            f"{url}/api/call/{ASK}?{query}", json.dumps(method).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer) == {"result": GOLDEN[method]}


def as_json(value: Any) -> Any:
    """What XML-RPC has brought, as a program that reads JSON has it."""
    return json.loads(json.dumps(value))


def test_hosts_describe_their_own_methods(network: Network) -> None:
    for host in (network.satellite, network.relay):
        with host.proxy() as proxy:
            for name in proxy.system.listMethods():
                found = proxy.co2.get_method_schema(name)
                assert [*found] == ["name", "summary", "help", "parameters", "result", "danger"]
                assert found["help"] == proxy.system.methodHelp(name)
                assert "\n" not in found["summary"]
            assert proxy.co2.get_method_schema("ping")["result"] == {"type": "boolean"}


def test_the_relay_has_no_schema_of_a_method_of_others(network: Network) -> None:
    with network.relay.proxy() as proxy:
        for ask in (proxy.co2.get_method_schema, proxy.co2.get_method_help):
            with pytest.raises(Fault) as caught:
                ask(FADE)
            assert caught.value.faultCode == -32601


def test_a_configuration_is_described_on_its_own_machine_and_what_is_sent_to_everybody(network: Network) -> None:
    with network.satellite.proxy() as proxy:
        assert as_json(proxy.co2.plugin.get_config_schema("described")) == GOLDEN["[plugin.described]"]
        assert as_json(proxy.co2.plugin.get_sends_schema({"package": "described"})) == GOLDEN["sends"]
        for ask in (proxy.co2.plugin.get_config_schema, proxy.co2.plugin.get_sends_schema):
            with pytest.raises(Fault) as caught:
                ask("nope")
            assert caught.value.faultCode == 1013
    assert as_json(network.through_relay("co2.plugin.get_sends_schema", "described")) == GOLDEN["sends"]
    with pytest.raises(Fault) as caught:
        network.through_relay("co2.plugin.get_config_schema", "described")
    assert caught.value.faultCode == 1012


def test_the_command_finds_the_satellite_that_has_the_method(network: Network, tmp_path: Path) -> None:
    done = network.co2("methods", "--schema", FADE)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == GOLDEN[FADE]
    assert json.loads(network.co2("methods", "--json", "--schema", "ping").stdout)["name"] == "ping"

    done = network.co2("methods", "--schema", "described.mixer.nope")
    assert "-32601" in done.stderr
    assert done.returncode == 1
    assert "--host needs --schema" in network.co2("methods", "--host", network.satellite.host_id).stderr

    other = described(tmp_path, network.relay)
    try:
        with network.relay.proxy() as proxy:
            wait_for(lambda: sum(FADE in row["methods"] for row in proxy.relay.get_satellites()) == 2, "both")
            first, second = sorted(row["name"] for row in proxy.relay.get_satellites())
        done = network.co2("methods", "--schema", FADE)
        assert f"several hosts have {FADE}: {first}, {second}" in done.stderr
        done = network.co2("methods", "--schema", FADE, "--host", other.host_id)
        assert json.loads(done.stdout) == GOLDEN[FADE]
        # A satellite knows only its own methods.
        assert "-32601" in network.co2("methods", "--schema", "relay.relay", "--url", other.url).stderr
    finally:
        assert other.stop() == 0
