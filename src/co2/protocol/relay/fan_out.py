"""The fan-out: the entries of the log that each reader gets, in order; a part of RelayCore, without I/O.

A message goes at once to every live stream at the end of the log, and to durable streams when it is on disk. A
message without a number is delivered only then, and delays later messages until then. A reader without room stays
behind, and reads on from the log.
"""

from collections import deque
from collections.abc import Collection

from co2.protocol.relay.cursors import CHUNK, MAX_ENTRY_BATCH, EntryBatch, Peer, Stream
from co2.protocol.relay.events import DiskWanted, Event
from co2.protocol.relay.last_values import LastValues
from co2.protocol.relay.log import Entry, Log, LogGap, Reading
from co2.protocol.relay.losses import Loss
from co2.protocol.wire.link_frames import Replay, encode_link_frame

__all__ = ["MAX_DISK_READS", "MAX_SCANNED", "SCANNED", "FanOut"]

MAX_DISK_READS = 2
"""Reads from disk that run for one link; its other streams wait, each with its newest request."""

MAX_SCANNED = 256
"""Entries examined for the packages of a link, besides its live stream, before others have their turn."""

SCANNED = 32 * 1024
"""Bytes of the log that are examined for a package at once."""

PASSED_OVER = 128
"""Unwanted entries that a package reads for which its link counts one more request (:attr:`Peer.asked`)."""


READ_IN_VAIN = 2
"""Entries read from disk for a stream that was replaced meanwhile, for which its link counts one more request."""


class FanOut:
    """All streams of a relay.

    Args:
        log: that they read.
        events: receives an event when a stream needs the disk.

    Attributes:
        visible: position up to which live readers may read.
        committed: position up to which all is on disk.
        last_values: the last value of each channel, up to ``visible``.
    """

    def __init__(self, log: Log, events: deque[Event]) -> None:
        self.visible = log.last
        self.committed = log.committed
        self.last_values = LastValues(lambda: log.forgotten)
        self._log = log
        self._events = events
        self._at_head: dict[Stream, None] = {}
        self._durable: dict[Stream, None] = {}
        self._fresh: deque[Entry] = deque()
        self._held: deque[int] = deque()
        self._lost_at = 0

    @property
    def at_head(self) -> Collection[Stream]:
        """Live streams that get what comes next at once, where they have room."""
        return self._at_head.keys()

    @property
    def has_fresh(self) -> bool:
        """Whether something that was taken in waits for the disk, or behind what does."""
        return bool(self._fresh)

    def last_visible(self, origin: str, epoch: int) -> int:
        """Return the number of the last message of a run that live readers may read, 0 for none."""
        for entry in self._fresh:
            if entry.origin == origin and entry.epoch == epoch:
                return entry.seq - 1
        return self._log.marks.get((origin, epoch), 0)

    # ---- what is new -------------------------------------------------------------------------------------

    def add(self, entry: Entry, *, from_disk: bool = False) -> None:
        """Add a new entry of the log; with ``from_disk`` it is delivered only once it is on disk."""
        if from_disk:
            self._held.append(entry.end)
        self._fresh.append(entry)

    def add_loss(self, origin: str, reason: str) -> None:
        """Note that messages of a sender are missing here; report it to all streams at the end of the log."""
        self._lost_at = self._log.last
        self._log.add_loss(Loss(self._lost_at, origin, reason))
        for stream in (*self._at_head, *self._durable):
            self._tell_losses(stream, stream.position + 1)

    def reached_disk(self, position: int) -> None:
        """Note that everything up to this position is on disk."""
        position = self.committed = max(position, self.committed)
        while self._held and self._held[0] <= position:
            self._held.popleft()
        self.advance()

    def run_durable(self) -> None:
        """Send durable streams the entries that have reached the disk."""
        for stream in tuple(self._durable):
            stream.peer.scanned = 0
            self._run(stream)

    def advance(self) -> None:
        """Pass new entries on to all streams at the end of the log, as far as allowed."""
        limit = self._held[0] - 1 if self._held else self._log.last
        while self._fresh and self._fresh[0].end <= limit:
            entry_batch = self._next_batch(limit)
            self.visible = entry_batch.end
            self.last_values.note(entry_batch.entries)
            for stream in tuple(self._at_head):
                if stream.peer.has_room:
                    self._tell_losses(stream, entry_batch.entries[0].position)
                    stream.give_batch(entry_batch)
                else:
                    del self._at_head[stream]  # it reads on from the log when it has room

    def _next_batch(self, limit: int) -> EntryBatch:
        """Return the entries that may be passed on together: limited in bytes, and no loss in between."""
        entry_batch = EntryBatch()
        while self._fresh and self._fresh[0].end <= limit and entry_batch.bytes < MAX_ENTRY_BATCH:
            if entry_batch.entries and entry_batch.end <= self._lost_at < self._fresh[0].position:
                break
            entry_batch.add(self._fresh.popleft())
        return entry_batch

    def _tell_losses(self, stream: Stream, before: int) -> None:
        """Report to a stream's reader the losses before the position that it gets next."""
        while True:
            loss, stream.losses = self._log.losses.next(stream.losses, stream.begun, before)
            if loss is None:
                return
            if loss.origin != stream.peer.origin or stream.durable:
                stream.tell(LogGap(stream.position, stream.position, loss.reason))

    def _has_losses(self, stream: Stream, before: int) -> bool:
        """Return whether there are losses to report to a stream's reader before a position."""
        loss, number = self._log.losses.next(stream.losses, stream.begun, before)
        if loss is None:
            stream.losses = number
        return loss is not None

    # ---- reading on --------------------------------------------------------------------------------------

    def pump(self, peer: Peer) -> None:
        """Read on for a peer, as far as it has room."""
        if peer.state != "open":
            return
        if peer.live is not None and peer.live not in self._at_head:
            self._run(peer.live)
        for stream in list(peer.streams.values()):
            self._run(stream)

    def _run(self, stream: Stream) -> None:
        """Read on for a stream until it has caught up, has no room, or needs the disk."""
        while stream.may_give:
            limit = self._limit(stream)
            if stream.position >= limit:
                self._caught_up(stream)
                return
            if stream.package and stream.peer.scanned >= MAX_SCANNED:
                self._want_disk(stream)  # the disk has all of it too, and others get a turn in between
                return
            reading = self._log.read(stream.position, min(CHUNK, SCANNED) if stream.package else CHUNK)
            if reading.on_disk:
                self._want_disk(stream)
                return
            if not self._give(stream, reading, limit):
                self._caught_up(stream)
                return
        self.forget(stream)

    def _want_disk(self, stream: Stream) -> None:
        """Request a read from disk, or queue the stream until the link's earlier reads have ended.

        A Replay makes a new stream while the read for the old one may still run. If each were read at once,
        endless Replays would cause endless reads from disk.
        """
        peer = stream.peer
        stream.reading = True
        if stream.package in peer.disk_reads or len(peer.disk_reads) >= MAX_DISK_READS:
            peer.disk_wishes[stream.package] = stream
        else:
            peer.disk_reads[stream.package] = stream
            self._events.append(DiskWanted(stream))

    def _next_disk_read(self, peer: Peer) -> None:
        """Request the reads that have waited for one of the link's to end, longest waiting first."""
        for package, stream in list(peer.disk_wishes.items()):
            if len(peer.disk_reads) >= MAX_DISK_READS:
                return
            if package in peer.disk_reads:
                continue
            del peer.disk_wishes[package]
            if self._is_current(stream):
                peer.disk_reads[package] = stream
                self._events.append(DiskWanted(stream))

    @staticmethod
    def _is_current(stream: Stream) -> bool:
        """Return whether the reads of this stream are still wanted."""
        peer = stream.peer
        return peer.state == "open" and (not stream.package or peer.streams.get(stream.package) is stream)

    def disk_read(self, stream: Stream, reading: Reading) -> None:
        """Pass on entries that were read from disk for a stream."""
        stream.reading = False
        peer = stream.peer
        peer.scanned = 0
        if peer.disk_reads.get(stream.package) is stream:
            del peer.disk_reads[stream.package]
        self._next_disk_read(peer)
        if not self._is_current(stream):
            peer.asked += len(reading.entries) // READ_IN_VAIN
            return
        self._give(stream, reading, self._limit(stream))
        self._run(stream)

    def _limit(self, stream: Stream) -> int:
        if stream.durable:
            return self.committed
        live = stream.peer.live
        return self.visible if stream is live or live is None else live.position

    def _give(self, stream: Stream, reading: Reading, limit: int) -> bool:
        """Pass the entries of a reading to a stream, up to a position; return whether the stream has moved."""
        before = stream.position
        if stream.package:
            self._count_scanned(stream.peer, len(reading.entries))
        if reading.gap is not None:
            stream.tell(reading.gap)
        has_losses = bool(reading.entries) and self._has_losses(stream, reading.entries[-1].position)
        for entry in reading.entries:
            end = entry.end
            if end > limit or stream.room == 0:
                return stream.position != before
            if end > stream.position:
                if has_losses:
                    self._tell_losses(stream, entry.position)
                stream.give(entry)
                if stream.room == 0:
                    stream.peer.write(encode_link_frame(Replay(stream.package, stream.position, 0)))
        if stream.room == 0:
            return True
        stream.position = max(stream.position, min(reading.next, limit))
        return stream.position != before

    @staticmethod
    def _count_scanned(peer: Peer, entries: int) -> None:
        peer.scanned += entries
        peer.asked += peer.passed_over // PASSED_OVER
        peer.passed_over %= PASSED_OVER

    def _caught_up(self, stream: Stream) -> None:
        peer = stream.peer
        if self._is_ahead(stream):
            return  # it waits
        self._tell_losses(stream, stream.position + 1)
        if stream is peer.live:
            self._at_head[stream] = None
            return
        if stream.room is not None:
            peer.write(encode_link_frame(Replay(stream.package, stream.position, stream.room)))
            stream.room = None
        if stream.durable:
            self._durable[stream] = None
        else:
            del peer.streams[stream.package]
            peer.settle_live()

    @staticmethod
    def _is_ahead(stream: Stream) -> bool:
        """Return whether a stream began ahead of the live one, which would bring its reader earlier messages."""
        live = stream.peer.live
        return not stream.durable and live is not None and stream.position > live.position

    def forget(self, stream: Stream) -> None:
        """Stop giving entries to a stream, until it is run again."""
        self._durable.pop(stream, None)
        self._at_head.pop(stream, None)
