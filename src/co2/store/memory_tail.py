"""The newest part of the log in memory: all entries not on disk yet, and more for readers near the end."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import cast

from co2.protocol.relay.log import Entry

__all__ = ["KEPT", "MemoryTail"]

KEPT = 8 * 1024 * 1024
"""Bytes of entries that are on disk and stay in memory."""

OVERHEAD = 600
"""Bytes that an entry takes in memory besides its messages, roughly."""

_GONE = cast(Entry, None)
"""Placeholder of an entry that is no longer in memory; it is never read."""


class MemoryTail:
    """Entries in order.

    Args:
        gone: position up to which nothing is in memory.
    """

    def __init__(self, gone: int) -> None:
        self.gone = gone
        self._bytes = 0
        self._entries: list[Entry] = []
        self._ends: list[int] = []
        self._start = 0
        self._numbered: dict[tuple[str, int, int], int] = {}
        self._numbered_up_to = 0

    def append(self, entry: Entry, committed: int) -> None:
        """Append an entry; drop old ones that are on disk."""
        self._entries.append(entry)
        self._ends.append(entry.end)
        self._bytes += len(entry.batch) + OVERHEAD
        start = self._start
        while self._bytes > KEPT and self._ends[start] <= committed:
            oldest = self._entries[start]
            self._entries[start] = _GONE  # the places are freed by the half, the entries at once
            self._bytes -= len(oldest.batch) + OVERHEAD
            self.gone = oldest.end
            start += 1
        self._start = start
        if start > 256 and start > len(self._ends) // 2:
            del self._entries[:start], self._ends[:start]
            self._start = 0
            self._numbered, self._numbered_up_to = {}, 0

    def read(self, after: int, max_bytes: int) -> Sequence[Entry]:
        """Return entries that end after a position, in order; at least one if there is any."""
        index = bisect_right(self._ends, after, lo=self._start)
        entries = []
        while index < len(self._ends) and max_bytes > 0:
            entry = self._entries[index]
            entries.append(entry)
            max_bytes -= len(entry.batch)
            index += 1
        return entries

    def position_of(self, origin: str, epoch: int, seq: int) -> int | None:
        """Return the position of the message with this number, None if it is not in memory.

        The newest entries are looked at first: 8 MiB of the smallest take a millisecond.
        """
        for index in range(len(self._entries) - 1, self._start - 1, -1):
            entry = self._entries[index]
            if entry.epoch == epoch and entry.origin == origin and entry.seq <= seq:
                return entry.position + seq - entry.seq if seq < entry.seq + entry.count else None
        return None

    def find(self, origin: str, epoch: int, seq: int) -> int | None:
        """Return the checksum of the entry that begins with this number, None if it is not in memory.

        The table of numbers is filled at the first call after an append, not at the append: entries cost nothing
        until they are searched, and thousands of calls do not search all entries each time.
        """
        entries = self._entries
        for index in range(max(self._numbered_up_to, self._start), len(entries)):
            entry = entries[index]
            if entry.epoch:
                self._numbered[entry.origin, entry.epoch, entry.seq] = entry.crc
        self._numbered_up_to = len(entries)
        return self._numbered.get((origin, epoch, seq))
