"""The upgrade of an HTTP connection, whose head has passed the gate, to the WebSocket of a link.

From then on the deadlines and the number of connections of the HTTP server do not apply to it; the number of links
is limited by ``max_sats``.
"""

import asyncio
import binascii
import weakref
from collections.abc import Callable

from co2.protocol.wire.websocket import accept_key
from co2.server.http.refused import Refused
from co2.server.http.request_head import RequestHead
from co2.server.link.unfinished import Unfinished
from co2.server.link.websocket_transport import TransportOwner, WebSocketTransport

__all__ = ["LINK_PATH", "LinkHandler", "LinkUpgrade"]

LINK_PATH = "/link"

_VERSION = "13"
"""Version of the WebSocket protocol (RFC 6455, 4.1)."""

LinkHandler = Callable[[WebSocketTransport], TransportOwner]
"""A function that returns the owner of a new link."""


class LinkUpgrade:
    """The links of one server, made of HTTP connections. It must be created inside the event loop.

    Args:
        handler: returns the owner of each new link.
        subprotocol: the WebSocket subprotocol that clients must offer.
        max_frame: bytes of one message, until :meth:`WebSocketTransport.allow` sets another limit.
        max_unfinished: bytes of incomplete frames of all links together.
    """

    def __init__(self, handler: LinkHandler, subprotocol: str, max_frame: int, max_unfinished: int) -> None:
        self._handler = handler
        self._subprotocol = subprotocol
        self._max_frame = max_frame
        self._unfinished = Unfinished(max_unfinished)
        self._wires: weakref.WeakSet[WebSocketTransport] = weakref.WeakSet()
        self._stopped = False

    def check(self, head: RequestHead) -> None:
        """Check that a request is the handshake of a link.

        Raises:
            Refused: it is not; the status is 426.
        """
        if not self._is_handshake(head):
            more = (
                "Upgrade: websocket",
                "Connection: upgrade",
                f"Sec-WebSocket-Version: {_VERSION}",
                f"Sec-WebSocket-Protocol: {self._subprotocol}",
            )
            raise Refused(426, f"expected a WebSocket upgrade for the subprotocol {self._subprotocol}", more)

    def admit(self, transport: asyncio.Transport, head: RequestHead, rest: bytes) -> int:
        """Answer the handshake and let the owner of the new link use the connection.

        Args:
            transport: the connection's transport; it gets another protocol here.
            head: of the request, which has passed the gate and :meth:`check`.
            rest: bytes that came after the head.

        Returns:
            The HTTP status for the access log: 101, or 503 if the server stops and the connection was aborted.
        """
        if self._stopped:
            transport.abort()
            return 503
        lines = (
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: upgrade",
            f"Sec-WebSocket-Accept: {accept_key(head.headers['sec-websocket-key'])}",
            f"Sec-WebSocket-Protocol: {self._subprotocol}",
        )
        transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        wire = WebSocketTransport(
            transport, is_client=False, max_frame=self._max_frame, unfinished=self._unfinished
        )
        self._wires.add(wire)
        wire.carry(self._handler(wire), rest)
        return 101

    async def stop(self) -> None:
        """Abort all links; bytes that the other sides have not read are lost."""
        self._stopped = True
        for wire in list(self._wires):
            wire.abort()
        await asyncio.sleep(0)  # after abort() the transport calls connection_lost in the loop's next turn

    def _is_handshake(self, head: RequestHead) -> bool:
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
            and self._subprotocol in offered
        )
