"""A relay's log in memory, for networks without a disk: only the interface that the state machine uses."""

from collections.abc import Mapping
from typing import Any

from co2.errors import StorageFull
from co2.protocol.relay.last_values import Head
from co2.protocol.relay.log import Entry, LogGap, Reading
from co2.protocol.relay.losses import Losses
from co2.protocol.wire.link_frames import BEGINNING, FIRST_POSITION
from co2.store.relayed_ids import RelayedIds

__all__ = ["LEASE", "MemoryLog"]

LEASE = 10**6
"""Positions that may be handed out at least."""


class MemoryLog:
    """A log in memory; its user decides what counts as being on disk, by setting ``committed``.

    Attributes:
        entries: all entries, in order.
        gone: position up to which entries have been dropped; :meth:`forget` sets it.
    """

    def __init__(self) -> None:
        self.log_id = "log-1"
        self.run = "run-1"
        self.entries: list[Entry] = []
        self.marks: Mapping[tuple[str, int], int] = {}
        self.losses = Losses()
        self.add_loss = self.losses.add
        self.committed = BEGINNING
        self.next = FIRST_POSITION
        self.lease = LEASE
        self.takes = True
        self.gone = FIRST_POSITION - 1
        self.forgotten: Mapping[str, int] = {}
        self.keeps_forgotten = True
        self.ids = RelayedIds()

    def check_room(self) -> None:
        """Check that :meth:`append` accepts entries, as ``takes`` says."""
        if not self.takes:
            raise StorageFull("the relay's disk is full")

    @property
    def last(self) -> int:
        """Position of the last message appended."""
        return self.entries[-1].end if self.entries else max(BEGINNING, self.gone)

    def append(
        self,
        *,
        batch: bytes,
        count: int,
        origin: str,
        epoch: int = 0,
        seq: int = 0,
        message_id: str = "",
        **rest: Any,
    ) -> Entry:
        """Append an entry of ``count`` messages."""
        self.check_room()
        fields = {"package": "", "plugin": "", "channels": None, "crc": 0, **rest}
        entry = Entry(position=self.next, count=count, batch=batch, origin=origin, epoch=epoch, seq=seq, **fields)
        self.next += count
        self.lease = max(self.lease, self.next + LEASE)
        self.entries.append(entry)
        if message_id:
            self.ids.remember(origin, message_id, entry.position)
        if epoch:
            self.set_mark(origin, epoch, seq + count - 1)
        return entry

    def set_mark(self, origin: str, epoch: int, seq: int) -> None:
        """Set the number after which a run begins for this log."""
        self.marks = {**self.marks, (origin, epoch): seq}

    def set_forgotten(self, forgotten: Mapping[str, int]) -> None:
        """Replace the channels whose messages up to a position are no last values any more."""
        self.forgotten = forgotten

    def read(self, after: int, max_bytes: int) -> Reading:
        """Read on from a cursor."""
        gap = LogGap(after, self.gone, "retention") if 0 < after < self.gone else None
        after = max(after, self.gone)
        given: list[Entry] = []
        for entry in self.entries:
            if entry.end > after and max_bytes > 0:
                given.append(entry)
                max_bytes -= len(entry.batch)
        return Reading(given, given[-1].end if given else after, gap)

    def read_heads(self, before: int, limit: int) -> list[Head]:
        """Return the heads of the newest entries before a position, newest first."""
        older = [entry for entry in reversed(self.entries) if entry.position < before]
        return [
            Head(entry.position, entry.client_address[0], entry.channels, len(entry.batch))
            for entry in older[:limit]
        ]

    def find(self, origin: str, epoch: int, seq: int) -> int | None:
        """Return the checksum of the entry that begins with this number, None if there is none."""
        return next((e.crc for e in self.entries if (e.origin, e.epoch, e.seq) == (origin, epoch, seq)), None)

    def replace_id(self) -> None:
        """Replace the log id."""
        self.log_id += "'"

    def holds(self, run: str, position: int) -> bool:
        """Return whether this log can have handed out a position in that run."""
        return run == self.run and position < self.next

    def was_called(self, log_id: str) -> bool:
        """Return whether this is the id of this log."""
        return log_id == self.log_id

    def was_rolled_back(self, log_id: str, run: str, position: int) -> bool:
        """Return whether a true receipt over this position shows that this is an older copy of that log."""
        return False

    def forget(self) -> None:
        """Drop all entries, as retention drops old ones: a reader that has not read them gets a gap."""
        self.gone = self.last
        self.entries = []
