"""Flushes of plugins: each is answered when it is acknowledged."""

import asyncio
import logging
from collections.abc import Awaitable

from co2.errors import Co2Error
from co2.plugin.parent.process import Child
from co2.protocol.wire.plugin_frames.frames import Flush, Flushed
from co2.tasks import TaskSet

__all__ = ["PackageFlushes"]

_logger = logging.getLogger("co2.plugins")


class PackageFlushes:
    """The flushes of one package's child."""

    def __init__(self) -> None:
        self._tasks = TaskSet(_logger, "a flush of a plugin")

    def start(self, child: Child, flush: Flush, acknowledged: Awaitable[None]) -> None:
        """Answer a flush when ``acknowledged`` is done, unless its plugin has given it up by then.

        So their number stays within the limit of a plugin host, however long the relay is away.
        """
        self._tasks.start(self._answer(child, flush, acknowledged))

    def cancel(self) -> None:
        """Cancel all flushes: the child has ended."""
        self._tasks.cancel()

    @staticmethod
    async def _answer(child: Child, flush: Flush, acknowledged: Awaitable[None]) -> None:
        flush_id = flush.flush_id
        try:
            async with asyncio.timeout(flush.timeout):
                await acknowledged
            child.send(Flushed(flush_id))
        except TimeoutError:
            return
        except Co2Error as error:
            child.send(Flushed(flush_id, str(error)))
        except Exception as error:
            _logger.exception("waiting for a flush failed")
            child.send(Flushed(flush_id, f"the satellite failed: {type(error).__name__}"))
