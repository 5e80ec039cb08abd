"""The interface of the log for the relay's state machine, and the types that they exchange.

The durable log is :class:`co2.store.relay_log.RelayLog`; tests and the simulator have their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from co2.protocol.relay.losses import Loss, Losses

__all__ = ["ClockJump", "Entry", "Log", "LogGap", "Reading"]


class Entry(msgspec.Struct):
    """One entry of the log: a batch with its sender and position.

    Attributes:
        position: of its first message.
        count: number of its messages; they have the positions from ``position`` on.
        origin: the sender's; nobody receives messages of its own origin.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection.
        epoch: run of the sender, 0 for a sender without numbers.
        seq: number of its first message within that run, 0 likewise.
        package: that sent it, '' for a sender that is not a satellite.
        plugin: that sent it.
        channels: of its messages, None for too many to name.
        crc: CRC-32 of the batch.
        batch: the messages.
        at: time at which the relay got it, seconds since 1970; 0.0 if it is from a relay that did not note it.
        written: encoded forms for receivers, by name of the form.
    """

    position: int
    count: int
    origin: str
    host_id: str
    client_address: tuple[str, int]
    epoch: int
    seq: int
    package: str
    plugin: str
    channels: tuple[str, ...] | None
    crc: int
    batch: bytes
    at: float = 0.0
    written: dict[str, bytes] = {}

    @property
    def end(self) -> int:
        """Position of its last message."""
        return self.position + self.count - 1


@dataclass(frozen=True, slots=True)
class LogGap:
    """The messages after ``after`` up to ``next`` are not available."""

    after: int
    next: int
    reason: str


class ClockJump(NamedTuple):
    """A jump of the wall clock of the relay.

    Attributes:
        position: of the last message before it.
        seconds: that it went forward, negative for back.
    """

    position: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of a read.

    Attributes:
        entries: in order.
        next: the cursor after them.
        gap: before them, None for none.
        on_disk: the next entry is not in memory: use ``read_disk``.
    """

    entries: Sequence[Entry]
    next: int
    gap: LogGap | None = None
    on_disk: bool = False


class Log(Protocol):
    """The relay's log. Every method here returns at once; only ``read_disk`` of the real one takes time."""

    @property
    def log_id(self) -> str:
        """Its random name, made with the file."""

    @property
    def run(self) -> str:
        """The random name of this run of the relay."""

    @property
    def last(self) -> int:
        """Position of the last message appended; 1 for none yet."""

    @property
    def committed(self) -> int:
        """Position of the last message that is on disk."""

    @property
    def lease(self) -> int:
        """Position that was never handed out, nor any after it."""

    @property
    def takes(self) -> bool:
        """Whether :meth:`append` accepts entries, as far as is known."""

    def check_room(self) -> None:
        """Check that :meth:`append` accepts entries.

        Raises:
            StorageFull: there is no room.
            StorageFailed: the disk failed.
        """

    @property
    def marks(self) -> Mapping[tuple[str, int], int]:
        """Last seq appended by (origin, epoch)."""

    @property
    def losses(self) -> Losses:
        """Acknowledged messages that are not in the log."""

    @property
    def gone(self) -> int:
        """Position up to which messages are no longer kept."""

    @property
    def forgotten(self) -> Mapping[str, int]:
        """Channels whose messages up to a position are no last values any more."""

    def set_forgotten(self, forgotten: Mapping[str, int]) -> None:
        """Replace :attr:`forgotten`, also for later runs."""

    def add_loss(self, loss: Loss) -> None:
        """Record a loss for all readers that pass it, also in later runs."""

    def append(
        self,
        *,
        origin: str,
        host_id: str,
        client_address: tuple[str, int],
        batch: bytes,
        count: int,
        epoch: int = 0,
        seq: int = 0,
        package: str = "",
        plugin: str = "",
        channels: tuple[str, ...] | None = None,
        crc: int = 0,
        at: float = 0.0,
        message_id: str = "",
    ) -> Entry:
        """Append an entry; it is on disk a little later, together with the id that its sender gave it.

        ``count`` is its number of messages, counted by the caller.

        Raises:
            StorageFull: there is no room; nothing was appended.
            StorageFailed: the disk failed.
        """

    def holds(self, run: str, position: int) -> bool:
        """Return whether this log can have handed out a position in that run, or before it.

        It cannot if it does not know the run, or knows that the run ended before that position: then a reader that
        claims so has read another copy of the log, or made it up. Others are not concerned.
        """

    def was_called(self, log_id: str) -> bool:
        """Return whether this is, or was, the id of this log."""

    def was_rolled_back(self, log_id: str, run: str, position: int) -> bool:
        """Return whether a true receipt over this position shows that this is an older copy of that log."""

    def set_mark(self, origin: str, epoch: int, seq: int) -> None:
        """Set the number after which a run begins for this log."""

    def read(self, after: int, max_bytes: int) -> Reading:
        """Read on from a cursor, as far as memory goes."""

    def find(self, origin: str, epoch: int, seq: int) -> int | None:
        """Return the checksum of the entry that begins with this number, None if it is no longer kept."""

    def replace_id(self) -> None:
        """Replace the log id: readers of the old log must notice."""
