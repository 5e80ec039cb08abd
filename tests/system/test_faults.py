"""What must be survived: hosts that hang, die and come back; and nothing lost in silence."""

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import RECORDER, HostProcess, Proxy, running, wait_for, write_plugin
from tests.pids import is_gone

QUICK = """
[relay]
check_interval = 0.3
drop_after = 2.0
notify_timeout = 0.5
"""


def quick(folder: Path, more: str = "") -> str:
    """Write a configuration with short intervals; give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "quick.toml"
    path.write_text(QUICK + more)
    path.chmod(0o600)
    return str(path)


def received(host: HostProcess) -> list[Any]:
    path = host.folder / "received.jsonl"
    return [json.loads(line)["data"] for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def satellites(proxy: Proxy) -> dict[str, dict[str, Any]]:
    return {row["host_id"]: row for row in proxy.relay.get_satellites()}


class Hanging:
    """A satellite that takes connections and never answers."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.sock.getsockname()[1]

    def close(self) -> None:
        self.sock.close()


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    satellite = Hanging()
    yield satellite
    satellite.close()


def test_one_hanging_and_one_dead_satellite_delay_nobody(tmp_path: Path, hanging: Hanging) -> None:
    write_plugin(tmp_path / "b", "recorder", rec=RECORDER)
    config = quick(tmp_path)
    with (
        running(tmp_path / "relay", "relay", "--config", config) as relay,
        running(tmp_path / "b", "satellite", "--relay", relay.url, "--config", config) as b,
        relay.proxy() as proxy,
    ):
        wait_for(lambda: b.host_id in satellites(proxy))
        proxy.relay.register({"port": hanging.port, "host_id": "hangs@127.0.0.1:1"})
        proxy.relay.register({"port": 1, "host_id": "dead@127.0.0.1:1"})
        start = time.monotonic()
        for number in range(100):
            proxy.relay.relay({"host_id": "me@127.0.0.1:0", "data": number})
        wait_for(lambda: len(received(b)) == 100, "all at the healthy one")
        assert time.monotonic() - start < 5
        assert received(b) == list(range(100))
        wait_for(lambda: set(satellites(proxy)) == {b.host_id}, "the gone are dropped")
        assert "dropped" in relay.log()


def test_satellites_register_again_when_the_relay_comes_back(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_plugin(tmp_path / name, "recorder", rec=RECORDER)
    config = quick(tmp_path)
    with running(tmp_path / "relay", "relay", "--config", config) as relay:
        url, port = relay.url, relay.port
        with (
            running(tmp_path / "a", "satellite", "--relay", url, "--config", config) as a,
            running(tmp_path / "b", "satellite", "--relay", url, "--config", config) as b,
            a.proxy() as to_a,
        ):
            with relay.proxy() as proxy:
                wait_for(lambda: len(satellites(proxy)) == 2)
            to_a.recorder.rec.send({"data": {"data": "before"}})
            wait_for(lambda: received(b) == ["before"])
            relay.kill()
            for number in range(20):
                to_a.recorder.rec.send({"data": {"data": number}})
            again = HostProcess(tmp_path / "relay", "relay", "--config", config, "--port", str(port))
            try:
                wait_for(lambda: len(received(b)) >= 21, "what was sent meanwhile arrives")
                assert received(b) == ["before", *range(20)]
                assert "gap" not in b.log()
            finally:
                assert again.stop() == 0


def test_a_stopped_satellite_gets_what_it_missed_once_and_in_order(tmp_path: Path) -> None:
    write_plugin(tmp_path / "b", "recorder", rec=RECORDER)
    config = quick(tmp_path)
    with (
        running(tmp_path / "relay", "relay", "--config", config) as relay,
        running(tmp_path / "b", "satellite", "--relay", relay.url, "--config", config) as b,
        relay.proxy() as proxy,
    ):
        wait_for(lambda: b.host_id in satellites(proxy))
        os.kill(b.pid, signal.SIGSTOP)
        try:
            for number in range(200):
                proxy.relay.relay({"host_id": "me@127.0.0.1:0", "data": number})
            wait_for(lambda: b.host_id not in satellites(proxy), "dropped for silence")
        finally:
            os.kill(b.pid, signal.SIGCONT)
        wait_for(lambda: len(received(b)) >= 200, "everything arrives after it woke up")
        assert received(b) == list(range(200))


def test_who_falls_out_of_the_log_is_told_the_gap(tmp_path: Path) -> None:
    write_plugin(tmp_path / "b", "recorder", rec=RECORDER)
    config = quick(tmp_path).replace("quick", "small")
    Path(config).write_text(QUICK.replace("[relay]", "[relay]\nlog_bytes = 1_048_576"))
    Path(config).chmod(0o600)
    with (
        running(tmp_path / "relay", "relay", "--config", config) as relay,
        running(tmp_path / "b", "satellite", "--relay", relay.url, "--config", config) as b,
        relay.proxy() as proxy,
    ):
        wait_for(lambda: b.host_id in satellites(proxy))
        me = proxy.relay.register({})
        os.kill(b.pid, signal.SIGSTOP)
        try:
            for number in range(60):
                message = {"host_id": "me@127.0.0.1:0", "data": number, "ballast": bytes(500_000)}
                proxy.relay.relay(message)
        finally:
            os.kill(b.pid, signal.SIGCONT)
        wait_for(lambda: 59 in received(b))
        got = received(b)
        assert got == sorted(set(got))
        assert len(got) < 60
        wait_for(lambda: "gap" in b.log(), "the satellite's log tells the gap")
        answer = proxy.relay.fetch({"host_id": me["host_id"], "after": me["position"]})
        assert answer["gaps"][0]["reason"] == "retention"
        while not answer["messages"]:  # a gap may come alone, where what follows is in memory and not on disk
            assert answer["next"] < 60
            answer = proxy.relay.fetch({"host_id": me["host_id"], "after": answer["next"]})
        assert 0 < answer["messages"][0]["data"] <= 59


def test_a_full_relay_says_so_with_a_fault_of_its_own(tmp_path: Path) -> None:
    config = quick(tmp_path)
    Path(config).write_text("[relay]\nmax_sats = 2\n")
    with running(tmp_path / "relay", "relay", "--config", config) as relay, relay.proxy() as proxy:
        first = proxy.relay.register({})
        proxy.relay.register({})
        with pytest.raises(Exception, match=r"1004.*max_sats is 2"):
            proxy.relay.register({})
        assert proxy.co2.get_properties()["limits"]["max_sats"] == 2
        assert proxy.relay.register({"host_id": first["host_id"]})["host_id"] == first["host_id"]


def test_a_satellite_starts_without_a_relay_and_finds_it_later(tmp_path: Path) -> None:
    config = quick(tmp_path)
    write_plugin(tmp_path / "b", "recorder", rec=RECORDER)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with running(tmp_path / "b", "satellite", "--relay", f"http://127.0.0.1:{port}", "--config", config) as b:
        with b.proxy() as proxy:
            proxy.recorder.rec.send({"data": {"data": "early"}})
        with (
            running(tmp_path / "relay", "relay", "--config", config, "--port", str(port)) as relay,
            relay.proxy() as proxy,
        ):
            wait_for(lambda: b.host_id in satellites(proxy))
            me = proxy.relay.register({})
            answer = proxy.relay.fetch({"host_id": me["host_id"], "after": 0, "wait": 10})
            assert [m["data"] for m in answer["messages"]] == ["early"]


def test_a_stop_ends_within_five_seconds_though_a_client_waits(tmp_path: Path) -> None:
    with running(tmp_path / "relay", "relay") as relay, relay.proxy() as proxy:
        me = proxy.relay.register({})

        def fetch() -> None:
            # Either an empty answer or a closed connection ends the wait.
            with relay.proxy() as own, contextlib.suppress(OSError, http.client.HTTPException):
                own.relay.fetch({"host_id": me["host_id"], "wait": 25})

        waiting = threading.Thread(target=fetch)
        waiting.start()
        wait_for(lambda: satellites(proxy)[me["host_id"]]["silent"] < 1)
        start = time.monotonic()
        assert relay.stop() == 0
        assert time.monotonic() - start < 5
        waiting.join(10)


def test_killed_hosts_leave_no_child_behind(tmp_path: Path) -> None:
    write_plugin(
        tmp_path, "loop", mod="import os\nfrom co2 import plugin\nopen('pid', 'w').write(str(os.getpid()))\n"
        "class X_Loop(plugin.Co2Plugin):\n    def receive(self, data_dict):\n        while True: pass\n"
        "    def x_send(self, d):\n        self.send(d)\n        return True\n",
    )  # fmt: skip
    satellite = HostProcess(tmp_path, "satellite", "--relay", "http://127.0.0.1:9")
    child = int((tmp_path / "pid").read_text())
    assert child != satellite.pid
    satellite.kill()

    wait_for(lambda: is_gone(child), "the child ends when its parent is killed")


def test_a_repeat_with_an_id_is_harmless_also_when_the_relay_was_killed_in_between(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    call = {"host_id": "client@127.0.0.1:0", "data": "once"}
    answered: dict[str, int] = {}
    for run in range(3):
        with running(folder, "relay") as relay, relay.proxy() as proxy:
            for message_id, position in answered.items():
                assert proxy.relay.relay({**call, "id": message_id}) == position
            for number in range(5):
                message_id = f"{run}-{number}"
                answered[message_id] = proxy.relay.relay({**call, "id": message_id})
            relay.kill()
    assert len(set(answered.values())) == 15
    with running(folder, "relay") as relay, relay.proxy() as proxy:
        assert proxy.relay.relay({**call, "id": "2-4"}) == answered["2-4"]
        reader = proxy.relay.register({})
        read = proxy.relay.fetch({"host_id": reader["host_id"], "after": 0})
        assert [message["position"] for message in read["messages"]] == list(answered.values())
