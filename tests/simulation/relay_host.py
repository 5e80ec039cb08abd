"""A relay's process: core and log as they are, on a simulated disk, wired as ``relay/links.py`` has it."""

import contextlib
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import msgspec

from co2.errors import StorageFailed, StorageFull
from co2.protocol.relay import cursors
from co2.protocol.relay.core import (
    DiskWanted,
    IdReused,
    Joined,
    Left,
    OriginClaimed,
    RelayCore,
    ValuesWanted,
)
from co2.protocol.relay.cursors import Peer, Stream
from co2.protocol.relay.driver import RelayDriver, Wire
from co2.protocol.relay.fan_out import MAX_DISK_READS
from co2.protocol.relay.filter_chain import InFlight
from co2.protocol.relay.last_values import Answer, Question, entry_at
from co2.protocol.relay.last_values import answer as answer_of
from co2.protocol.relay.log import Reading
from co2.protocol.relay.origins import KnownOrigin, OriginBook
from co2.protocol.relay.receipts import ReceiptKey
from co2.protocol.wire import close_reasons
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.link_frames import BEGINNING, decode_relay_frame
from co2.protocol.wire.message_keys import keys_of, parts_of
from co2.relay.links import RECEIPT_INTERVAL
from co2.relay.message_reader import MessageReader, Messages
from co2.relay.relay import ROSTER_DELAY, ROSTER_RATE
from co2.server.express.message_clock import MessageClock
from co2.server.express.relay_forecast import RelayForecast
from co2.store import log_writer
from co2.store.log_thread import INTERVAL, RETRY
from co2.store.log_writer import LogWriter
from co2.store.relay_log import RelayLog
from tests.simulation.engine import Process
from tests.simulation.knobs import LINK_BACKLOG
from tests.simulation.net import End, Port
from tests.store.power import Disk

if TYPE_CHECKING:
    from co2.protocol.relay.log import Entry
    from tests.simulation.world import World

__all__ = ["SimDisk", "SimRelay"]

PORT = 2003

MEMBERS_SYNC = 0.004
"""Seconds that it takes to bring to disk whose an origin is."""


class SimDisk(Disk):
    """The relay's disk; a sync that failed leaves what it should have written where a later one finds it."""

    def __init__(self, name: str, dice: Any) -> None:
        super().__init__(name, dice)
        self.last_syncs = 0

    def sync(self, kept: Any, *, folder: bool) -> None:
        if self.sync_fails:
            raise apsw.IOError("Input/output error")
        super().sync(kept, folder=folder)

    @property
    def unsynced(self) -> int:
        """Changes of WALs that a power cut may take back."""
        return sum(len(kept.pending) for name, kept in self._live.items() if name.endswith(("-wal", ".journal")))

    def xRandomness(self, size: int) -> bytes:
        return self.dice.randbytes(size)


MOVE = 40
"""Commits that take as long as a move of half of the journal."""


class SimWriter(LogWriter):
    """The log's writer, whose thread is events of the simulator: what it takes gets to disk some time later."""

    def __init__(self, relay: "SimRelay", *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._relay = relay
        self._timer: Any = None
        self._busy = False
        self._last = 0.0

    def _wake(self) -> None:
        engine = self._relay.engine
        if self._busy:
            return
        at_once = self._hurry or self.waiting_bytes >= log_writer.MUCH
        if at_once:
            engine.cancel(self._timer)
            self._timer = None
        if self._timer is None:
            delay = 0.0 if at_once else max(0.0002, self._last + max(INTERVAL, self._window) - engine.now)
            self._timer = engine.after(delay, self._relay.process, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._busy = True
        self._last = self._relay.engine.now
        if not self.full or self.something():
            self.take()
        self._relay.engine.after(self._relay.world.sync_time(), self._relay.process, self._finish)

    def _finish(self) -> None:
        relay = self._relay
        going = self.turn()
        self._busy = False
        if not going or relay.disk.off:
            relay.log_failed(self.failed)
            return
        if self.full:
            relay.engine.count("log's disk full")
            self._timer = relay.engine.after(RETRY, relay.process, self._begin)
        elif self.something():
            with self._work:
                self._wake()

    def _wake_mover(self) -> None:
        relay = self._relay
        relay.engine.after(relay.world.sync_time() * MOVE, relay.process, self._move_in_time)

    def _move_in_time(self) -> None:
        relay = self._relay
        if self.failed or relay.disk.off:
            return
        relay.engine.count("half of the journal moved")
        self.move()
        if self.failed or relay.disk.off:
            relay.log_failed(self.failed)
        elif self.full and not self._busy and self._timer is None:
            self._timer = relay.engine.after(RETRY, relay.process, self._begin)

    @property
    def in_flight(self) -> bool:
        """Whether a commit is under way."""
        return self._busy

    def _keep_reserve(self) -> bool:
        return self._relay.disk.room is None


class SimReader(MessageReader):
    """The reader of single messages, which gets to the disk without a thread."""

    def __init__(self, log: RelayLog) -> None:
        super().__init__(log, self._read_at_once)

    async def _read_at_once(self, _reader: str, after: int, max_bytes: int) -> Reading:
        return self._log.read_disk(after, max_bytes)

    async def _chunk(self, after: int, reader: str) -> Reading:
        reading = self._log.read(after, cursors.CHUNK)
        return await self._read_at_once(reader, after, cursors.CHUNK) if reading.on_disk else reading

    def messages(self, after: int, max_messages: int, not_from: str) -> Messages:
        """Read on from a cursor."""
        work = self.read(after, max_messages, 1024 * 1024, not_from)
        try:
            work.send(None)
        except StopIteration as done:
            found: Messages = done.value
            return found
        raise AssertionError("it waits")


class SimRelay:
    """One relay, through all its processes.

    Attributes:
        disk: that its log is on; another one for another state folder.
        log: of the process of now.
        core: likewise.
    """

    def __init__(self, world: "World", folder: Path) -> None:
        self.world = world
        self.engine = world.engine
        self.folder = folder
        self.up = False
        self.process = Process("relay")
        self.exit_wanted = False
        self._disks = 0
        self._forgotten: dict[str, int] = {}
        self._perhaps_forgotten: dict[str, int] = {}
        self.disk: SimDisk
        self.log: RelayLog
        self.core: RelayCore
        self.reader: SimReader
        self.change_disk(folder)

    def change_disk(self, folder: Path) -> None:
        """Take another state folder; while it is down."""
        if self._disks:
            self.disk.unregister()
        self._disks += 1
        self._doubt_forgotten()
        self.folder = folder
        self._kept: deque[tuple[int, float]] = deque()
        folder.mkdir(parents=True, exist_ok=True)
        if not (secret := folder / "secret").exists():
            secret.write_text(f"secret {self._disks}")
        self.disk = SimDisk(f"sim-{id(self.world)}-{self._disks}", self.world.dice)

    @property
    def path(self) -> Path:
        """Of the log."""
        return self.folder / "log.db"

    # ---- life ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start its process."""
        self.process = Process("relay")
        self.wires: dict[Peer, Wire] = {}
        self._foreseen: dict[Peer, bytes] = {}
        self._held: list[End] = []
        self._reads: Counter[tuple[Peer, str]] = Counter()
        self._telling = False
        self._told_at = 0.0
        self._relays: list[tuple[int, Callable[[int], None]]] = []
        world = self.world
        self.log = RelayLog.open(
            self.path,
            max_bytes=world.log_bytes,
            max_age=world.log_age,
            window=world.durability,
            on_room=self._has_room,
            now=lambda: self.engine.now,
            wall=self.engine.wall,
            on_commit=self._committed_in_thread,
            on_failed=lambda why: None,
            vfs=self.disk.vfs_name,
            writer=lambda *args, **kwargs: SimWriter(self, *args, **kwargs),
        )
        if self.log.replaced:
            world.oracles.broken("log set aside", f"a sound log was set aside: {self.log.replaced}")
        members = self.folder / "members"
        known = msgspec.msgpack.decode(members.read_bytes(), type=list[KnownOrigin]) if members.exists() else []
        self.clock = MessageClock(lambda: self.engine.now, self.engine.wall)
        self.core = RelayCore(
            self.log,
            f"relay@10.0.0.1:{PORT}",
            max_peers=lambda: 1000,
            now=lambda: self.engine.now,
            wall=self.clock,
            origins=OriginBook(known, wall=self.engine.wall, seen_before=self.log.address_of),
            receipts=ReceiptKey((self.folder / "secret").read_text()),
        )
        self.core.keeps = True
        self.core.fan_out.last_values.begin_restore()
        self.driver = RelayDriver(
            self.core, self.wires, handle=self._handle, join=list, failed=self._failed, read_on=self._read_on
        )
        self.forecast = RelayForecast(self.core, {}, self.log.pass_over)
        self.engine.after(RECEIPT_INTERVAL, self.process, self._give_receipts)
        self.reader = SimReader(self.log)
        self._restore(self.log.last + 1)
        self._watch_log()
        world.truth.log_opened(self.log)
        world.net.port = Port(self.process, self.accept)
        self.up = True
        self.engine.trace(f"relay up: log {self.log.log_id[:6]}, position {self.log.last}")

    def _watch_log(self) -> None:
        append, truth = self.log.append, self.world.truth

        def watched(**kwargs: Any) -> "Entry":
            entry = append(**kwargs)
            self._kept.append((entry.end, self.engine.now))
            truth.appended(self.log, entry)
            return entry

        replace_id, log = self.log.replace_id, self.log

        def renamed() -> None:
            before = log.log_id
            replace_id()
            self.engine.count("log replaced: it was rolled back")
            if not truth.replaced:
                self.world.oracles.broken("i: a log keeps its name", "renamed, though it was not rolled back")
            truth.log_renamed(log, before)

        self.log.append = watched  # type: ignore[method-assign]
        self.log.replace_id = renamed  # type: ignore[method-assign]

    def end(self, mode: str, commit: str = "") -> None:
        """End its process at once.

        Args:
            mode: of the disk's cut: ``kill`` when only the process ends, '' for the power.
            commit: what becomes of the one under way: ``lost``, ``done``, ``torn``; '' for a throw of the dice.
        """
        if not self.up:
            return
        self.up = False
        self.process.alive = False
        self.world.net.port = None
        self.world.net.vanished(self.process)
        writer: Any = self.log._writer
        self.disk.cut_mode = mode
        dice = self.world.dice
        if writer.in_flight and not self.disk.off:
            # The commit under way has got somewhere: not begun, all of it, or anything between.
            commit = commit or dice.choice(("lost", "done", "torn"))
            if commit == "torn":
                self.disk.cut_after(dice.randint(0, 25))
                self.engine.count("ended within a commit")
            if commit != "lost":
                writer._on_commit = lambda position, settled, gone: self.world.truth.committed(
                    self.log, position, self.disk.unsynced
                )
                writer.turn()
        if not self.disk.off:
            self.disk.cut()
        self._close_files()
        self.disk.power_on()
        self.disk.cut_mode = ""
        self.world.truth.relay_ended()

    def _restore(self, before: int) -> None:
        """As ``relay/value_reads.py`` has it: the index of last values, step by step."""
        dice, values = self.world.value_dice, self.core.fan_out.last_values
        heads = self.log.read_heads(before, dice.choice((1, 10, 1000)))
        if heads:
            values.restore(heads)
            self.engine.after(dice.uniform(0.0, 0.05), self.process, self._restore, heads[-1].position)
        else:
            values.end_restore()
            self.engine.after(0.0, self.process, self.driver.values_restored)

    def forget_value(self, channel: str) -> None:
        """``relay.forget_last``: answered once it is on disk."""
        if not self.up:
            return
        up_to = self.log.last
        if self.core.forget_values(channel):
            self.engine.count("last value forgotten")
            self._perhaps_forgotten[channel] = up_to
            self.world.truth.forgotten.add(channel)
            self.engine.after(0.001, self.process, self._keep_forgotten, channel, up_to)

    def _keep_forgotten(self, channel: str, up_to: int) -> None:
        if not self.log.keeps_forgotten:
            self.engine.after(0.005, self.process, self._keep_forgotten, channel, up_to)
        else:
            self._forgotten[channel] = max(up_to, self._forgotten.get(channel, 0))

    def _doubt_forgotten(self) -> None:
        """Another state folder may know of it, or not."""
        self._perhaps_forgotten |= self._forgotten
        self._forgotten = {}

    def _read_values(self, question: Question) -> None:
        found = answer_of(question, partial(entry_at, self.log.read_disk), self.engine.wall())
        self._compare_values(question, found)
        self.engine.after(
            self.world.value_dice.uniform(0.0, 0.01), self.process, self.driver.values_read, question, found
        )

    def _compare_values(self, question: Question, found: Answer) -> None:
        """(j): the last values are those that somebody finds who reads all of the log."""
        given = {value.channel: value.position for value in found.values}
        true = self._last_in_log(question.position)
        for channel in sorted(given.keys() | true.keys()):
            if not question.interests.wants_one(channel):
                continue
            position = true.get(channel, 0)
            if position and position <= self._forgotten.get(channel, 0):
                position = 0
            elif position and position <= self._perhaps_forgotten.get(channel, 0):
                continue
            if given.get(channel, 0) != position and not found.left_out:
                self.world.oracles.broken(
                    "j: the last values are the last ones",
                    f"{channel}: {given.get(channel, 0)} is given as of {question.position}, it is {position}",
                )

    def _last_in_log(self, up_to: int) -> dict[str, int]:
        last: dict[str, int] = {}
        at = 0
        while at < up_to:
            reading = self.log.read_disk(at, cursors.CHUNK)
            for entry in reading.entries:
                if entry.end > up_to:
                    return last
                named: dict[str, int] = {}
                for index, part in enumerate(parts_of(entry.batch)):
                    keys = keys_of(part)
                    if keys is not None and isinstance(keys.channel, str) and keys.channel:
                        named[keys.channel] = entry.position + index
                for channel in named if entry.channels is None else entry.channels:
                    last[channel] = named.get(channel, 0)
            if reading.next <= at:
                break
            at = reading.next
        return last

    def stop(self) -> None:
        """Stop it in good order."""
        if not self.up:
            return
        for peer in list(self.wires):
            self.core.end(peer, close_reasons.STOPPING, "the relay is stopping")
        self.driver.flush()
        self.log.close()
        self.up = False
        self.process.alive = False
        self.world.net.port = None
        self.world.net.vanished(self.process)
        self._close_files()
        self.world.truth.relay_ended()

    def dispose(self) -> None:
        """Let go of everything."""
        if self.up:
            self.end("kill")
        self.disk.unregister()

    def _close_files(self) -> None:
        for connection in apsw.connections():
            if connection.filename == str(self.path):
                with contextlib.suppress(apsw.Error):  # it wants to tidy up, without power
                    connection.close(True)

    def _has_room(self) -> None:
        self.engine.after(0.0, self.process, self.driver.has_room)

    def log_failed(self, why: str) -> None:
        """The disk does not do its work: the process ends by itself, as ``host.py`` has it."""
        self.engine.trace(f"the relay ends: its log failed: {why}")
        self.engine.count("relay ended by its disk")
        self.engine.after(0.0, None, self._give_up)

    def _give_up(self) -> None:
        if self.up:
            self.end("kill")
            self.exit_wanted = True

    # ---- the log ---------------------------------------------------------------------------------------

    def _committed_in_thread(self, position: int) -> None:
        self.world.truth.committed(self.log, position, self.disk.unsynced)
        when = max(self._told_at, self.engine.now + self.world.dice.choice((0.0, 0.0001, 0.002)))
        self._told_at = when
        self.engine.after(when - self.engine.now, self.process, self._committed, position)

    def _look_at_gone(self) -> None:
        """Nothing goes before its time, whatever the wall clock says: not where there is room for all of it."""
        log, world = self.log, self.world
        while self._kept and self._kept[0][0] <= log.gone:
            position, at = self._kept.popleft()
            if world.log_bytes == 2**30 and self.engine.now - at < world.log_age - 0.001:
                world.oracles.broken(
                    "a: nothing goes before its time",
                    f"{position} was deleted {self.engine.now - at:.3f} s after it came",
                )

    def _committed(self, position: int) -> None:
        self._look_at_gone()
        self.engine.trace(f"relay committed {position}")
        self.driver.committed(position)
        done = [answer for answer in self._relays if answer[0] <= position]
        self._relays = [answer for answer in self._relays if answer[0] > position]
        for waited, answer in done:
            answer(waited)

    def _read_on(self) -> None:
        if self._held and self.log.backlog <= LINK_BACKLOG:
            held, self._held = self._held, []
            for end in held:
                end.read_again()

    # ---- links -----------------------------------------------------------------------------------------

    def accept(self, end: End, ip: str) -> None:
        """A connection has come."""
        peer = self.opened(end, ip)
        end.on_frames = lambda frames: self._received(end, peer, frames)
        end.on_closed = lambda why: self._closed(end, peer, why)
        end.on_full = lambda: self.core.pause(peer)
        end.on_room = lambda: self.driver.resume(peer)

    def opened(self, end: Wire, ip: str) -> Peer:
        """Return the new link over a connection."""
        peer = self.core.opened((ip, 40_000))
        self.wires[peer] = _Watched(self, peer, end)
        return peer

    def _received(self, end: End, peer: Peer, frames: list[bytes]) -> None:
        repeats = peer.repeats
        self._foreseen = dict(self.world.foresight.at_relay(self.forecast, peer, frames[0]))
        while frames:  # each turn at once: ``relay/frame_turns.py`` has tests of its own
            peer.asked = 0
            frames = frames[self.driver.received(peer, frames) :]
        for receiver in list(self._foreseen):
            self.writes(receiver, [])
        if peer.repeats > repeats:
            self.engine.count("frames that were known come again", peer.repeats - repeats)
        if self.log.backlog > LINK_BACKLOG and peer in self.wires:
            self.engine.count("link waits for the disk")
            end.reading = False
            self._held.append(end)

    def _closed(self, end: End, peer: Peer, why: str) -> None:
        self.driver.lost(peer, why)
        self.wires.pop(peer, None)

    def _failed(self, _peer: Peer) -> None:
        raise  # noqa: PLE0704  no history may make the relay fail

    def writes(self, peer: Peer, frames: list[bytes]) -> None:
        """See that a link gets what was foreseen for it, and note what is acknowledged."""
        if (foreseen := self._foreseen.pop(peer, None)) is not None:
            self.world.foresight.relay_wrote(peer, foreseen, frames)
        for data in frames:
            if data[1:6] == b"\xa4Hold" and data[6:7] != b"\xa0":
                self.engine.count("told to wait for room on disk")
            elif data[1:5] == b"\xa3Ack":
                ack = decode_relay_frame(data)
                self.world.truth.acknowledging(peer.origin, ack.epoch, ack.seq)
            elif data[1:9] == b"\xa7Welcome":
                for epoch, seq in decode_relay_frame(data).acks:
                    self.world.truth.acknowledging(peer.origin, epoch, seq)
            elif data[1:10] == b"\xa8Snapshot":
                self.world.truth.snapshot_written(peer, decode_relay_frame(data))

    def _handle(self, event: Any) -> None:
        engine, world = self.engine, self.world
        match event:
            case DiskWanted(stream):
                engine.count("read from disk")
                self._reads[stream.peer, stream.package] += 1
                self._check_reads(stream.peer)
                engine.after(world.dice.uniform(0.0003, 0.01), self.process, self._read_disk, stream)
            case ValuesWanted(_, question):
                engine.count("last values read")
                engine.after(world.value_dice.uniform(0.0003, 0.01), self.process, self._read_values, question)
            case OriginClaimed() as claim:
                engine.after(MEMBERS_SYNC, self.process, self._claimed, claim)
            case Joined(peer):
                engine.trace(f"relay: {peer.origin} is here")
                world.truth.joined(peer)
                self.core.roster.put(peer.origin, str(peer.host_id), peer.methods, peer.plugins)
                self._roster_changed()
            case Left(peer, reason, text):
                engine.trace(f"relay: {peer.origin or '?'} has left: {reason} {text}")
                if reason:
                    engine.count(f"goodbye of the relay: {reason}")
                if reason == close_reasons.STORAGE and not self.log._writer.failed:
                    world.oracles.broken("e: a full disk keeps its links", f"{peer.origin}: {text}")
                self.core.roster.remove(peer.origin)
                self._roster_changed()
            case IdReused(peer, epoch, seq):
                engine.trace(f"E_ID_REUSE {peer.origin} {seq}")
                world.reused.append((peer.origin, epoch, seq))
                if not world.may_reuse:
                    world.oracles.broken("g: no number is used twice", f"{seq} of {peer.origin}: E_ID_REUSE")

    def _claimed(self, claim: OriginClaimed) -> None:
        """As ``relay/member_keeper.py`` has it, with a file that stands for the store."""
        self._keep_members()
        self.driver.claimed(claim)

    def _keep_members(self) -> None:
        book = self.core.origins
        if book.has_changes:
            book.take_changes()
            (self.folder / "members").write_bytes(msgspec.msgpack.encode(list(book._known.values())))

    def _give_receipts(self) -> None:
        self.engine.after(RECEIPT_INTERVAL, self.process, self._give_receipts)
        peers = list(self.core.peers.values())
        self.core.give_receipts(peers)
        if seconds := self.clock.look():
            self.log.add_clock_jump(seconds)
        self.core.note_publishers(peers)
        self._keep_members()
        self.driver.flush()

    def _read_disk(self, stream: Stream) -> None:
        reading = self.log.read_disk(stream.position, cursors.CHUNK)
        self.engine.after(self.world.dice.uniform(0.0, 0.003), self.process, self._disk_read, stream, reading)

    def _check_reads(self, peer: Peer) -> None:
        """(e): a link causes a read at a time for each of its packages, and two in all, however often it asks."""
        of_package = {package: count for (one, package), count in self._reads.items() if one is peer and count}
        if max(of_package.values()) > 1 or sum(of_package.values()) > MAX_DISK_READS:
            self.world.oracles.broken("e: bounds", f"reads under way for {peer.origin}: {of_package}")

    def _disk_read(self, stream: Stream, reading: Any) -> None:
        self._reads[stream.peer, stream.package] -= 1
        if reading.gap is not None:
            self.engine.count(f"gap in the log: {reading.gap.reason}")
        self.driver.disk_read(stream, reading)

    def _roster_changed(self) -> None:
        if not self._telling:
            self._telling = True
            self.engine.after(ROSTER_DELAY, self.process, self._tell_roster)

    def _tell_roster(self) -> None:
        self._telling = False
        if self.core.roster.tell(int(ROSTER_RATE * ROSTER_DELAY)):
            self._roster_changed()
        self.driver.flush()

    # ---- XML-RPC ---------------------------------------------------------------------------------------

    def relay(
        self, origin: str, ip: str, message_id: str, packed: bytes, channels: Any, answer: Callable[[int], None]
    ) -> None:
        """``relay.relay``: answered with the position once it is on disk.

        Raises:
            StorageFull: there is no room.
            StorageFailed: the disk does not do its work.
        """
        first = self.log.ids.position(origin, message_id)
        if first is None:
            message = InFlight(f"{origin}@{ip}:0", (ip, 50_000), make_batch([packed]), 1, channels)
            entry = self.core.append_unnumbered(origin, message, message_id)
            first = entry.position
            self.driver.flush()
        if first <= self.core.fan_out.committed:
            answer(first)
        else:
            self._relays.append((first, answer))

    def fetch(self, origin: str, after: int, maximum: int) -> tuple[str, Messages, list[tuple[int, int, str]]]:
        """``relay.fetch`` without waiting: the log id, what was read, and gaps."""
        gaps = []
        if after >= self.log.lease:
            gaps.append((after, BEGINNING, "log replaced"))
            after = BEGINNING
        read = self.reader.messages(after, maximum, origin)
        if read.gap is not None:
            gaps.append((read.gap.after, read.gap.next, read.gap.reason))
        return self.log.log_id, read, gaps


class _Watched:
    """The relay's end of a connection: shows the relay's process what is written there."""

    def __init__(self, relay: SimRelay, peer: Peer, end: Wire) -> None:
        self._relay = relay
        self._peer = peer
        self._end = end

    def write(self, frames: list[bytes]) -> None:
        """Write frames."""
        self._relay.writes(self._peer, frames)
        self._end.write(frames)

    def close(self) -> None:
        """Close behind them."""
        self._relay.wires.pop(self._peer, None)
        self._end.close()


REFUSED = (StorageFull, StorageFailed)
"""What ``relay.relay`` answers with a Fault."""
