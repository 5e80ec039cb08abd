"""The outbox: frames that a satellite has sent and its relay has not acknowledged, packed and numbered once.

They wait in memory while acknowledgements come soon. Older ones go to disk, so that they survive the satellite,
and large amounts leave memory. This module decides what and when; ``store/outbox_store.py`` does it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from co2.protocol.wire.batch import make_batch, split_batch
from co2.protocol.wire.checksum import crc32
from co2.protocol.wire.link_frames import MAX_EPOCHS, Publish, decode_satellite_frame, encode_link_frame
from co2.protocol.wire.plugin_frames import frames as plugin_frames

__all__ = ["MEMORY", "SEGMENT", "SPILL_AFTER", "Cut", "Moves", "Outbox", "Segment"]

MEMORY = 32 * 1024 * 1024
"""Bytes of frames in memory; no more may wait without being on disk, and frames on disk leave memory."""

SEGMENT = 256 * 1024
"""Bytes of frames that are stored and loaded together."""

SPILL_AFTER = 0.05
"""Seconds after which an unacknowledged frame goes to disk, or four times the usual time, if that is longer."""

MAX_SPILL_AFTER = 2.0
"""Seconds after which a frame goes to disk in any case."""

_OVERHEAD = 200
"""Bytes that a waiting frame takes besides its data, roughly."""


class Cut(msgspec.Struct, frozen=True, gc=False):
    """One frame, as it is sent and, after a lost connection, resent.

    Attributes:
        epoch: run of the satellite.
        first: number of its first message.
        last: number of its last message.
        data: the encoded Publish.
        at: monotonic seconds when it was made.
    """

    epoch: int
    first: int
    last: int
    data: bytes
    at: float = 0.0

    @property
    def size(self) -> int:
        """Bytes that it counts for."""
        return len(self.data) + _OVERHEAD


Moves = dict[int, tuple[int, int]]
"""Runs whose messages are sent in another run: (that run, the number subtracted from each), by run."""


@dataclass(slots=True, eq=False)
class Segment:
    """Consecutive frames of one run.

    Attributes:
        epoch: the run.
        first: number of the first unacknowledged message.
        last: number of the last message.
        size: bytes of the remaining frames.
        cuts: the frames, None while they are on disk only.
        state: ``open``, in memory only; ``storing``, on its way to disk; ``stored``.
        rows: the first and the last of its rows in the store.
        loading: it is on its way back to memory.
        missing: messages between the first and the last that the disk has lost.
    """

    epoch: int
    first: int
    last: int
    size: int = 0
    cuts: list[Cut] | None = field(default_factory=list)
    state: str = "open"
    rows: tuple[int, int] = (0, 0)
    loading: bool = False
    missing: int = 0

    @property
    def count(self) -> int:
        """Number of its messages."""
        return self.last - self.first + 1 - self.missing

    def find_first(self, seq: int) -> None:
        """Set the first message: the first one from a number on that was loaded."""
        cuts = self.cuts or ()
        self.first = max(seq, cuts[0].first) if cuts else seq
        held = sum(cut.last - max(cut.first, self.first) + 1 for cut in cuts)
        self.missing = self.last - self.first + 1 - held

    def takes(self, cut: Cut) -> bool:
        """Return whether a frame may be appended to these."""
        return self.state == "open" and self.epoch == cut.epoch and self.size + cut.size <= SEGMENT


class Outbox:
    """Frames in order; those before a pointer have been given to the current link.

    Args:
        epoch: run of the satellite: 63 random bits.
        max_bytes: above it senders must wait; accepted messages are kept.
        full: called when a limit is passed.
        room: called when half of it is free again.
        now: monotonic seconds.

    Attributes:
        bytes: that wait, in memory and on disk.
        acked_messages: number of acknowledged messages.
        lost: messages that the disk has lost.
    """

    def __init__(
        self,
        epoch: int,
        max_bytes: int,
        full: Callable[[], None],
        room: Callable[[], None],
        now: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.epoch = epoch
        self.bytes = 0
        self.acked_messages = 0
        self.lost = 0
        self._next = 1
        self._max_bytes = max_bytes
        self._full = full
        self._room = room
        self._now = now
        self._is_full = False
        self._messages = 0
        self._in_memory = 0
        self._unstored = 0
        self._usual = 0.0
        self._segments: deque[Segment] = deque()
        self._at = 0
        self._inside = 0
        self._gone = 0
        self._moves: Moves = {}
        self._ends: dict[int, int] = {}

    def __len__(self) -> int:
        return self._messages

    @property
    def last(self) -> int:
        """Number of the last message put."""
        return self._next - 1

    @property
    def done(self) -> int:
        """Messages that need not wait any more: acknowledged, or lost."""
        return self.acked_messages + self.lost

    def renew(self, epoch: int) -> None:
        """Number new messages in another run: the next number of this one was used elsewhere."""
        self.epoch, self._next = epoch, 1

    def last_of(self, epoch: int) -> int | None:
        """Return the number of a run's last message; None for an earlier run that did not end in good order."""
        return self._next - 1 if epoch == self.epoch else self._ends.get(epoch)

    def renumber(self, epoch: int, old: int | None = None) -> int:
        """Renumber a run's waiting messages in another run, from 1 on: another host has used their numbers.

        Args:
            epoch: the other one.
            old: the run; None for the current one.

        Returns:
            The number subtracted from each, for :meth:`found` of the next process: the frames on disk stay
            unchanged.
        """
        old = self.epoch if old is None else old
        first = next((segment.first for segment in self._segments if segment.epoch == old), self._next)
        shift = first - 1
        self._moves[old] = (epoch, shift)
        for segment in self._segments:
            if segment.epoch == old:
                self._move(segment)
        if old == self.epoch:
            self.epoch, self._next = epoch, self._next - shift
        elif (end := self._ends.pop(old, None)) is not None:
            self._ends[epoch] = end - shift
        self.again()
        return shift

    def _move(self, segment: Segment) -> None:
        while (move := self._moves.get(segment.epoch)) is not None:
            segment.epoch, shift = move
            segment.first, segment.last = max(1, segment.first - shift), segment.last - shift
        if segment.cuts is not None:
            segment.cuts = [self._moved(cut) for cut in segment.cuts]
            self._resize(segment, sum(cut.size for cut in segment.cuts) - segment.size)

    def _moved(self, cut: Cut) -> Cut:
        """Encode a frame again if its run has moved, without its messages acknowledged before."""
        while (move := self._moves.get(cut.epoch)) is not None:
            epoch, shift = move
            frame = decode_satellite_frame(cut.data)
            if (had := shift + 1 - cut.first) > 0:
                frame.batch = make_batch(split_batch(frame.batch)[had:])
                frame.crc = crc32(frame.batch)
            first = max(1, cut.first - shift)
            frame.epoch, frame.seq = epoch, first
            cut = Cut(epoch, first, cut.last - shift, encode_link_frame(frame), cut.at)
        return cut

    @property
    def is_given(self) -> bool:
        """Whether all frames have been given, so that the next one put is given next."""
        segments = self._segments
        if not segments:
            return True
        last = segments[-1]
        return (
            segments[0].epoch == self.epoch
            and self._at == len(segments) - 1
            and last.cuts is not None
            and self._inside == len(last.cuts)
        )

    @property
    def memory_bytes(self) -> int:
        """Bytes that are in memory; they may be on disk too."""
        return self._in_memory

    @property
    def stored_bytes(self) -> int:
        """Bytes that are on disk."""
        return self.bytes - self._unstored

    # ---- in --------------------------------------------------------------------------------------------

    def put(self, package: str, frame: plugin_frames.Publish, count: int) -> None:
        """Number, checksum and keep a frame of ``count`` messages."""
        batch = frame.batch
        publish = Publish(self.epoch, self._next, package, frame.plugin, frame.channels, crc32(batch), batch)
        cut = Cut(self.epoch, self._next, self._next + count - 1, encode_link_frame(publish), self._now())
        self._next += count
        segment = self._segments[-1] if self._segments else None
        if segment is None or not segment.takes(cut):
            segment = Segment(self.epoch, cut.first, cut.last)
            self._segments.append(segment)
        assert segment.cuts is not None
        segment.cuts.append(cut)
        segment.last = cut.last
        segment.size += cut.size
        self._messages += count
        self._in_memory += cut.size
        self._unstored += cut.size
        self.bytes += cut.size
        if not self._is_full and (self.bytes > self._max_bytes or self._unstored > MEMORY):
            self._is_full = True
            self._full()

    def found(
        self, segments: Iterable[Segment], moves: Moves | None = None, ends: Mapping[int, int] | None = None
    ) -> None:
        """Add the frames that earlier runs have left on disk, oldest first; before the first :meth:`put`.

        Args:
            segments: as stored.
            moves: runs that :meth:`renumber` has moved.
            ends: last number of each run that ended in good order.
        """
        self._moves = dict(moves or {})
        for run, end in (ends or {}).items():
            epoch, last = run, end
            while (move := self._moves.get(epoch)) is not None:
                epoch, last = move[0], last - move[1]
            self._ends[epoch] = last
        for segment in segments:
            self._move(segment)
            self._segments.append(segment)
            self._messages += segment.count
            self.bytes += segment.size

    # ---- out -------------------------------------------------------------------------------------------

    def unacknowledged(self) -> list[tuple[int, int]]:
        """Return (epoch, first unacknowledged number), oldest first, the current run always last."""
        firsts: dict[int, int] = {}
        for segment in self._segments:
            firsts.setdefault(segment.epoch, segment.first)
        current = firsts.pop(self.epoch, self._next)
        # Further ones wait for the next link: the listed ones are sent first.
        return [*list(firsts.items())[: MAX_EPOCHS - 1], (self.epoch, current)]

    def again(self) -> None:
        """Return to the first frame: a new link gets all of them again."""
        self._at = self._inside = 0

    def give(self, max_bytes: int) -> list[bytes]:
        """Return the next frames for the link; fewer if :meth:`wanted` returns a segment to load first.

        Frames of a later run wait until all frames of the one before are acknowledged.
        """
        given: list[bytes] = []
        while self._at < len(self._segments) and max_bytes > 0:
            segment = self._segments[self._at]
            if segment.cuts is None or segment.epoch != self._segments[0].epoch:
                break
            if self._inside < len(segment.cuts):
                data = segment.cuts[self._inside].data
                given.append(data)
                max_bytes -= len(data)
                self._inside += 1
            elif self._at + 1 < len(self._segments):
                self._at += 1
                self._inside = 0
            else:
                break
        return given

    def acknowledged(self, epoch: int, seq: int) -> bool:
        """Forget the frames that the relay has on disk; for messages never sent, forget nothing and return False.

        How far an earlier, killed run came is unknown: it may have sent more than is on disk.
        """
        segments = self._segments
        if epoch == self.epoch:
            if seq >= self._next:
                return False
        elif (last := self._ends.get(epoch)) is not None and seq > last:
            return all(segment.epoch != epoch for segment in segments)
        while segments and segments[0].epoch == epoch and segments[0].first <= seq:
            segment = segments[0]
            self._learn(segment, seq)
            if segment.last > seq:
                self._forget_part(segment, seq)
                break
            self._drop_first()
        self._tell_room()
        return True

    def _tell_room(self) -> None:
        if self._is_full and self.bytes <= self._max_bytes // 2 and self._unstored <= MEMORY // 2:
            self._is_full = False
            self._room()

    def _learn(self, segment: Segment, seq: int) -> None:
        """Update the usual time of an acknowledgement: of several at once, that of the oldest frame."""
        oldest = segment.cuts[0] if segment.cuts else None
        if oldest is not None and oldest.last <= seq and oldest.at:
            self._usual += (self._now() - oldest.at - self._usual) / 8

    def _drop_first(self) -> None:
        segment = self._segments.popleft()
        self._messages -= segment.count
        self.acked_messages += segment.count
        self._resize(segment, -segment.size)
        if segment.state == "stored":
            self._gone = segment.rows[1]
        segment.first, segment.missing = segment.last + 1, 0
        segment.cuts = None  # so that a store that still writes it need not hold the frames
        if self._at:
            self._at -= 1
        else:
            self._inside = 0

    def _forget_part(self, segment: Segment, seq: int) -> None:
        before = segment.count
        segment.first = seq + 1
        if segment.cuts is not None:
            done = 0
            while segment.cuts[done].last <= seq:
                self._resize(segment, -segment.cuts[done].size)
                done += 1
            del segment.cuts[:done]
            if self._at == 0:
                self._inside = max(0, self._inside - done)
            if segment.missing:
                segment.find_first(seq + 1)
        self._messages -= before - segment.count
        self.acked_messages += before - segment.count

    def _resize(self, segment: Segment, more: int) -> None:
        segment.size += more
        self.bytes += more
        if segment.cuts is not None:
            self._in_memory += more
        if segment.state != "stored":
            self._unstored += more

    # ---- disk ------------------------------------------------------------------------------------------

    @property
    def patience(self) -> float:
        """Seconds that a frame waits for its acknowledgement before it goes to disk."""
        return min(max(SPILL_AFTER, 4 * self._usual), MAX_SPILL_AFTER)

    def to_store(self, everything: bool = False) -> list[Segment]:
        """Return the segments to store, in order: all, or those that have waited long enough. See
        :meth:`stored`."""
        before = self._now() - self.patience
        due: list[Segment] = []
        for segment in reversed(self._segments):
            if segment.state != "open":
                break
            if segment.cuts and (everything or segment.cuts[0].at <= before):
                due.append(segment)
        for segment in due:
            segment.state = "storing"
        return due[::-1]

    def stored(self, segment: Segment, rows: tuple[int, int]) -> None:
        """Note that a segment is on disk, in these rows."""
        segment.state, segment.rows = "stored", rows
        if segment.first > segment.last:  # acknowledged meanwhile
            self._gone = max(self._gone, rows[1])
            return
        self._unstored -= segment.size
        self._merge(segment)
        self._let_go()
        self._tell_room()

    def to_forget(self) -> int:
        """Return the last row that is no longer needed, 0 for none."""
        gone, self._gone = self._gone, 0
        return gone

    def wanted(self) -> Segment | None:
        """Return the segment that must be loaded before more frames can be given. Then call :meth:`loaded`."""
        if self._at < len(self._segments):
            segment = self._segments[self._at]
            if segment.cuts is None and not segment.loading and segment.epoch == self._segments[0].epoch:
                segment.loading = True
                return segment
        return None

    def loaded(self, segment: Segment, cuts: Sequence[Cut]) -> None:
        """Add the frames of a segment back to memory. Messages that the disk has lost are counted."""
        segment.loading = False
        if segment.first > segment.last:
            return
        self._resize(segment, -segment.size)
        segment.cuts = [cut for cut in map(self._moved, cuts) if cut.last >= segment.first]
        self._resize(segment, sum(cut.size for cut in segment.cuts))
        before = segment.count
        if segment.cuts:
            segment.last = segment.cuts[-1].last
            segment.find_first(segment.first)
        missing = before - (segment.count if segment.cuts else 0)
        self.lost += missing
        self._messages -= missing
        if not segment.cuts:
            self._remove(segment)
            self._tell_room()
        self._let_go()

    def _remove(self, segment: Segment) -> None:
        if self._segments[0] is segment:
            self._gone = segment.rows[1]
        self._segments.remove(segment)
        segment.first = segment.last + 1
        self._inside = 0

    def _merge(self, segment: Segment) -> None:
        """Merge a small segment into the one before it, so that there are never many."""
        index = self._segments.index(segment)
        before = self._segments[index - 1] if index else None
        if (
            before is None
            or before.state != "stored"
            or before.epoch != segment.epoch
            or before.size + segment.size > SEGMENT
            or (before.cuts is None) != (segment.cuts is None)
            or before.loading
            or before.last + 1 != segment.first
            or self._at in {index - 1, index}
        ):
            return
        if before.cuts is not None and segment.cuts is not None:
            before.cuts += segment.cuts
        before.last = segment.last
        before.size += segment.size
        before.rows = (before.rows[0], segment.rows[1])
        del self._segments[index]
        if self._at > index:
            self._at -= 1

    def _let_go(self) -> None:
        """Drop stored segments from memory: first those already given, then those that are given last."""
        if self._in_memory <= MEMORY:
            return
        segments = list(self._segments)
        for segment in (*segments[: self._at], *reversed(segments[self._at + 1 :])):
            # A segment with a hole stays: on disk the place of the hole would be unknown.
            if segment.state == "stored" and segment.cuts is not None and not segment.missing:
                self._in_memory -= segment.size
                segment.cuts = None
                if self._in_memory <= MEMORY:
                    return
