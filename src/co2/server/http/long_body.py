"""The body of a long answer while the transport takes it."""

from collections import deque
from collections.abc import Sequence

__all__ = ["LongBody"]


class LongBody:
    """What the transport has not taken yet of a body, in the pieces in which it was written.

    Pieces are not joined: one message that ends hundreds of calls is a piece of hundreds of answers, and stands in
    memory once.

    Args:
        pieces: of the body, in order.

    Attributes:
        size: bytes of the whole body.
        left: bytes that have not been taken.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = deque(memoryview(piece) for piece in pieces)
        self.size = self.left = sum(map(len, pieces))

    def take(self, most: int) -> bytes:
        """Return the next bytes, copied: a part of a piece would keep all of it in memory.

        Args:
            most: bytes to return at most; fewer only at the end.
        """
        parts = []
        while most and self._pieces:
            piece = self._pieces.popleft()
            if len(piece) > most:
                self._pieces.appendleft(piece[most:])
                piece = piece[:most]
            parts.append(piece)
            most -= len(piece)
        taken = b"".join(parts)
        self.left -= len(taken)
        return taken
