"""A parser of the requests in a stream of bytes. Sans I/O: bytes in; requests with bodies, or a refusal, out.

The result does not depend on how the network splits the bytes.
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
    """Parser of the requests of one connection.

    It keeps all bytes that it has got and not returned yet. The connection limits them: it stops reading.

    Args:
        gate: decides from a head whether its request is accepted.
        limits: the server's.
        over_loopback: whether the server's end of the connection is a loopback address.

    Attributes:
        awaits_continue: whether the sender of the incomplete body waits for ``100 Continue``.
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
        self._line = 0  # index of the first incomplete line of an incomplete head
        self._request: Request | None = None
        self._chunks: ChunkedBody | None = None
        self.awaits_continue = False

    @property
    def buffered(self) -> int:
        """Number of bytes that are not parsed yet."""
        return len(self._buffer)

    @property
    def in_body(self) -> bool:
        """Whether a head is complete and its body is incomplete."""
        return self._request is not None

    @property
    def wants_json(self) -> bool:
        """Whether the incomplete body is for the JSON door."""
        return self._request is not None and self._request.route is not None

    @property
    def in_request(self) -> bool:
        """Whether a request has begun and is incomplete; empty lines before a request do not count."""
        return self._request is not None or bool(self._buffer)

    @property
    def received(self) -> int:
        """Number of bytes of the incomplete request."""
        return len(self._buffer) + (len(self._chunks.body) if self._chunks is not None else 0)

    def feed(self, data: bytes) -> None:
        """Append received bytes."""
        self._buffer += data

    def next(self) -> tuple[Request, bytes] | None:
        """Return the next request and its body; None while it is incomplete.

        Raises:
            Refused: the request is malformed or not allowed. Nothing behind it can be parsed then.
        """
        request = self._request
        if request is None:
            request = self._read_head()
            if request is None:
                return None
            self.awaits_continue = request.head.expects and not self._buffer
            self._request = request
        body = self._read_body(request)
        if body is None:
            return None
        self._request = None
        return request, body

    def take_rest(self) -> bytes:
        """Return the bytes behind the last request, for another protocol, and delete everything."""
        rest = bytes(self._buffer)
        self.clear()
        return rest

    def clear(self) -> None:
        """Delete all bytes that are not parsed yet."""
        self._buffer.clear()
        self._line = 0
        self._request = self._chunks = None

    def _read_head(self) -> Request | None:
        buffer = self._buffer
        # Some clients send empty lines after a body, and a server should ignore them: RFC 9112, 2.2.
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
        body = bytes(memoryview(buffer)[:length])  # a slice of the buffer itself would be a second copy
        del buffer[:length]
        return body
