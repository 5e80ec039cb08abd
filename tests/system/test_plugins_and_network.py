"""Plugins of two satellites and a relay: they call each other, and know who comes and goes."""

from pathlib import Path
from typing import Any

from tests.harness import HostProcess, running, wait_for, write_plugin

SPAM = """
from co2 import plugin

class X_Spam(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.greeted = []

    def joined(self, host):
        self.greeted.append(["joined", host.host_id, sorted(host.plugins)])

    async def left(self, host):
        self.greeted.append(["left", host.host_id, sorted(host.plugins)])

    def x_greeted(self, data_dict):
        return self.greeted

    def x_hosts(self, data_dict):
        return self.hosts()

    def x_call(self, data_dict):
        try:
            return self.call(**data_dict["data"])
        except plugin.errors.PeerError as error:
            return [type(error).__name__, str(error)]

    def x_name(self, data_dict):
        return [str(self), data_dict]

    def x_count(self, data_dict):
        self.store["count"] = self.store.get("count", 0) + 1
        return self.store["count"]
"""
EGGS = SPAM.replace("X_Spam", "X_Eggs")


def call(host: HostProcess, method: str, data: Any = None) -> Any:
    with host.proxy() as proxy:
        return proxy.method_call({"method_name": method, "data": data})


def origin(host: HostProcess) -> str:
    return host.host_id.partition("@")[0]


def test_plugins_call_satellites_and_relay_and_see_hosts_come_and_go(tmp_path: Path) -> None:
    write_plugin(tmp_path / "one", "ham", spam=SPAM)
    write_plugin(tmp_path / "two", "ham", spam=SPAM)
    write_plugin(tmp_path / "two", "bacon", eggs=EGGS)
    with running(tmp_path / "relay", "relay") as relay:
        with running(tmp_path / "one", "satellite", "--relay", relay.url) as one:
            with running(tmp_path / "two", "satellite", "--relay", relay.url) as two:
                # It comes, and comes again where it tells more than before: plugins load one after the other.
                there = ["bacon.eggs.X_Eggs", "ham.spam.X_Spam"]
                wait_for(lambda: (told := call(one, "ham.spam.greeted")) and told[-1][2] == there, "the other one")
                joined = call(one, "ham.spam.greeted")
                assert {(what, host.partition("@")[0]) for what, host, _ in joined} == {("joined", origin(two))}
                wait_for(lambda: call(two, "bacon.eggs.greeted"), "who was there before")

                hosts = call(one, "ham.spam.hosts")
                assert [(row["host_id"].partition("@")[0], row["own"]) for row in hosts] == [
                    (origin(one), True),
                    (origin(two), False),
                ]
                assert hosts[1]["methods"] == sorted(
                    f"{where}.{name}"
                    for where in ("bacon.eggs", "ham.spam")
                    for name in ("call", "count", "greeted", "hosts", "name")
                )

                # without a host_id: the own satellite's before others', else the one that has it
                arguments = {"method": "bacon.eggs.name", "data": 1}
                assert call(one, "ham.spam.call", arguments) == ["bacon.eggs.X_Eggs", {"data": 1}]
                there = {"method": "ham.spam.count", "host_id": hosts[1]["host_id"]}
                assert [call(one, "ham.spam.call", there) for _ in range(2)] == [1, 2]
                assert call(two, "ham.spam.count") == 3
                assert call(one, "ham.spam.count") == 1

                # of the relay: by name, and by its host_id
                satellites = call(one, "ham.spam.call", {"method": "relay.get_satellites"})
                assert {row["host_id"].partition("@")[0] for row in satellites} == {origin(one), origin(two)}
                of_relay = {"method": "co2.get_properties", "host_id": relay.host_id}
                assert call(one, "ham.spam.call", of_relay)["role"] == "relay"
                assert call(one, "ham.spam.call", {"method": "co2.get_properties"})["role"] == "satellite"

                assert call(one, "ham.spam.call", {"method": "ham.spam.nope"})[0] == "NoSuchMethod"
                nobody = {"method": "ham.spam.name", "host_id": "nobody@127.0.0.1:9"}
                assert call(one, "ham.spam.call", nobody)[0] == "UnknownHost"
            assert wait_for(lambda: call(one, "ham.spam.greeted")[len(joined) :], "it leaves") == [
                ["left", *joined[-1][1:]]
            ]
            assert [row["own"] for row in call(one, "ham.spam.hosts")] == [True]
            relay.kill()
            there = {"method": "relay.get_satellites", "timeout": 5}
            assert wait_for(lambda: call(one, "ham.spam.call", there)[0] == "Unreachable")
        with running(tmp_path / "one", "satellite", "--relay", relay.url) as one:
            assert call(one, "ham.spam.count") == 2, "the store is there after a restart"
