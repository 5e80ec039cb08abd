"""A time limit for the answers of one turn of the event loop.

One message can end the waiting calls of hundreds of callers at once. Without a limit, writing all these answers
would delay everything else that runs in the loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

__all__ = ["AT_ONCE", "AnswerTurns"]

AT_ONCE = 0.0015
"""Seconds of one turn of the event loop in which answers are started; the others wait for the next turn."""


class AnswerTurns:
    """The queue of answers that wait for a later turn of the event loop.

    Args:
        loop: the event loop of the server.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()
        self._spent = 0.0
        self._is_next = False

    def __len__(self) -> int:
        """Return the number of answers that wait."""
        return len(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether this turn's time is used up."""
        return self._spent >= AT_ONCE

    def do(self, work: Callable[[], None]) -> None:
        """Do the work of an answer now, or in a later turn if the time of this turn is used up."""
        if self._waiting or self.is_over:
            self._waiting.append(work)
        else:
            self._do(work)

    def spend(self, began: float) -> None:
        """Count the time of an answer that was written without :meth:`do`.

        Args:
            began: when the work on it began, in seconds of the monotonic clock.
        """
        self._spent += monotonic() - began
        self._have_next()

    def _have_next(self) -> None:
        if not self._is_next:
            self._is_next = True
            self._loop.call_soon(self._next)

    def use_up(self) -> None:
        """Treat this turn's time as used up, because a task was started whose time is not known yet."""
        self._spent = max(self._spent, AT_ONCE)
        self._have_next()

    def _do(self, work: Callable[[], None]) -> None:
        began, before = monotonic(), self._spent
        try:
            work()
        finally:  # the work may have called spend(): max() instead of a sum, so that no time counts twice
            self._spent = max(self._spent, before + monotonic() - began)
            self._have_next()

    def _next(self) -> None:
        self._is_next = False
        self._spent = 0.0
        while self._waiting and not self.is_over:
            self._do(self._waiting.popleft())
