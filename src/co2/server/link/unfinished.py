"""One budget for the incomplete frames of all links, and for whole ones that have been read and not parsed yet."""

from typing import Protocol

from co2.sources import BySource, source_of

__all__ = ["Holder", "Unfinished"]


class Holder(Protocol):
    """A link that holds a part of a frame."""

    def break_off(self, why: str) -> None:
        """End the connection at once."""

    def __hash__(self) -> int:
        """Return a hash of the identity."""


class Unfinished:
    """The budget. Over it, the source with the most bytes loses the link whose frame has waited longest.

    A satellite completes its frames within moments, so its frame is never the oldest for long; and a flood from
    one address does not end the links of another.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.total = 0
        self._limit = limit
        self._sizes: dict[Holder, tuple[str, int]] = {}
        self._by_source: dict[str, int] = {}
        self._holders: BySource[Holder] = BySource()

    @property
    def is_scarce(self) -> bool:
        """Whether half of the budget is used: links should read less at once."""
        return self.total > self._limit // 2

    def hold(self, holder: Holder, address: str, size: int) -> None:
        """Note that a link holds this many bytes now."""
        source = source_of(address)
        before = self._sizes.get(holder, (source, 0))[1]
        self._sizes[holder] = source, size
        self._by_source[source] = self._by_source.get(source, 0) + size - before
        self.total += size - before
        self._holders.add(source, holder)
        while self.total > self._limit:
            largest = max(self._by_source, key=lambda source: self._by_source[source])
            oldest = next(self._holders.of(largest))
            self.release(oldest)
            oldest.break_off(f"incomplete frames take more than {self._limit} bytes")

    def release(self, holder: Holder) -> None:
        """Note that a link holds nothing any more."""
        source, size = self._sizes.pop(holder, ("", 0))
        if source:
            self._holders.discard(holder)
            self.total -= size
            self._by_source[source] -= size
            if not self._by_source[source]:
                del self._by_source[source]
