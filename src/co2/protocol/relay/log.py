"""What the relay's state machine asks of a log, and the shapes that travel between the two.

The durable log is :class:`co2.store.relay_log.RelayLog`; tests and the simulator bring their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from co2.protocol.relay.losses import Loss, Losses

__all__ = ["Entry", "Log", "LogGap", "Reading"]


class Entry(msgspec.Struct):
    """One frame in the log.

    Attributes:
        position: of its first message.
        count: how many messages it holds; they have the positions from ``position`` on.
        origin: the sender's, by which "nobody hears itself" goes.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection.
        epoch: run of the sender, 0 for one that does not number.
        seq: number of its first message within that run, 0 likewise.
        package: that sent it, '' for none of a satellite's.
        plugin: that sent it.
        channels: of its messages, None for too many to name.
        crc: CRC-32 of the batch.
        batch: the messages.
        written: forms of it that were already written for receivers, by name of the form.
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
    written: dict[str, bytes] = {}

    @property
    def end(self) -> int:
        """Position of its last message."""
        return self.position + self.count - 1


@dataclass(frozen=True, slots=True)
class LogGap:
    """Messages over ``after`` up to ``next`` are not to be had."""

    after: int
    next: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What one read gave.

    Attributes:
        entries: in order.
        next: the cursor after them.
        gap: before them, None for none.
        on_disk: what comes next is not in memory: ask with ``read_disk``.
    """

    entries: Sequence[Entry]
    next: int
    gap: LogGap | None = None
    on_disk: bool = False


class Log(Protocol):
    """The relay's record. Every method here returns at once; only ``read_disk`` of the real one takes time."""

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
        """No position from here on was ever handed out."""

    @property
    def takes(self) -> bool:
        """Whether :meth:`append` takes what comes, as far as is known."""

    def check_room(self) -> None:
        """See that :meth:`append` takes what comes.

        Raises:
            StorageFull: there is no room.
            StorageFailed: the disk does not do its work.
        """

    @property
    def marks(self) -> Mapping[tuple[str, int], int]:
        """Last seq appended by (origin, epoch)."""

    @property
    def losses(self) -> Losses:
        """What was acknowledged and is not in it."""

    def add_loss(self, loss: Loss) -> None:
        """Remember a loss for everybody who reads over it, also in later runs."""

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
        message_id: str = "",
    ) -> Entry:
        """Put a frame at the head; it is on disk a little later, and with it the id that its sender gave it.

        ``count`` says how many messages it has: who appends it has counted them.

        Raises:
            StorageFull: there is no room; nothing was taken.
            StorageFailed: the disk does not do its work.
        """

    def holds(self, run: str, position: int) -> bool:
        """Tell whether this log can have handed out a position in that run, or before it.

        A run that it does not know, or one that it knows to have ended before that position: then whoever says so
        has read in another copy of the log, or makes it up. It concerns nobody else.
        """

    def was_rolled_back(self, log_id: str, run: str, position: int) -> bool:
        """Return whether a true receipt over this position shows that this is an older copy of that log."""

    def set_mark(self, origin: str, epoch: int, seq: int) -> None:
        """Say where the numbers of a run begin for this log."""

    def read(self, after: int, max_bytes: int) -> Reading:
        """Read on from a cursor, as far as memory goes."""

    def find(self, origin: str, epoch: int, seq: int) -> int | None:
        """Give the checksum of the frame that begins with this number, None where it is not kept any more."""

    def replace_id(self) -> None:
        """Take a new name: this log is not the one that its readers know."""
