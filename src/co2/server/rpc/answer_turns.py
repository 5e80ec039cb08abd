"""A time limit for the answers of one turn of the event loop.

One message can end the waiting calls of hundreds of callers at once. Without a limit, writing all these answers
would delay everything else that runs in the loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterator
from time import monotonic
from typing import TypeVar

__all__ = ["AT_ONCE", "STEP", "AnswerTurns"]

AT_ONCE = 0.0015
"""Seconds of one turn of the event loop in which answers are started; the others wait for the next turn."""

STEP = 0.0005
"""Seconds of work on one answer between two pauses (:meth:`AnswerTurns.pause`)."""

T = TypeVar("T")


class AnswerTurns:
    """The queue of answers that wait for a later turn of the event loop.

    Args:
        loop: the event loop of the server.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()
        self._long: deque[Callable[[], None]] = deque()
        self._paused: deque[asyncio.Future[None]] = deque()
        self._spent = 0.0
        self._is_next = False

    def __len__(self) -> int:
        """Return the number of answers that wait."""
        return len(self._waiting) + len(self._long) + len(self._paused)

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

    def go_on(self, work: Callable[[], None], *, is_new: bool) -> bool:
        """Do the rest of a long answer in this turn or in later ones.

        Each turn does some of one long answer, after the short ones; when it is complete the next one is begun.

        Args:
            work: the next part; it calls this function again if there is more to do.
            is_new: the first part of this answer has just been done; otherwise it has its turn already.

        Returns:
            Whether it waits behind other long answers.
        """
        is_behind = is_new and bool(self._long)
        (self._long.append if is_new else self._long.appendleft)(work)
        self._have_next()
        return is_behind

    async def pause(self, began: float) -> float:
        """Wait for a turn if this one's time is used up, in the middle of something that takes long.

        Args:
            began: monotonic seconds at which this part of it began.

        Returns:
            The monotonic seconds at which the next part begins.
        """
        self.spend(began)
        if self._paused or self.is_over:
            turn: asyncio.Future[None] = self._loop.create_future()
            self._paused.append(turn)
            await turn
        return monotonic()

    async def collect(self, produce: Iterator[T]) -> list[T]:
        """Return all elements of something that takes long to produce, in steps of :data:`STEP`."""
        elements: list[T] = []
        began = monotonic()
        for element in produce:
            elements.append(element)
            if monotonic() - began > STEP:
                began = await self.pause(began)
        self.spend(began)
        return elements

    async def through(self, steps: Generator[None, None, T]) -> T:
        """Do all steps of something that takes long, and other work in between; return its result."""
        began = monotonic()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                self.spend(began)
                result: T = end.value
                return result
            if monotonic() - began > STEP:
                began = await self.pause(began)

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
        if self._long:  # at least one part, however many short ones there are
            self._do(self._long.popleft())
            while self._long and not self.is_over:
                self._do(self._long.popleft())
        self._let_one_go_on()
        if len(self):
            self._have_next()

    def _let_one_go_on(self) -> None:
        """Let one of those that pause go on, in the loop's next turn."""
        while self._paused:
            turn = self._paused.popleft()
            if not turn.done():  # else its caller has given up
                turn.set_result(None)
                return
