"""Pages, served by aiohttp: it gets only heads that have passed the gate, written anew from what was read."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.web_protocol import RequestHandler

from co2.server.head import Head
from co2.xmlrpc.faults import as_fault

__all__ = ["PageHandler", "PageServer", "head_for_pages"]

PageHandler = Callable[[web.BaseRequest], Awaitable[web.Response]]

_BETWEEN_TWO = frozenset(
    ("connection", "content-length", "expect", "keep-alive", "proxy-connection", "te", "upgrade")
)
"""Headers that concern the connection, which is not aiohttp's."""


class PageConnection(Protocol):
    """What is told when a page is out."""

    def page_answered(self, what: str, status: int, size: int, seconds: float) -> None:
        """Take note, and go on with the connection."""


class PageServer:
    """Makes aiohttp's handler for connections that ask for pages. Made inside the event loop.

    Args:
        pages: handlers by exact path.
    """

    def __init__(self, pages: Mapping[str, PageHandler]) -> None:
        self._pages = dict(pages)
        self._server = web.Server(self._handle, access_log_class=_TellsConnection, access_log=logging.root)

    def open(self, transport: asyncio.Transport) -> RequestHandler:
        """Give a handler that writes to this connection; its protocol is a :class:`PageConnection`."""
        handler = self._server()
        handler.connection_made(transport)
        return handler

    async def stop(self, timeout: float) -> None:
        """End all handlers; pages under way get ``timeout`` seconds."""
        await self._server.shutdown(timeout)

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        try:
            response = await self._pages[request.path](request)
            _check_headers(response)
        except Exception as error:
            told = as_fault(error, f"{request.method} {request.path}")
            response = web.Response(status=500, text=f"{told}\n")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Server", "co2")
        return response


def head_for_pages(head: Head) -> bytes:
    """Write a head for aiohttp."""
    lines = [f"{head.method} {head.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in head.headers.items() if name not in _BETWEEN_TWO]
    if not head.keep:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _check_headers(response: web.Response) -> None:
    """Refuse what would split an answer in two."""
    for name, value in response.headers.items():
        if not f"{name}{value}".isprintable():
            raise ValueError(f"header {name!r} with a value that no header can have")


class _TellsConnection(AbstractAccessLogger):
    """aiohttp tells its access logger when an answer is out; here that is the connection."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        transport = request.transport
        connection: Any = transport.get_protocol() if transport is not None else None
        if connection is not None:
            size = response.body_length
            connection.page_answered(f"{request.method} {request.path}", response.status, size, time)
