"""The door to the link: a connection whose head has passed the gate becomes a WebSocket.

From then on it is none of the HTTP server's connections: neither its deadlines nor its number of connections
concern it; how many links there may be is ``max_sats``.
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
"""Of the WebSocket protocol (RFC 6455, 4.1)."""

LinkHandler = Callable[[WebSocketTransport], TransportOwner]
"""Gives who carries a new link."""


class LinkUpgrade:
    """Turns connections into links. Made inside the event loop.

    Args:
        handler: gives the owner of each new link.
        subprotocol: that both sides must speak.
        max_frame: bytes of one message until :meth:`WebSocketTransport.allow` says another number.
        max_unfinished: bytes of frames that are not complete, of all links together.
    """

    def __init__(self, handler: LinkHandler, subprotocol: str, max_frame: int, max_unfinished: int) -> None:
        self._handler = handler
        self._subprotocol = subprotocol
        self._max_frame = max_frame
        self._unfinished = Unfinished(max_unfinished)
        self._wires: weakref.WeakSet[WebSocketTransport] = weakref.WeakSet()
        self._stopped = False

    def check(self, head: RequestHead) -> None:
        """See that a request is the handshake of a link.

        Raises:
            Refused: it is not.
        """
        if not self._is_handshake(head):
            more = (
                "Upgrade: websocket",
                "Connection: upgrade",
                f"Sec-WebSocket-Version: {_VERSION}",
                f"Sec-WebSocket-Protocol: {self._subprotocol}",
            )
            raise Refused(426, f"this is a WebSocket for {self._subprotocol}", more)

    def admit(self, transport: asyncio.Transport, head: RequestHead, rest: bytes) -> int:
        """Take over a connection; give the HTTP status that it was answered with.

        Args:
            transport: its transport; its protocol is another from here on.
            head: of the request, which has passed the gate and :meth:`check`.
            rest: what came after the head.
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
        """End all of them; what the other sides have not read is given up."""
        self._stopped = True
        for wire in list(self._wires):
            wire.abort()
        await asyncio.sleep(0)  # abort() tells of the end in the loop's next turn

    def _is_handshake(self, head: RequestHead) -> bool:
        """Tell whether this is a WebSocket handshake for our subprotocol (RFC 6455, 4.2.1)."""
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
