"""What waits for a relay that is away: on disk, in bounds, and sent first by the next run."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import RECORDER, HostProcess, running, wait_for, write_plugin
from tests.pids import resident
from tests.system.test_delivery import SENDER, Net, gaps, got


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    network = Net(tmp_path)
    yield network
    network.close()


def counter(host: HostProcess, name: str) -> int:
    with host.proxy() as proxy:
        return int(proxy.co2.get_properties()["counters"][name])


def test_one_message_waits_in_the_singular(tmp_path: Path) -> None:
    write_plugin(tmp_path, "rec", mod=RECORDER)
    with running(tmp_path, "satellite", "--relay", "http://127.0.0.1:9") as satellite:
        with satellite.proxy() as proxy:
            wait_for(lambda: "rec.mod.send" in proxy.system.listMethods(), "the package")
            proxy.rec.mod.send({"data": {"data": 1}})
        assert satellite.stop() == 0
        assert "1 message waits on disk for the relay" in satellite.log()


@pytest.mark.parametrize("ending", ["killed", "stopped"])
def test_what_waits_survives_its_satellite(net: Net, tmp_path: Path, ending: str) -> None:
    port = net.relay.port
    net.relay.kill()
    net.call("go", 0.001)
    wait_for(lambda: counter(net.a, "waiting") > 200)
    sent = net.call("stop")
    wait_for(lambda: counter(net.a, "waiting_bytes") == counter(net.a, "stored_bytes"), "all of it is on disk")
    if ending == "killed":
        net.a.kill()
    else:
        assert net.a.stop() == 0
        assert f"{sent} messages wait on disk" in net.a.log()
    url = f"http://127.0.0.1:{port}"
    net.a = HostProcess(tmp_path / "a", "satellite", "--relay", url)
    assert counter(net.a, "waiting") == sent
    net.call("go", 0.001)
    net.relay = HostProcess(tmp_path / "relay", "relay", "--port", str(port))
    wait_for(lambda: len(got(net.b)) > sent, "the old ones, and then the new ones", 30)
    assert got(net.b)[: sent + 1] == [*range(sent), 0]
    assert net.call("stop") > 0
    net.call("flush", 20)
    assert counter(net.a, "waiting_bytes") == 0
    assert gaps(net.b) == []


def test_much_waits_on_disk_and_little_in_memory(net: Net, tmp_path: Path) -> None:
    write_plugin(
        tmp_path / "a", "snd", mod=SENDER.replace('{"data": self.sent}', '{"data": self.sent, "x": "x" * 50_000}')
    )
    port = net.relay.port
    net.a.stop()
    net.a = HostProcess(tmp_path / "a", "satellite", "--relay", net.relay.url)
    net.wait_linked(2)
    net.relay.kill()
    before = resident(net.a.pid)
    net.call("go", 0.0001)
    wait_for(lambda: counter(net.a, "waiting_bytes") > 150_000_000, "150 MB wait", 60)
    sent = net.call("stop")
    assert resident(net.a.pid) - before < 110 * 2**20
    net.relay = HostProcess(tmp_path / "relay", "relay", "--port", str(port))
    wait_for(lambda: len(got(net.b)) >= sent, "all of it arrives", 60)
    assert got(net.b) == list(range(sent))
    assert gaps(net.b) == []
    wait_for(lambda: counter(net.a, "waiting_bytes") == 0)


def test_a_full_outbox_makes_send_wait_and_says_so(net: Net, tmp_path: Path) -> None:
    port = net.relay.port
    net.a.stop()
    sender = SENDER.replace('{"data": self.sent}', '{"data": self.sent, "x": "x" * 50_000}')
    sender = sender.replace("TimeoutError:\n", "TimeoutError as error:\n                self.log('%s', error)\n")
    write_plugin(tmp_path / "a", "snd", mod=sender)
    config = tmp_path / "small.toml"
    config.write_text("[satellite]\noutbox_max = 4000000\nsend_timeout = 0.2\n")
    net.a = HostProcess(tmp_path / "a", "satellite", "--relay", net.relay.url, "--config", str(config))
    net.relay.kill()
    net.call("go", 0.0001)
    wait_for(lambda: counter(net.a, "waiting_bytes") >= 4_000_000)
    wait_for(lambda: "no room for 0.2 s" in net.a.log())
    assert re.search(
        r"the message was not sent, because the outbox had no room for 0\.2 s: the messages that wait at the "
        r"satellite have reached outbox_max, 4000000 bytes; "
        rf"the relay at http://127\.0\.0\.1:{port} has been away since \d\d:\d\d:\d\d \(.+\)",
        net.a.log(),
    )
    net.relay = HostProcess(tmp_path / "relay", "relay", "--port", str(port))
    assert net.all_arrived() > 80
