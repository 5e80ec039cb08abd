"""Twenty seconds of the siege, in every run of the tests; ``make attack`` goes on with it."""

import asyncio
from pathlib import Path

import pytest

from tests.siege.attackers import ATTACKS
from tests.siege.machine import Share, lateness
from tests.siege.siege import Siege
from tests.siege.verdict import LATENCY_FACTOR, Measured, latency_bound, percentile, verdict

FLOOR = 0.5
"""Seconds of latency that are no failure: other tests run on this machine at the same time."""

OWN_P50, OWN_P99 = 0.03, 0.15
"""Seconds of latency at most, without what the machine withheld: twice what was measured, quiet or busy."""

RATE = 100.0
"""Messages a second, for the same reason."""


AT_THE_DOOR = [name for name, attack in ATTACKS.items() if attack.__module__.endswith("door_attackers")]


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("at_the_door", [False, True], ids=["links and XML-RPC", "the JSON door"])
def test_satellites_that_mean_well_notice_nothing(tmp_path: Path, at_the_door: bool) -> None:
    attacks = [name for name in ATTACKS if (name in AT_THE_DOOR) is at_the_door]
    siege = Siege(tmp_path, calm=4.0, seconds=20.0, attacks=attacks, rate=RATE, floor=FLOOR)
    measured = asyncio.run(siege.run())
    assert verdict(measured, FLOOR) == []
    assert measured.received == 9 * measured.sent
    assert measured.own(measured.p50, 0.0) < OWN_P50
    assert measured.own(measured.p99, measured.idle_p99) < OWN_P99


def sound(**changes: object) -> Measured:
    measured = Measured(
        calm_p99=0.02, p99=0.05, calm_rss=50 * 2**20, largest_rss=80 * 2**20, calm_after=1.0, sent=10, received=90,
        pings=100, seconds=60.0, log_bytes=2**20,
        attacks=dict.fromkeys(ATTACKS, 1),
    )  # fmt: skip
    for name, value in changes.items():
        setattr(measured, name, value)
    return measured


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"missing": 1}, "1 messages were lost"),
        ({"wrong": ["7 of ham after 7"]}, "7 of ham after 7"),
        ({"links_lost": 1}, "1 links of satellites"),
        ({"p99": 0.11}, "p99 was 110.0 ms; the bound is 100.0 ms"),
        ({"largest_rss": 200 * 2**20}, "150 MiB more; the bound is 128 MiB"),
        ({"rss_after": 200 * 2**20}, "kept 150 MiB of that; the bound is 128 MiB"),
        ({"calm_after": 6.0}, "calm 6.0 s after"),
        ({"slowest_ping": 5.1}, "a ping took 5.1 s; the bound is 5 s"),
        ({"refused_pings": 6}, "6 of 100 pings got no answer"),
        ({"log_bytes": 9 * 2**20}, "logs have 9.0 MiB; the bound is 8.0 MiB"),
        ({"errors": ["pings: KeyError('x')"]}, "pings: KeyError('x')"),
        ({"received": 0}, "nothing was received"),
        ({"attacks": {}}, "never made: all"),
        ({"attacks": {"pings": 0, "calls": 1}}, "never made: ['pings']"),
    ],
)
def test_the_verdict_says_what_is_not_as_promised(changes: dict[str, object], said: str) -> None:
    assert verdict(sound()) == []
    (found,) = verdict(sound(**changes))
    assert said in found


def test_what_the_machine_itself_withholds_is_no_failure_of_the_relay() -> None:
    assert verdict(sound(p99=0.19, idle_p99=0.1)) == []
    assert verdict(sound(p99=0.21, idle_p99=0.1)) == ["p99 was 210.0 ms; the bound is 200.0 ms"]
    busy = {"relay": Share(1.0, 0.5), "honest": Share(0.1, 0.2), "attackers": Share(0.3, 0.9)}
    assert sound(shares=busy).own(0.5, 0.25) == pytest.approx(0.25 * 0.5 * 0.8)
    assert sound(shares={}).own(0.1, 0.25) == 0.0
    assert sound(shares={"relay": Share(1.0, 1.1)}).own(0.5, 0.0) == 0.0
    assert verdict(sound(slowest_ping=9.0, shares=busy)) == []
    assert verdict(sound(slowest_ping=14.0, shares=busy)) == ["a ping took 14.0 s; the bound is 5 s"]
    late = lateness(iter([False, False, True]).__next__)
    assert len(late) >= 2
    assert all(over > 0 for over in late)


def test_latency_below_the_floor_is_no_failure() -> None:
    assert latency_bound(0.0001) == 0.05
    assert latency_bound(0.1) == LATENCY_FACTOR * 0.1
    assert percentile([], 0.5) == 0.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0
