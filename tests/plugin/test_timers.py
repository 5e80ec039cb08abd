"""What ``every`` does: its times, its thread, its end, and what goes wrong in it."""

import asyncio
import heapq
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from co2.errors import CallRefused
from co2.plugin.timers import MAX_TIMERS, Timer, Timers
from tests.harness import wait_for
from tests.plugin.support import Settings, carrying, write_package

TICKING = """
import threading, time

class X_Tick(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.threads, self.count, self.awaited = set(), 0, 0
        self.timer = self.every(0.002, self.tick)
        self.every(0.002, self.tick_async)
        self.every(0.002, self.wrong)

    def tick(self):
        self.threads.add(threading.get_ident())
        self.count += 1

    async def tick_async(self):
        self.awaited += 1

    def wrong(self):
        raise ValueError("nih")

    def x_state(self, data_dict):
        return [self.count, self.awaited, self.threads == {threading.get_ident()}]

    def x_cancel(self, data_dict):
        self.timer.cancel()
        return self.count

    def x_hang(self, data_dict):
        self.every(0.001, lambda: time.sleep(60))
"""


def test_times_are_counted_from_the_first_and_missed_ones_are_left_out() -> None:
    put: list[Timer] = []
    timer = Timer(1.0, 10.0, put.append)
    assert timer.fire(10.0) == 11.0
    timer.done()
    assert timer.fire(11.4) == 12.0, "a late call does not move the next"
    assert timer.fire(12.0) == 13.0
    assert (len(put), timer.missed) == (2, 1), "the one before was not done"
    timer.done()
    assert timer.fire(17.5) == 18.0, "four were missed: none is made up for"
    assert len(put) == 3


def test_a_clock_that_rounds_down_does_not_call_twice() -> None:
    timer = Timer(0.1, 0.3, lambda _: None)
    due = 0.3
    for _ in range(1000):
        following = timer.fire(due)
        assert following > due
        due = following


@pytest.mark.parametrize("seconds", [0, -1, 0.0001, math.nan, math.inf, "1", True, None])
def test_seconds_that_make_no_sense_are_refused(seconds: Any) -> None:
    with pytest.raises(ValueError, match="every: expected a number of seconds"):
        Timers().every(seconds, lambda _: None)


def test_nothing_is_called_before_the_start_nor_after_the_end() -> None:
    timers, called = Timers(), threading.Event()
    before = time.monotonic()
    timers.every(0.001, lambda _: called.set())
    assert not called.wait(0.05)
    timers.start()
    assert called.wait(10)
    timers.hold()
    timers.close()
    assert time.monotonic() - before < 10
    called.clear()
    timers.every(0.001, lambda _: called.set())
    assert not called.wait(0.05)


def test_cancelled_ones_make_room_for_others() -> None:
    timers = Timers()
    made = [timers.every(1 + number % 7, lambda _: None) for number in range(MAX_TIMERS)]
    with pytest.raises(CallRefused, match="1000 timers"):
        timers.every(1, lambda _: None)
    for timer in made[::3]:
        timer.cancel()
    timers.every(1, lambda _: None)
    queue = list(timers._queue)
    heapq.heapify(queue)
    assert queue == timers._queue, "it is still a heap"


def test_one_that_is_due_in_centuries_keeps_no_other_from_its_call() -> None:
    timers, first, second = Timers(), threading.Event(), threading.Event()

    def once(timer: Timer) -> None:
        timer.cancel()
        first.set()

    timers.every(1e12, lambda _: None)
    timers.every(0.001, once)
    timers.start()
    assert first.wait(10)
    timers.every(0.001, lambda _: second.set())  # taken in once the thread waits for the other
    assert second.wait(10)
    timers.close()


def test_a_shorter_one_that_comes_later_is_called_first() -> None:
    timers, called = Timers(), threading.Event()
    timers.start()
    timers.every(3600, lambda _: None)
    timers.every(0.001, lambda _: called.set())
    assert called.wait(10)
    timers.close()
    wait_for(lambda: timers._thread is not None and not timers._thread.is_alive(), "its thread ends")


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_plugins_are_called_in_their_own_thread_and_go_on_after_errors(tmp_path: Path, isolation: str) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=TICKING)], Settings(isolation=isolation)) as it:

            async def ticked() -> list[Any]:
                while (state := await it.call("ham.spam.state"))[0] < 5 or state[1] < 5:
                    await asyncio.sleep(0.005)
                return list(state)

            async with asyncio.timeout(20):
                assert (await ticked())[2] is True
            await it.until(lambda: it.status("ham").failed >= 5, "errors are counted")
            assert "wrong(), called every 0.002 s, failed" in it.log.text
            assert "ValueError: nih" in it.log.text
            count = await it.call("ham.spam.cancel")
            failed = it.status("ham").failed
            await it.until(lambda: it.status("ham").failed > failed + 3, "the others go on")
            assert (await it.call("ham.spam.state"))[0] == count, "no call after cancel"
            assert it.status("ham").restarts == 0

    asyncio.run(scenario())


def test_one_that_hangs_is_told_and_ended_like_a_receive(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = Settings(receive_warning=0.2, receive_deadline=0.6)
        async with carrying([write_package(tmp_path, "ham", spam=TICKING)], settings) as it:
            await it.call("ham.spam.hang")
            await it.until(lambda: it.status("ham").restarts == 1)
            assert "ham.spam.X_Tick: a function called by every(), joined or left took longer" in it.log.text
            await it.until(lambda: it.state("ham") == "running")

    asyncio.run(scenario())


class Clocked:
    """Timers with a clock that moves when it is told to, and the calls they made: the name, and the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[str, float]] = []
        self.timers = Timers(lambda: self.now)

    def every(self, seconds: float, name: str) -> Timer:
        def called(timer: Timer) -> None:
            self.calls.append((name, self.now))
            timer.done()

        return self.timers.every(seconds, called)

    def at(self, now: float) -> None:
        """Pause, let the time pass, and continue."""
        self.timers.hold()
        self.now = now
        self.timers.start()

    def expect(self, *calls: tuple[str, float]) -> None:
        wait_for(lambda: len(self.calls) >= len(calls), f"{calls}, made were {self.calls}")
        assert self.calls == [*calls]
        self.calls.clear()


def test_intervals_count_from_the_first_start_and_what_is_overdue_after_a_pause_is_called_once() -> None:
    it = Clocked()
    it.every(10, "ten")
    it.every(5, "five")
    it.at(1003)
    it.at(1008)
    it.expect(("five", 1008))
    it.every(4, "four")
    it.at(1013)
    it.expect(("four", 1013), ("ten", 1013), ("five", 1013))
    it.at(2000)
    it.expect(("four", 2000), ("five", 2000), ("ten", 2000))
    it.at(2003)
    it.expect(("five", 2003), ("ten", 2003))
    it.timers.close()


def test_nothing_is_called_during_a_pause() -> None:
    called = threading.Event()
    it = Clocked()
    it.at(0)
    it.timers.every(10, lambda _: called.set())
    it.timers.hold()
    it.now = 20
    it.timers.hold()
    it.every(3600, "another")
    assert not called.wait(0.05)
    it.timers.start()
    assert called.wait(10)
    it.timers.close()


def test_one_thread_watches_all_and_ends_with_them() -> None:
    others = set(threading.enumerate())

    def threads() -> int:
        return sum(thread.name == "co2-timers" for thread in set(threading.enumerate()) - others)

    timers = Timers()
    timers.start()
    for _ in range(5):
        timers.every(3600, lambda _: None)
    assert threads() == 1
    timers.close()
    wait_for(lambda: threads() == 0, "its thread ends")
    timers.every(3600, lambda _: None)
    assert threads() == 0


def test_calls_that_are_due_together_are_made_in_the_order_of_their_timers() -> None:
    it = Clocked()
    it.at(0)
    names = [f"timer {number}" for number in range(5)]
    timers = [it.every(10, name) for name in names]
    timers[2].cancel()
    it.at(10)
    it.expect(*((name, 10) for name in names if name != names[2]))
    it.timers.close()


def test_timers_that_nobody_has_closed_keep_no_program_from_its_end() -> None:
    timers = Timers()
    timers.start()
    timers.every(3600, lambda _: None)
    assert timers._thread is not None
    assert timers._thread.daemon
    timers.close()
