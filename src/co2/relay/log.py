"""The relay's log: a bounded ring in memory, read by position.

Every member is a cursor on it. What falls out at the old end is gone, and whoever had not read it is told a gap.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BEGINNING", "Entry", "Gap", "MemoryLog", "Reading"]

BEGINNING = 1
"""Position before the first message. Not 0, so that "0 is the oldest" and "nothing read yet" stay apart."""

_ENTRY_OVERHEAD = 400
"""Bytes that an entry takes besides its message, roughly; counted, so that empty messages are not free."""


@dataclass(slots=True)
class Entry:
    """One message in the log.

    Attributes:
        position: its place.
        origin: the sender's, by which "nobody hears itself" goes.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection.
        packed: the message, encoded.
        written: forms of it that were already written for receivers, by name of the form.
    """

    position: int
    origin: str
    host_id: str
    client_address: tuple[str, int]
    packed: bytes
    written: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gap:
    """An interval that a receiver will not get: positions over ``after`` up to ``next``."""

    after: int
    next: int
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Give it as it is told to receivers."""
        return {"after": self.after, "next": self.next, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Reading:
    """What one read gave: ``entries`` without the reader's own, the cursor after it, and a gap before it."""

    entries: Sequence[Entry]
    next: int
    gap: Gap | None


class MemoryLog:
    """Messages by position, the oldest thrown out.

    Args:
        max_messages: how many are kept.
        max_bytes: how many bytes they may take, written forms included.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.log_id = secrets.token_hex(8)
        self.head = BEGINNING
        self.bytes = 0
        self._first = BEGINNING + 1
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._entries: dict[int, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, origin: str, host_id: str, client_address: tuple[str, int], packed: bytes) -> int:
        """Put a message at the head and give its position."""
        self.head += 1
        self._entries[self.head] = Entry(self.head, origin, host_id, client_address, packed)
        self._grow(_ENTRY_OVERHEAD + len(packed))
        return self.head

    def read(self, after: int, max_messages: int, max_bytes: int, not_from: str) -> Reading:
        """Read on from a cursor.

        Args:
            after: position read last; 0 for the oldest that is kept.
            max_messages: at most so many.
            max_bytes: stop before the messages are larger than this together; one is always given.
            not_from: the reader's origin, whose messages are left out.
        """
        gap = self._gap(after)
        position = gap.next if gap else max(after, self._first - 1)
        entries: list[Entry] = []
        size = 0
        while position < self.head and len(entries) < max_messages:
            entry = self._entries[position + 1]
            if entry.origin != not_from:
                size += len(entry.packed)
                if entries and size > max_bytes:
                    break
                entries.append(entry)
            position += 1
        return Reading(entries, position, gap)

    def written(self, entry: Entry, form: str, write: Callable[[Entry], bytes]) -> bytes:
        """Give an entry written in a form, once for all receivers; what is kept counts as the log's."""
        done = entry.written.get(form)
        if done is None:
            done = write(entry)
            if entry.position in self._entries:
                entry.written[form] = done
                self._grow(len(done))
        return done

    def _gap(self, after: int) -> Gap | None:
        if after > self.head:
            return Gap(after, self._first - 1, "log replaced")
        if 0 < after < self._first - 1:
            return Gap(after, self._first - 1, "fell out of the log")
        return None

    def _grow(self, size: int) -> None:
        self.bytes += size
        while self._entries and (len(self._entries) > self._max_messages or self.bytes > self._max_bytes):
            # The newest stays, however large: its sender was told its position.
            if self._first == self.head:
                break
            self._forget(self._first)

    def _forget(self, position: int) -> None:
        entry = self._entries.pop(position)
        self.bytes -= _ENTRY_OVERHEAD + len(entry.packed) + sum(map(len, entry.written.values()))
        entry.written.clear()
        self._first = position + 1
