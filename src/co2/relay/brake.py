"""The brake: a link with too many requests is not read for a while. Nothing is lost: its frames wait there."""

__all__ = ["ASK_BURST", "ASK_RATE", "Brake"]

ASK_RATE = 1000.0
"""Frames of one link, besides messages and answers, that are processed per second in the long run.

Calls, interests, replays and reports of progress; resent messages count too. A long frame counts as several, see
:data:`co2.protocol.relay.core.ASKED_BYTES`.
"""

ASK_BURST = 2000
"""The same at once."""

PAUSE = 0.02
"""Seconds of the shortest pause in which a link is not read."""


class Brake:
    """A token bucket of one link.

    Args:
        now: monotonic seconds.
    """

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left = float(ASK_BURST)
        self._at = now

    def take(self, asked: int, now: float) -> float:
        """Count the requests of a link; return for how many seconds it must not be read, 0.0 for no pause."""
        self._left = min(float(ASK_BURST), self._left + (now - self._at) * ASK_RATE) - asked
        self._at = now
        return 0.0 if self._left >= 0 else max(PAUSE, -self._left / ASK_RATE)
