"""Messages that a relay lost after acknowledging them, as with an older copy of its log."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["MAX_LOSSES", "Loss", "Losses"]

MAX_LOSSES = 1000
"""Losses that are remembered, for readers further back."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Messages of one sender that are lost for all readers.

    Attributes:
        position: last message in the log when the loss was found: the lost messages are missing behind it.
        origin: the sender's.
        reason: in words.
    """

    position: int
    origin: str
    reason: str


class Losses:
    """Losses in the order of their positions, by number."""

    def __init__(self, losses: Iterable[Loss] = ()) -> None:
        self._losses = deque(losses)
        self._first = 0

    def __iter__(self) -> Iterator[Loss]:
        return iter(self._losses)

    def add(self, loss: Loss) -> None:
        """Remember a loss; beyond :data:`MAX_LOSSES` the oldest is forgotten."""
        self._losses.append(loss)
        if len(self._losses) > MAX_LOSSES:
            self._losses.popleft()
            self._first += 1

    def next(self, number: int | None, position: int, before: int) -> tuple[Loss | None, int]:
        """Return the loss that a stream must report next, None for none, and the number after it.

        Args:
            number: of the next loss for the stream, None for a new stream.
            position: where it began.
            before: position that it gives next.
        """
        if number is None:
            number = self._first + sum(loss.position < position for loss in self._losses)
        number = max(number, self._first)
        index = number - self._first
        if index < len(self._losses) and self._losses[index].position < before:
            return self._losses[index], number + 1
        return None, number
