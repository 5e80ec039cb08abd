"""The upgrade of an HTTP connection, whose head has passed the gate, to a WebSocket: of a link, or of a viewer.

From then on the deadlines and the number of connections of the HTTP server do not apply to it; the number of links
is limited by ``max_sats``, that of viewers by :data:`co2.relay.live_viewers.MAX_VIEWERS`.
"""

import asyncio
import binascii
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from co2.protocol.wire.link_frames import MAX_FIRST_FRAME, SUBPROTOCOL
from co2.protocol.wire.websocket import accept_key
from co2.server.http.refused import Refused
from co2.server.http.request_head import RequestHead
from co2.server.link.unfinished import Unfinished
from co2.server.link.websocket_transport import TransportOwner, WebSocketTransport
from co2.xmlrpc.registry import Caller

__all__ = ["LINK_PATH", "LinkHandler", "WebSocketEndpoint", "WebSocketUpgrade", "link_endpoint"]

LINK_PATH = "/link"

_VERSION = "13"
"""Version of the WebSocket protocol (RFC 6455, 4.1)."""

LinkHandler = Callable[[WebSocketTransport], TransportOwner]
"""A function that returns the owner of a new link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketEndpoint:
    """A path at which connections become WebSockets.

    Attributes:
        path: exact.
        subprotocol: that clients must offer.
        max_frame: bytes of one message, until :meth:`WebSocketTransport.allow` sets another limit.
        handler: returns the owner of each new one, for its caller.
        is_text: whether its messages are text; else they are binary.
        check_room: raises :class:`Refused` if the caller gets none now.
    """

    path: str
    subprotocol: str
    max_frame: int
    handler: Callable[[WebSocketTransport, Caller], TransportOwner]
    is_text: bool = False
    check_room: Callable[[Caller], None] = lambda _caller: None


def link_endpoint(links: LinkHandler) -> WebSocketEndpoint:
    """Return the endpoint of links."""
    return WebSocketEndpoint(
        path=LINK_PATH,
        subprotocol=SUBPROTOCOL,
        max_frame=MAX_FIRST_FRAME,
        handler=lambda wire, _caller: links(wire),
    )


class WebSocketUpgrade:
    """The WebSockets of one server, made of HTTP connections. It must be created inside the event loop.

    Args:
        endpoints: by their paths.
        max_unfinished: bytes of incomplete frames of all of them together.
    """

    def __init__(self, endpoints: Sequence[WebSocketEndpoint], max_unfinished: int) -> None:
        self._endpoints = {endpoint.path: endpoint for endpoint in endpoints}
        self._unfinished = Unfinished(max_unfinished)
        self._wires: weakref.WeakSet[WebSocketTransport] = weakref.WeakSet()
        self._stopped = False

    def __contains__(self, path: str) -> bool:
        return path in self._endpoints

    def check(self, head: RequestHead, caller: Caller) -> None:
        """Check that a request is a handshake, and that there is room.

        Raises:
            Refused: it is not, with status 426, or there is no room.
        """
        endpoint = self._endpoints[head.path]
        if not _is_handshake(head, endpoint.subprotocol):
            more = (
                "Upgrade: websocket",
                "Connection: upgrade",
                f"Sec-WebSocket-Version: {_VERSION}",
                f"Sec-WebSocket-Protocol: {endpoint.subprotocol}",
            )
            raise Refused(426, f"expected a WebSocket upgrade for the subprotocol {endpoint.subprotocol}", more)
        endpoint.check_room(caller)

    def admit(self, transport: asyncio.Transport, head: RequestHead, caller: Caller, rest: bytes) -> int:
        """Answer the handshake and let the owner of the new WebSocket use the connection.

        Args:
            transport: the connection's transport; it gets another protocol here.
            head: of the request, which has passed the gate and :meth:`check`.
            caller: sender of the request.
            rest: bytes that came after the head.

        Returns:
            The HTTP status for the access log: 101, or 503 if the server stops and the connection was aborted.
        """
        if self._stopped:
            transport.abort()
            return 503
        endpoint = self._endpoints[head.path]
        lines = (
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: upgrade",
            f"Sec-WebSocket-Accept: {accept_key(head.headers['sec-websocket-key'])}",
            f"Sec-WebSocket-Protocol: {endpoint.subprotocol}",
        )
        transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        wire = WebSocketTransport(
            transport,
            is_client=False,
            max_frame=endpoint.max_frame,
            unfinished=self._unfinished,
            is_text=endpoint.is_text,
        )
        self._wires.add(wire)
        wire.carry(endpoint.handler(wire, caller), rest)
        return 101

    async def stop(self) -> None:
        """Abort all of them; bytes that the other sides have not read are lost."""
        self._stopped = True
        for wire in list(self._wires):
            wire.abort()
        await asyncio.sleep(0)  # after abort() the transport calls connection_lost in the loop's next turn


def _is_handshake(head: RequestHead, subprotocol: str) -> bool:
    """Return whether this is a WebSocket handshake for the subprotocol (RFC 6455, 4.2.1)."""
    headers = head.headers
    offered = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
    try:
        is_key = len(binascii.a2b_base64(headers.get("sec-websocket-key", ""), strict_mode=True)) == 16
    except ValueError:
        is_key = False
    return (
        is_key
        and headers.get("upgrade", "").lower() == "websocket"
        and "upgrade" in [name.strip().lower() for name in headers.get("connection", "").split(",")]
        and headers.get("sec-websocket-version") == _VERSION
        and subprotocol in offered
    )
