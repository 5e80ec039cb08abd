"""Answers take turns: what many callers wait for comes to all at once, and would hold up everybody else."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

__all__ = ["AT_ONCE", "AnswerTurns"]

AT_ONCE = 0.0015
"""Seconds of one turn of the event loop in which answers are begun; the next ones have the next turn."""


class AnswerTurns:
    """Whose turn it is.

    Args:
        loop: that all run in.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()
        self._spent = 0.0
        self._is_next = False

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether this turn's time is used up."""
        return self._spent >= AT_ONCE

    def do(self, work: Callable[[], None]) -> None:
        """Write an answer now or, where this turn's time is used up, in one that follows."""
        if self._waiting or self.is_over:
            self._waiting.append(work)
        else:
            self._do(work)

    def spend(self, began: float) -> None:
        """Count an answer that was given from ``began`` on, by the monotonic clock, without having waited."""
        self._spent += monotonic() - began
        self._have_next()

    def _have_next(self) -> None:
        if not self._is_next:
            self._is_next = True
            self._loop.call_soon(self._next)

    def use_up(self) -> None:
        """End this turn: something was begun behind an answer that may take longer than all of it."""
        self._spent = max(self._spent, AT_ONCE)
        self._have_next()

    def _do(self, work: Callable[[], None]) -> None:
        began, before = monotonic(), self._spent
        try:
            work()
        finally:  # what was answered within it has been counted, too
            self._spent = max(self._spent, before + monotonic() - began)
            self._have_next()

    def _next(self) -> None:
        self._is_next = False
        self._spent = 0.0
        while self._waiting and not self.is_over:
            self._do(self._waiting.popleft())
