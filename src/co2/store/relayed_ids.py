"""Ids of recently relayed messages, so that a client that repeats a call gets the first one's position.

The log's file holds the same ids, written with the messages themselves, and they are read from it at a start.
"""

from collections import OrderedDict

__all__ = ["IDS_PER_HOST", "MAX_IDS", "RelayedIds"]

IDS_PER_HOST = 10_000
"""Messages of a host within which a repeat is recognised."""

MAX_IDS = 100_000
"""Ids of all hosts, some 25 MB of memory; beyond it the host that was silent longest is forgotten first."""


class RelayedIds:
    """Positions by (origin, id), bounded."""

    def __init__(self) -> None:
        self._hosts: OrderedDict[str, OrderedDict[str, int]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def position(self, origin: str, message_id: str) -> int | None:
        """Return the position of this id, None if it is new."""
        ids = self._hosts.get(origin)
        return None if ids is None else ids.get(message_id)

    def remember(self, origin: str, message_id: str, position: int) -> list[int]:
        """Remember the position of a new id; return the positions whose ids are forgotten for it."""
        ids = self._hosts.setdefault(origin, OrderedDict())
        self._hosts.move_to_end(origin)
        ids[message_id] = position
        self._count += 1
        forgotten: list[int] = []
        if len(ids) > IDS_PER_HOST:
            forgotten.append(ids.popitem(last=False)[1])
            self._count -= 1
        while self._count > MAX_IDS and len(self._hosts) > 1:
            _, silent = self._hosts.popitem(last=False)
            forgotten += silent.values()
            self._count -= len(silent)
        return forgotten
