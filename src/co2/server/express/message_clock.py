"""The clock of messages: when the relay gets each of them, or a satellite passes one from plugin to plugin.

It shows the time of the wall clock, but never goes back while the host runs: a later message has no earlier time.
If the wall clock is set back, this one goes on by itself, so that the time between two messages stays right.
"""

import time
from collections.abc import Callable

from co2.protocol.wire.link_frames import MAX_TIME

__all__ = ["JUMP", "LOOK_INTERVAL", "MessageClock"]

FOLLOWS = 0.1
"""Seconds by which the wall clock may differ from the elapsed time and is still followed: no clock is exact."""

JUMP = 1.0
"""Seconds that the wall clock must be set at once to count as a jump; less is a correction."""

LOOK_INTERVAL = 1.0
"""Seconds between two looks of a relay at the wall clock."""

WAITS_FOR = 10.0
"""Seconds up to which this clock waits for the wall clock, set back; beyond that it follows at the next start."""

SLOWER = 0.01
"""How much slower it goes meanwhile: a hundredth."""

EXACT = 0.0001
TRIES = 5
"""Seconds within which both clocks are read, and attempts: the process may lose its processor in between."""


class MessageClock:
    """Seconds since 1970 that never decrease.

    Args:
        now: monotonic seconds.
        wall: seconds since 1970, which may jump.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._now = now
        self._wall = wall
        self._looked_at = now()
        self._seen = self._offset = self._wall_offset()
        self._last = self._stopped = 0.0

    def __call__(self) -> float:
        """Return the time."""
        if self._stopped:
            return self._stopped
        found, wall = self._offset + self._now(), self._wall()
        if abs(wall - found) <= FOLLOWS:
            found = wall
        self._last = max(self._last, found)
        return self._last

    @property
    def state(self) -> tuple[float, float, float]:
        """What makes a time of monotonic seconds; how far the wall clock is followed; the last time shown."""
        return self._offset, FOLLOWS, self._last

    def stop_at(self, time: float) -> None:
        """Show this time until :meth:`go_on`: messages that came together are handled later, one by one."""
        self._stopped = self._last = time

    def go_on(self) -> None:
        """Go on after :meth:`stop_at`."""
        self._stopped = 0.0

    def look(self) -> float:
        """Follow the wall clock; to be called about once a second.

        Returns:
            Seconds that the wall clock has jumped since the last look, negative for back; 0 for no jump.
        """
        now, offset = self._now(), self._wall_offset()
        passed, self._looked_at = now - self._looked_at, now
        jump, self._seen = offset - self._seen, offset
        behind = self._offset - offset
        if behind <= FOLLOWS:
            self._offset = offset
        elif behind <= WAITS_FOR:
            self._offset -= SLOWER * passed
        return jump if abs(jump) >= JUMP else 0.0

    def _wall_offset(self) -> float:
        """Return the offset of the wall clock; of the nearest valid time, if it shows none."""
        best, offset = float("inf"), 0.0
        for _ in range(TRIES):
            before, wall, after = self._now(), self._wall(), self._now()
            if after - before < best:
                best, offset = after - before, min(max(wall, 0.0), MAX_TIME / 2) - after
            if best <= EXACT:
                break
        return offset
