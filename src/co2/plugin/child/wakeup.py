"""A wakeup for one waiting thread. A condition does the same with ten times the work."""

import contextlib
import threading

__all__ = ["Wakeup"]


class Wakeup:
    """One thread waits, any thread rings. A ring before the wait counts; several count as one."""

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """Wake the thread that waits, or the next one to wait."""
        if self._silence.locked():
            with contextlib.suppress(RuntimeError):  # another thread was quicker
                self._silence.release()

    def wait(self, timeout: float = -1) -> bool:
        """Wait for a ring; return whether it came.

        Args:
            timeout: seconds to wait at most, -1 for no limit.
        """
        return self._silence.acquire(timeout=timeout)
