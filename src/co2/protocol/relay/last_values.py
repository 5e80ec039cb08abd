"""The last values: for each channel, where in the log the last message on it is; without I/O.

The index is made from the heads of entries. An entry whose messages are on more than 32 channels names none.
It is kept in a list, and its batch is looked through when somebody asks; what was found is in the index then.

A question (:class:`Question`) holds for one position: it is about the last value of each channel up to there, and
none behind it. :func:`answer` reads the entries and takes the messages out of their batches. That takes time, so
it may run in any thread; all else here runs where the log is appended to.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from co2.protocol.relay.log import Entry, Reading
from co2.protocol.wire.channel_patterns import Interests
from co2.protocol.wire.message_keys import channels_in, has_expired, keys_of, parts_of
from co2.sources import source_of

__all__ = [
    "FOLD_AT",
    "MAX_ANSWER_BYTES",
    "MAX_FORGOTTEN",
    "MAX_OF_SOURCE",
    "MAX_READ",
    "MAX_UNREAD",
    "MAX_UNREAD_ENTRIES",
    "MAX_VALUES",
    "MAX_WILDCARDS",
    "Answer",
    "Head",
    "LastValue",
    "LastValues",
    "Question",
    "answer",
    "entry_at",
]

MAX_VALUES = 100_000
"""Channels whose last value is kept; beyond it those of the source with the most, silent longest, are dropped."""

MAX_OF_SOURCE = 20_000
"""Channels of one source (:mod:`co2.sources`): a member that invents channels drops its own."""

MAX_UNREAD = 64 * 1024 * 1024
"""Bytes of entries that name no channels and were not looked through yet; older ones are given up."""

MAX_UNREAD_ENTRIES = 65_536
"""The same as a number of entries."""

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Bytes of the messages in one answer; the values sent longest ago are left out beyond it."""

MAX_READ = 64 * 1024 * 1024
"""Bytes of the log that are read for one answer, besides those of entries without names; likewise."""

MAX_FORGOTTEN = 1_000
"""Channels that were forgotten and whose messages may still be in the log."""

MAX_WILDCARDS = 64
"""Patterns with ``*`` or ``>`` in one question; with more it asks for everything, and the asker selects."""

FOLD_AT = 512
"""Different sets of channels that wait to be put into the index."""

MAX_TOLD = 1_000
"""Addresses of senders with too many channels that are reported; of further ones only the channels are counted."""

Noted = tuple[int, tuple[str, int]]


class Head(msgspec.Struct):
    """The head of an entry on disk.

    Attributes:
        position: of its first message.
        ip: its sender's address.
        channels: of its messages, None for too many to name.
        size: bytes of its batch.
    """

    position: int
    ip: str
    channels: tuple[str, ...] | None
    size: int


@dataclass(frozen=True, slots=True)
class LastValue:
    """The last message on a channel.

    Attributes:
        channel: of the message.
        entry: that it came in.
        index: its place in the entry's batch.
        packed: the message.
        age: seconds since it reached the relay, at least 0; None if the log is from a relay that did not note it.
    """

    channel: str
    entry: Entry
    index: int
    packed: bytes
    age: float | None

    @property
    def position(self) -> int:
        """Its position in the log."""
        return self.entry.position + self.index


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Which last values are wanted, as of one position of the log.

    Attributes:
        interests: the wanted channels.
        position: the values are those up to here.
        known: positions of entries by channel; may hold channels that are not wanted.
        unread: (position, bytes) of entries that name no channels, in order.
        forgotten: returns positions up to which channels are forgotten, as of now.
    """

    interests: Interests
    position: int
    known: Mapping[str, int]
    unread: Sequence[tuple[int, int]]
    forgotten: Callable[[], Mapping[str, int]]


@dataclass(slots=True)
class Answer:
    """The last values that a question asked for.

    Attributes:
        values: newest last; without those that have expired.
        left_out: number of values that are in the log and are not given: the limits are reached, or it is damaged.
        gone: (channel, position) of those that the log no longer has.
        learned: the entries without names that were looked through, and their channels.
    """

    values: list[LastValue] = field(default_factory=list)
    left_out: int = 0
    gone: list[tuple[str, int]] = field(default_factory=list)
    learned: list[Head] = field(default_factory=list)


class LastValues:
    """The index.

    Args:
        forgotten: positions up to which channels are forgotten, as the log has them.

    Attributes:
        complete: the log's entries from before the start are in it, too.
        dropped: channels that were dropped for want of room; never decreases.
        overfull: called with the address of a sender at the first channel of it that is dropped.
    """

    def __init__(self, forgotten: Callable[[], Mapping[str, int]] = dict) -> None:
        self.complete = True
        self.dropped = 0
        self.overfull: Callable[[str], None] = lambda _address: None
        self._forgotten = forgotten
        self._noted: dict[tuple[str, ...], Noted] = {}
        self._index = _Index()
        self._unread: deque[tuple[int, int, str]] = deque()
        self._unread_bytes = 0
        self._told: set[str] = set()
        self._older: dict[str, tuple[int, str]] = {}
        self._older_of: dict[str, list[str]] = {}
        self._older_sizes = _Sizes()
        self._older_dropped: set[str] = set()
        self._older_unread: list[tuple[int, int, str]] = []

    def __len__(self) -> int:
        self._fold()
        return len(self._index)

    # ---- entries ---------------------------------------------------------------------------------------

    def note(self, entries: Iterable[Entry]) -> None:
        """Take in new entries, in order. This is on the way of every message, so it only makes a note."""
        noted = self._noted
        for entry in entries:
            channels = entry.channels
            if channels:
                noted[channels] = entry.position, entry.client_address
            elif channels is None:
                self._add_unread(entry.position, len(entry.batch), entry.client_address[0])
        if len(noted) > FOLD_AT:
            self._fold()

    def _fold(self) -> None:
        """Put what was noted into the index."""
        if not self._noted:
            return
        noted, self._noted = self._noted, {}
        for channels, (position, address) in noted.items():
            self._put(channels, position, address[0])

    def _put(self, channels: Iterable[str], position: int, ip: str) -> None:
        """Put channels into the index, as those that their sender has used last."""
        forgotten, index, source = self._forgotten(), self._index, source_of(ip)
        for channel in channels:
            if not channel or (forgotten and position <= forgotten.get(channel, 0)):
                continue
            if not index.put(source, channel, position):
                continue
            if index.count(source) > MAX_OF_SOURCE:
                self._drop(source, ip)
            elif len(index) > MAX_VALUES:
                self._drop(index.largest(), "")

    def _drop(self, source: str, ip: str) -> None:
        """Drop the channel of a source that was used longest ago; report the first one of a sender's address."""
        self._index.drop_oldest(source)
        self.dropped += 1
        if ip not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(ip)
            self.overfull(ip)

    def _add_unread(self, position: int, size: int, ip: str) -> None:
        self._unread.append((position, size, ip))
        self._unread_bytes += size
        while self._unread_bytes > MAX_UNREAD or len(self._unread) > MAX_UNREAD_ENTRIES:
            self._unread_bytes -= self._unread.popleft()[1]

    # ---- questions -------------------------------------------------------------------------------------

    def ask(self, patterns: Sequence[str], position: int) -> Question:
        """Return the question for the last values of some channels.

        Args:
            patterns: of the channels.
            position: of the last message that was noted.

        Raises:
            BadRequest: a pattern is invalid, or there are too many.
        """
        interests = Interests(patterns)
        self._fold()
        wild = [pattern for pattern in patterns if "*" in pattern or ">" in pattern]
        if len(wild) > MAX_WILDCARDS:
            interests = Interests((">",))
        known = self._index.copy() if wild else self._index.of(patterns)
        unread = [(at, size) for at, size, _ in self._unread]
        return Question(interests, position, known, unread, self._forgotten)

    def learn(self, found: Answer) -> None:
        """Take in what an answer has found out."""
        read = {head.position: head for head in found.learned}
        if read:
            keep = [row for row in self._unread if row[0] not in read]
            self._unread = deque(keep)
            self._unread_bytes = sum(size for _, size, _ in keep)
        for position, head in sorted(read.items()):
            self._put(head.channels or (), position, head.ip)
        for channel, position in found.gone:
            if self._index.position(channel) == position:
                self._index.remove(channel)

    # ---- forgetting ------------------------------------------------------------------------------------

    def position(self, channel: str) -> int:
        """Return the position of the entry with the last value of a channel, 0 for none that is known."""
        self._fold()
        return self._index.position(channel)

    def channels(self, interests: Interests) -> list[str]:
        """Return the wanted channels that are in the index."""
        self._fold()
        return [channel for channel in self._index.copy() if interests.wants_one(channel)]

    def forget(self, channel: str) -> None:
        """Remove a channel that the log has forgotten, if it is in the index."""
        self._fold()
        self._index.remove(channel)
        self._older.pop(channel, None)

    # ---- the start -------------------------------------------------------------------------------------

    def begin_restore(self) -> None:
        """Begin to take in what the log had at the start, with :meth:`restore`. Until its end nobody may ask."""
        self.complete = False

    def restore(self, heads: Iterable[Head]) -> None:
        """Take in heads of older entries, each older than the one before."""
        older, forgotten = self._older, self._forgotten()
        for head in heads:
            if head.channels is None:
                self._older_unread.append((head.position, head.size, head.ip))
                continue
            for channel in head.channels:
                if not channel or channel in older or channel in self._older_dropped:
                    continue
                if head.position <= forgotten.get(channel, 0):
                    continue
                source = source_of(head.ip)
                if self._make_room(source):
                    older[channel] = head.position, head.ip
                    self._older_of.setdefault(source, []).append(channel)
                    self._older_sizes.change(source, 1)
                else:
                    self._drop_older(channel)

    def _make_room(self, source: str) -> bool:
        """Return whether there is room for a channel of a source; one of the source with the most may give way."""
        sizes = self._older_sizes
        if sizes.of(source) >= MAX_OF_SOURCE:
            return False
        if len(self._older) < MAX_VALUES:
            return True
        largest = sizes.largest()
        if sizes.of(largest) <= sizes.of(source):
            return False
        gives_way = self._older_of[largest].pop()  # the one that it used longest ago
        sizes.change(largest, -1)
        if self._older.pop(gives_way, None) is not None:  # else it was forgotten meanwhile
            self._drop_older(gives_way)
        return True

    def _drop_older(self, channel: str) -> None:
        self.dropped += 1
        if len(self._older_dropped) < 2 * MAX_VALUES:  # more than ever give way to others, see _make_room
            self._older_dropped.add(channel)  # an older message on it is not its last value, whoever sent it

    def end_restore(self) -> None:
        """End it: from here on the index is complete."""
        self._fold()
        newer, self._index = self._index, _Index()
        unread, self._unread, self._unread_bytes = self._unread, deque(), 0
        for channel, (position, ip) in reversed(self._older.items()):
            self._put((channel,), position, ip)
        for source, channel, position in newer:
            self._put((channel,), position, source)
        for row in (*reversed(self._older_unread), *unread):
            self._add_unread(*row)
        self._older, self._older_of, self._older_unread = {}, {}, []
        self._older_sizes, self._older_dropped = _Sizes(), set()
        self.complete = True


class _Sizes:
    """How many channels each source has, and which source has the most: found without a look at all of them."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._with: dict[int, dict[str, None]] = {}
        self._most = 0

    def change(self, source: str, by: int) -> None:
        """Note that a source has one channel more, 1, or fewer, -1."""
        before = self._sizes.pop(source, 0)
        after = before + by
        if before:
            del self._with[before][source]
            if not self._with[before]:
                del self._with[before]
        if after:
            self._sizes[source] = after
            self._with.setdefault(after, {})[source] = None
        self._most = max(self._most, after)
        if self._most and self._most not in self._with:
            self._most -= 1  # the source that had the most has one fewer, or none any more

    def of(self, source: str) -> int:
        """Return how many channels a source has."""
        return self._sizes.get(source, 0)

    def largest(self) -> str:
        """Return the source with the most channels; there must be one."""
        return next(iter(self._with[self._most]))


class _Index:
    """Positions by channel; the channels of each source in the order in which they were used last."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        self._sources: dict[str, dict[str, int]] = {}
        self._sizes = _Sizes()

    def __len__(self) -> int:
        return len(self._owners)

    def __iter__(self) -> Iterator[tuple[str, str, int]]:
        """Iterate over source, channel and position; of each source in the order in which they were used."""
        for source, its in self._sources.items():
            for channel, position in its.items():
                yield source, channel, position

    def put(self, source: str, channel: str, position: int) -> bool:
        """Set the position of a channel, unless it has a higher one; return whether its source has one more."""
        owner = self._owners.get(channel)
        if owner is not None:
            its = self._sources[owner]
            if its[channel] >= position:
                return False
            if owner == source:
                del its[channel]
                its[channel] = position
                return False
            self.remove(channel)
        self._sources.setdefault(source, {})[channel] = position
        self._sizes.change(source, 1)
        self._owners[channel] = source
        return True

    def position(self, channel: str) -> int:
        """Return the position of a channel, 0 for none."""
        owner = self._owners.get(channel)
        return 0 if owner is None else self._sources[owner][channel]

    def count(self, source: str) -> int:
        """Return how many channels a source has."""
        return self._sizes.of(source)

    def largest(self) -> str:
        """Return the source with the most channels."""
        return self._sizes.largest()

    def drop_oldest(self, source: str) -> None:
        """Remove the channel of a source that was used longest ago."""
        self.remove(next(iter(self._sources[source])))

    def remove(self, channel: str) -> None:
        """Remove a channel, if it is present."""
        owner = self._owners.pop(channel, None)
        if owner is None:
            return
        its = self._sources[owner]
        del its[channel]
        if not its:
            del self._sources[owner]
        self._sizes.change(owner, -1)

    def copy(self) -> dict[str, int]:
        """Return all positions."""
        copy: dict[str, int] = {}
        for its in self._sources.values():
            copy |= its
        return copy

    def of(self, channels: Iterable[str]) -> dict[str, int]:
        """Return the positions of some channels."""
        return {channel: self.position(channel) for channel in channels if channel in self._owners}


# ---- answers -----------------------------------------------------------------------------------------------


def answer(question: Question, entry_of: Callable[[int], Entry | None], now: float) -> Answer:
    """Answer a question from the log.

    Args:
        question: all of its positions are on disk.
        entry_of: returns the entry that begins at a position, None if it is no longer there; may take long.
        now: seconds since 1970.
    """
    found = Answer()
    wants, forgotten = question.interests.wants_one, question.forgotten()
    positions = {
        channel: position
        for channel, position in question.known.items()
        if wants(channel) and position > forgotten.get(channel, 0)
    }
    for position, _ in reversed(question.unread):
        entry = entry_of(position)
        names = () if entry is None else channels_in(entry.batch)
        found.learned.append(Head(position, "" if entry is None else entry.client_address[0], names, 0))
        for channel in names:
            newest = max(positions.get(channel, 0), forgotten.get(channel, 0))
            if channel and position > newest and wants(channel):
                positions[channel] = position
    channels_at: dict[int, list[str]] = {}
    for channel, position in positions.items():
        channels_at.setdefault(position, []).append(channel)
    size = read = 0
    for position in sorted(channels_at, reverse=True):
        channels = channels_at[position]
        if read >= MAX_READ or size >= MAX_ANSWER_BYTES:
            found.left_out += len(channels)
            continue
        entry = entry_of(position)
        if entry is None:
            found.gone += [(channel, position) for channel in channels]
            continue
        read += len(entry.batch)
        for value in _values_in(entry, channels, now, found):
            if size + len(value.packed) > MAX_ANSWER_BYTES:
                found.left_out += 1
                continue
            size += len(value.packed)
            found.values.append(value)
    found.values.reverse()
    return found


def entry_at(read: Callable[[int, int], Reading], position: int) -> Entry | None:
    """Return the entry of a log that begins at a position, None if it is not there.

    Args:
        read: reads on from a cursor: (after, max_bytes).
        position: of the entry.
    """
    for entry in read(position - 1, 1).entries[:1]:
        if entry.position == position:
            return entry
    return None


def _values_in(entry: Entry, channels: Collection[str], now: float, found: Answer) -> Iterable[LastValue]:
    """Yield the last message of an entry on each of these channels, newest first, without expired ones."""
    wanted = set(channels)
    age = max(0.0, now - entry.at) if entry.at else None
    parts = parts_of(entry.batch)
    if not parts:
        found.left_out += len(wanted)
    for index in reversed(range(len(parts))):
        keys = keys_of(parts[index])
        if keys is None or type(keys.channel) is not str or keys.channel not in wanted:
            continue
        wanted.remove(keys.channel)
        if not has_expired(keys.ttl, age):
            yield LastValue(keys.channel, entry, index, parts[index], age)
        if not wanted:
            return
