"""A relay whose clock is wrong, as on a board without a battery, and right later on: nothing is lost."""

import contextlib
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.raw_link import linked
from tests.cli.network import Network, co2
from tests.harness import HostProcess, running, wait_for, write_plugin
from tests.system.test_delivery import RECEIVER, gaps, got
from tests.system.test_roster import TALLY, away, fault, rows


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


def test_a_clock_that_is_far_ahead_of_the_log_is_told_and_a_stop_is_not_called_a_jump(tmp_path: Path) -> None:
    with running(tmp_path / "relay", "relay"):
        pass
    with running(tmp_path / "relay", "relay", env=clock_of("+1000d")) as relay:
        told = wait_for(lambda: re.search(r"the relay was off for ([\d.]+) days, or", relay.stderr), "it is told")
        assert abs(float(told[1]) - 1000) < 0.2
        with relay.proxy() as proxy:
            assert proxy.co2.get_properties()["counters"]["clock_jumps"] == 0
    with running(tmp_path / "relay", "relay", env=clock_of("+1000d")) as relay:
        assert "the relay was off" not in relay.stderr


@pytest.mark.parametrize("jump", [1000, -1000])
def test_a_clock_that_jumps_changes_nothing_about_who_is_away(tmp_path: Path, jump: int) -> None:
    """Neither whose a name is, nor for how long somebody has been away, nor what is said of it."""
    clock = tmp_path / "clock"
    set_clock(clock, "+0d")
    env = clock_in(clock)
    tally = "tally.tally.tally"
    write_plugin(tmp_path / "second", "tally", tally=TALLY)
    with running(tmp_path / "relay", "relay", env=env) as relay, contextlib.ExitStack() as stack:
        with linked(relay.port, "first", "127.0.0.9", tally):
            wait_for(lambda: tally in str(rows(relay)), "it has joined")
            stack.enter_context(running(tmp_path / "second", "satellite", "--relay", relay.url))
            wait_for(lambda: len(rows(relay)) == 2 and all(tally in row["methods"] for row in rows(relay)))
        wait_for(lambda: away(relay), "one is away")
        assert "(first@127.0.0.9:9) had tally.tally.tally and is away" in fault(relay, tally).faultString

        set_clock(clock, f"{jump:+d}d")
        told = fault(relay, tally)
        assert (told.faultCode, "is away" in told.faultString) == (1009, True), (
            "the name stays with it for minutes"
        )
        [row] = away(relay)
        assert row["silent"] < 60
        assert abs(row["last_seen"].replace(tzinfo=UTC) - datetime.now(UTC) - timedelta(days=jump)) < timedelta(
            minutes=1
        )
        words = r"has been away since [\d:]{8}, for [\d.]+ m?s$"
        assert re.search(words, fault(relay, "ping", host_id="first@127.0.0.9:9").faultString)
        assert re.search(r"away for [\d.]+ m?s, last seen", page(relay))

    left = datetime.now(UTC)
    with (
        running(tmp_path / "relay", "relay", env=env) as relay,
        running(tmp_path / "second", "satellite", "--relay", relay.url),
    ):
        wait_for(lambda: tally in str(rows(relay)), "the other one has joined")
        assert fault(relay, tally).faultCode == 1009, "for as long after the relay's start"
        for days in (0, jump):
            set_clock(clock, f"{days:+d}d")
            [row] = away(relay)
            assert row["before_start"] and row["silent"] < 60
            assert abs(row["last_seen"].replace(tzinfo=UTC) - left) < timedelta(minutes=1), "by the clock of then"
            told = fault(relay, "ping", host_id="first@127.0.0.9:9")
            assert re.search(
                r"has been away since before the relay's start [\d.]+ m?s ago; "
                r"it was last seen at [\d: -]{19} by the clock at that time$",
                told.faultString,
            )
        assert re.search(r"away since before this relay's start [\d.]+ m?s ago, last seen", page(relay))
        done = co2(Network(relay, relay, tmp_path), "ps")
        assert re.search(
            r"^host-first \(first@127\.0\.0\.9:9\)  away since before the relay's start, "
            r"last seen [\d: -]{19} by the clock at that time$",
            done.stdout,
            re.M,
        )


def page(relay: HostProcess) -> str:
    """Return the text of the page of satellites."""
    with urllib.request.urlopen(f"{relay.url}/satellites", timeout=10) as answer:
        return " ".join(re.sub(r"<[^>]*>", " ", answer.read().decode()).split())
