"""A relay whose clock is wrong, as on a board without a battery, and right later on: nothing is lost."""

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import running, wait_for, write_plugin
from tests.system.test_delivery import RECEIVER, gaps, got


def clock_of(shift: str) -> dict[str, str]:
    """Return the environment in which a process believes another time than it is."""
    return {**preloaded(), "FAKETIME": shift}


def clock_in(file: Path) -> dict[str, str]:
    """Return the environment in which a process believes what a file says, anew each time that it looks."""
    return {**preloaded(), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}


def preloaded() -> dict[str, str]:
    """Return what brings libfaketime into a process; the monotonic clock stays."""
    libraries = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    if not libraries:
        if sys.platform.startswith("linux"):
            pytest.fail("no libfaketime here: make peers installs it")
        pytest.skip("libfaketime is preloaded, which is not done here")
    return {"LD_PRELOAD": str(libraries[0]), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


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


@pytest.mark.parametrize("jump", ["+1000d", "-1000d"])
def test_a_clock_that_jumps_while_the_relay_runs_deletes_nothing_and_is_told(
    tmp_path: Path, satellite: Path, jump: str
) -> None:
    clock = tmp_path / "clock"
    set_clock(clock, "+0d")
    env = {**clock_in(clock), "CO2_LOG_AGE": "100"}
    with running(tmp_path / "relay", "relay", env=env) as relay, relay.proxy() as proxy:
        with running(satellite, "satellite", "--relay", relay.url) as host:
            wait_for(lambda: any(row["kind"] == "co2" for row in proxy.relay.get_satellites()))
            me = proxy.relay.register({})["host_id"]
            for number in range(3):
                proxy.relay.relay({"host_id": me, "data": number})
            wait_for(lambda: len(got(host)) == 3)
        for number in range(3, 6):  # acknowledged, while the durable plugin is down
            proxy.relay.relay({"host_id": me, "data": number})

        set_clock(clock, jump)
        for number in range(6, 14):  # a commit each; in a second one of them looks for what is too old
            proxy.relay.relay({"host_id": me, "data": number})
            time.sleep(0.25)
        jumped = wait_for(lambda: re.search(r"has jumped.*\(([+-]\d+) s\)", relay.stderr), "it is told")
        assert abs(int(jumped[1]) - int(jump[:-1]) * 86_400) < 60
        assert proxy.co2.get_properties()["counters"]["clock_jumps"] == 1
        assert fetched(proxy, 0) == fetched(proxy, 1) == list(range(14))
        port = str(relay.port)
    # What was in memory too is on disk alone now.
    with running(tmp_path / "relay", "relay", "--port", port, env=env) as relay, relay.proxy() as proxy:
        assert fetched(proxy, 0) == fetched(proxy, 1) == list(range(14))
        with running(satellite, "satellite", "--relay", relay.url) as host:
            wait_for(lambda: got(host)[-1:] == [13])
            assert got(host) == list(range(14))
            assert not gaps(host)


def fetched(proxy: Any, after: int) -> list[Any]:
    """Return what is in the log behind a position, for somebody who has sent none of it."""
    me = proxy.relay.register({})["host_id"]
    answer = proxy.relay.fetch({"host_id": me, "after": after, "max": 1000, "wait": 1})
    return [message["data"] for message in answer["messages"]]


def set_clock(file: Path, shift: str) -> None:
    """Write at once, so that nobody reads half of it."""
    (part := file.with_suffix(".part")).write_text(shift + "\n")
    part.replace(file)


def test_a_clock_that_is_behind_the_log_is_told(tmp_path: Path) -> None:
    with running(tmp_path / "relay", "relay") as relay:
        assert "has jumped" not in relay.stderr
    with running(tmp_path / "relay", "relay", env=clock_of("-2d")) as relay:
        wait_for(lambda: "the log was last written at" in relay.stderr)
        with relay.proxy() as proxy:
            assert proxy.co2.get_properties()["counters"]["clock_jumps"] == 1
