"""How long a log has been in use: the time by which it ages, whatever the wall clock says.

A machine without a battery for its clock begins in the past and jumps when it has asked the network. By the wall
clock a message of the minute before would then be days old, and go. So each run adds the monotonic seconds that it
lasts to those of the runs before; the wall clock is looked at only to say that it has jumped.
"""

import logging
import time
from collections.abc import Callable

__all__ = ["JUMP", "LONG_STOP", "RunningTime"]

JUMP = 60.0
"""Seconds by which the wall clock must go another way than time does, between two looks, to have jumped."""

LONG_STOP = 86_400.0
"""Seconds between two runs, by the wall clock, from which on it is said that the clock may be wrong."""

_logger = logging.getLogger("co2.relay")


class RunningTime:
    """Seconds, that only grow.

    Args:
        before: where the run before has ended.
        now: monotonic seconds.
        wall: seconds since 1970.

    Attributes:
        jumps: of the wall clock that were noticed.
        last_jump: seconds that the last of them went forward, negative for back; 0 for none.
    """

    def __init__(self, before: float, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self.jumps = 0
        self.last_jump = 0.0
        self._now = now
        self._wall = wall
        self._begun = before - now()
        self._offset = wall() - now()

    def __call__(self) -> float:
        """Return the running time."""
        return self._begun + self._now()

    def wall(self) -> float:
        """Return what the wall clock says."""
        return self._wall()

    def begin_after(self, written: float) -> None:
        """Warn where the wall clock stands before the time of the last write of the log, or long after it.

        The latter need be no jump, and is not counted as one: the relay may have been off for so long.

        Args:
            written: what the wall clock said then.
        """
        passed = self._wall() - written
        if passed < -JUMP:
            self._jumped(passed, f"the log was last written at {_text(written)}")
        elif passed > LONG_STOP:
            _logger.warning(
                "the log was last written at %s, and it is %s now, by the clock of this machine: the relay "
                "was off for %.1f days, or the clock was wrong then or is now. Nothing is deleted: the log keeps "
                "messages by the time that the relay runs",
                _text(written), _text(self._wall()), passed / 86_400,
            )  # fmt: skip

    def look(self) -> None:
        """Say so where the wall clock has jumped since the last look."""
        offset = self._wall() - self._now()
        jump, self._offset = offset - self._offset, offset
        if abs(jump) > JUMP:
            before = _text(self._wall() - jump)
            self._jumped(jump, f"by the time that has passed it should be {before}")

    def _jumped(self, seconds: float, what: str) -> None:
        self.jumps += 1
        self.last_jump = seconds
        _logger.warning(
            "the clock of this machine has jumped, or the machine has slept: it is %s, and %s (%+.0f s). Nothing "
            "is deleted for it: the log keeps messages by the time that the relay runs",
            _text(self._wall()), what, seconds,
        )  # fmt: skip


def _text(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # a clock may say anything
        return f"{seconds:.0f} s after 1970"
