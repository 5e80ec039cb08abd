"""Streams: the cursors of readers in the relay's log. Every link has a live one, and one for each package apart.

A stream is only a cursor: a slow reader's is further back, and costs no memory for it.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from co2.host_id import HostId
from co2.host_name import host_label
from co2.protocol.relay.log import Entry, LogGap
from co2.protocol.wire.channel_patterns import Interests
from co2.protocol.wire.link_frames import BEGINNING, Deliver, Gap, Subscription, encode_link_frame
from co2.protocol.wire.package_health import Health
from co2.protocol.wire.subscription_limits import bounded

__all__ = [
    "CHUNK",
    "MAX_ENTRY_BATCH",
    "ROOM",
    "EntryBatch",
    "Peer",
    "Stream",
    "deliver_frame",
    "union",
]

CHUNK = 1024 * 1024
"""Bytes that are read from the log at once."""

ROOM = 1024 * 1024
"""Bytes in a peer's ``out`` above which its streams stop reading; the transport holds the rest."""

MAX_ENTRY_BATCH = 256 * 1024
"""Approximate bytes of messages that are passed on together."""


class Flushable(Protocol):
    """Keeps a list of the peers that have something to write."""

    ready: "dict[Peer, None]"


class EntryBatch:
    """Entries that are passed on together: encoded once for all links that want everything.

    Attributes:
        entries: in order.
        origins: of their senders.
        bytes: of their messages.
        count: of their messages.
    """

    __slots__ = ("_frames", "_size", "bytes", "count", "entries", "origins")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.origins: set[str] = set()
        self.bytes = 0
        self.count = 0
        self._frames: list[bytes] = []
        self._size = 0

    @property
    def end(self) -> int:
        """Position of the last message."""
        return self.entries[-1].end

    def add(self, entry: Entry) -> None:
        """Add an entry; not after :meth:`written`."""
        self.entries.append(entry)
        self.origins.add(entry.origin)
        self.bytes += len(entry.batch)
        self.count += entry.count

    def written(self) -> tuple[list[bytes], int]:
        """Return the frames for live streams, and their total bytes."""
        if not self._frames:
            self._frames = [_written(entry, "") for entry in self.entries if entry.channels != ()]
            self._size = sum(map(len, self._frames))
        return self._frames, self._size


@dataclass(slots=True, eq=False)
class Stream:
    """One cursor.

    Attributes:
        peer: whose cursor it is.
        package: '' for the live stream.
        position: last message that it has passed.
        interests: the entries to give, others are skipped; None for none.
        durable: follows the log on disk, and gives the peer's own messages too.
        room: bytes that the reader has asked for and not received, None for no limit.
        reading: a read from disk is running, or queued.
        losses: number of the next loss that it must report (:mod:`co2.protocol.relay.losses`); None before the
            first look.
        begun: initial position: it reports losses behind it, however far it jumps later.
    """

    peer: "Peer"
    package: str
    position: int
    interests: Interests | None
    durable: bool = False
    room: int | None = None
    reading: bool = False
    losses: int | None = None
    begun: int = field(init=False)

    def __post_init__(self) -> None:
        self.begun = self.position

    @property
    def may_give(self) -> bool:
        """Whether reader and link have room."""
        return self.peer.has_room and not self.reading and (self.room is None or self.room > 0)

    def wants(self, entry: Entry) -> bool:
        """Return whether an entry is given to the reader."""
        if entry.origin == self.peer.origin and not self.durable:
            return False
        return self.interests is not None and self.interests.wants(entry.channels)

    def give(self, entry: Entry) -> None:
        """Write an entry, if it is wanted, and pass it."""
        self.position = entry.end
        if self.wants(entry):
            data = _written(entry, self.package)
            self.peer.write(data)
            self.peer.delivered += entry.count
            if self.room is not None:
                self.room = max(0, self.room - len(data))
        elif self.package:
            self.peer.passed_over += 1

    def give_batch(self, entry_batch: EntryBatch) -> None:
        """Write entries and pass them; only for live streams at the end of the log."""
        peer = self.peer
        if self.interests is None:
            self.position = entry_batch.end
        elif self.interests.patterns is None and peer.origin not in entry_batch.origins:
            self.position = entry_batch.end
            peer.write_all(*entry_batch.written())
            peer.delivered += entry_batch.count
        else:
            for entry in entry_batch.entries:
                self.give(entry)

    def give_live(self, entry: Entry) -> None:
        """Write an entry that is not in the log."""
        self.peer.write(_written(entry, ""))
        self.peer.delivered += entry.count

    def tell(self, gap: LogGap) -> None:
        """Write a gap and pass it."""
        self.peer.gaps += 1
        self.peer.write(encode_link_frame(Gap(self.package, gap.after, gap.next, gap.reason)))
        self.position = gap.next


@dataclass(slots=True, eq=False)
class Peer:
    """One link, as the relay sees it.

    Attributes:
        address: (ip, port) of the connection, observed.
        state: ``opening``, ``asked``, ``open`` or ``closed``.
        out: frames for the transport, encoded.
        paused: the transport's buffer is full; nothing more is read from the log for this peer.
        roster: version of the roster that it has.
        asked: count of its requests since the last turn, weighted by their cost.
        scanned: entries that were examined for its packages since others had their turn.
        passed_over: those of them that its packages do not want, as far as ``asked`` does not count them yet.
        disk_reads: reads from disk that are running, by package ('' for the live stream).
        disk_wishes: streams that wait for one of these to end, by package.
        was_known: the relay knew its origin before it connected.
        token: hash of the token that it showed: a satellite with another one does not take its place.
        run: epoch of its current run, 0 for unknown.
        health: of its packages, as last reported; None for a satellite that does not report it.
        health_at: time of that report, in monotonic seconds.
        listens: IP address that it listens on, as reported.
        wishes: number of the last wish of each package that waits, or waited, for last values.
        begins: number after which a run resumes, by run, as its Hello claimed where the log does not know.
        receipt: position of its last receipt.
        holds: it supports :class:`~co2.protocol.wire.link_frames.Hold`.
        waits: it was told to wait for room on disk, and not yet to resend.
        skips: messages that it sends to be stored are ignored, until it says that it resends.
        resends: how often it has said so.
        name: for people, unique in this network.
    """

    core: "Flushable"
    address: tuple[str, int]
    state: str = "opening"
    host_id: HostId = field(default_factory=lambda: HostId("", "", 0))
    out: list[bytes] = field(default_factory=list)
    out_bytes: int = 0
    paused: bool = False
    live: Stream | None = None
    streams: dict[str, Stream] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    unacked: deque[tuple[int, int, int]] = field(default_factory=deque)
    published: int = 0
    repeats: int = 0
    delivered: int = 0
    gaps: int = 0
    live_dropped: int = 0
    applied: dict[str, int] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    roster: int = 0
    asked: int = 0
    scanned: int = 0
    passed_over: int = 0
    disk_reads: dict[str, Stream] = field(default_factory=dict)
    disk_wishes: dict[str, Stream] = field(default_factory=dict)
    was_known: bool = False
    token: bytes = b""
    run: int = 0
    health: list[Health] | None = None
    health_at: float = 0.0
    listens: str = ""
    wishes: dict[str, int] = field(default_factory=dict)
    begins: dict[int, int] = field(default_factory=dict)
    receipt: int = 0
    holds: bool = False
    waits: bool = False
    skips: bool = False
    resends: int = 0
    name: str = ""

    @property
    def origin(self) -> str:
        """The random part of its host_id."""
        return self.host_id.origin

    @property
    def label(self) -> str:
        """Its name and host_id, as in texts for people."""
        return host_label(self.name, self.host_id)

    @property
    def has_room(self) -> bool:
        """Whether its streams may read on."""
        return self.state == "open" and not self.paused and self.out_bytes < ROOM

    @property
    def behind(self) -> int:
        """Number of its packages that can take nothing for now."""
        return sum(stream.room == 0 for stream in self.streams.values())

    @property
    def replaying(self) -> int:
        """Number of its packages that are catching up."""
        return sum(bool(stream.room) for stream in self.streams.values())

    def forget_streams(self) -> None:
        """Drop the cursors of a link that has ended: the garbage collector would have to find a cycle."""
        self.streams.clear()
        self.disk_reads.clear()
        self.disk_wishes.clear()
        self.live = None

    def write(self, data: bytes) -> None:
        """Queue a frame for the transport."""
        self.out.append(data)
        self.out_bytes += len(data)
        self.core.ready[self] = None

    def write_all(self, frames: list[bytes], size: int) -> None:
        """Queue frames with a known total of bytes for the transport."""
        self.out += frames
        self.out_bytes += size
        self.core.ready[self] = None

    def taken(self) -> list[bytes]:
        """Return the queued frames for the transport, and empty the queue."""
        taken, self.out = self.out, []
        self.out_bytes = 0
        return taken

    def subscribe(self, subscriptions: Sequence[Subscription], head: int) -> list[Stream]:
        """Replace the subscriptions of the packages; return the streams that have ended.

        Args:
            subscriptions: all of them.
            head: start of a durable one without a position.
        """
        wanted = {sub.package: sub for sub in bounded(subscriptions)}
        if wanted == self.subscriptions:
            return []
        self.subscriptions = wanted
        gone = [self.streams.pop(package) for package in list(self.streams) if package not in self.subscriptions]
        for sub in self.subscriptions.values():
            interests = Interests(sub.channels)
            if sub.wish is not None:
                Interests(sub.wish.channels)  # a wrong pattern ends the link now, not when its turn comes
            stream = self.streams.get(sub.package)
            if stream is not None:
                stream.interests = interests
            elif sub.durable:
                position = head if sub.position is None else sub.position
                self.streams[sub.package] = Stream(self, sub.package, position, interests, durable=True)
        self.settle_live()
        return gone

    def settle_live(self) -> None:
        """Set the live stream's interests to those of the packages without a stream of their own."""
        if self.live is not None:
            self.live.interests = union(
                sub for name, sub in self.subscriptions.items() if name not in self.streams
            )

    @property
    def position(self) -> int:
        """Position of the furthest of its cursors from the end of the log: the lag is measured from here."""
        positions = [stream.position for stream in self.streams.values()]
        if self.live is not None:
            positions.append(self.live.position)
        return min(positions, default=BEGINNING)


def union(subscriptions: Iterable[Subscription]) -> Interests | None:
    """Return the interests of all live packages of a satellite together; None for none."""
    patterns: set[str] = set()
    live = [subscription.channels for subscription in subscriptions if not subscription.durable]
    for channels in live:
        if channels is None:
            return Interests(None)
        patterns |= set(channels)
    return Interests.together(sorted(patterns)) if live else None


def _written(entry: Entry, package: str) -> bytes:
    """Encode an entry for a stream; for live streams once for all links."""
    if package:
        return _encoded(entry, package)
    data = entry.written.get("deliver")
    if data is None:
        data = entry.written["deliver"] = _encoded(entry, "")
    return data


def _encoded(entry: Entry, package: str) -> bytes:
    return encode_link_frame(deliver_frame(entry, package))


def deliver_frame(entry: Entry, package: str) -> Deliver:
    """Return the frame of an entry for a reader; ``package`` is '' for the live stream."""
    channels = None if entry.channels is None else list(entry.channels)
    return Deliver(
        entry.position,
        package,
        entry.host_id,
        entry.client_address,
        entry.epoch,
        entry.seq,
        entry.package,
        entry.plugin,
        channels,
        entry.crc,
        entry.batch,
        entry.at,
    )
