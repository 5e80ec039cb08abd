"""The running time of a log only grows; a wall clock that jumps is reported and changes nothing."""

import logging
import math
import time

import pytest

from co2.store.running_time import JUMP, LONG_STOP, RunningTime


class Clocks:
    def __init__(self) -> None:
        self.now = 500.0
        self.wall = 1_700_000_000.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def running(clocks: Clocks) -> RunningTime:
    return RunningTime(1000.0, lambda: clocks.now, lambda: clocks.wall)


def test_it_continues_where_the_run_before_ended(clocks: Clocks, running: RunningTime) -> None:
    assert running() == 1000.0
    clocks.pass_by(7.0)
    assert running() == 1007.0
    assert running.wall() == 1_700_000_007.0


@pytest.mark.parametrize(("jump", "noticed"), [(JUMP, 0), (-JUMP, 0), (JUMP + 1, 1), (-JUMP - 1, 1)])
def test_a_jump_of_more_than_a_minute_is_noticed_once_and_changes_no_age(
    clocks: Clocks, running: RunningTime, caplog: pytest.LogCaptureFixture, jump: float, noticed: int
) -> None:
    clocks.pass_by(10.0)
    clocks.wall += jump
    running.look()
    running.look()
    assert running.jumps == noticed
    assert running.last_jump == (jump if noticed else 0.0)
    assert running() == 1010.0
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * noticed


@pytest.mark.parametrize(
    ("ago", "jumps", "words"),
    [
        (0.0, 0, ""),
        (-JUMP, 0, ""),
        (-JUMP - 1, 1, "has jumped"),
        (LONG_STOP, 0, ""),
        (3 * LONG_STOP, 0, "was off for 3.0 days"),
    ],
)
def test_a_log_that_was_written_at_another_time_is_reported(
    clocks: Clocks, running: RunningTime, caplog: pytest.LogCaptureFixture, ago: float, jumps: int, words: str
) -> None:
    running.begin_after(clocks.wall - ago)
    assert running.jumps == jumps
    assert bool(caplog.text) == bool(words)
    assert words in caplog.text


@pytest.mark.parametrize("wall", [1e18, -1e18])
def test_a_clock_may_show_any_time(
    clocks: Clocks, running: RunningTime, caplog: pytest.LogCaptureFixture, wall: float
) -> None:
    clocks.wall = wall
    running.look()
    assert running.jumps == 1
    assert f"{wall:.0f} s after 1970" in caplog.text
    assert math.isfinite(running.last_jump)


@pytest.mark.parametrize("jump", [7200.0, -7200.0])
def test_a_jump_is_told_with_the_time_that_it_should_be(
    clocks: Clocks, running: RunningTime, caplog: pytest.LogCaptureFixture, jump: float
) -> None:
    def shown(seconds: float) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))

    before = clocks.wall
    clocks.wall += jump
    running.look()
    assert f"it is {shown(before + jump)}, and should be {shown(before)} ({jump:+.0f} s)" in caplog.text
