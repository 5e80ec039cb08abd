"""Messages that plugins do not take, with real processes: kept, through deaths of everybody, and given again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import RECORDER, HostProcess, Proxy, wait_for, write_plugin

PICKY = '''
import os, pathlib
from co2 import plugin

class X_Picky(plugin.Co2Plugin):
    """Raises on some messages and dies in others, as long as there is no file 'mended'."""

    def receive(self, data_dict):
        with open("picky.jsonl", "a") as file:
            file.write(f"{data_dict['data']['number']}\\n")
        if pathlib.Path("mended").exists():
            self.send({"data": [data_dict["data"], data_dict.get("repeat")]})
            return
        if data_dict["data"].get("what") == "raise":
            raise ValueError(f"number {data_dict['data']['number']} is not for me")
        if data_dict["data"].get("what") == "die":
            os._exit(3)
'''

COUNT = 300
RAISES = 100
DIES = 200


class Net:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_plugin(folder / "sat", "picky", picky=PICKY)
        write_plugin(folder / "sat", "recorder", rec=RECORDER)
        self.relay = HostProcess(folder / "relay", "relay")
        self.sat = self._satellite()

    def _satellite(self) -> HostProcess:
        host = HostProcess(self.folder / "sat", "satellite", "--relay", self.relay.url)
        wait_for(
            lambda: "linked to" in host.log().rpartition("co2 0.9.0 starts")[2], "the satellite has its Welcome"
        )
        return host

    def send_all(self) -> list[Any]:
        """Send numbered messages, one that raises and one that kills among them."""
        what = {RAISES: "raise", DIES: "die"}
        sent = [{"number": number, "what": what.get(number, "")} for number in range(COUNT)]
        with self.relay.proxy() as relay:
            me = relay.relay.register({})["host_id"]
            for data in sent:
                relay.relay.relay({"host_id": me, "data": data, "channel": "a.b", "unit": "dB"})
        return sent

    def restart_satellite(self) -> None:
        self.sat.kill()
        self.sat = self._satellite()

    def letters(self) -> list[dict[str, Any]]:
        with self.proxy() as proxy:
            found: list[dict[str, Any]] = proxy.co2.plugin.get_dead_letters({})  # type: ignore[assignment]
            return found

    def proxy(self) -> Proxy:
        return self.sat.proxy()

    def recorded(self) -> list[Any]:
        path = self.sat.folder / "received.jsonl"
        # What is being written at this moment may end in the middle of a line.
        lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
        return [json.loads(line)["data"] for line in lines]

    def picky(self) -> list[int]:
        path = self.sat.folder / "picky.jsonl"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def close(self) -> None:
        for host in (self.sat, self.relay):
            if host.process.poll() is None:
                host.kill()


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    network = Net(tmp_path)
    yield network
    network.close()


def test_what_a_plugin_does_not_take_is_kept_and_can_be_given_again(net: Net) -> None:
    sent = net.send_all()
    wait_for(lambda: len(net.letters()) == 2, "a letter of the one that raised, and of the one that killed")
    wait_for(lambda: len(net.recorded()) == COUNT and COUNT - 1 in net.picky(), "all the others arrive")
    assert net.recorded() == sent, "the plugin beside misses nothing, and gets nothing twice"
    tries = net.picky()
    assert [tries.count(number) for number in (RAISES, DIES)] == [1, 3]
    assert [number for number in tries if number != DIES] == [number for number in range(COUNT) if number != DIES]

    raised, died = net.letters()
    assert (raised["message"]["data"], died["message"]["data"]) == (sent[RAISES], sent[DIES])
    assert raised["message"]["unit"] == "dB"
    assert raised["message"]["host_id"] == raised["host_id"]
    assert raised["reason"] == f"ValueError: number {RAISES} is not for me"
    assert died["reason"].startswith("the plugin host died 3 times in this message")
    assert {letter["plugin"] for letter in (raised, died)} == {"picky.picky.X_Picky"}
    with net.proxy() as proxy:
        counters = proxy.co2.get_properties()["counters"]  # type: ignore[index]
        assert [counters[f"dead_letters{end}"] for end in ("", "_kept", "_gone")] == [2, 2, 0]

    net.restart_satellite()  # by kill -9
    assert net.letters() == [raised, died]

    (net.sat.folder / "mended").touch()
    with net.proxy() as proxy:
        for letter in (died, raised):
            assert proxy.co2.plugin.repeat_dead_letter({"id": letter["id"]}) is True
    assert net.letters() == []
    wait_for(lambda: len(net.recorded()) == COUNT + 2, "what the mended plugin sends then")
    assert net.recorded()[COUNT:] == [[sent[DIES], True], [sent[RAISES], True]]


def test_a_flood_of_letters_slows_nobody_and_each_is_kept_or_counted(net: Net) -> None:
    count = 20_000
    write_plugin(
        net.folder / "b",
        "flood",
        mod="""
from co2 import plugin
class X_Flood(plugin.Co2Plugin):
    def x_go(self, data_dict):
        for number in range(data_dict["data"]):
            self.send({"data": {"number": number, "what": "raise"}})
        self.flush(30)
""",
    )
    sender = HostProcess(net.folder / "b", "satellite", "--relay", net.relay.url)
    try:
        with sender.proxy() as proxy:
            wait_for(lambda: proxy.co2.get_properties()["registered"])  # type: ignore[index]
            proxy.flood.mod.go({"data": count})

        def counters() -> dict[str, int]:
            with net.proxy() as proxy:
                return dict(proxy.co2.get_properties()["counters"])  # type: ignore[call-overload,index]

        wait_for(lambda: len(net.recorded()) == count, "the plugin beside has them all", 60)
        wait_for(lambda: counters()["dead_letters"] == count, "each is counted", 60)
        wait_for(lambda: (c := counters())["dead_letters_kept"] + c["dead_letters_gone"] == count, "and found", 60)
        assert 0 < counters()["dead_letters_kept"] <= 10_000
        assert net.sat.stop() == 0
    finally:
        sender.kill()
