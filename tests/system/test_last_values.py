"""Last values, with real hosts: a late joiner under load, restarts of everything, forgotten and expired values."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.harness import HostProcess, running, wait_for, write_plugin

RATE = int(os.environ.get("CO2_TEST_LATE_JOINER_RATE", "2000"))
"""Messages a second under which a plugin joins; ``make late-joiner`` has 20,000."""

CHANNELS = 500

SENDER = '''
import threading, time
from co2 import plugin

class X_Sender(plugin.Co2Plugin):
    """Numbers its messages on each channel."""

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.sent = 0
        self.going = False

    def x_go(self, data_dict):
        self.going = True
        self.thread = threading.Thread(target=self._go, args=(data_dict["data"],), daemon=True)
        self.thread.start()

    def _go(self, rate):
        began, first = time.monotonic(), self.sent
        while self.going:
            due = int((time.monotonic() - began) * rate) - (self.sent - first)
            for _ in range(min(due, 200)):
                self.send({"channel": f"stage.c{self.sent % 500}", "data": self.sent // 500})
                self.sent += 1
            if due < 200:
                time.sleep(0.005)

    def x_stop(self, data_dict):
        self.going = False
        self.thread.join()
        self.flush(30)
        return self.sent
'''

LAMP = '''
import json
from co2 import plugin

class X_Lamp(plugin.Co2Plugin):
    """Writes down what it gets."""

    channels = ("stage.*",)
    snapshot = True
    durable = {durable}

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.file = open("got", "a")

    def receive(self, data_dict):
        row = [data_dict["channel"], data_dict["data"], data_dict.get("snapshot", False), data_dict.get("age", 0)]
        self.file.write(json.dumps(row) + "\\n")
        self.file.flush()

    def gap(self, gap):
        with open("gaps", "a") as file:
            file.write(gap["reason"] + "\\n")
'''


def got(host: HostProcess) -> list[tuple[str, Any, bool, float]]:
    path = host.folder / "got"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [tuple(json.loads(line)) for line in lines if line.endswith("\n")]


def values(relay: HostProcess, *channels: str) -> dict[str, Any]:
    with relay.proxy() as proxy:
        found = proxy.relay.last({"channels": list(channels)} if channels else {})
    return {row["channel"]: row["message"]["data"] for row in found["values"]}


def check_each_channel(rows: list[tuple[str, Any, bool, float]], sent: int) -> None:
    """Each channel: one last value, and from there on every message once, in order, up to the last one."""
    by_channel: dict[str, list[tuple[Any, bool]]] = {}
    for channel, number, is_snapshot, _ in rows:
        by_channel.setdefault(channel, []).append((number, is_snapshot))
    assert len(by_channel) == CHANNELS
    for channel, its in by_channel.items():
        numbers = [number for number, _ in its]
        last = (sent - 1 - int(channel.removeprefix("stage.c"))) // CHANNELS
        assert [is_snapshot for _, is_snapshot in its] == [True] + [False] * (len(its) - 1), channel
        assert numbers == list(range(numbers[0], last + 1)), channel


@pytest.mark.parametrize("durable", [False, True])
def test_who_joins_in_the_middle_gets_each_channel_once_and_then_all_that_follows(
    tmp_path: Path, durable: bool
) -> None:
    write_plugin(tmp_path / "one", "snd", mod=SENDER)
    write_plugin(tmp_path / "two", "lamp", mod=LAMP.format(durable=durable))
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "one", "satellite", "--relay", relay.url) as sending,
    ):
        began = time.monotonic()
        sending.call("snd.mod.go", RATE)
        wait_for(lambda: len(values(relay, "stage.>")) == CHANNELS)
        with running(tmp_path / "two", "satellite", "--relay", relay.url) as late:
            wait_for(lambda: len(got(late)) > 3 * CHANNELS)
            sent = sending.call("snd.mod.stop")
            print(f"{sent / (time.monotonic() - began):,.0f} messages a second")
            wait_for(lambda: sum(1 for row in got(late) if row[1] == (sent - 1) // CHANNELS) > 0)
            last = {f"stage.c{n}": (sent - 1 - n) // CHANNELS for n in range(CHANNELS)}
            wait_for(lambda: {row[0]: row[1] for row in got(late)} == last)
            check_each_channel(got(late), sent)
            assert not (late.folder / "gaps").exists()
            assert values(relay, "stage.>") == last


def test_a_life_has_one_snapshot_whatever_happens_to_code_link_and_relay(tmp_path: Path) -> None:
    write_plugin(tmp_path / "sat", "lamp", mod=LAMP.format(durable=False))
    port = 0
    with running(tmp_path / "relay", "relay") as relay:
        port = int(relay.url.rpartition(":")[2])
        with relay.proxy() as network:
            network.relay.relay({"channel": "stage.a", "data": 1})
            network.relay.relay({"channel": "other", "data": 1})
        with running(tmp_path / "sat", "satellite", "--relay", relay.url) as satellite, satellite.proxy() as proxy:
            wait_for(lambda: [row[:3] for row in got(satellite)] == [("stage.a", 1, True)])
            proxy.co2.plugin.reload("lamp")
            relay.kill()
            with running(tmp_path / "relay", "relay", "--port", str(port)) as again, again.proxy() as network:
                wait_for(lambda: any(row["kind"] == "co2" for row in network.relay.get_satellites()))
                network.relay.relay({"channel": "stage.a", "data": 2})
                wait_for(lambda: [row[:3] for row in got(satellite)][1:] == [("stage.a", 2, False)])
                proxy.co2.plugin.unload("lamp")
                proxy.co2.plugin.load("lamp")  # this asks for another one
                wait_for(lambda: [row[:3] for row in got(satellite)][2:] == [("stage.a", 2, True)])


def test_a_restart_keeps_last_values_and_what_is_forgotten_stays_forgotten(tmp_path: Path) -> None:
    with running(tmp_path / "relay", "relay") as relay, relay.proxy() as network:
        for number in range(3):
            for channel in ("stage.a", "stage.b", "lab"):
                network.relay.relay({"channel": channel, "data": number})
        network.relay.relay({"channel": "short", "data": 1, "ttl": 0.001})
        network.relay.relay({"data": "none"})
        wait_for(lambda: values(relay) == {"stage.a": 2, "stage.b": 2, "lab": 2})
        assert command(relay, "forget", "--channel", "stage.a").stdout == "forgot the last message on stage.a\n"
        assert values(relay) == {"stage.b": 2, "lab": 2}
        relay.kill()
    with running(tmp_path / "relay", "relay") as relay, relay.proxy() as network:
        assert values(relay) == {"stage.b": 2, "lab": 2}
        failed = command(relay, "forget", "--channel", "stage.a")
        assert failed.returncode == 1
        assert "stage.a has no last message" in failed.stderr
        network.relay.relay({"channel": "stage.a", "data": 7})
        assert values(relay, "stage.*") == {"stage.a": 7, "stage.b": 2}
        assert command(relay, "forget", "--channel", "stage.>").stdout == "forgot the last message on 2 channels\n"
        assert values(relay) == {"lab": 2}


def test_the_command_shows_value_age_and_sender(tmp_path: Path) -> None:
    with running(tmp_path / "relay", "relay") as relay, relay.proxy() as network:
        assert command(relay, "last").stdout == "no last values\n"
        network.relay.relay({"channel": "stage.a", "data": 0.5})
        odd = {"channel": "lab", "data": {"x": "\x9b\u202e"}, "unit": "lx"}
        assert command(relay, "send", json.dumps(odd)).returncode == 0
        shown = command(relay, "last").stdout.splitlines()
        assert shown[0].split() == ["CHANNEL", "VALUE", "AGE", "SENDER"]
        channel, value, age, unit = shown[2].split()[:4]
        assert (channel, value, unit) == ("stage.a", "0.5", "s")
        assert int(age) < 60
        assert not {"\x9b", "\u202e"} & set("".join(shown))
        assert '"unit": "lx"' in shown[1]
        [row] = json.loads(command(relay, "last", "stage.*", "--json").stdout)["values"]
        assert (row["channel"], row["message"]["data"]) == ("stage.a", 0.5)
        assert 0 <= row["age"] < 60
        wrong = command(relay, "last", "a..b")
        assert wrong.returncode == 1
        assert "not a channel pattern" in wrong.stderr


def command(relay: HostProcess, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "co2", *args, "--relay", relay.url], capture_output=True, text=True, timeout=60
    )


def test_the_json_door_shows_where_things_stand(tmp_path: Path) -> None:
    sent = [("stage.a", 1), ("stage.b", {"$f": "nan"}), ("house.c", 3), ("stage.a", 4)]
    with running(tmp_path / "relay", "relay") as relay:
        began = time.time()
        body = json.dumps([{"channel": channel, "data": data} for channel, data in sent]).encode()
        request = urllib.request.Request(f"{relay.url}/api/send", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert json.load(answer)["count"] == 4

        def asked(query: str) -> dict[str, Any]:
            with urllib.request.urlopen(f"{relay.url}/api/last{query}", timeout=20) as answer:
                found: dict[str, Any] = json.load(answer)
            return found

        found = asked("?channel=stage.%3E")
        rows = found["values"]
        assert [(row["channel"], row["message"]["data"]) for row in rows] == [
            ("stage.a", 4),
            ("stage.b", {"$f": "nan"}),
        ]
        assert found["left_out"] == 0
        assert all(row["message"]["position"] <= found["position"] for row in rows)
        assert all(began - 1 <= row["message"]["at"] <= time.time() + 1 for row in rows)
        assert all(0 <= row["age"] < 60 for row in rows)
        assert [row["channel"] for row in asked("")["values"]] == ["house.c", "stage.a", "stage.b"]
        assert [row["channel"] for row in asked("?channel=house.c,stage.b")["values"]] == ["house.c", "stage.b"]
        for query, said in (("?chanel=x", "chanel"), ("?channel=a..b", "a..b")):
            with pytest.raises(urllib.error.HTTPError) as refused:
                asked(query)
            assert refused.value.code == 400
            assert said in json.load(refused.value)["error"]["text"]


ASKS = """
from co2 import plugin

class X_Asks(plugin.Co2RelayPlugin):
    def x_last(self, data_dict):
        found = self.call("relay.last", None, channels=data_dict["data"], timeout=10)
        return [[row["channel"], row["message"]["data"], row["message"]["position"]] for row in found["values"]]
"""


def test_relay_plugins_and_programs_that_speak_json_ask_for_last_values(tmp_path: Path) -> None:
    """Their results are not XML, in which members that speak XML-RPC get them."""
    write_plugin(tmp_path / "relay", "ham", asks=ASKS)
    with running(tmp_path / "relay", "relay", "--plugin", "ham") as relay, relay.proxy() as network:
        position = network.relay.relay({"channel": "stage.a", "data": 0.5})
        expected = [["stage.a", 0.5, position]]
        assert network.ham.asks.last({"data": ["stage.>"]}) == expected
        request = urllib.request.Request(
            f"{relay.url}/api/call/relay.last", b'{"channels": ["stage.>"]}', {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            [row] = json.load(answer)["result"]["values"]
        assert [row["channel"], row["message"]["data"], row["message"]["position"]] == expected[0]
