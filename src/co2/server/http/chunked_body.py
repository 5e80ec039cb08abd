"""A strict decoder of chunked bodies. Sans I/O."""

import re

from co2.errors import BadRequest
from co2.server.http.limits import Limits
from co2.server.http.refused import Refused

__all__ = ["ChunkedBody"]

_START_OF_SIZE_LINE = re.compile(rb"[0-9A-Fa-f]{0,8}\r?")
_SIZE_LINE = re.compile(rb"[0-9A-Fa-f]{1,8}")
_LONGEST_SIZE_LINE = 10  # eight digits, CR, LF


class ChunkedBody:
    """Decoder of one chunked body. Chunk extensions and trailers are refused, because nothing here uses them.

    Args:
        limits: the server's; ``max_body`` and ``max_chunks`` count here.

    Attributes:
        body: what has been decoded so far.
    """

    def __init__(self, limits: Limits) -> None:
        self.body = bytearray()
        self._limits = limits
        self._chunks = 0
        self._missing = 0
        self._last = False

    def feed(self, data: bytearray) -> bool:
        """Decode the start of ``data``, and delete from it what was decoded.

        Args:
            data: received bytes that are not decoded yet; bytes behind the body stay in it.

        Returns:
            Whether the body is complete.

        Raises:
            Refused: 400 for bad framing or too many chunks, 413 for too many bytes.
        """
        at = 0
        try:
            while True:
                if self._missing:
                    taken = self._chunk(data, at)
                    if not taken:
                        return False
                    at += taken
                elif self._last:
                    if len(data) - at < 2:
                        return False
                    self._expect_end_of_line(data, at)
                    at += 2
                    return True
                else:
                    end = data.find(b"\r\n", at, at + _LONGEST_SIZE_LINE)
                    if end < 0:
                        if _START_OF_SIZE_LINE.fullmatch(data, at) is None:
                            raise Refused(400, "invalid chunk size")
                        return False
                    self._size(bytes(data[at:end]))
                    at = end + 2
        finally:
            del data[:at]

    def _size(self, line: bytes) -> None:
        if _SIZE_LINE.fullmatch(line) is None:
            raise Refused(400, "invalid chunk size")
        size = int(line, 16)
        self._chunks += 1
        if self._chunks > self._limits.max_chunks:
            raise Refused(400, f"more than {self._limits.max_chunks} chunks")
        if len(self.body) + size > self._limits.max_body:
            raise Refused(413, f"body larger than {self._limits.max_body} bytes", fault=BadRequest)
        self._last = not size
        self._missing = size + 2 if size else 0  # with the CR LF behind the chunk

    def _chunk(self, data: bytearray, at: int) -> int:
        """Decode what has come of the current chunk, from index ``at`` on; return how many bytes were used."""
        content = min(len(data) - at, self._missing - 2)
        if content > 0:
            self.body += data[at : at + content]
            self._missing -= content
            return content
        if len(data) - at < 2:
            return 0
        self._expect_end_of_line(data, at)
        self._missing = 0
        return 2

    @staticmethod
    def _expect_end_of_line(data: bytearray, at: int) -> None:
        if data[at : at + 2] != b"\r\n":
            raise Refused(400, "invalid end of a chunk, or a trailer")
