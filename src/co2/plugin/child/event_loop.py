"""An event loop for one actor whose plugin has ``async def`` methods. Imported only for those."""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any

from co2.plugin.child.calls import OutgoingCalls, result_of
from co2.values import unpack_value

__all__ = ["EventLoopThread", "asked"]


class EventLoopThread:
    """The loop of one actor. All methods but :meth:`wake` are called in the actor's thread.

    Between messages the loop continues, so that tasks of the plugin run too.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._mail = asyncio.Event()

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Run an awaitable to its end and return its result, or raise its exception."""
        return self._runner.run(_awaited(awaitable))

    def wait(self) -> None:
        """Run the plugin's tasks until there is mail."""
        self._runner.run(self._wait())

    def wake(self) -> None:
        """End :meth:`wait`: there is mail; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._mail.set)

    def close(self) -> None:
        """Cancel running tasks and close the loop."""
        self._runner.close()

    async def _wait(self) -> None:
        await self._mail.wait()
        self._mail.clear()


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def asked(outgoing_calls: OutgoingCalls, method: str, host_id: str, packed: bytes, timeout: float) -> Any:
    """Call a method of the network and await its result.

    Raises:
        CallRefused, NotRunning, PeerError: as for ``OutgoingCalls.call``.
    """
    loop = asyncio.get_running_loop()
    came = asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(came.set)

    pending = outgoing_calls.begin(method, host_id, packed, timeout, wake)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await came.wait()
        return unpack_value(result_of(pending, method, timeout))
    finally:
        outgoing_calls.forget(pending)
