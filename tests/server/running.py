"""A server in a thread of this process, on either event loop."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop

from co2.server.door.answers import DoorHandler
from co2.server.http.limits import Limits
from co2.server.http.server import HttpServer, bind_socket
from co2.server.http.websocket_upgrade import LinkHandler
from co2.server.rpc.answer_turns import AT_ONCE
from co2.web.headers import answer
from co2.web.page import PageAnswer, PageHandler, PageRequest
from co2.xmlrpc.introspection import add_introspection
from co2.xmlrpc.registry import Caller, Registry

LOOPS: dict[str, Callable[[], Any]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def hello(request: PageRequest) -> PageAnswer:
    said = "&".join(f"{name}={value}" for name, value in sorted(request.query.items()))
    return answer(f"hello {said}".encode() + b"." * 1000, "text/plain; charset=utf-8")


async def big(_request: PageRequest) -> PageAnswer:
    return answer(b"x" * 3_000_000, "application/octet-stream")


async def huge(_request: PageRequest) -> PageAnswer:
    return answer(b"x" * 10_000_000, "application/octet-stream")  # more than sockets hold: some take 4 MiB


@dataclass
class Running:
    """What a test may want to look at.

    Attributes:
        events: what the handlers ``hold``, ``work`` and ``stall`` noted.
        release: lets ``hold`` go on.
        stalled: lets ``stall`` go on, and with it all of the server.
    """

    server: HttpServer
    port: int
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event
    registry: Registry
    events: list[str] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    stalled: threading.Event = field(default_factory=threading.Event)

    def let_go(self) -> None:
        self.loop.call_soon_threadsafe(self.release.set)


@contextlib.contextmanager
def running(
    loop_name: str,
    *,
    limits: Limits | None = None,
    pages: Mapping[str, PageHandler] | None = None,
    access_log: logging.Logger | None = None,
    gives_way: Callable[[str], tuple[str, int] | None] = lambda _source: None,
    links: LinkHandler | None = None,
    door: Mapping[str, DoorHandler] | None = None,
) -> Iterator[Running]:
    """Serve until the end of the ``with``."""
    started: list[Running] = []
    ready = threading.Event()

    async def main() -> None:
        registry = Registry()
        add_introspection(registry, lambda _caller: {})
        server = HttpServer(
            registry=registry,
            pages={"/": hello, "/big": big, "/huge": huge} if pages is None else pages,
            limits=limits or Limits(),
            allowed_hosts=(),
            access_log=access_log,
            gives_way=gives_way,
            links=links,
            door=door,
            elsewhere="ask the relay",
        )
        sock = bind_socket("127.0.0.1", 0, next_free=False)
        found = Running(server, sock.getsockname()[1], asyncio.get_running_loop(), asyncio.Event(), registry)

        async def hold(_params: Sequence[Any], _caller: Caller) -> Any:
            found.events.append("began")
            try:
                await found.release.wait()
                found.events.append("ended")
            except asyncio.CancelledError:
                found.events.append("cancelled")
                raise
            return True

        def work(_params: Sequence[Any], _caller: Caller) -> Any:
            time.sleep(2 * AT_ONCE)  # the loop waits, and the test's own thread is not held up by it
            found.events.append("worked")
            return True

        registry.add("hold", hold, help="", signatures=[])

        def stall(_params: Sequence[Any], _caller: Caller) -> Any:
            found.events.append("stalled")
            found.stalled.wait(10)
            return "x" * 1_000_000

        registry.add("work", work, help="", signatures=[])
        registry.add("stall", stall, help="", signatures=[])
        registry.add("odd", lambda _p, _c: object(), help="", signatures=[])
        await server.start(sock)
        started.append(found)
        ready.set()
        await found.stop.wait()
        await server.stop()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
                runner.run(main())
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    try:
        yield started[0]
    finally:
        with contextlib.suppress(RuntimeError):  # it has stopped already
            started[0].loop.call_soon_threadsafe(started[0].stop.set)
        thread.join(10)
        assert not thread.is_alive()
