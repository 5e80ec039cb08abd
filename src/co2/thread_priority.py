"""Thread priorities when there are more threads than processors: threads that pass messages on run first.

Linux chooses between two threads by their requests: a short time slice runs before a long one (since 6.12); a
batch thread interrupts nobody when it wakes; a nice one comes last. None of that needs a privilege. On other
systems these functions do nothing.
"""

import contextlib
import os
import struct
import sys
import threading
from collections.abc import Iterator

__all__ = ["BEHIND", "INTERVAL", "SLICE", "USUAL_INTERVAL", "go_behind", "go_first", "short_turns"]

SLICE = 100_000
"""Nanoseconds of the time slice of a thread that passes messages on; Linux accepts no less."""

BEHIND = 10
"""Steps of niceness by which a thread comes after those that pass messages on."""

INTERVAL = 0.00005
"""Seconds after which a computing thread beside an event loop lets the loop run.

The loop releases the interpreter at each write to a socket, and such a thread then keeps it for this long. That
costs throughput, so it is set only while there is such a thread.
"""

USUAL_INTERVAL = 0.005
"""Python's default."""

_computing: list[int] = []
"""Threads that want short turns."""

_changing = threading.Lock()

_SCHED_SETATTR = {
    ("x86_64", 8): 314,
    ("aarch64", 8): 274,
    ("riscv64", 8): 274,
    ("aarch64", 4): 380,
    ("armv7l", 4): 380,
    ("armv6l", 4): 380,
}
"""Number of the system call by processor and bytes of a pointer; older C libraries have no function for it."""

_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""``struct sched_attr`` of Linux: size, policy, flags, nice, priority, runtime, deadline, period."""


def go_first() -> None:
    """Make this thread, and each that it starts from now on, run soon when there is work for it."""
    if sys.platform != "linux":
        return
    number = _SCHED_SETATTR.get((os.uname().machine, struct.calcsize("P")))
    if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:  # else somebody has decided otherwise
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)  # on Linux this thread's niceness
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, SLICE, 0, 0)
    with contextlib.suppress(ImportError, OSError, AttributeError):  # no libffi, or a C library that is linked in
        import ctypes  # imported late: it takes milliseconds, and commands do not need it

        long = ctypes.c_long
        ctypes.CDLL(None).syscall(long(number), long(0), wanted, long(0))  # -1 if the kernel has no slices


def go_behind() -> None:
    """Make this thread wait while others have work: its own can wait a few milliseconds."""
    if sys.platform != "linux":  # elsewhere a thread has no niceness of its own
        return
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):
        if os.sched_getscheduler(thread) == os.SCHED_OTHER:  # else somebody has decided otherwise
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + BEHIND)


@contextlib.contextmanager
def short_turns() -> Iterator[None]:
    """Shorten all threads' turns while the block runs, because this thread computes for long."""
    thread = threading.get_ident()
    with _changing:
        _computing.append(thread)
        sys.setswitchinterval(INTERVAL)
    try:
        yield
    finally:
        with _changing:
            _computing.remove(thread)
            if not _computing:
                sys.setswitchinterval(USUAL_INTERVAL)
