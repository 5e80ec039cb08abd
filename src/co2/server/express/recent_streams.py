"""Streams with recent small frames: for them the next frame is forecast."""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ["LOOKS", "MAX_STREAMS", "SMALL", "RecentStreams"]

SMALL = 16
"""Messages in a frame up to which it counts as small; a sender of more at a time can wait."""

MAX_STREAMS = 8
"""Streams of small frames that are remembered, the latest ones."""

LOOKS = 128
"""Forecasts of a stream without a frame, after which it is forgotten."""

K = TypeVar("K", bound=Hashable)


class RecentStreams(Generic[K]):
    """Streams with recent small frames."""

    def __init__(self) -> None:
        self._looks: dict[K, int] = {}

    def note(self, stream: K, count: int) -> None:
        """Note that a frame of so many messages has come."""
        looks = self._looks
        looks.pop(stream, None)  # so that the latest is the last
        if count <= SMALL:
            looks[stream] = LOOKS
            if len(looks) > MAX_STREAMS:
                del looks[next(iter(looks))]

    def __bool__(self) -> bool:
        return bool(self._looks)

    def __iter__(self) -> Iterator[K]:
        """Yield the streams, the latest first, until each has had all of its forecasts."""
        for stream, left in list(self._looks.items())[::-1]:
            if left:
                self._looks[stream] = left - 1
                yield stream
            else:
                del self._looks[stream]
