"""The relay's log as the relay needs it, beyond the state machine's interface."""

from typing import Protocol

from co2.protocol.relay.log import Log, Reading
from co2.store.relayed_ids import RelayedIds

__all__ = ["DurableLog"]


class DurableLog(Log, Protocol):
    """A log on disk."""

    @property
    def backlog(self) -> int:
        """Bytes that wait for the disk."""

    @property
    def ids(self) -> RelayedIds:
        """Ids of messages that came with one."""

    def look(self) -> int:
        """Return the position up to which all is on disk; it is not reported to ``on_commit`` again."""

    def pass_over(self, position: int) -> None:
        """Skip all positions up to this one."""

    def read_disk(self, after: int, max_bytes: int) -> Reading:
        """Read from disk after a cursor; blocks."""
