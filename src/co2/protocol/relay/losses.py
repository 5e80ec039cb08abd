"""What a relay has lost though it had acknowledged it, as with an older copy of its log: each stream tells it."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["MAX_LOSSES", "Loss", "Losses"]

MAX_LOSSES = 1000
"""Losses that are remembered, for those who read further back."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Messages of one sender that nobody gets any more.

    Attributes:
        position: of the last message that was in the log when it was found out: they are missing behind it.
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
        """Remember one more; the oldest is forgotten beyond :data:`MAX_LOSSES`."""
        self._losses.append(loss)
        if len(self._losses) > MAX_LOSSES:
            self._losses.popleft()
            self._first += 1

    def next(self, number: int | None, position: int, before: int) -> tuple[Loss | None, int]:
        """Give what a stream has to tell next, and the number after it.

        Args:
            number: of the loss that the stream has come to, None for one that has only begun.
            position: where it began.
            before: position of what it gives next.
        """
        if number is None:
            number = self._first + sum(loss.position < position for loss in self._losses)
        number = max(number, self._first)
        index = number - self._first
        if index < len(self._losses) and self._losses[index].position < before:
            return self._losses[index], number + 1
        return None, number
