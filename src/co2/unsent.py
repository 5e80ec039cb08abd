"""Buffer bytes that a socket has not accepted yet, and write them to the transport in pieces.

A transport has a buffer of its own too, and each kind handles it differently. Python 3.11 copies the bytes into
one buffer. 3.12 and newer keep each piece as an object, hundreds of bytes for a piece of ten, and count them all
on each query of the size; up to 3.12.8 and 3.13.1 ``writelines`` does not report a full buffer. uvloop differs
again. So a transport gets one piece at a time, and all limits apply to this buffer.
"""

import asyncio
from collections.abc import Iterable

__all__ = ["PIECE", "Unsent"]

PIECE = 256 * 1024
"""Bytes of one write to a transport."""


class Unsent:
    """The bytes that wait for one transport.

    The owner calls :meth:`go_on` from ``resume_writing``, and writes to the transport only through this object.

    Args:
        transport: that writes the bytes.

    Attributes:
        waits: something waits, so new bytes go behind it.
    """

    __slots__ = ("_bytes", "_closes", "_transport", "waits")

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._bytes = bytearray()
        self._closes = False
        self.waits = False

    def begin(self) -> None:
        """Make the transport report when its buffer is empty; to be called first."""
        self._transport.set_write_buffer_limits(high=0)
        self.waits = self._transport.get_write_buffer_size() > 0

    @property
    def size(self) -> int:
        """Bytes that wait, here and in the transport."""
        return len(self._bytes) + (self._transport.get_write_buffer_size() if self.waits else 0)

    def add(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Append these pieces to the buffer."""
        for data in pieces:
            self._bytes += data
        if not self.waits:
            self._give()

    def go_on(self) -> None:
        """Write the next piece to the transport, whose buffer is empty."""
        self.waits = False
        self._give()

    def close(self) -> None:
        """Close the transport once all bytes are written."""
        self._closes = True
        if not self._bytes:
            self._transport.close()

    def _give(self) -> None:
        transport = self._transport
        while self._bytes and not self.waits:
            if transport.is_closing():
                self._bytes.clear()
                return
            with memoryview(self._bytes) as view:
                piece = bytes(view[:PIECE])
            del self._bytes[:PIECE]
            self.waits = True  # until the transport reports an empty buffer, maybe during this write
            transport.write(piece)
            self.waits = transport.get_write_buffer_size() > 0
        if self._closes and not self._bytes:
            transport.close()
