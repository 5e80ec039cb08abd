"""Whose frames are read first when the relay has more to do than time for it: those of links that take little."""

from typing import Protocol

__all__ = [
    "ASKED",
    "MOST",
    "MOST_OF_A_BYTE",
    "MOST_OF_A_FRAME",
    "MOST_OF_A_LINK",
    "PROBATION",
    "SHARE",
    "SPAN",
    "Ranked",
    "Standing",
]

SHARE = 0.2
"""Part of the event loop's time that a link may take and still be among the first."""

SPAN = 1.0
"""Seconds over which that is reckoned."""

MOST = 0.001
MOST_OF_A_BYTE = 1e-8
MOST_OF_A_FRAME = 1e-4
MOST_OF_A_LINK = 2e-5
"""Seconds that count at most of what was taken at once, and besides for each byte and each frame that came, and
for each link that may have got it: more is the doing of the machine, or of Python's own. A hundred small frames
that come with one read take 5 ms."""

ASKED = 0.0002
"""Seconds that a thing asked for counts besides what it took at once: it is answered later."""

PROBATION = 5.0
"""Seconds for which a link stays behind at least."""


class Ranked(Protocol):
    """What is read first or behind."""

    def read_first(self) -> None:
        """Be read before those behind."""

    def read_behind(self) -> None:
        """Be read where there is time."""


class Standing:
    """The standing of one link. It is first for as long as the relay has time to spare, whatever it takes.

    Args:
        wire: its connection.
        now: monotonic seconds.
        late: whether the relay has none to spare: who comes then is behind, until it is seen to take little.
    """

    __slots__ = ("_is_first", "_since", "_taken", "_until", "_wire")

    def __init__(self, wire: Ranked, now: float, late: bool) -> None:
        self._wire = wire
        self._is_first = not late
        self._since = now
        self._taken = 0.0
        self._until = now + PROBATION
        (wire.read_behind if late else wire.read_first)()

    def take(
        self, seconds: float, size: int, asked: int, now: float, late: bool, *, frames: int = 1, links: int = 0
    ) -> None:
        """Note what a link has taken of the event loop's time.

        Args:
            seconds: that what has come took.
            size: its bytes.
            asked: how many things it has asked for.
            now: monotonic seconds.
            late: whether the relay has no time to spare.
            frames: how many these were.
            links: how many may have got something of it.
        """
        most = MOST + size * MOST_OF_A_BYTE + frames * MOST_OF_A_FRAME + links * MOST_OF_A_LINK
        self._taken += min(seconds, most) + asked * ASKED
        over = now - self._since
        if self._taken > SHARE * max(SPAN, over):
            if late and self._is_first:
                self._wire.read_behind()
                self._is_first = False
            if not self._is_first:
                self._until = now + PROBATION
            self._since, self._taken = now, 0.0
        elif over > SPAN:
            if not self._is_first and now >= self._until:
                self._wire.read_first()
                self._is_first = True
            self._since, self._taken = now, 0.0
