"""Which message made a plugin send another one: a chain over several packages on several hosts."""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.harness import HostProcess, running, wait_for, write_plugin

PHONE = """
from co2 import plugin

class X_Page(plugin.Co2Plugin):
    def x_press(self, data_dict):
        self.send({"channel": "phone.button", "data": data_dict["data"]})
"""

LOGIC = """
from co2 import plugin

class X_Cue(plugin.Co2Plugin):
    channels = ("phone.*",)

    def receive(self, data_dict):
        self.send({"channel": "cue.next", "data": data_dict["data"]})
"""

DMX = """
from co2 import plugin

class X_Desk(plugin.Co2Plugin):
    channels = ("cue.*",)
    durable = DURABLE

    async def receive(self, data_dict):
        self.send({"channel": "dmx.level", "data": data_dict["data"], "ttl": 60})
"""


def messages(relay: HostProcess) -> dict[str, dict[Any, dict[str, Any]]]:
    """Return all messages by channel and data."""
    with relay.proxy() as proxy:
        me = proxy.relay.register({})
        found = proxy.relay.fetch({"host_id": me["host_id"], "after": 0, "max": 1000})["messages"]
    by_channel: dict[str, dict[Any, dict[str, Any]]] = {}
    for message in found:
        by_channel.setdefault(message["channel"], {})[message["data"]] = message
    return by_channel


def connected(relay: HostProcess) -> int:
    """Return the number of satellites."""
    with relay.proxy() as proxy:
        return sum(row["kind"] == "co2" for row in proxy.relay.get_satellites())


def chain(folder: Path, durable: bool) -> None:
    write_plugin(folder / "one", "phone", mod=PHONE)
    write_plugin(folder / "two", "cue", mod=LOGIC)
    write_plugin(folder / "two", "dmx", mod=DMX.replace("DURABLE", str(durable)))


@pytest.mark.parametrize("durable", [False, True])
def test_each_message_of_a_chain_says_which_one_made_it_happen(tmp_path: Path, durable: bool) -> None:
    chain(tmp_path, durable)
    presses = 30
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "one", "satellite", "--relay", relay.url) as phone,
        running(tmp_path / "two", "satellite", "--relay", relay.url) as desk,
    ):
        wait_for(lambda: connected(relay) == 2)
        for number in range(presses):
            phone.call("phone.mod.press", number)
        wait_for(lambda: len(messages(relay).get("dmx.level", {})) == presses)
        found = messages(relay)
        sent_before = 0
        for number in range(presses):
            button, cue, level = (found[channel][number] for channel in ("phone.button", "cue.next", "dmx.level"))
            assert "cause" not in button
            assert cue["cause"] == button["position"]
            if durable:
                assert level["cause"] == cue["position"]
            else:
                run, sent = level["cause"]
                assert type(run) is int and sent > sent_before, "a number of that satellite's run"
                sent_before = sent
        for host in (relay, phone, desk):
            with host.proxy() as asking:
                assert asking.co2.get_properties()["counters"]["express_failed"] == 0


def test_satellites_follow_the_relay_that_wants_no_causes_and_then_does(tmp_path: Path) -> None:
    chain(tmp_path, False)
    relay = HostProcess(tmp_path / "relay", "relay", env={"CO2_CAUSES": "false"})
    with (
        running(tmp_path / "one", "satellite", "--relay", relay.url) as phone,
        running(tmp_path / "two", "satellite", "--relay", relay.url) as desk,
    ):
        wait_for(lambda: connected(relay) == 2)
        phone.call("phone.mod.press", 1)
        wait_for(lambda: "dmx.level" in messages(relay))
        assert not [one for rows in messages(relay).values() for one in rows.values() if "cause" in one]
        assert relay.stop() == 0
        with running(tmp_path / "relay", "relay", "--port", relay.url.rpartition(":")[2]) as again:
            wait_for(lambda: connected(again) == 2)
            phone.call("phone.mod.press", 2)
            wait_for(lambda: 2 in messages(again)["dmx.level"])
            found = messages(again)
            assert found["cue.next"][2]["cause"] == found["phone.button"][2]["position"]
            assert "cause" in found["dmx.level"][2]
        for host in (phone, desk):
            with host.proxy() as asking:
                assert asking.co2.get_properties()["counters"]["express_failed"] == 0


def why(relay: HostProcess, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "co2", "why", "--relay", relay.url, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("durable", [False, True])
def test_co2_why_tells_the_chain(tmp_path: Path, durable: bool) -> None:
    chain(tmp_path, durable)
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "one", "satellite", "--relay", relay.url, "--name", "foyer") as phone,
        running(tmp_path / "two", "satellite", "--relay", relay.url, "--name", "stage"),
    ):
        wait_for(lambda: connected(relay) == 2)
        for number in range(20):
            phone.call("phone.mod.press", number)
        wait_for(lambda: len(messages(relay).get("dmx.level", {})) == 20)
        found = messages(relay)
        for number in (0, 7, 19):
            position = found["dmx.level"][number]["position"]
            told = json.loads(why(relay, "--json", str(position)).stdout)
            assert [(row["plugin"], row["name"], row["message"]) for row in told["chain"]] == [
                ("dmx.mod.X_Desk", "stage", found["dmx.level"][number]),
                ("cue.mod.X_Cue", "stage", found["cue.next"][number]),
                ("phone.mod.X_Page", "foyer", found["phone.button"][number]),
            ]
            assert told["end"]["kind"] == "no cause"
        last, before, first = why(relay, "--last", "dmx.level").stdout.splitlines()[:3]
        assert re.fullmatch(r"\d+  [\d:.]{12}  dmx\.level 19  from dmx\.mod\.X_Desk on stage", last)
        assert re.fullmatch(r"because \d+  [\d:.]{12}  cue\.next 19  from cue\.mod\.X_Cue on stage", before)
        assert re.fullmatch(r"because \d+  [\d:.]{12}  phone\.button 19  from phone\.mod\.X_Page on foyer", first)
        query = f"position={found['dmx.level'][7]['position']}"
        with urllib.request.urlopen(f"{relay.url}/api/why?{query}", timeout=20) as answer:
            as_json = json.load(answer)
        assert [row["message"]["channel"] for row in as_json["chain"]] == ["dmx.level", "cue.next", "phone.button"]
        nothing = why(relay, "--last", "no.such")
        assert (nothing.returncode, nothing.stdout) == (1, "")
        future = why(relay, "999999999")
        assert future.returncode == 1
        assert "has no message 999999999" in future.stderr
