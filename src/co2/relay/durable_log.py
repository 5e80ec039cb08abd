"""The relay's log as the relay needs it, beyond the state machine's interface."""

from collections.abc import Sequence
from typing import Protocol

from co2.protocol.relay.last_values import Head
from co2.protocol.relay.log import ClockJump, Log, Reading
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

    @property
    def clock_jumps(self) -> Sequence[ClockJump]:
        """Where the wall clock has jumped, in order."""

    def add_clock_jump(self, seconds: float) -> None:
        """Record that the wall clock has jumped after the last message, by so many seconds."""

    @property
    def keeps_forgotten(self) -> bool:
        """Whether the channels that are forgotten are on disk."""

    def look(self) -> int:
        """Return the position up to which all is on disk; it is not reported to ``on_commit`` again."""

    def pass_over(self, position: int) -> None:
        """Skip all positions up to this one."""

    def position_of(self, origin: str, run: int, seq: int) -> int | None:
        """Return the position of the message with this number in the run that ends with these bits.

        Returns:
            None if the log does not have it.
        """

    def read_heads(self, before: int, limit: int) -> list[Head]:
        """Return the heads of the newest entries before a position, newest first; blocks."""

    def read_disk(self, after: int, max_bytes: int) -> Reading:
        """Read from disk after a cursor; blocks."""
