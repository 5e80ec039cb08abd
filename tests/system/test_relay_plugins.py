"""Relay plugins in real processes: what passes, is dropped, is changed, who may join, what happens in trouble."""

import contextlib
import json
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness import RECORDER, HostProcess, running, wait_for, write_plugin

FILTER = '''
import os, time
from co2 import plugin

class X_Filter(plugin.Co2RelayPlugin):
    """Drops what is odd, doubles what is on a channel, does what it is told to."""

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.seen = 0
        self.closed = False

    def relay(self, data_dict):
        self.seen += 1
        data = data_dict["data"]
        if data == "raise":
            raise ValueError("no")
        if data == "hang":
            time.sleep(60)
        if data == "die":
            os._exit(3)
        if data == "nonsense":
            return 7
        if data == "other":
            return {"data": "another", "channel": "elsewhere", "host_id": "1@1.2.3.4:5"}
        if isinstance(data, int):
            if data % 2:
                return None
            if "channel" in data_dict:
                data_dict["data"] = 2 * data
        return data_dict

    def x_seen(self, data_dict):
        return self.seen

    def x_send(self, data_dict):
        self.send(data_dict["data"])
        self.flush()
        return True

    def register(self, host):
        self.log("asked for %s", host.host_id)
        if self.closed:
            return "closed for today"

    def x_close(self, data_dict):
        self.closed = data_dict["data"]
        return True
'''


@dataclass
class Net:
    relay: HostProcess
    one: HostProcess
    two: HostProcess

    def send(self, *values: Any, **keys: Any) -> None:
        """Send from satellite one."""
        for value in values:
            assert self.one.call("recorder.recorder.send", {"data": value, **keys}) is True

    def got(self) -> list[Any]:
        """What satellite two has received."""
        return received(self.two)

    def wait(self, *values: Any) -> None:
        wait_for(lambda: self.got()[-len(values) :] == [*values], f"{values}, got {self.got()}")

    def transit(self) -> dict[str, int]:
        with self.relay.proxy() as proxy:
            (row,) = proxy.co2.get_properties()["plugins"]
            return row["transit"]


def received(host: HostProcess) -> list[Any]:
    file = host.folder / "received.jsonl"
    return [json.loads(line)["data"] for line in file.read_text().splitlines()] if file.exists() else []


@contextlib.contextmanager
def network(folder: Path, code: str = FILTER, *args: str, package: str = "filter") -> Iterator[Net]:
    write_plugin(folder / "relay", package, module=code)
    for name in ("one", "two"):
        write_plugin(folder / name, "recorder", recorder=RECORDER)
    with (
        running(folder / "relay", "relay", "--plugin", package, *args) as relay,
        running(folder / "one", "satellite", "--relay", relay.url) as one,
        running(folder / "two", "satellite", "--relay", relay.url) as two,
    ):
        for host in (one, two):
            wait_for(lambda host=host: registered(host), f"{host} to have joined")
        yield Net(relay, one, two)


def registered(host: HostProcess) -> bool:
    with host.proxy() as proxy:
        return bool(proxy.co2.get_properties()["registered"])


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    with network(tmp_path_factory.mktemp("relay-plugins")) as made:
        yield made


def test_messages_are_dropped_changed_and_passed_on(net: Net) -> None:
    before = net.transit()
    net.send(0, 1, 2, 3, "end")
    net.wait(0, 2, "end")
    net.send(4, 5, "end of channel", channel="a.b")
    net.wait(8, "end of channel")
    after = net.transit()
    counted = {key: after[key] - before[key] for key in after}
    assert counted == {"seen": 8, "dropped": 3, "changed": 1, "failed": 0, "passed_by": 0}


def test_the_sender_stays_who_it_is(net: Net) -> None:
    net.send("other")
    net.wait("another")
    (line,) = [line for line in (net.two.folder / "received.jsonl").read_text().splitlines() if "another" in line]
    message = json.loads(line)
    assert (message["host_id"], message["channel"]) == (net.one.host_id, "elsewhere")


@pytest.mark.parametrize("value", ["raise", "nonsense"])
def test_a_message_that_a_plugin_fails_on_goes_on_as_it_came(net: Net, value: str) -> None:
    failed = net.transit()["failed"]
    net.send(value, f"after {value}")
    net.wait(value, f"after {value}")
    assert net.transit()["failed"] == failed + 1
    assert "relay failed" in net.relay.log()


def test_its_methods_are_the_relay_s(net: Net) -> None:
    assert net.relay.call("filter.module.seen", None) > 0
    # Also from a satellite, which does not have it.
    assert net.one.call("method_call", None, method_name="filter.module.seen") > 0


def test_it_sends_to_all_but_the_first_sender(net: Net) -> None:
    assert net.relay.call("filter.module.send", {"data": "from the relay"}) is True
    net.wait("from the relay")
    wait_for(lambda: received(net.one)[-1:] == ["from the relay"], "the message at the other")
    assert net.relay.call("filter.module.send", {"data": "for two", "origin_host_id": net.one.host_id}) is True
    assert net.relay.call("filter.module.send", {"data": "for both"}) is True
    net.wait("for two", "for both")
    wait_for(lambda: received(net.one)[-1:] == ["for both"], "the message at the other")
    assert "for two" not in received(net.one)


def test_ps_shows_the_relay_s_packages_too(net: Net) -> None:
    command = [sys.executable, "-m", "co2", "ps", "--plugins", "--json", "--relay", net.relay.url]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert {(row["host"], row["name"], row["state"]) for row in told} == {
        (net.relay.host_id, "filter", "running"),
        (net.one.host_id, "recorder", "running"),
        (net.two.host_id, "recorder", "running"),
    }


def test_xml_rpc_passes_it_too(net: Net) -> None:
    with net.relay.proxy() as proxy:
        me = proxy.relay.register({})["host_id"]
        first = proxy.relay.relay({"host_id": me, "data": 1, "id": "odd"})
        assert proxy.relay.relay({"host_id": me, "data": 6, "id": "even"}) > first
        assert proxy.relay.relay({"host_id": me, "data": 1, "id": "odd"}) == first
        net.wait(6)
        net.send("raw")
        wait_for(
            lambda: (
                (answer := proxy.relay.fetch({"host_id": me, "wait": 1}))
                and [message["data"] for message in answer["messages"]][-1:] == ["raw"]
            ),
            "the message over XML-RPC",
        )


def test_who_is_refused_is_told_why(net: Net, tmp_path: Path) -> None:
    assert net.relay.call("filter.module.close", True) is True
    try:
        with running(tmp_path, "satellite", "--relay", net.relay.url) as host:

            def error() -> str:
                with host.proxy() as proxy:
                    return str(proxy.co2.get_properties()["relay_error"])

            wait_for(lambda: "closed for today" in error(), f"to be told, got {error()!r}")
            assert not registered(host)
        assert "may not join: filter.module.X_Filter: closed for today" in net.relay.log()
        with net.relay.proxy() as proxy, pytest.raises(xmlrpc.client.Fault, match="closed for today"):
            proxy.relay.register({})
    finally:
        assert net.relay.call("filter.module.close", False) is True
    with net.relay.proxy() as proxy:
        assert proxy.relay.register({})["host_id"]


def test_messages_pass_by_one_that_hangs_or_dies(tmp_path: Path) -> None:
    (tmp_path / "relay").mkdir()
    (tmp_path / "relay" / "co2.toml").write_text("[relay]\nreceive_deadline = 8.0\n")
    with network(tmp_path) as net:
        net.send(1, 2)
        net.wait(2)
        begun = time.monotonic()
        net.send("hang", 3, "end")
        net.wait("hang", 3, "end")
        assert time.monotonic() - begun < 7  # before the watchdog ends it
        assert net.transit()["passed_by"] >= 3
        assert "messages bypass it" in net.relay.log()
        # The watchdog ends it, and then it works again.
        wait_for(lambda: restarts(net) == 1, "a new plugin host")
        net.send(5, 6)
        net.wait(6)
        net.send("die", 7, "end")
        net.wait("end")
        assert "die" in net.got()
        wait_for(lambda: passes_again(net), "the plugin host to be back")


def restarts(net: Net) -> int:
    with net.relay.proxy() as proxy:
        (row,) = proxy.co2.get_properties()["plugins"]
        return row["restarts"] if row["state"] == "running" else 0


def test_one_that_is_slow_holds_up_only_who_sends_to_it_and_not_for_long(tmp_path: Path) -> None:
    code = """
import time
from co2 import plugin

class X_Slow(plugin.Co2RelayPlugin):
    channels = ("slow.>",)

    def relay(self, data_dict):
        time.sleep(0.3)
        return data_dict
"""
    with network(tmp_path, code, package="slow") as net:
        begun = time.monotonic()
        for number in range(60):
            assert net.one.call("recorder.recorder.send", {"data": number, "channel": "slow.a"}) is True
        with net.relay.proxy() as proxy:
            me = proxy.relay.register({})["host_id"]
            proxy.relay.relay({"host_id": me, "data": "quick", "channel": "other"})
        wait_for(lambda: "quick" in net.got(), "a message of somebody else, on another channel")
        assert len(net.got()) < 30  # the others wait
        wait_for(lambda: len(net.got()) == 61, f"all of them, got {len(net.got())}")
        assert time.monotonic() - begun < 17.0  # 18 s would be its own time
        assert [value for value in net.got() if value != "quick"] == [*range(60)]
        assert net.transit()["passed_by"] > 0
        assert "relay is slower than its messages arrive" in net.relay.log()


def test_a_relay_that_stops_lets_nothing_past_its_plugins(tmp_path: Path) -> None:
    code = """
from co2 import plugin

class X_Flood(plugin.Co2Plugin):
    def x_flood(self, data_dict):
        for number in range(data_dict["data"]):
            self.send({"data": number})
        self.send({"data": "end"})
        return True
"""
    dropper = """
from co2 import plugin

class X_Drop(plugin.Co2RelayPlugin):
    def relay(self, data_dict):
        return None if isinstance(data_dict["data"], int) else data_dict
"""
    write_plugin(tmp_path / "relay", "drop", module=dropper)
    write_plugin(tmp_path / "one", "flood", module=code)
    write_plugin(tmp_path / "two", "recorder", recorder=RECORDER)
    with running(tmp_path / "relay", "relay", "--plugin", "drop") as relay:
        url, port = relay.url, relay.port
        with (
            running(tmp_path / "one", "satellite", "--relay", url) as one,
            running(tmp_path / "two", "satellite", "--relay", url) as two,
        ):
            for host in (one, two):
                wait_for(lambda host=host: registered(host), f"{host} to have joined")
            # Well within a stop: the relay's plugins are busy when it comes.
            assert one.call("flood.module.flood", 200_000) is True
            assert relay.stop() == 0
            with running(tmp_path / "relay", "relay", "--plugin", "drop", "--port", str(port)):
                wait_for(lambda: received(two) == ["end"], f"the end alone, got {received(two)[:5]}", 60)


def test_the_chain_keeps_its_order_also_after_a_load(tmp_path: Path) -> None:
    for mark in "abc":
        code = f"""
from co2 import plugin

class X_Mark(plugin.Co2RelayPlugin):
    def relay(self, data_dict):
        data_dict["data"] += {mark!r}
        return data_dict
"""
        write_plugin(tmp_path / "relay", f"mark_{mark}", module=code)
    plugins = [word for mark in "ab" for word in ("--plugin", f"mark_{mark}")]
    with running(tmp_path / "relay", "relay", *plugins) as relay, relay.proxy() as proxy:
        me, other = (proxy.relay.register({})["host_id"] for _ in range(2))

        def passed() -> str:
            position = proxy.relay.relay({"host_id": me, "data": ""})
            (message,) = proxy.relay.fetch({"host_id": other, "after": position - 1, "wait": 5})["messages"]
            return str(message["data"])

        assert passed() == "ab"
        proxy.co2.plugin.unload("mark_a")
        assert passed() == "b"
        proxy.co2.plugin.load("mark_c")
        proxy.co2.plugin.load("mark_a")
        assert passed() == "abc"


def test_new_code_that_hangs_is_taken_back(tmp_path: Path) -> None:
    code = """
from co2 import plugin

class X_Stamp(plugin.Co2RelayPlugin):
    def relay(self, data_dict):
        data_dict["data"] = [data_dict["data"], 1]
        return data_dict
"""
    with network(tmp_path, code, package="stamp") as net:
        place = net.relay.folder / "plugins" / "stamp" / "module.py"
        place.write_text(code.replace("data_dict[", "import time; time.sleep(60); data_dict[", 1))
        with net.relay.proxy() as proxy:
            proxy.co2.plugin.reload("stamp")
        net.send("first")
        net.wait("first")  # it has passed by
        wait_for(lambda: "so the previous code" in net.relay.log() or reverted(net), "the old code to come back")
        wait_for(lambda: reverted(net) == 1, "the old code to be back")
        net.send("second")
        net.wait(["second", 1])


def reverted(net: Net) -> int:
    with net.relay.proxy() as proxy:
        (row,) = proxy.co2.get_properties()["plugins"]
        return int(row["reloads"]["reverted"]) if row["state"] == "running" else 0


def test_what_it_sends_passes_those_behind_it_only(tmp_path: Path) -> None:
    code = """
from co2 import plugin

class X_Mark(plugin.Co2RelayPlugin):
    def relay(self, data_dict):
        data_dict["data"] += MARK
        return data_dict

    def x_send(self, data_dict):
        self.send({"data": ""})
        self.flush()
        return True

class X_Quiet(plugin.Co2RelayPlugin):
    def x_send_too(self, data_dict):
        self.send({"data": "quiet "})
        self.flush()
        return True
"""
    for mark in "abc":
        write_plugin(tmp_path / "relay", f"mark_{mark}", module=f"{code}\nMARK = {mark!r}\n")
    write_plugin(tmp_path / "two", "recorder", recorder=RECORDER)
    plugins = [word for mark in "cab" for word in ("--plugin", f"mark_{mark}")]
    with (
        running(tmp_path / "relay", "relay", *plugins) as relay,
        running(tmp_path / "two", "satellite", "--relay", relay.url) as two,
    ):
        wait_for(lambda: registered(two), "it to have joined")
        with relay.proxy() as proxy:
            me = proxy.relay.register({})["host_id"]
            proxy.relay.relay({"host_id": me, "data": ""})
        for mark in "cab":
            assert relay.call(f"mark_{mark}.module.send", None) is True
            assert relay.call(f"mark_{mark}.module.send_too", None) is True
        wanted = ["cab", "ab", "quiet ab", "b", "quiet b", "", "quiet "]
        wait_for(lambda: received(two) == wanted, f"{wanted}, got {received(two)}")


def test_a_plugin_that_floods_waits_for_the_disk_and_loses_nothing(tmp_path: Path) -> None:
    code = """
from co2 import plugin

class X_Flood(plugin.Co2RelayPlugin):
    def x_flood(self, data_dict):
        for number in range(data_dict["data"]):
            self.send({"data": number, "filling": "x" * 500})
        self.flush(60)
        return True
"""
    counter = """
from co2 import plugin

class X_Count(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.wanted = 0
        self.odd = 0

    def receive(self, data_dict):
        self.odd += data_dict["data"] != self.wanted
        self.wanted = data_dict["data"] + 1

    def x_state(self, data_dict):
        return [self.wanted, self.odd]
"""
    number = 100_000  # 50 MiB: three times what may wait
    write_plugin(tmp_path / "relay", "flood", module=code)
    write_plugin(tmp_path / "one", "counter", module=counter)
    with (
        running(tmp_path / "relay", "relay", "--plugin", "flood") as relay,
        running(tmp_path / "one", "satellite", "--relay", relay.url) as one,
    ):
        wait_for(lambda: registered(one), "it to have joined")
        assert relay.call("flood.module.flood", number) is True
        state = lambda: one.call("counter.module.state", None)  # noqa: E731
        wait_for(lambda: state() == [number, 0], f"all of them in order, got {state()}", 60)


def passes_again(net: Net) -> bool:
    net.send(9, "look")
    wait_for(lambda: net.got()[-1] == "look", "the message")
    return net.got()[-2:] != [9, "look"]


def test_new_code_passes_without_a_loss(tmp_path: Path) -> None:
    numbered = """
from co2 import plugin

class X_Stamp(plugin.Co2RelayPlugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.count = 0

    def relay(self, data_dict):
        self.count += 1
        data_dict["data"] = [data_dict["data"], VERSION, self.count]
        return data_dict

    def handover(self):
        return self.count

    def takeover(self, value):
        self.count = value
"""
    with network(tmp_path, numbered + "\nVERSION = 0\n", package="stamp") as net:
        place = net.relay.folder / "plugins" / "stamp" / "module.py"
        for version in range(1, 6):
            net.send(*range(20))
            place.write_text(f"{numbered}\nVERSION = {version}\n")
            with net.relay.proxy() as proxy:
                proxy.co2.plugin.reload("stamp")
        net.send(*range(20))
        wait_for(lambda: len(net.got()) == 120, f"120 messages, got {len(net.got())}")
        assert [value[0] for value in net.got()] == 6 * [*range(20)]
        assert [value[2] for value in net.got()] == [*range(1, 121)]
        versions = [value[1] for value in net.got()]
        assert versions == sorted(versions)
        assert versions[-1] == 5
        # Code whose first call fails is taken back, and what it failed on is given to the old code.
        place.write_text(numbered.replace("self.count += 1", "1 / 0") + "\nVERSION = 6\n")
        with net.relay.proxy() as proxy:
            proxy.co2.plugin.reload("stamp")
        net.send("after")
        wait_for(lambda: net.got()[-1] == ["after", 5, 121], f"the old code, got {net.got()[-1]}")
