"""What the shells of a relay want of its log besides what the state machine does."""

from typing import Protocol

from co2.protocol.relay.log import Log, Reading
from co2.store.relayed_ids import RelayedIds

__all__ = ["DurableLog"]


class DurableLog(Log, Protocol):
    """A log that has a disk."""

    @property
    def backlog(self) -> int:
        """Bytes that wait for the disk."""

    @property
    def ids(self) -> RelayedIds:
        """Of messages that came with one."""

    def look(self) -> int:
        """Give the position up to which all is on disk; who has looked is not told of it any more."""

    def pass_over(self, position: int) -> None:
        """Give no message a position up to this one."""

    def read_disk(self, after: int, max_bytes: int) -> Reading:
        """Read on from a cursor; takes its time."""
