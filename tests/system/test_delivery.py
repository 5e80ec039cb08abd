"""The promise, with real hosts: nothing lost, nothing twice, in order, through kills and cuts; or told."""

import itertools
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import HostProcess, running, wait_for, write_plugin
from tests.pids import resident

SENDER = '''
import threading, time
from co2 import plugin

class X_Sender(plugin.Co2Plugin):
    """Counts aloud, in a thread of its own."""

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.sent = 0
        self.going = False

    def x_go(self, data_dict):
        self.going = True
        self.counting = threading.Thread(target=self._count, args=(data_dict["data"],), daemon=True)
        self.counting.start()

    def _count(self, pause):
        while self.going:
            try:
                self.send({"data": self.sent})
            except TimeoutError:
                continue
            self.sent += 1
            if pause:
                time.sleep(pause)

    def x_stop(self, data_dict):
        self.going = False
        self.counting.join()
        return self.sent

    def x_flush(self, data_dict):
        self.flush(data_dict["data"])
        return self.sent
'''

RECEIVER = '''
from co2 import plugin

class X_Receiver(plugin.Co2Plugin):
    """Writes down each message before it goes on."""

    durable = {durable}

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.file = open("got", "ab", buffering=0)

    def receive(self, data_dict):
        line = f"{{data_dict['data']}} {{'again' if data_dict.get('repeat') else ''}}\\n"
        self.file.write(line.encode())

    def gap(self, gap):
        with open("gaps", "a") as file:
            file.write(gap["reason"] + "\\n")
'''


def got(host: HostProcess) -> list[int]:
    """What has arrived. A message that its plugin died in comes once more, marked: it counts once."""
    path = host.folder / "got"
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    numbers: list[int] = []
    for row in rows:
        if len(row) == 2 and numbers and numbers[-1] == int(row[0]):
            continue
        numbers.append(int(row[0]))
    return numbers


def gaps(host: HostProcess) -> list[str]:
    path = host.folder / "gaps"
    return path.read_text().splitlines() if path.exists() else []


def children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


class Net:
    """A relay that can be killed and started again, a sender, a receiver."""

    def __init__(self, folder: Path, durable: bool = False) -> None:
        self.folder = folder
        write_plugin(folder / "a", "snd", mod=SENDER)
        write_plugin(folder / "b", "rcv", mod=RECEIVER.format(durable=durable))
        self.relay = HostProcess(folder / "relay", "relay")
        self.a = HostProcess(folder / "a", "satellite", "--relay", self.relay.url)
        self.b = HostProcess(folder / "b", "satellite", "--relay", self.relay.url)
        self.wait_linked(2)

    def wait_linked(self, count: int) -> None:
        with self.relay.proxy() as proxy:
            wait_for(
                lambda: sum(row["kind"] == "co2" for row in proxy.relay.get_satellites()) == count, "links", 30
            )

    def call(self, method: str, data: Any = None) -> Any:
        with self.a.proxy() as proxy:
            return getattr(proxy.snd.mod, method)({"data": data})

    def kill_relay(self) -> None:
        port = self.relay.port
        self.relay.kill()
        self.relay = HostProcess(self.folder / "relay", "relay", "--port", str(port))

    def all_arrived(self) -> int:
        """Stop sending; wait until every message has arrived once and in order; give how many."""
        sent: int = self.call("stop")
        self.call("flush", 30)
        wait_for(lambda: len(got(self.b)) >= sent, f"{sent} messages, {len(got(self.b))} are there", 40)
        assert got(self.b) == list(range(sent))
        assert gaps(self.b) == []
        return sent

    def close(self) -> None:
        for host in (self.a, self.b, self.relay):
            if host.process.poll() is None:
                host.stop()


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    network = Net(tmp_path)
    yield network
    network.close()


def test_kills_of_the_relay_under_load(net: Net) -> None:
    net.call("go", 0.0002)
    for _ in range(8):
        before = len(got(net.b))
        wait_for(lambda before=before: len(got(net.b)) > before, "messages go on", 30)
        time.sleep(random.uniform(0, 0.2))  # a kill at any moment is the point
        net.kill_relay()
    net.wait_linked(2)
    assert net.all_arrived() > 100


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_minute_of_kills_of_the_relay_every_two_seconds_under_load(net: Net) -> None:
    net.call("go", 0.0002)
    begun = time.monotonic()
    kills = 0
    while time.monotonic() - begun < 60:
        time.sleep(max(0.0, begun + 2 * (kills + 1) - time.monotonic()))  # every two seconds is what is tried
        net.kill_relay()
        kills += 1
    net.wait_linked(2)
    assert net.all_arrived() > 10_000
    assert kills >= 25


def test_kills_of_the_receiving_plugin_host_under_load(net: Net) -> None:
    net.call("go", 0.0002)
    for _ in range(4):  # five deaths within a minute would park it
        before = len(got(net.b))
        wait_for(lambda before=before: len(got(net.b)) > before + 50, "messages go on", 30)
        (child,) = wait_for(lambda: children(net.b.pid), "a plugin host")
        os.kill(child, signal.SIGKILL)
    assert net.all_arrived() > 300


def test_a_satellite_that_stands_still_and_goes_on(net: Net) -> None:
    net.call("go", 0.001)
    wait_for(lambda: len(got(net.b)) > 10)
    os.kill(net.b.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: net.call("flush", 20) > 300, "much is sent meanwhile", 30)
    finally:
        os.kill(net.b.pid, signal.SIGCONT)
    net.all_arrived()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("who", ["relay", "a", "b"])
def test_one_that_stands_still_for_longer_than_its_link_lives(net: Net, who: str) -> None:
    net.call("go", 0.002)
    wait_for(lambda: len(got(net.b)) > 10)
    host: HostProcess = getattr(net, who)
    os.kill(host.pid, signal.SIGSTOP)
    try:
        time.sleep(40)  # that long is what is tried: the others have given up its link by then
    finally:
        os.kill(host.pid, signal.SIGCONT)
    net.wait_linked(2)
    assert net.all_arrived() > 100


def test_what_was_flushed_survives_the_death_of_everybody(tmp_path: Path) -> None:
    net = Net(tmp_path, durable=True)
    try:
        net.b.stop()
        net.call("go", 0)
        wait_for(lambda: net.call("flush", 20) > 1000)
        net.call("stop")
        flushed = net.call("flush", 20)
        net.a.kill()
        net.kill_relay()
        net.b = HostProcess(tmp_path / "b", "satellite", "--relay", net.relay.url)
        wait_for(lambda: len(got(net.b)) >= flushed, "what was flushed", 30)
        assert got(net.b) == list(range(flushed))
    finally:
        net.close()


def test_a_durable_package_goes_on_where_it_was(tmp_path: Path) -> None:
    net = Net(tmp_path, durable=True)
    try:
        net.call("go", 0.001)
        for _ in range(3):
            before = len(got(net.b))
            wait_for(lambda before=before: len(got(net.b)) > before + 20, "messages go on", 30)
            assert net.b.stop() == 0
            sent = net.call("flush", 20)
            wait_for(lambda sent=sent: net.call("flush", 20) > sent + 20, "more is sent meanwhile")
            net.b = HostProcess(tmp_path / "b", "satellite", "--relay", net.relay.url)
        net.all_arrived()
    finally:
        net.close()


def test_a_durable_package_whose_satellite_is_killed_gets_the_end_again_and_unmarked(tmp_path: Path) -> None:
    net = Net(tmp_path, durable=True)
    try:
        net.call("go", 0.001)
        wait_for(lambda: (tmp_path / "b" / "state" / "cursors.json").exists() and len(got(net.b)) > 500)
        net.b.kill()
        before = got(net.b)
        net.b = HostProcess(tmp_path / "b", "satellite", "--relay", net.relay.url)
        wait_for(lambda: got(net.b)[-1] > before[-1], "it goes on")
        sent = net.call("stop")
        net.call("flush", 30)
        wait_for(lambda: got(net.b)[-1] == sent - 1, "all of it")
        after = got(net.b)[len(before) :]
        assert before == list(range(len(before)))
        assert after == list(range(after[0], sent)), "in order, from a place before the kill"
        assert after[0] <= len(before)
        assert "again" not in (tmp_path / "b" / "got").read_text()
        assert gaps(net.b) == []
    finally:
        net.close()


def at_most_one_hole(net: Net) -> None:
    """Where the relay lost what it had: in order, nothing twice, and a little missing in one place."""
    sent = net.call("stop")
    net.call("flush", 20)
    wait_for(lambda: got(net.b)[-1:] == [sent - 1], "the rest arrives")
    numbers = got(net.b)
    assert numbers == sorted(set(numbers))
    missing = [after - before - 1 for before, after in itertools.pairwise(numbers) if after != before + 1]
    assert numbers[0] == 0
    assert len(missing) <= 1
    assert sum(missing) < sent // 2


def test_another_state_folder_of_the_relay_is_a_gap_and_no_silence(net: Net, tmp_path: Path) -> None:
    net.call("go", 0.001)
    wait_for(lambda: len(got(net.b)) > 20)
    port = net.relay.port
    net.relay.kill()
    (tmp_path / "relay" / "state").rename(tmp_path / "relay" / "older")
    net.relay = HostProcess(tmp_path / "relay", "relay", "--port", str(port))
    net.wait_linked(2)
    wait_for(lambda: "log replaced" in gaps(net.b), "the gap is told")
    at_most_one_hole(net)


def test_an_older_copy_of_the_relays_state_folder_is_found_out(net: Net, tmp_path: Path) -> None:
    state = tmp_path / "relay" / "state"
    net.call("go", 0.001)
    wait_for(lambda: len(got(net.b)) > 20)
    port = net.relay.port
    net.relay.kill()
    subprocess.run(["cp", "-a", str(state), str(tmp_path / "copy")], check=True)
    net.relay = HostProcess(tmp_path / "relay", "relay", "--port", str(port))
    net.wait_linked(2)
    before = len(got(net.b))
    wait_for(lambda: len(got(net.b)) > before + 50)
    net.relay.kill()
    subprocess.run(["rm", "-rf", str(state)], check=True)
    (tmp_path / "copy").rename(state)
    net.relay = HostProcess(tmp_path / "relay", "relay", "--port", str(port))
    net.wait_linked(2)
    wait_for(lambda: gaps(net.b), "a gap is told")
    at_most_one_hole(net)


def test_a_slow_package_gets_everything_and_costs_no_memory(tmp_path: Path) -> None:
    slow = RECEIVER.format(durable=False).replace(
        "        line =", "        import time; time.sleep(0.002)\n        line ="
    )
    write_plugin(
        tmp_path / "a", "snd", mod=SENDER.replace('{"data": self.sent}', '{"data": self.sent, "x": "x" * 20_000}')
    )
    write_plugin(tmp_path / "b", "rcv", mod=slow)
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "a", "satellite", "--relay", relay.url) as a,
        running(tmp_path / "b", "satellite", "--relay", relay.url) as b,
        relay.proxy() as proxy,
        a.proxy() as to_a,
    ):
        wait_for(lambda: len(proxy.relay.get_satellites()) == 2)
        to_a.snd.mod.go({"data": 0.0005})
        wait_for(lambda: to_a.snd.mod.flush({"data": 20}) > 2500, "50 MB are sent", 40)
        sent = to_a.snd.mod.stop({"data": 0})
        assert resident(b.pid) < 150 * 2**20
        assert resident(relay.pid) < 200 * 2**20
        wait_for(lambda: len(got(b)) >= sent, "all of it arrives", 60)
        assert got(b) == list(range(sent))
        assert gaps(b) == []
