"""SIGHUP: whoever sends it wants a host to take in what has changed; a terminal that is closed wants its end."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable

__all__ = ["HangupSignal"]

LOOK_AGAIN = 0.5
"""Seconds after the signal until it is looked once more whether the terminal is gone."""

_logger = logging.getLogger("co2")


class HangupSignal:
    """What to do about SIGHUP. Make it before the signal is caught.

    Args:
        work: takes in what has changed.
        stopping: to be set where the terminal that the host was started at is gone.
    """

    def __init__(self, work: Callable[[], Awaitable[None]], stopping: asyncio.Event) -> None:
        self._work = work
        self._stopping = stopping
        # Who started us with nohup wants us to outlive the terminal.
        self._at_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and _has_terminal()
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def take(self) -> None:
        """The signal came. While one is worked on, any number of further ones is one more."""
        if self._end_with_terminal():
            return
        # The signal may come a moment before the terminal is gone for us.
        asyncio.get_running_loop().call_later(LOOK_AGAIN, self._end_with_terminal)
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._take_in(), name="SIGHUP")

    def _end_with_terminal(self) -> bool:
        """End the host where its terminal is gone; tell whether it is."""
        if self._at_terminal and not _has_terminal():
            self._stopping.set()
            return True
        return False

    async def stop(self) -> None:
        """Do nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _take_in(self) -> None:
        while self._again:
            self._again = False
            _logger.info("SIGHUP: taking in what has changed")
            try:
                await self._work()
            except Exception:
                _logger.exception("what has changed could not be taken in")


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
