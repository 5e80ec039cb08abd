"""The order in which links are read when the relay is overloaded: first those that take little time."""

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
"""Share of the event loop's time that a link may take and still be in the first rank."""

SPAN = 1.0
"""Seconds over which that share is measured."""

MOST = 0.001
MOST_OF_A_BYTE = 1e-8
MOST_OF_A_FRAME = 1e-4
MOST_OF_A_LINK = 2e-5
"""Upper limits, in seconds, of the time that counts for one read, plus for each byte and each frame of it, and for
each link that may have received it: more is caused by the machine, or by Python itself. A hundred small frames in
one read take 5 ms."""

ASKED = 0.0002
"""Seconds that a request counts besides the time that it took at once: it is answered later."""

PROBATION = 5.0
"""Seconds for which a link stays in the second rank at least."""


class Ranked(Protocol):
    """A connection with a rank."""

    def read_first(self) -> None:
        """Read this connection before those of the second rank."""

    def read_behind(self) -> None:
        """Read this connection when there is time."""


class Standing:
    """The rank of one link. While the relay has time to spare, it is the first, whatever the link takes.

    Args:
        wire: its connection.
        now: monotonic seconds.
        late: whether the relay is overloaded: a new link is then in the second rank, until it has proved to take
            little.
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
        """Count the time of the event loop that a link has taken.

        Args:
            seconds: of the work on its frames.
            size: their bytes.
            asked: number of requests in them.
            now: monotonic seconds.
            late: whether the relay is overloaded.
            frames: number of frames.
            links: number of links that may have received something of them.
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
