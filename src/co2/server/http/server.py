"""The HTTP server that both roles share: XML-RPC at ``/`` and ``/RPC2``, pages at exact paths."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Mapping

from co2.protocol.wire.link_frames import MAX_FIRST_FRAME, SUBPROTOCOL
from co2.server.express.fair_selector import put_behind, put_first
from co2.server.http.access_log import AccessLog
from co2.server.http.answer_turns import AnswerTurns
from co2.server.http.connection import Connection, Service
from co2.server.http.connections import Connections
from co2.server.http.gate import Gate
from co2.server.http.limits import Limits
from co2.server.http.link_upgrade import LINK_PATH, LinkHandler, LinkUpgrade
from co2.server.http.listen import BACKLOG, bind_socket
from co2.server.http.pages import PageServer
from co2.server.http.response_head import ResponseHeads
from co2.server.rpc.endpoint import Endpoint
from co2.server.rpc.long_answers import LongAnswers
from co2.web.page import PageHandler
from co2.xmlrpc.registry import Registry

__all__ = ["HttpServer", "bind_socket"]

AT_ONCE = 16
"""Connections that are accepted before others have their turn: 200 took 35 ms."""


class HttpServer:
    """Serves a registry and pages.

    Args:
        registry: what can be called.
        pages: handlers of GET and HEAD by exact path.
        limits: all of them.
        allowed_hosts: names that are accepted as Host besides this machine's own and any IP address.
        access_log: gets one line per answered request; None for none.
        links: gives who carries each new link at ``/link``; None for a host that takes none.
        gives_way: has the call of a source (:func:`co2.sources.source_of`) that waits for longest answered
            with what there is, and gives its connection's (IP, port), which then ends; None where none waits.
        buttons: handlers of POST without a body, from a form on one of the pages, by exact path.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        pages: Mapping[str, PageHandler],
        limits: Limits,
        allowed_hosts: Iterable[str],
        access_log: logging.Logger | None,
        links: LinkHandler | None = None,
        gives_way: Callable[[str], tuple[str, int] | None] = lambda _source: None,
        buttons: Mapping[str, PageHandler] | None = None,
    ) -> None:
        self._pages = {**pages, **(buttons or {})}
        self._limits = limits
        link = LINK_PATH if links is not None else ""
        self._gate = Gate(pages, allowed_hosts, limits, link, buttons=buttons or ())
        self._links = links
        self._gives_way = gives_way
        self._endpoint = Endpoint(registry)
        self._access_log = access_log
        self._service: Service | None = None
        self._listening: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Serve on a listening socket."""
        loop = asyncio.get_running_loop()
        access_log = AccessLog(self._access_log)
        service = self._service = Service(
            loop=loop,
            limits=self._limits,
            gate=self._gate,
            endpoint=self._endpoint,
            pages=PageServer(self._pages),
            connections=Connections(self._limits, loop, access_log.write_down, self._gives_way),
            access_log=access_log,
            heads=ResponseHeads(),
            turns=AnswerTurns(loop),
            link_upgrade=None
            if self._links is None
            else LinkUpgrade(self._links, SUBPROTOCOL, MAX_FIRST_FRAME, self._limits.max_unfinished),
        )
        unsent = service.connections.unsent
        self._endpoint.long = LongAnswers(loop, lambda: unsent.total, self._limits.max_unsent)
        service.connections.start()
        self._listening = await loop.create_server(lambda: Connection(service), sock=sock, backlog=AT_ONCE)
        put_behind(loop, sock.fileno())
        sock.listen(BACKLOG)  # asyncio has accepted as many at once as it lets wait

    def stop_listening(self) -> None:
        """Take no more connections: who is told goodbye does not come back to a host that ends."""
        if self._listening is not None:
            for sock in self._listening.sockets:
                # Whoever gets its number next is not behind for it.
                put_first(asyncio.get_running_loop(), sock.fileno())
            self._listening.close()

    async def stop(self) -> None:
        """Take no more connections; end those there are: idle ones at once, the others with their answer, at most
        ``stop_timeout`` seconds later."""
        service, listening = self._service, self._listening
        if service is None or listening is None:
            return
        self.stop_listening()
        if service.link_upgrade is not None:
            await service.link_upgrade.stop()
        await service.connections.end(self._limits.stop_timeout)
        for member in service.connections:
            member.drop("stopped", "the server stops")
        service.connections.stop()
        service.access_log.write_down(ending=True)
        self._listening = None

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._service.connections) if self._service is not None else 0

    @property
    def requests(self) -> Mapping[int, int]:
        """Answers by HTTP status."""
        return self._service.access_log.requests if self._service is not None else {}

    @property
    def dropped(self) -> Mapping[str, int]:
        """Connections ended without an answer, by reason."""
        return self._service.access_log.dropped if self._service is not None else {}

    @property
    def calls(self) -> Mapping[str, int]:
        """XML-RPC calls by outcome, ``ok`` or ``fault``."""
        return self._endpoint.calls

    @property
    def faults(self) -> Mapping[int, int]:
        """Faults by code."""
        return self._endpoint.faults
