"""The body of a long answer, which the transport gets in parts."""

from collections import deque
from collections.abc import Sequence

__all__ = ["LongBody"]


class LongBody:
    """The part of a body that the transport has not got yet, as a list of pieces.

    Pieces are not joined: one message that ends hundreds of calls is a piece of hundreds of answers, and so it is
    in memory only once.

    Args:
        pieces: of the body, in order.

    Attributes:
        size: bytes of the whole body.
        left: bytes that :meth:`take` has not returned yet.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = deque(memoryview(piece) for piece in pieces)
        self.size = self.left = sum(map(len, pieces))

    def take(self, most: int) -> bytes:
        """Return a copy of the next bytes; a view of a piece would keep the whole piece in memory.

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
