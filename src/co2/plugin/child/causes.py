"""The message that a plugin is in, while its ``async def receive`` waits: what it sends meanwhile has that cause.

Other tasks of the plugin run while it waits. So the queue says that the plugin is in the message only for each
step of the coroutine itself.
"""

from collections.abc import Generator
from types import CoroutineType
from typing import Any

from co2.plugin.child.speedups import Level

__all__ = ["attributed"]


class _Attributed:
    """An awaitable in place of a coroutine."""

    def __init__(self, coroutine: "CoroutineType[Any, Any, Any]", level: Level, cause: int) -> None:
        self._coroutine = coroutine
        self._level = level
        self._cause = cause

    def __await__(self) -> Generator[Any, Any, Any]:
        level = self._level
        steps: Any = self._coroutine.__await__()
        step, given = steps.send, None
        while True:
            level.cause = self._cause
            try:
                waits_for = step(given)
            except StopIteration as ended:
                return ended.value
            finally:
                level.cause = 0
            try:
                step, given = steps.send, (yield waits_for)
            except BaseException as error:  # a cancellation, for example, is for the coroutine
                step, given = steps.throw, error


def attributed(result: Any, level: Level) -> Any:
    """Return the result of ``receive``; if it is a coroutine, what it sends has the present cause of the queue.

    Args:
        result: as ``give`` returned it.
        level: of the plugin's queue; it has no cause any more.
    """
    cause, level.cause = level.cause, 0
    return _Attributed(result, level, cause) if cause and type(result) is CoroutineType else result
