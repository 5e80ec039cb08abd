"""One commit of the relay's log, and its form in the journal."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from co2.errors import BadRequest
from co2.protocol.relay.log import Entry

__all__ = ["Commit", "decode_commit", "together"]

Meta = int | str | float


@dataclass(slots=True)
class Commit:
    """Entries with their marks, facts and ids: a commit gets to disk whole or not at all.

    Attributes:
        entries: of the log, in order.
        marks: last number of each run, by (origin, epoch); None for a run that is forgotten.
        meta: facts of the log.
        ids: (position, origin, id) of messages that have an id.
        forgotten: positions whose ids may be deleted.
        previous: position where the entry before the first one ends.
        at: running time at which the commit is written.
        wall: time of the wall clock then.
    """

    entries: list[Entry] = field(default_factory=list)
    marks: dict[tuple[str, int], int | None] = field(default_factory=dict)
    meta: dict[str, Meta] = field(default_factory=dict)
    ids: list[tuple[int, str, str]] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)
    previous: int = 0
    at: float = 0.0
    wall: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.entries or self.marks or self.meta or self.ids or self.forgotten)

    @property
    def size(self) -> int:
        """Bytes of the messages."""
        return sum(len(entry.batch) for entry in self.entries)

    @property
    def end(self) -> int:
        """Position of the last message; ``previous`` for a commit without entries."""
        return self.entries[-1].end if self.entries else self.previous

    def encode(self) -> bytes:
        """Encode the commit for the journal. The marks of its own entries are left out: they can be derived."""
        own = {(one.origin, one.epoch): one.seq + one.count - 1 for one in self.entries if one.epoch}
        marks = [(*run, seq) for run, seq in self.marks.items() if run not in own or own[run] != seq]
        record = _Record(
            self.previous, self.at, self.wall, [_frame(entry) for entry in self.entries],
            marks, list(self.meta.items()), self.ids, self.forgotten,
        )  # fmt: skip
        return _encode(record)


class _CommitFrame(msgspec.Struct, array_like=True, gc=False):
    position: int
    count: int
    origin: str
    host_id: str
    ip: str
    port: int
    epoch: int
    seq: int
    package: str
    plugin: str
    channels: tuple[str, ...] | None
    crc: int
    batch: bytes
    at: float = 0.0


class _Record(msgspec.Struct, array_like=True):
    previous: int
    at: float
    wall: float
    frames: list[_CommitFrame]
    marks: list[tuple[str, int, int | None]]
    meta: list[tuple[str, Meta]]
    ids: list[tuple[int, str, str]]
    forgotten: list[int]


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(_Record)


def decode_commit(data: bytes) -> Commit:
    """Decode the result of :meth:`Commit.encode`.

    Raises:
        BadRequest: the data is not a commit.
    """
    try:
        record = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRequest(f"no commit: {str(error)[:200]}") from None
    entries = [_entry(frame) for frame in record.frames]
    marks: dict[tuple[str, int], int | None] = {
        (one.origin, one.epoch): one.seq + one.count - 1 for one in entries if one.epoch
    }
    marks |= {(origin, epoch): seq for origin, epoch, seq in record.marks}
    return Commit(
        entries, marks, dict(record.meta), record.ids, record.forgotten, record.previous, record.at, record.wall
    )


def together(commits: Iterable[Commit]) -> Commit:
    """Merge consecutive commits, without their entries: these keep the time of their own commit."""
    whole = Commit()
    for commit in commits:
        whole.marks |= commit.marks
        whole.meta |= commit.meta
        whole.ids += commit.ids
        whole.forgotten += commit.forgotten
        whole.at, whole.wall = commit.at, commit.wall
    return whole


def _frame(entry: Entry) -> _CommitFrame:
    return _CommitFrame(
        entry.position, entry.count, entry.origin, entry.host_id, *entry.client_address, entry.epoch, entry.seq,
        entry.package, entry.plugin, entry.channels, entry.crc, entry.batch, entry.at,
    )  # fmt: skip


def _entry(frame: _CommitFrame) -> Entry:
    return Entry(
        frame.position, frame.count, frame.origin, frame.host_id, (frame.ip, frame.port), frame.epoch, frame.seq,
        frame.package, frame.plugin, frame.channels, frame.crc, frame.batch, frame.at,
    )  # fmt: skip
