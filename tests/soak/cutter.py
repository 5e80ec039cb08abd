"""A TCP proxy whose connections are cut at will."""

import asyncio
import contextlib
import socket
import struct
import threading

__all__ = ["Cutter"]

_ABORT = struct.pack("ii", 1, 0)


class Cutter:
    """Listens on a port of its own and passes everything on to another, in a thread of its own.

    Args:
        target: port on this machine.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._pairs: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        self._half_open: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        serving = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._carry, "127.0.0.1", 0), self._loop)
        self._server = serving.result(10)
        self.port = int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> int:
        """Reset every connection; give how many there were."""
        return asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)

    def cut_one_side(self) -> int:
        """Reset every connection towards who has made it, in silence for the other side; return how many."""
        return asyncio.run_coroutine_threadsafe(self._cut_one_side(), self._loop).result(10)

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            await self._cut()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _cut(self) -> int:
        pairs, self._pairs = self._pairs, {}
        for each in (*pairs, *pairs.values(), *self._half_open):
            _reset(each)
        self._half_open.clear()
        return len(pairs)

    async def _cut_one_side(self) -> int:
        pairs, self._pairs = self._pairs, {}
        self._half_open += pairs.values()
        for each in pairs:
            _reset(each)
        return len(pairs)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._pairs[writer] = onward
        try:
            await asyncio.wait(
                [
                    asyncio.ensure_future(self._pass_on(reader, onward)),
                    asyncio.ensure_future(self._pass_on(onward_reader, writer)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            self._pairs.pop(writer, None)
            writer.transport.abort()
            if onward not in self._half_open:
                onward.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    writer.transport.abort()
