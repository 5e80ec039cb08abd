"""SIGHUP: sent by a person, it makes a host apply changes; sent by a closing terminal, it makes the host end."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable

__all__ = ["HangupSignal"]

LOOK_AGAIN = 0.5
"""Seconds after the signal when the terminal is checked once more."""

_logger = logging.getLogger("co2")


class HangupSignal:
    """Handler of SIGHUP. To be made before the signal is caught.

    Args:
        work: applies changes.
        stopping: set if the terminal that started the host is gone.
    """

    def __init__(self, work: Callable[[], Awaitable[None]], stopping: asyncio.Event) -> None:
        self._work = work
        self._stopping = stopping
        # A host started with nohup must outlive the terminal.
        self._at_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and _has_terminal()
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def take(self) -> None:
        """Handle the signal. Any number of signals during the work count as one."""
        if self._end_with_terminal():
            return
        # The signal may come a moment before our terminal is gone.
        asyncio.get_running_loop().call_later(LOOK_AGAIN, self._end_with_terminal)
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._apply(), name="SIGHUP")

    def _end_with_terminal(self) -> bool:
        """End the host if its terminal is gone; return whether it is."""
        if self._at_terminal and not _has_terminal():
            self._stopping.set()
            return True
        return False

    async def stop(self) -> None:
        """Cancel the work."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _apply(self) -> None:
        while self._again:
            self._again = False
            _logger.info("SIGHUP: applying changes")
            try:
                await self._work()
            except Exception:
                _logger.exception("the changes could not be applied")


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
