"""The door to the link: a connection whose head has passed the gate becomes a WebSocket.

From then on aiohttp reads it. It is none of the HTTP server's connections any more: neither its deadlines nor its
number of connections concern it; how many links there may be is ``max_sats``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.web_protocol import RequestHandler

from co2.host_id import normal_ip
from co2.server.head import Head

__all__ = ["LINK_PATH", "MAX_BUFFERED", "LinkConnection", "LinkDoor", "LinkHandler", "joined"]

LINK_PATH = "/link"

MAX_BUFFERED = 4 * 1024 * 1024
"""Bytes that wait in a link's transport before its owner is told to pause; at a quarter of it, to resume."""

PING_INTERVAL = 10.0
"""Seconds of silence after which the other side is pinged; half as long again without an answer: it is dead."""

JOINED = 64 * 1024
"""Bytes of messages that are copied together for the transport; more go as they are."""

_HANDSHAKE = ("host", "upgrade", "connection", "origin")


class LinkConnection:
    """One open link, for its owner.

    Args:
        socket: the WebSocket.
        door: the transport's protocol.

    Attributes:
        address: (ip, port) of the other side.
        on_pause: called when :data:`MAX_BUFFERED` is passed.
        on_resume: called when there is room again.
    """

    def __init__(self, socket: web.WebSocketResponse, door: "_Door") -> None:
        self.address = door.address
        self._socket = socket
        self._door = door
        self._transport = door.transport

    def watch(self, on_pause: Callable[[], None], on_resume: Callable[[], None]) -> None:
        """Say whom to tell about the transport's buffer."""
        self._door.on_pause, self._door.on_resume = on_pause, on_resume

    async def receive(self) -> list[bytes]:
        """Wait for a frame, and give all that are there; none at the end of the link.

        Whatever is not a binary message ends it.
        """
        frames: list[bytes] = []
        while not frames or self._more_is_there():
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                if message.type is WSMsgType.TEXT:
                    await self._socket.close(code=WSCloseCode.UNSUPPORTED_DATA)
                break
            frames.append(message.data)
        return frames

    def write(self, messages: list[bytes]) -> None:
        """Write what :func:`joined` gives."""
        if self._transport.is_closing():
            return
        if len(messages) == 1:
            self._transport.write(messages[0])
        else:
            self._transport.writelines(messages)

    def _more_is_there(self) -> bool:
        # aiohttp has no name for it. It reads no more while 128 KiB are there, so this comes to an end.
        reader = self._socket._reader
        return reader is not None and bool(reader._buffer)

    async def close(self) -> None:
        """Close it in good order."""
        await self._socket.close()

    def abort(self) -> None:
        """Close it at once; what the other side has not read is given up."""
        self._transport.abort()


LinkHandler = Callable[[LinkConnection], Awaitable[None]]


class _Door(asyncio.Protocol):
    """Passes everything on to aiohttp, and tells the link's owner about the transport's buffer."""

    def __init__(self, handler: RequestHandler, transport: asyncio.Transport, doors: "set[_Door]") -> None:
        peer = transport.get_extra_info("peername") or ("0.0.0.0", 0)  # noqa: S104 - gone already, a label only
        self.address = (normal_ip(str(peer[0])), int(peer[1]))
        self.transport = transport
        self.on_pause: Callable[[], None] = lambda: None
        self.on_resume: Callable[[], None] = lambda: None
        self._handler = handler
        self._doors = doors
        doors.add(self)

    def data_received(self, data: bytes) -> None:
        self._handler.data_received(data)

    def eof_received(self) -> None:
        self._handler.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._doors.discard(self)
        self._handler.connection_lost(exc)

    def pause_writing(self) -> None:
        self._handler.pause_writing()
        self.on_pause()

    def resume_writing(self) -> None:
        self._handler.resume_writing()
        self.on_resume()


class LinkDoor:
    """Turns connections into links. Made inside the event loop.

    Args:
        handler: carries one link from its beginning to its end.
        subprotocol: that both sides must speak.
        max_frame: bytes of one message.
    """

    def __init__(self, handler: LinkHandler, subprotocol: str, max_frame: int) -> None:
        self._carry = handler
        self._subprotocol = subprotocol
        self._max_frame = max_frame
        self._server = web.Server(self._handle, access_log=None)
        self._doors: set[_Door] = set()
        self._stopped = False

    def admit(self, transport: asyncio.Transport, head: Head, rest: bytes) -> None:
        """Take over a connection.

        Args:
            transport: its transport; its protocol is another from here on.
            head: of the request, which has passed the gate.
            rest: what came after the head.
        """
        if self._stopped:
            transport.abort()
            return
        handler = self._server()
        door = _Door(handler, transport, self._doors)
        handler.connection_made(transport)
        transport.set_protocol(door)
        transport.set_write_buffer_limits(high=MAX_BUFFERED, low=MAX_BUFFERED // 4)
        names = [name for name in head.headers if name in _HANDSHAKE or name.startswith("sec-websocket-")]
        lines = [f"GET {LINK_PATH} HTTP/1.1", *(f"{name}: {head.headers[name]}" for name in names)]
        door.data_received(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + rest)

    async def stop(self) -> None:
        """End all of them; what the other sides have not read is given up."""
        self._stopped = True
        await self._server.shutdown(0)
        for door in list(self._doors):
            door.transport.abort()
        await asyncio.sleep(0)  # abort() tells of the end in the loop's next turn

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            protocols=(self._subprotocol,), max_msg_size=self._max_frame, compress=False, heartbeat=PING_INTERVAL
        )
        ready = socket.can_prepare(request)
        if not ready.ok or ready.protocol != self._subprotocol or request.transport is None:
            refused = web.Response(status=426, text=f"this is a WebSocket for {self._subprotocol}\n")
            refused.headers["Upgrade"] = "websocket"
            refused.force_close()
            return refused
        door = cast(_Door, request.transport.get_protocol())
        await socket.prepare(request)
        await self._carry(LinkConnection(socket, door))
        return socket


def joined(frames: list[bytes]) -> list[bytes]:
    """Give frames as WebSocket messages, in few pieces."""
    messages: list[bytes] = []
    for data in frames:
        messages += (message_head(data), data)
    return [b"".join(messages)] if sum(map(len, messages)) <= JOINED else messages


def message_head(data: bytes) -> bytes:
    """Give the head of an unmasked binary WebSocket message (RFC 6455, 5.2); the data goes right after it."""
    size = len(data)
    if size < 126:
        return b"\x82" + bytes((size,))
    if size < 65_536:
        return b"\x82\x7e" + size.to_bytes(2, "big")
    return b"\x82\x7f" + size.to_bytes(8, "big")
