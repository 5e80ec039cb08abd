"""The machine as it is when somebody else computes: one busy core beside what is measured."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping

__all__ = ["LOADS", "busy_core"]

_COMPUTES = "while True: pass"

_SETTLES = 0.3
"""Seconds until the system has found out which processor is busy."""


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """Have a process compute, as long as the block runs, on whatever processor the system gives it.

    It has a session of its own, as any other program has that somebody starts: some systems share processors out
    among sessions first.
    """
    process = subprocess.Popen([sys.executable, "-c", _COMPUTES], start_new_session=True)
    try:
        time.sleep(_SETTLES)
        yield
    finally:
        process.kill()
        process.wait()


LOADS: Mapping[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "quiet": contextlib.nullcontext,
    "busy": busy_core,
}
"""What else the machine does, by name."""
