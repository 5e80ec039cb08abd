"""Wakes one thread that waits. A condition does that too, with ten times the work."""

import contextlib
import threading

__all__ = ["Wakeup"]


class Wakeup:
    """One thread waits, any thread rings. A ring before the wait counts; several count as one."""

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """Wake the thread that waits, or will."""
        if self._silence.locked():
            with contextlib.suppress(RuntimeError):  # somebody else was quicker
                self._silence.release()

    def wait(self, timeout: float = -1) -> bool:
        """Wait for a ring; tell whether it came.

        Args:
            timeout: seconds to wait at most, -1 for as long as it takes.
        """
        return self._silence.acquire(timeout=timeout)
