"""Group addresses by source where many share a resource, so that no source takes the part of others."""

import heapq
import ipaddress
from collections.abc import Iterator
from functools import lru_cache
from typing import Generic, TypeVar

__all__ = ["LOOPBACK", "BySource", "source_of"]

LOOPBACK = "loopback"
"""The source of all addresses of this machine's loopback interface."""

Item = TypeVar("Item")


@lru_cache(maxsize=4096)
def source_of(address: str) -> str:
    """Return the source that an IP address belongs to.

    A process on this machine may use any address of 127.0.0.0/8, and a machine with IPv6 any of its /64 (RFC 4291,
    2.5.4): these are one source.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if ip.is_loopback:
        return LOOPBACK
    if ip.version == 6:
        return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))
    return address


class BySource(Generic[Item]):
    """The items of several sources, each in the order in which it was added."""

    def __init__(self) -> None:
        self._sources: dict[Item, str] = {}
        self._items: dict[str, dict[Item, None]] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def __contains__(self, item: object) -> bool:
        return item in self._sources

    def __iter__(self) -> Iterator[Item]:
        return iter(list(self._sources))

    def add(self, source: str, item: Item) -> None:
        """Add an item as the newest of a source; an item that is present keeps its place."""
        if item not in self._sources:
            self._sources[item] = source
            self._items.setdefault(source, {})[item] = None

    def discard(self, item: Item) -> None:
        """Remove an item, if it is present."""
        source = self._sources.pop(item, None)
        if source is not None:
            items = self._items[source]
            del items[item]
            if not items:
                del self._items[source]

    def count(self, source: str) -> int:
        """Return how many items a source has."""
        return len(self._items.get(source, ()))

    def of(self, source: str) -> Iterator[Item]:
        """Iterate over the items of a source, oldest first."""
        return iter(list(self._items.get(source, ())))

    def newest(self, source: str) -> Iterator[Item]:
        """Iterate over the items of a source, newest first; meanwhile nothing may be added or removed."""
        return reversed(self._items.get(source, {}))

    def oldest(self, source: str) -> Item | None:
        """Return the oldest item of a source, None for none."""
        return next(iter(self._items.get(source, ())), None)

    def largest(self) -> str:
        """Return the source with the most items. There must be one."""
        return max(self._items, key=lambda source: len(self._items[source]))

    def largest_ones(self, number: int) -> list[str]:
        """Return at most ``number`` sources: those with the most items, in this order."""
        return heapq.nlargest(number, self._items, key=lambda source: len(self._items[source]))

    def oldest_of_largest(self) -> Item:
        """Return the oldest item of the source with the most items: the one to drop where there is no room."""
        return next(iter(self._items[self.largest()]))
