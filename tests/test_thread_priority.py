"""Which threads go first: what the system is told of them, where it may be told."""

import ctypes
import os
import re
import sys
import threading
from collections.abc import Callable

import pytest

from co2 import thread_priority

LONG = 5_000_000
"""Nanoseconds of a time slice that is not short."""

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275, "riscv64": 275}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is told")


def in_a_thread(work: Callable[[], object]) -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def kernel() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) if sys.platform == "linux" else (0,)


def asked_for() -> int:
    """Nanoseconds that this thread wants to run at a time, as the kernel knows it (0 where it does not tell)."""
    attributes = ctypes.create_string_buffer(48)
    number = SCHED_GETATTR[os.uname().machine]
    assert ctypes.CDLL(None).syscall(number, 0, attributes, len(attributes), 0) == 0
    return int.from_bytes(attributes.raw[24:32], sys.byteorder)


def ask_for(slice_ns: int) -> None:
    """Set what :func:`asked_for` returns."""
    number = thread_priority._SCHED_SETATTR[os.uname().machine, 8]
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    wanted = thread_priority._ATTRIBUTES.pack(48, os.SCHED_OTHER, 0, nice, 0, slice_ns, 0, 0)
    assert ctypes.CDLL(None).syscall(number, 0, wanted, 0) == 0


def standing() -> tuple[int, int]:
    thread = threading.get_native_id()
    return os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread)


def test_who_goes_behind_is_a_batch_job_and_nice_and_nobody_else_is() -> None:
    def work() -> tuple[int, int]:
        thread_priority.go_behind()
        return standing()

    policy, before = standing()
    assert policy == os.SCHED_OTHER
    assert in_a_thread(work) == (os.SCHED_BATCH, min(19, before + thread_priority.BEHIND))
    assert standing() == (policy, before)


def test_who_goes_first_stays_what_it_was_else() -> None:
    def work() -> tuple[int, int]:
        thread_priority.go_first()
        return standing()

    assert in_a_thread(work) == standing()


@pytest.mark.skipif(kernel() < (6, 12), reason="older kernels have no slices")
def test_who_goes_first_asks_for_short_turns() -> None:
    """As the kernel tells it, which the threads that this one starts take over."""

    def work() -> tuple[int, int, object]:
        ask_for(LONG)  # another test in this process may have asked for short ones
        before = asked_for()
        thread_priority.go_first()
        return before, asked_for(), in_a_thread(asked_for)

    before = asked_for()
    assert in_a_thread(work) == (LONG, thread_priority.SLICE, thread_priority.SLICE)
    assert asked_for() == before


def test_where_the_system_call_cannot_be_had_all_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> tuple[tuple[int, int], int]:
        thread_priority.go_first()
        return standing(), asked_for()

    before = standing(), asked_for()
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "ctypes", None)
        assert in_a_thread(thread_priority.go_first) is None
    monkeypatch.setattr(thread_priority, "_SCHED_SETATTR", {})
    assert in_a_thread(work) == before


def test_what_somebody_has_decided_stays() -> None:
    def work() -> tuple[int, int]:
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
        thread_priority.go_first()
        thread_priority.go_behind()
        return standing()

    assert in_a_thread(work) == (os.SCHED_IDLE, standing()[1])


def test_turns_are_short_as_long_as_somebody_wants_that() -> None:
    with thread_priority.short_turns():
        with thread_priority.short_turns():
            assert sys.getswitchinterval() == pytest.approx(thread_priority.INTERVAL)
        assert sys.getswitchinterval() == pytest.approx(thread_priority.INTERVAL)
    assert sys.getswitchinterval() == pytest.approx(thread_priority.USUAL_INTERVAL)
