"""The HTTP server of relays and satellites: XML-RPC at ``/`` and ``/RPC2``, pages at exact paths."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Mapping

from co2.server.door.answers import DoorHandler
from co2.server.door.door import JsonDoor
from co2.server.door.routes import ROUTES
from co2.server.express.fair_selector import put_behind, put_first
from co2.server.http.access_log import AccessLog
from co2.server.http.connection import Connection, Service
from co2.server.http.connections import Connections
from co2.server.http.gate import Gate
from co2.server.http.limits import Limits
from co2.server.http.listen import BACKLOG, bind_socket
from co2.server.http.pages import PageServer
from co2.server.http.response_head import ResponseHeads
from co2.server.http.websocket_upgrade import LinkHandler, WebSocketEndpoint, WebSocketUpgrade, link_endpoint
from co2.server.rpc.answer_turns import AnswerTurns
from co2.server.rpc.endpoint import Endpoint
from co2.server.rpc.long_answers import LongAnswers
from co2.web.page import PageHandler
from co2.xmlrpc.registry import Registry

__all__ = ["HttpServer", "bind_socket"]

AT_ONCE = 8
"""Connections that are accepted in one turn of the event loop: to accept 200 took 35 ms."""


class HttpServer:
    """An HTTP server for XML-RPC methods, pages and links.

    Args:
        registry: the methods.
        pages: handlers of GET and HEAD by exact path.
        limits: all limits.
        allowed_hosts: names that a Host header may have, besides this machine's own names and any IP address.
        access_log: gets a line for each answered request; None for no access log.
        links: returns the owner of each new link at ``/link``; None for a host without links.
        gives_way: ends the longest waiting call of a source (:func:`co2.sources.source_of`), so that it is
            answered with what there is, and returns the (IP, port) of its connection, which is closed afterwards;
            returns None if no call waits.
        buttons: handlers of POST without a body, from a form on one of the pages, by exact path.
        turns: of answers, shared with what else takes long in the event loop; None for its own.
        door: handlers of the JSON door by the path of their route; None for a server without it.
        live: the WebSocket of viewers; None for a server without it.
        elsewhere: for the text of a refusal: where the routes are that ``door`` lacks.
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
        turns: AnswerTurns | None = None,
        door: Mapping[str, DoorHandler] | None = None,
        live: WebSocketEndpoint | None = None,
        elsewhere: str = "",
    ) -> None:
        self._pages = {**pages, **(buttons or {})}
        self._limits = limits
        link = None if links is None else link_endpoint(links)
        self._websockets = [endpoint for endpoint in (link, live) if endpoint is not None]
        paths = [endpoint.path for endpoint in self._websockets]
        self._gate = Gate(
            pages, allowed_hosts, limits, paths, buttons=buttons or (), routes=ROUTES if door else ()
        )
        self._door = JsonDoor(door or {}, elsewhere)
        self._gives_way = gives_way
        self._turns = turns
        self._endpoint = Endpoint(registry)
        self._access_log = access_log
        self._service: Service | None = None
        self._listening: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Start to serve on a listening socket, such as that of :func:`bind_socket`."""
        loop = asyncio.get_running_loop()
        access_log = AccessLog(self._access_log)
        turns = self._endpoint.turns = self._turns or AnswerTurns(loop)
        service = self._service = Service(
            loop=loop,
            limits=self._limits,
            gate=self._gate,
            endpoint=self._endpoint,
            pages=PageServer(self._pages),
            connections=Connections(self._limits, loop, access_log.write_down, self._gives_way),
            access_log=access_log,
            heads=ResponseHeads(),
            turns=turns,
            door=self._door,
            upgrade=WebSocketUpgrade(self._websockets, self._limits.max_unfinished),
        )
        unsent = service.connections.unsent
        self._endpoint.long = LongAnswers(loop, lambda: unsent.total, self._limits.max_unsent)
        service.connections.start()
        self._listening = await loop.create_server(lambda: Connection(service), sock=sock, backlog=AT_ONCE)
        put_behind(loop, sock.fileno())
        sock.listen(BACKLOG)  # create_server has set it to AT_ONCE: asyncio uses one number for both

    def stop_listening(self) -> None:
        """Accept no more connections, so that a satellite that gets a goodbye does not reconnect to this host."""
        if self._listening is not None:
            for sock in self._listening.sockets:
                # The next socket with this descriptor must not inherit the low priority.
                put_first(asyncio.get_running_loop(), sock.fileno())
            self._listening.close()

    async def stop(self) -> None:
        """Accept no more connections, and close all: idle ones at once, the others after their answer.

        After ``stop_timeout`` seconds the remaining ones are dropped.
        """
        service, listening = self._service, self._listening
        if service is None or listening is None:
            return
        self.stop_listening()
        await service.upgrade.stop()
        await service.connections.end(self._limits.stop_timeout)
        for member in service.connections:
            member.drop("stopped", "the server is stopping")
        service.connections.stop()
        service.access_log.write_down(ending=True)
        self._listening = None

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._service.connections) if self._service is not None else 0

    @property
    def requests(self) -> Mapping[int, int]:
        """Number of answers by HTTP status."""
        return self._service.access_log.requests if self._service is not None else {}

    @property
    def dropped(self) -> Mapping[str, int]:
        """Number of connections that were closed without an answer, by reason."""
        return self._service.access_log.dropped if self._service is not None else {}

    @property
    def calls(self) -> Mapping[str, int]:
        """Number of XML-RPC calls by outcome, ``ok`` or ``fault``."""
        return self._endpoint.calls

    @property
    def faults(self) -> Mapping[int, int]:
        """Number of faults by code."""
        return self._endpoint.faults
