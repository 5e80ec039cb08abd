"""Which threads go first: what the system is told of them, where it may be told."""

import os
import sys
import threading
from collections.abc import Callable

import pytest

from co2 import scheduling

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is told")


def in_a_thread(work: Callable[[], object]) -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def standing() -> tuple[int, int]:
    thread = threading.get_native_id()
    return os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread)


def test_who_goes_behind_is_a_batch_job_and_nice_and_nobody_else_is() -> None:
    def work() -> tuple[int, int]:
        scheduling.go_behind()
        return standing()

    policy, before = standing()
    assert policy == os.SCHED_OTHER
    assert in_a_thread(work) == (os.SCHED_BATCH, min(19, before + scheduling.BEHIND))
    assert standing() == (policy, before)


def test_who_goes_first_stays_what_it_was_else() -> None:
    def work() -> tuple[int, int]:
        scheduling.go_first()
        return standing()

    assert in_a_thread(work) == standing()


def test_what_somebody_has_decided_stays() -> None:
    def work() -> tuple[int, int]:
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
        scheduling.go_first()
        scheduling.go_behind()
        return standing()

    assert in_a_thread(work) == (os.SCHED_IDLE, standing()[1])


def test_turns_are_short_as_long_as_somebody_wants_that() -> None:
    with scheduling.short_turns():
        with scheduling.short_turns():
            assert sys.getswitchinterval() == pytest.approx(scheduling.INTERVAL)
        assert sys.getswitchinterval() == pytest.approx(scheduling.INTERVAL)
    assert sys.getswitchinterval() == pytest.approx(scheduling.USUAL_INTERVAL)
