"""Requests cut out of a stream of bytes. Sans I/O: bytes in; requests with their bodies, or a refusal, out.

However the bytes are split on their way, the requests and the refusal are the same.
"""

import re

from co2.server.http.chunked_body import ChunkedBody
from co2.server.http.gate import Gate, Request
from co2.server.http.limits import Limits
from co2.server.http.request_head import check_lines

__all__ = ["RequestParser"]

_END_OF_HEAD = b"\r\n\r\n"
_EMPTY_LINES = re.compile(rb"(?:\r\n)+")


class RequestParser:
    """Parser of one connection's requests.

    It holds all bytes that it is fed and has not returned yet; how much that may be is for the connection to say,
    which reads no further meanwhile.

    Args:
        gate: decides from a head whether its request is read on.
        limits: the server's.
        over_loopback: whether the connection's own end is a loopback address.

    Attributes:
        awaits_continue: whether the sender of the unfinished body waits for ``100 Continue`` with it.
    """

    __slots__ = (
        "_buffer",
        "_chunks",
        "_gate",
        "_limits",
        "_line",
        "_over_loopback",
        "_request",
        "awaits_continue",
    )

    def __init__(self, gate: Gate, limits: Limits, *, over_loopback: bool) -> None:
        self._gate = gate
        self._limits = limits
        self._over_loopback = over_loopback
        self._buffer = bytearray()
        self._line = 0  # where the line of an unfinished head begins whose end is missing
        self._request: Request | None = None
        self._chunks: ChunkedBody | None = None
        self.awaits_continue = False

    @property
    def buffered(self) -> int:
        """Bytes that are not parsed yet."""
        return len(self._buffer)

    @property
    def in_body(self) -> bool:
        """Whether a head is complete and its body is not."""
        return self._request is not None

    @property
    def in_request(self) -> bool:
        """Whether a request has begun and is not complete; empty lines before one do not begin it."""
        return self._request is not None or bool(self._buffer)

    @property
    def received(self) -> int:
        """Bytes that are held of an unfinished request."""
        return len(self._buffer) + (len(self._chunks.body) if self._chunks is not None else 0)

    def feed(self, data: bytes) -> None:
        """Append bytes as they come."""
        self._buffer += data

    def next(self) -> tuple[Request, bytes] | None:
        """Return the next request and its body; None while bytes of it are missing.

        Raises:
            Refused: it is none, or none for this server. Where the next one begins is unknown then.
        """
        request = self._request
        if request is None:
            request = self._read_head()
            if request is None:
                return None
            self.awaits_continue = request.head.expects and not self._buffer
        body = self._read_body(request)
        if body is None:
            self._request = request
            return None
        self._request = None
        return request, body

    def take_rest(self) -> bytes:
        """Return the bytes behind the last request, for another protocol, and forget everything."""
        rest = bytes(self._buffer)
        self.clear()
        return rest

    def clear(self) -> None:
        """Forget everything that has come."""
        self._buffer.clear()
        self._line = 0
        self._request = self._chunks = None

    def _read_head(self) -> Request | None:
        buffer = self._buffer
        # Some clients send empty lines after a body; RFC 9112, 2.2.
        if buffer.startswith(b"\r\n") and (found := _EMPTY_LINES.match(buffer)):
            del buffer[: found.end()]
            self._line = 0
        end = buffer.find(_END_OF_HEAD, max(0, self._line - 2))
        if end < 0:
            self._line = check_lines(buffer, self._line, self._limits)
            return None
        request = self._gate.admit(bytes(buffer[:end]), self._over_loopback)
        del buffer[: end + 4]
        self._line = 0
        return request

    def _read_body(self, request: Request) -> bytes | None:
        buffer = self._buffer
        if request.head.chunked:
            if self._chunks is None:
                self._chunks = ChunkedBody(self._limits)
            if not self._chunks.feed(buffer):
                return None
            body = bytes(self._chunks.body)
            self._chunks = None
            return body
        length = request.head.length or 0
        if len(buffer) < length:
            return None
        body = bytes(buffer[:length])
        del buffer[:length]
        return body
