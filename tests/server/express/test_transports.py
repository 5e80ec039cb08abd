"""What connections leave behind when they have ended."""

import asyncio
import gc
import weakref

from co2.server.express.transports import let_go


def test_a_transport_is_freed_when_its_connection_is_gone_without_the_garbage_collector() -> None:
    transports: list[weakref.ref[asyncio.BaseTransport]] = []

    class Ends(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            transports.append(weakref.ref(transport))

        def connection_lost(self, exc: Exception | None) -> None:
            let_go(self.transport)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Ends, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for data in (b"", b"x" * 100_000):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(10):
            while len(transports) < 2 or any(transport() is not None for transport in transports):
                await asyncio.sleep(0.01)
        server.close()

    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(run())
    finally:
        gc.enable()
