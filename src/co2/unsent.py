"""What a socket has not taken yet: kept here, and given to the transport in pieces.

A transport keeps what it is given too, each in a way of its own. That of Python 3.11 copies it into one buffer.
Those of 3.12 and newer keep each piece as an object, hundreds of bytes for one of ten, and count them all whenever
they are asked how much there is; up to 3.12.8 and 3.13.1 ``writelines`` tells nobody that they are full. uvloop's
differs again. So a transport gets one piece at a time, and all bounds are on what is kept here.
"""

import asyncio
from collections.abc import Iterable

__all__ = ["PIECE", "Unsent"]

PIECE = 256 * 1024
"""Bytes that a transport is given at once."""


class Unsent:
    """The bytes that wait for one transport.

    Its owner passes ``resume_writing`` on to :meth:`go_on`, and writes to the transport by nothing else.

    Args:
        transport: writes them.

    Attributes:
        waits: something waits: what comes has to go behind it.
    """

    __slots__ = ("_bytes", "_closes", "_transport", "waits")

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._bytes = bytearray()
        self._closes = False
        self.waits = False

    def begin(self) -> None:
        """Have the transport's protocol told when it holds nothing; call it before all else."""
        self._transport.set_write_buffer_limits(high=0)
        self.waits = self._transport.get_write_buffer_size() > 0

    @property
    def size(self) -> int:
        """Bytes that wait, here and in the transport."""
        return len(self._bytes) + (self._transport.get_write_buffer_size() if self.waits else 0)

    def add(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Write this behind all that waits."""
        for data in pieces:
            self._bytes += data
        if not self.waits:
            self._give()

    def go_on(self) -> None:
        """Write more to the transport; it holds nothing."""
        self.waits = False
        self._give()

    def close(self) -> None:
        """Close the transport once all is written."""
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
            self.waits = True  # until it says otherwise, which it may do while it writes
            transport.write(piece)
            self.waits = transport.get_write_buffer_size() > 0
        if self._closes and not self._bytes:
            transport.close()
