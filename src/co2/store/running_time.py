"""How long a log has been in use: the time by which it ages, whatever the wall clock says.

A machine without a battery for its clock starts in the past and jumps when it gets the network's time. By the wall
clock, a message of a minute ago would then be days old and be deleted. So each run adds its monotonic seconds to
those of the runs before; the wall clock serves only to report that it has jumped.
"""

import logging
import time
from collections.abc import Callable

__all__ = ["JUMP", "LONG_STOP", "RunningTime"]

JUMP = 60.0
"""Seconds between two looks by which the wall clock must differ from the elapsed time to count as a jump."""

LONG_STOP = 86_400.0
"""Seconds between two runs, by the wall clock, from which on a warning says that the clock may be wrong."""

_logger = logging.getLogger("co2.relay")


class RunningTime:
    """Seconds that only grow.

    Args:
        before: running time at which the run before ended.
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
        """Return the time of the wall clock."""
        return self._wall()

    def begin_after(self, written: float) -> None:
        """Warn if the wall clock is before the log's last write, or long after it.

        The latter may be no jump, and does not count as one: the relay may have been off for so long.

        Args:
            written: time of the wall clock at the last write.
        """
        passed = self._wall() - written
        if passed < -JUMP:
            self._jumped(passed, f"the log was last written at {_text(written)}")
        elif passed > LONG_STOP:
            _logger.warning(
                "the log was last written at %s, and it is %s now, by the clock of this machine: the relay "
                "was off for %.1f days, or the clock was or is wrong. Nothing is deleted: only the time that "
                "the relay "
                "runs counts for the age of messages",
                _text(written), _text(self._wall()), passed / 86_400,
            )  # fmt: skip

    def look(self) -> None:
        """Warn if the wall clock has jumped since the last look."""
        offset = self._wall() - self._now()
        jump, self._offset = offset - self._offset, offset
        if abs(jump) > JUMP:
            before = _text(self._wall() - jump)
            self._jumped(jump, f"should be {before}")

    def _jumped(self, seconds: float, what: str) -> None:
        self.jumps += 1
        self.last_jump = seconds
        _logger.warning(
            "the clock of this machine has jumped, or the machine was suspended: it is %s, and %s (%+.0f s). "
            "Nothing "
            "is deleted: only the time that the relay runs counts for the age of messages",
            _text(self._wall()), what, seconds,
        )  # fmt: skip


def _text(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # the clock may return any time
        return f"{seconds:.0f} s after 1970"
