"""Queues of batches for one package: those that wait, and those that its child is not done with."""

from collections import deque
from dataclasses import dataclass
from functools import reduce
from operator import add

import msgspec

from co2.plugin.child.decoding import pieces
from co2.protocol.wire.batch import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES, join_batches
from co2.protocol.wire.plugin_frames.frames import Deliver, Gap, Snapshot

__all__ = ["MAX_WAITING", "WINDOW", "Envelope", "FairQueue", "GapRange", "QueuedBatch", "Window"]

MAX_WAITING = 8 * 1024 * 1024
"""Bytes that may wait for one package; above it the oldest batches are dropped, and a gap is reported."""

WINDOW = 1024 * 1024
"""Bytes that a child may have and not be done with; the last batch may exceed it."""

OVERHEAD = 320
"""Bytes of memory that a waiting batch takes besides its own bytes, roughly."""

MAX_REASONS = 4
"""Reasons that a gap names when it was merged from several."""


class Envelope(msgspec.Struct, frozen=True):
    """The metadata of a batch.

    Attributes:
        host_id: of the sending host.
        client_address: (ip, port) of its connection.
        sender: the plugin of the same package that sent them, else ''.
        at: time at which the relay got them, seconds since 1970; 0.0 for a package that does not ask for it, so
            that small batches are joined whenever they came.
        is_snapshot: its messages are last values.
    """

    host_id: str
    client_address: tuple[str, int]
    sender: str = ""
    at: float = 0.0
    is_snapshot: bool = False


class QueuedBatch(msgspec.Struct, frozen=True):
    """One batch for a package.

    Attributes:
        envelope: of all its messages.
        batch: the messages.
        count: their number.
        skip: number of messages at the front that are not for the package.
        position: of the first message in the relay's log, for a durable package; else 0.
        log_id: of that log.
        cause: of what plugins send in the first message, one more for each after it; 0 for none. A position in
            the log, or, with ``run``, a number in that run of this satellite.
        run: the end of that run's number, else 0.
    """

    envelope: Envelope
    batch: bytes
    count: int
    skip: int = 0
    position: int = 0
    log_id: str = ""
    cause: int = 0
    run: int = 0

    @property
    def size(self) -> int:
        """Bytes of memory that it takes."""
        return len(self.batch) + OVERHEAD

    @property
    def wanted(self) -> int:
        """Number of messages that are for the package."""
        return self.count - self.skip


@dataclass(frozen=True, slots=True)
class GapRange:
    """Messages that the package will not get.

    Attributes:
        after: position of the last message before it, 0 if unknown.
        next: position of the first message after it, 0 if unknown.
        reasons: causes; empty for messages dropped here.
        dropped: number of messages dropped here.
        log_id: of the log that the positions refer to, '' if unknown.
    """

    after: int = 0
    next: int = 0
    reasons: tuple[str, ...] = ()
    dropped: int = 0
    log_id: str = ""

    size = OVERHEAD

    def __add__(self, later: "GapRange") -> "GapRange":
        reasons = tuple(dict.fromkeys(self.reasons + later.reasons))[:MAX_REASONS]
        return GapRange(self.after, later.next, reasons, self.dropped + later.dropped, later.log_id)

    def frame(self, number: int) -> Gap:
        """Return the frame for the child."""
        reasons = list(self.reasons)
        if self.dropped:
            text = f"{self.dropped} messages were dropped: they came faster than the package processes them"
            reasons.append(text)
        return Gap(number, self.after, self.next, "; ".join(reasons))


class FairQueue:
    """A bounded queue, fair to its sources: a source that floods it loses its own messages.

    A source is the network, or one package of this satellite. Sources take turns, and each source's order is kept.
    When the bound is exceeded, a gap replaces the oldest batch of the source with the most bytes.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self.bytes = 0
        self._count = 0
        self._queues: dict[str, deque[QueuedBatch | GapRange]] = {}
        self._sizes: dict[str, int] = {}

    def __len__(self) -> int:
        return self._count

    def put(self, source: str, queued: QueuedBatch) -> int:
        """Queue a batch; return how many older messages were dropped for it."""
        self._append(source, queued)
        before = self.dropped
        while self.bytes > MAX_WAITING and self._count:
            self._drop(max(self._sizes, key=self._sizes.__getitem__))
        return self.dropped - before

    def held(self, source: str) -> int:
        """Return the bytes of one source that wait."""
        return self._sizes.get(source, 0)

    def put_gap(self, source: str, gap: GapRange) -> None:
        """Queue a gap before the next messages of this source."""
        queue = self._queues.get(source)
        if queue and isinstance(last := queue[-1], GapRange):
            queue[-1] = last + gap
        else:
            self._append(source, gap)

    def take(self, room: int) -> QueuedBatch | GapRange | None:
        """Remove and return the next item of the next source: a gap, or messages of one envelope.

        Args:
            room: bytes up to which small batches are joined.
        """
        source = next(iter(self._queues), None)
        if source is None:
            return None
        taken = self._pop(source)
        if isinstance(taken, QueuedBatch):
            taken = self._with_followers(source, taken, room)
        if source in self._queues:
            self._queues[source] = self._queues.pop(source)  # moved to the end: the others' turn
        return taken

    def clear(self, *, but: str | None = None) -> None:
        """Remove all items, except those of one source."""
        for source in [source for source in self._queues if source != but]:
            while source in self._queues:
                self._pop(source)

    def _append(self, source: str, item: QueuedBatch | GapRange) -> None:
        self._queues.setdefault(source, deque()).append(item)
        self._account(source, item, 1)

    def _account(self, source: str, item: QueuedBatch | GapRange, sign: int) -> None:
        self.bytes += sign * item.size
        self._sizes[source] = self._sizes.get(source, 0) + sign * item.size
        if isinstance(item, QueuedBatch):
            self._count += sign * item.wanted

    def _pop(self, source: str) -> QueuedBatch | GapRange:
        queue = self._queues[source]
        item = queue.popleft()
        self._account(source, item, -1)
        if not queue:
            del self._queues[source]
        return item

    def _drop(self, source: str) -> None:
        """Replace a source's oldest batch, and the gaps around it, by one gap."""
        told: list[GapRange] = []
        while isinstance(item := self._pop(source), GapRange):
            told.append(item)
        self.dropped += item.wanted
        told.append(GapRange(dropped=item.wanted))
        queue = self._queues.get(source)
        if queue and isinstance(queue[0], GapRange):
            told.append(self._pop(source))  # type: ignore[arg-type]  # just looked at
        missing = reduce(add, told)
        self._queues.setdefault(source, deque()).appendleft(missing)
        self._account(source, missing, 1)

    def _with_followers(self, source: str, first: QueuedBatch, room: int) -> QueuedBatch:
        """Join small batches of one envelope, which are cheaper to carry and to decode together."""
        batches, count, size = [first.batch], first.count, len(first.batch)
        while not first.skip and (queue := self._queues.get(source)):
            item = queue[0]
            if not isinstance(item, QueuedBatch) or item.skip or item.envelope != first.envelope:
                break
            if first.position and (item.position, item.log_id) != (first.position + count, first.log_id):
                break  # only consecutive positions tell where each message is in the log
            if (item.cause, item.run) != ((first.cause and first.cause + count), first.run):
                break
            count += item.count
            size += len(item.batch)
            if count > MAX_BATCH_MESSAGES or size > min(room, MAX_BATCH_BYTES):
                count -= item.count
                break
            batches.append(item.batch)
            self._pop(source)
        if len(batches) == 1:
            return first
        return msgspec.structs.replace(first, batch=join_batches(batches), count=count)


class Window:
    """The items that the child has, by number, until all its plugins are done with them.

    Attributes:
        position: in the relay's log, of the last message done; 0 if none had a position.
        log_id: of that log.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.position = 0
        self.log_id = ""
        self._next = 1
        self._last_done = 0
        self._count = 0
        self._given: deque[tuple[int, QueuedBatch | GapRange]] = deque()

    def __len__(self) -> int:
        return self._count

    @property
    def room(self) -> int:
        """Bytes that the child may still get."""
        return WINDOW - self.bytes

    @property
    def last(self) -> int:
        """The last number in use."""
        return self._next - 1

    def give(self, item: QueuedBatch | GapRange) -> Deliver | Gap:
        """Number a batch or a gap, and return its frame for the child."""
        first = self._next
        self._given.append((first, item))
        self.bytes += item.size
        if isinstance(item, QueuedBatch):
            self._next += item.count
            self._count += item.wanted
        else:
            self._next += 1
        return _frame(first, item)

    def done(self, last: int) -> int:
        """Forget the items that are done; return how many messages these were."""
        count = 0
        last = min(last, self._next - 1)
        for first, item in self._given:
            if first > last:
                break
            if isinstance(item, QueuedBatch):
                begin = max(self._last_done + 1, first + item.skip)
                end = min(last, first + item.count - 1)
                count += max(0, end - begin + 1)
                if item.position:
                    self.position, self.log_id = item.position + end - first, item.log_id
            elif item.log_id:
                self.position, self.log_id = item.next - 1, item.log_id
        self._last_done = max(self._last_done, last)
        while self._given and _end(*self._given[0]) <= last:
            self.bytes -= self._given.popleft()[1].size
        self._count -= count
        return count

    def again(self) -> list[Deliver | Gap]:
        """Return the frames for a new child: all items that are not done, with the same numbers."""
        return [_frame(first, item) for first, item in self._given]

    def find(self, number: int) -> tuple[Envelope, bytes] | None:
        """Return a message that is not done, with its envelope; None if there is none of this number."""
        for first, item in self._given:
            if isinstance(item, QueuedBatch) and first <= number < first + item.count:
                return item.envelope, pieces(item.batch)[number - first]
        return None


def _end(first: int, item: QueuedBatch | GapRange) -> int:
    return first + item.count - 1 if isinstance(item, QueuedBatch) else first


def _frame(first: int, item: QueuedBatch | GapRange) -> Deliver | Gap:
    if isinstance(item, GapRange):
        return item.frame(first)
    envelope = item.envelope
    kind = Snapshot if envelope.is_snapshot else Deliver
    return kind(
        first, item.cause, item.run,
        envelope.host_id, envelope.client_address, item.batch, envelope.sender, item.skip, envelope.at,
    )  # fmt: skip
