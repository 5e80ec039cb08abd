"""A newer link of an origin takes over from the older one; two clones would do so without end."""

from collections import deque
from collections.abc import Callable

__all__ = ["MAX_ORIGINS", "MAX_RIVALS", "MAX_TAKEOVERS", "RETURN", "WITHIN", "Takeovers"]

RETURN = 5.0
"""Seconds after which a displaced link may return; if it does, and the other is still there, both are refused."""

MAX_RIVALS = 16
"""Displaced runs of one origin that are remembered, the last ones."""

MAX_TAKEOVERS = 3
WITHIN = 60.0
"""Takeovers of one origin by other processes within these seconds, above which its state folder is cloned."""

MAX_ORIGINS = 10_000
"""Origins that are remembered; the one that was taken over longest ago is forgotten first."""


class Takeovers:
    """Counts takeovers by origin, and tells clones from a satellite that returns.

    Args:
        now: monotonic seconds.

    Attributes:
        count: of all origins, since the start.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.count = 0
        self._now = now
        self._rivals: dict[str, deque[int]] = {}
        self._times: dict[str, deque[float]] = {}

    def is_clone(self, origin: str, older: int, newer: int) -> bool:
        """Count one takeover; return whether two processes run with one state folder.

        A run that was displaced by another one, and returns while that is connected, exists beside it: no process
        resumes an earlier run. A run that takes over from itself, as after a cable was pulled, is no clone,
        however often it does: a run belongs to one process, and a copied state folder does not hold it.

        Args:
            origin: of both.
            older: epoch of the run that is displaced, 0 for unknown.
            newer: of the run that connects.
        """
        self.count += 1
        if older and older == newer:
            return False
        rivals = self._rivals.pop(origin, deque(maxlen=MAX_RIVALS))
        if older and newer:
            self._rivals[origin] = rivals
            back = newer in rivals
            rivals += [one for one in (older, *((newer,) if back else ())) if one not in rivals]
            if len(self._rivals) > MAX_ORIGINS:
                del self._rivals[next(iter(self._rivals))]
            if back:
                return True
        elif rivals:
            self._rivals[origin] = rivals
        return self._too_many(origin)

    def _too_many(self, origin: str) -> bool:
        now = self._now()
        times = self._times.pop(origin, deque())
        self._times[origin] = times
        while times and times[0] < now - WITHIN:
            times.popleft()
        times.append(now)
        if len(self._times) > MAX_ORIGINS:
            del self._times[next(iter(self._times))]
        return len(times) > MAX_TAKEOVERS
