"""The clock of messages: right, never back, and a jump is told."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2.protocol.wire.link_frames import MAX_TIME
from co2.server.express.message_clock import LOOK_INTERVAL, WAITS_FOR, MessageClock


class Clocks:
    """The clocks of a machine."""

    def __init__(self) -> None:
        self.now, self.wall = 5000.0, 1.7e9
        self.messages = MessageClock(lambda: self.now, lambda: self.wall)

    def pass_by(self, seconds: float) -> float:
        """Let time pass; give the jump that is told."""
        self.now += seconds
        self.wall += seconds
        return self.messages.look()


def test_it_shows_the_time_of_the_machine() -> None:
    assert abs(MessageClock()() - time.time()) < 1
    clocks = Clocks()
    assert clocks.messages() == pytest.approx(1.7e9)
    assert clocks.pass_by(3.5) == 0
    assert clocks.messages() == pytest.approx(1.7e9 + 3.5)


def test_a_jump_forward_is_followed_and_told_once() -> None:
    clocks = Clocks()
    clocks.wall += 3600
    assert clocks.pass_by(1) == pytest.approx(3600)
    assert clocks.messages() == pytest.approx(clocks.wall)
    assert clocks.pass_by(1) == 0


def test_after_a_jump_back_it_goes_on_so_that_durations_stay() -> None:
    clocks = Clocks()
    before = clocks.messages()
    clocks.wall -= 3600
    assert clocks.pass_by(1) == pytest.approx(-3600)
    for _ in range(1000):
        assert clocks.pass_by(1) == 0
    assert clocks.messages() == pytest.approx(before + 1001)


def test_a_small_step_back_is_made_up_for_slowly() -> None:
    clocks = Clocks()
    clocks.wall -= 0.5
    assert clocks.pass_by(1) == 0, "it is a correction, not a jump"
    shown = [clocks.messages()]
    for _ in range(60):
        clocks.pass_by(1)
        shown.append(clocks.messages())
    assert shown[-1] == pytest.approx(clocks.wall)
    assert min(later - earlier for earlier, later in itertools.pairwise(shown)) >= 0.88


def test_a_wall_clock_that_goes_faster_or_slower_is_followed_between_two_looks() -> None:
    """Its machine corrects it with the network's time."""
    for rate in (0.995, 1.005):
        clocks, shown = Clocks(), 0.0
        for _ in range(500):
            clocks.now += 0.01
            clocks.wall += 0.01 * rate
            assert clocks.messages() == pytest.approx(clocks.wall, abs=1e-6)
            assert clocks.messages() > shown
            shown = clocks.messages()
            if int(clocks.now * 100) % 100 == 0:
                clocks.messages.look()


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-3 * WAITS_FOR, 3 * WAITS_FOR)), max_size=50))
def test_it_never_goes_back(steps: list[tuple[float, float]]) -> None:
    clocks, shown = Clocks(), 0.0
    for seconds, jump in steps:
        clocks.wall += jump
        clocks.pass_by(seconds)
        assert clocks.messages() >= shown
        shown = clocks.messages()


@pytest.mark.parametrize("wall", [-1e9, 1e18, float("inf")])
def test_a_clock_that_shows_no_valid_time_gives_one_that_a_frame_may_have(wall: float) -> None:
    clocks = Clocks()
    clocks.wall = wall
    clocks.messages.look()
    assert 0 <= clocks.messages() <= MAX_TIME
    assert 0 <= MessageClock(lambda: 5.0, lambda: wall)() <= MAX_TIME


def test_a_wait_for_a_processor_between_the_two_clocks_does_no_harm() -> None:
    """The times of messages would go ahead by it."""
    clocks, waits = Clocks(), iter([0.05, 0.0, 0.03, 0.0, 0.0])

    def wall() -> float:
        clocks.now += (wait := next(waits, 0.0))
        clocks.wall += wait
        return clocks.wall

    messages = MessageClock(lambda: clocks.now, wall)
    assert messages() == pytest.approx(clocks.wall, abs=1e-4)
    messages.look()
    assert messages() == pytest.approx(clocks.wall, abs=1e-4)


def test_it_stands_still_while_what_came_together_is_handled() -> None:
    clocks = Clocks()
    clocks.messages.stop_at(77.5)
    clocks.pass_by(LOOK_INTERVAL)
    assert clocks.messages() == 77.5
    clocks.messages.go_on()
    assert clocks.messages() == pytest.approx(clocks.wall)
    clocks.messages.stop_at(later := clocks.wall + 5)
    clocks.messages.go_on()
    assert clocks.messages() == later, "never before what was shown"
