"""Tasks that run beside their owner: kept until they end, and none fails unseen."""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

__all__ = ["TaskSet"]

Outcome = TypeVar("Outcome")


class TaskSet:
    """The tasks of one owner. An event loop alone keeps no reference to a task.

    Args:
        logger: logs the errors of failed tasks.
        what: name of a task that has none of its own.
    """

    def __init__(self, logger: logging.Logger, what: str) -> None:
        self._logger = logger
        self._what = what
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        return iter(tuple(self._tasks))

    def start(self, work: Coroutine[Any, Any, Outcome], name: str = "") -> asyncio.Task[Outcome]:
        """Start a task; ``name`` stands for it in the log."""
        task = asyncio.create_task(work, name=name or self._what)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def cancel(self) -> None:
        """Cancel all tasks that have not ended."""
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """Cancel all tasks, and return when they have ended."""
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._logger.error("%s ended with an internal error", task.get_name(), exc_info=error)
