"""Open a link: connect to the relay, and upgrade to a WebSocket (RFC 6455, 4.1)."""

import asyncio
import base64
import io
import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from co2.errors import Unreachable
from co2.protocol.wire.link_frames import MAX_LINK_FRAME, SUBPROTOCOL
from co2.protocol.wire.websocket import accept_key
from co2.server.express.transports import send_without_delay
from co2.server.link.websocket_transport import WebSocketTransport

__all__ = ["MAX_ANSWER", "dial"]

MAX_ANSWER = 16 * 1024
"""Bytes of the head of the relay's answer."""

_END_OF_HEAD = b"\r\n\r\n"


async def dial(url: str, addresses: Sequence[str]) -> tuple[WebSocketTransport, bytes]:
    """Open a link to a relay; the caller sets the time limit.

    Args:
        url: the relay's, ``http://host:port``.
        addresses: of its host, tried in this order.

    Returns:
        The transport, without an owner yet, and the bytes that the relay has already sent.

    Raises:
        OSError: nothing answers.
        Unreachable: a program answers, but not a relay of co2.
    """
    parts = urlsplit(url)
    transport, answer = await _connect(addresses, parts.port or 80)
    send_without_delay(transport)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
        "GET /link HTTP/1.1",
        f"Host: {parts.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
    )
    try:
        transport.write(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
        await answer.complete
        _check(answer.head, key)
        if transport.is_closing():  # the owner would not learn of it
            raise ConnectionResetError("the connection was closed")
        return WebSocketTransport(transport, is_client=True, max_frame=MAX_LINK_FRAME), answer.rest
    except BaseException:
        transport.abort()
        raise


async def _connect(addresses: Sequence[str], port: int) -> "tuple[asyncio.Transport, _Answer]":
    """Connect to the first address that answers."""
    loop = asyncio.get_running_loop()
    for left, address in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
        try:
            return await loop.create_connection(_Answer, address, port)
        except OSError:
            if not left:
                raise
    raise Unreachable("its name does not resolve to an address")


class _Answer(asyncio.Protocol):
    """Collects the head of the answer, and the bytes after it.

    Attributes:
        complete: done when the head is complete.
    """

    def __init__(self) -> None:
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._received = bytearray()

    @property
    def head(self) -> bytes:
        return bytes(self._received).partition(_END_OF_HEAD)[0]

    @property
    def rest(self) -> bytes:
        return bytes(self._received).partition(_END_OF_HEAD)[2]

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self.complete.done():
            return
        if _END_OF_HEAD in self._received:
            self.complete.set_result(None)
        elif len(self._received) > MAX_ANSWER:
            self.complete.set_exception(Unreachable("the server there is not a co2 relay"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.complete.done():
            self.complete.set_exception(exc or ConnectionResetError("the connection was closed"))


def _check(head: bytes, key: str) -> None:
    """Refuse an answer that is not a relay's.

    Raises:
        Unreachable: it is not a relay's.
    """
    status_line, _, lines = head.partition(b"\r\n")
    words = status_line.split(None, 2)
    status = words[1].decode("latin-1") if len(words) > 1 and words[0].startswith(b"HTTP/1.") else "?"
    if status != "101":
        raise Unreachable(f"the server there is not a co2 relay (HTTP {status})")
    # Its import takes time; a satellite does that while its plugin hosts start.
    from http.client import HTTPException, parse_headers

    try:
        headers = parse_headers(io.BytesIO(lines + _END_OF_HEAD))
    except HTTPException as error:
        raise Unreachable(f"the server there is not a co2 relay: {error}") from None
    if headers.get("sec-websocket-accept", "") != accept_key(key):
        raise Unreachable("the server there does not speak WebSocket")
    if headers.get("sec-websocket-protocol", "") != SUBPROTOCOL:
        raise Unreachable(f"the server there does not speak {SUBPROTOCOL}")
