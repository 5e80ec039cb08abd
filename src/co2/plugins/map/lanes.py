"""One entry's way to one channel: the value that waits, the value on its way there, and when the next one may go.

Times are seconds of a monotonic clock, given by the caller.
"""

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["NOTHING", "PARTS", "SETTLED", "STEPS", "Lane", "Pace"]

STEPS = 50.0
"""Values per second of an entry that smooths, without a ``rate``."""

PARTS = 4
"""Ticks between two messages of an entry with a ``rate``; a value that waits goes at most one tick too late."""

SHORTEST_TICK = 0.001

LONGEST_AGE = 86_400.0
"""Seconds since its last message that a lane hands over, at most."""

SETTLED = 1000.0
"""A smoothed value ends on its target when what remains is this part of its way."""


class _Nothing:
    """Stands for no value: None is one."""


NOTHING = _Nothing()


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the values of an entry follow each other.

    Attributes:
        smooth: time constant; 0 for none.
        rate: messages per second; 0 for no limit.
        round: whether a value on its way is sent as an integer.
    """

    smooth: float
    rate: float
    round: bool = False

    @property
    def is_free(self) -> bool:
        """Whether every value goes at once."""
        return not self.smooth and not self.rate

    @property
    def interval(self) -> float:
        """Seconds between two values on a way, and between two that a rate limits."""
        return 1.0 / (self.rate or STEPS)

    @property
    def shortest(self) -> float:
        """Seconds between two messages, at least."""
        return 1.0 / self.rate if self.rate else 0.0

    @property
    def tick(self) -> float:
        """Seconds between two calls of :meth:`Lane.next` while a value waits."""
        return max(self.interval / (1 if self.smooth else PARTS), SHORTEST_TICK)


@dataclass(slots=True)
class Lane:
    """The state of one channel.

    Attributes:
        waits: whether a value has not gone yet.
        exact: the value that goes in the end; meaningful while one waits.
        target: this value as a number; None if it cannot be smoothed.
        position: the number that was reached last; None for none.
        reach: the longest distance of the current move.
        moved_at: when the position was computed.
        sent_at: when a message went last.
        last: the number that it contained; ``NOTHING`` for something else.
        passed: maps through which the value has passed.
        size: bytes for which the value counts while it waits.
    """

    waits: bool = False
    exact: Any = None
    target: float | None = None
    position: float | None = None
    reach: float = 0.0
    moved_at: float = 0.0
    sent_at: float = -math.inf
    last: Any = NOTHING
    passed: int = 0
    size: int = 0

    def take(self, exact: Any, number: float | None, now: float, pace: Pace) -> None:
        """Take a new value, in place of one that waits.

        Args:
            exact: the value.
            number: the same as a number; None if it cannot be smoothed.
            now: the time.
            pace: of the entry.
        """
        if not pace.smooth or number is None or self.position is None:
            self.position = number
        elif self.position == self.target:
            self.moved_at, self.reach = now, 0.0
        if number is not None and self.position is not None:
            self.reach = max(self.reach, abs(number - self.position))
        self.exact, self.target, self.waits = exact, number, True

    def at_once(self, now: float, pace: Pace) -> Any:
        """Return the value that was taken now, if it may go without a tick; otherwise ``NOTHING``.

        When it has gone, call :meth:`sent`.
        """
        is_there = self.waits and self.position == self.target
        return self.exact if is_there and now - self.sent_at >= pace.shortest else NOTHING

    def next(self, now: float, pace: Pace) -> Any:
        """Return the value that goes at a tick; ``NOTHING`` for none. When it has gone, call :meth:`sent`."""
        if not self.waits or now - self.sent_at < pace.interval - pace.tick / 2:
            return NOTHING
        if self.position == self.target:
            return self.exact
        value = self._move(now, pace)
        if type(value) is type(self.last) and value == self.last:
            self.waits = self.position != self.target
            return NOTHING
        return value

    def sent(self, value: Any, now: float) -> None:
        """Note that a value has gone."""
        self.sent_at = now
        self.last = value if isinstance(value, int | float) else NOTHING  # a big one is not kept
        self.waits = self.position != self.target

    def is_dispensable(self, now: float, pace: Pace) -> bool:
        """Return whether it can be forgotten: then the next value goes at once, and without a move."""
        return not self.waits and now - self.sent_at >= pace.shortest

    def state(self, now: float) -> list[Any]:
        """Return the state for the new code: times as ages, so that it does not depend on the clock."""
        return [
            self.waits, self.exact, self.target, self.position, self.reach, now - self.moved_at,
            min(now - self.sent_at, LONGEST_AGE), self.passed, self.size,
        ]  # fmt: skip

    @classmethod
    def from_state(cls, state: list[Any], now: float) -> "Lane":
        """Return a lane with the state of :meth:`state`."""
        waits, exact, target, position, reach, moved, sent, passed, size = state
        return cls(waits, exact, target, position, reach, now - moved, now - sent, passed=passed, size=size)

    def _move(self, now: float, pace: Pace) -> Any:
        assert self.position is not None and self.target is not None
        before, passed = self.position, now - self.moved_at
        self.moved_at = now
        self.position += (self.target - before) * -math.expm1(-passed / pace.smooth)
        left = abs(self.target - self.position)
        stuck = self.position == before and passed > 0  # numbers have no smaller steps here
        if stuck or not left > self.reach / SETTLED:  # "not": differences of huge numbers are no numbers
            self.position = self.target
            return self.exact
        return round(self.position) if pace.round else self.position
