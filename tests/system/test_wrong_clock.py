"""A relay whose clock is wrong, as on a board without a battery, and right after a restart: nothing is lost."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import running, wait_for, write_plugin
from tests.system.test_delivery import RECEIVER, gaps, got


def clock_of(shift: str) -> dict[str, str]:
    """Return the environment in which a process believes another time than it is."""
    libraries = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    if not libraries:
        if sys.platform.startswith("linux"):
            pytest.fail("no libfaketime here: make peers installs it")
        pytest.skip("libfaketime is preloaded, which is not done here")
    return {"LD_PRELOAD": str(libraries[0]), "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@pytest.fixture
def satellite(tmp_path: Path) -> Iterator[Path]:
    write_plugin(tmp_path / "sat", "rcv", mod=RECEIVER.format(durable=True))
    yield tmp_path / "sat"


def test_messages_acknowledged_by_a_relay_two_days_back_arrive_when_its_clock_is_right(
    tmp_path: Path, satellite: Path
) -> None:
    port: tuple[str, ...] = ()
    with running(tmp_path / "relay", "relay", env=clock_of("-2d")) as relay:
        port = ("--port", str(relay.port))
        with running(satellite, "satellite", "--relay", relay.url) as host, relay.proxy() as proxy:
            wait_for(lambda: any(row["kind"] == "co2" for row in proxy.relay.get_satellites()))
            me = proxy.relay.register({})["host_id"]
            for number in range(3):
                proxy.relay.relay({"host_id": me, "data": number})
            wait_for(lambda: len(got(host)) == 3)
        with relay.proxy() as proxy:
            for number in range(3, 6):  # on the relay's disk, says the answer; the durable plugin is down
                proxy.relay.relay({"host_id": me, "data": number})
    with running(tmp_path / "relay", "relay", *port) as relay, relay.proxy() as proxy:
        me = proxy.relay.register({})["host_id"]
        proxy.relay.relay({"host_id": me, "data": 6})
        with running(satellite, "satellite", "--relay", relay.url) as host:
            wait_for(lambda: got(host)[-1:] == [6])
            assert got(host) == list(range(7))
            assert not gaps(host)
        oldest = [proxy.relay.fetch({"host_id": me, "after": after, "wait": 0})["messages"] for after in (0, 1)]
        assert [message["data"] for message in oldest[0]] == [0, 1, 2, 3, 4, 5]
        assert oldest[0] == oldest[1]


def test_a_clock_that_is_behind_the_log_is_told(tmp_path: Path) -> None:
    with running(tmp_path / "relay", "relay") as relay:
        assert "has jumped" not in relay.stderr
    with running(tmp_path / "relay", "relay", env=clock_of("-2d")) as relay:
        wait_for(lambda: "the log was last written at" in relay.stderr)
        with relay.proxy() as proxy:
            assert proxy.co2.get_properties()["counters"]["clock_jumps"] == 1
