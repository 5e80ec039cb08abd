"""A time limit for the answers of one turn of the event loop.

One message can end the waiting calls of hundreds of callers at once. Without a limit, writing all these answers
would delay everything else that runs in the loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic

__all__ = ["AT_ONCE", "STEP", "AnswerTurns"]

AT_ONCE = 0.0015
"""Seconds of one turn of the event loop in which answers are started; the others wait for the next turn."""

STEP = 0.0005
"""Seconds of work on one answer between two pauses (:meth:`AnswerTurns.pause`)."""


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

    def go_on(self, work: Callable[[], None]) -> None:
        """Do the rest of an answer before all others that wait, but not in this turn if its time is used up."""
        self._waiting.appendleft(work)
        self._have_next()

    async def pause(self, began: float) -> float:
        """Wait for a turn if this one's time is used up, in the middle of something that takes long.

        Args:
            began: monotonic seconds at which this part of it began.

        Returns:
            The monotonic seconds at which the next part begins.
        """
        self.spend(began)
        if self._waiting or self.is_over:
            turn: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(partial(self._let, turn))
            await turn
        return monotonic()

    def _let(self, turn: "asyncio.Future[None]") -> None:
        if not turn.done():
            turn.set_result(None)
            self.use_up()  # its part is done in the loop's next turn

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
