"""Ids of messages lately relayed, so that a client that repeats a call gets the first one's position."""

from collections import OrderedDict

__all__ = ["IDS_PER_HOST", "MAX_IDS", "MAX_ID_LENGTH", "RecentIds"]

IDS_PER_HOST = 10_000
"""A repeat within so many messages of a host is recognised (design §5)."""

MAX_IDS = 1_000_000
"""Over all hosts; beyond it the host that was silent longest is forgotten first."""

MAX_ID_LENGTH = 64


class RecentIds:
    """Positions by (origin, id), bounded."""

    def __init__(self) -> None:
        self._hosts: OrderedDict[str, OrderedDict[str, int]] = OrderedDict()
        self._count = 0

    def position(self, origin: str, message_id: str) -> int | None:
        """Give the position that this id got, None where it is new."""
        ids = self._hosts.get(origin)
        return None if ids is None else ids.get(message_id)

    def remember(self, origin: str, message_id: str, position: int) -> None:
        """Keep the position of an id."""
        ids = self._hosts.setdefault(origin, OrderedDict())
        self._hosts.move_to_end(origin)
        ids[message_id] = position
        self._count += 1
        if len(ids) > IDS_PER_HOST:
            ids.popitem(last=False)
            self._count -= 1
        while self._count > MAX_IDS and len(self._hosts) > 1:
            self._count -= len(self._hosts.popitem(last=False)[1])
