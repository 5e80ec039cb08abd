"""A durable package that is unloaded goes on, when it is loaded again, where it was: nothing twice or lost."""

from pathlib import Path

from tests.harness import running, wait_for, write_plugin
from tests.system.test_delivery import RECEIVER, got


def test_a_durable_package_goes_on_where_it_was_unloaded(tmp_path: Path) -> None:
    write_plugin(tmp_path / "sat", "rcv", mod=RECEIVER.format(durable=True))
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "sat", "satellite", "--relay", relay.url) as satellite,
        relay.proxy() as network,
        satellite.proxy() as proxy,
    ):
        wait_for(lambda: any(row["kind"] == "co2" for row in network.relay.get_satellites()))
        me = network.relay.register({})["host_id"]
        number = 0
        for _ in range(5):
            for _ in range(20):
                network.relay.relay({"host_id": me, "data": number})
                number += 1
            wait_for(lambda number=number: len(got(satellite)) >= number)
            assert proxy.co2.plugin.unload("rcv")
            network.relay.relay({"host_id": me, "data": number})
            number += 1
            proxy.co2.plugin.load("rcv")
            wait_for(lambda number=number: got(satellite)[-1:] == [number - 1])
        assert got(satellite) == list(range(number))
