"""Bugs that are planted one at a time, to see that the oracles find them: each breaks one thing of the product."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from co2.errors import StorageFull
from co2.plugin.child.receiver import Receiver
from co2.plugin.parent.delivery import Delivery
from co2.plugin.parent.delivery_queue import GapRange, Window
from co2.plugin.parent.restart_policy import RestartPolicy
from co2.protocol.relay.core import DiskWanted, RelayCore
from co2.protocol.relay.cursors import Stream
from co2.protocol.relay.fan_out import FanOut
from co2.protocol.relay.last_values import LastValues
from co2.protocol.relay.log import Reading
from co2.protocol.relay.origins import OriginBook
from co2.protocol.relay.receipts import ReceiptKey
from co2.protocol.relay.snapshots import Snapshots
from co2.protocol.satellite import core as satellite_module
from co2.protocol.satellite.core import SatelliteCore
from co2.protocol.satellite.driver import SatelliteDriver
from co2.protocol.satellite.outbox import Cut, Outbox
from co2.protocol.wire import close_reasons
from co2.protocol.wire.batch import batch_count, join_batches
from co2.protocol.wire.checksum import crc32
from co2.protocol.wire.link_frames import (
    BEGINNING,
    Ack,
    Publish,
    Receipt,
    Subscription,
    decode_satellite_frame,
    encode_link_frame,
)
from co2.protocol.wire.plugin_frames.frames import Gap, Progress
from co2.relay.brake import Brake
from co2.server.express.relay_forecast import RelayForecast
from co2.server.express.satellite_forecast import SatelliteForecast
from co2.store import journal
from co2.store.cursors import Cursors
from co2.store.log_file import LogFile
from co2.store.log_writer import LogWriter
from co2.store.memory_tail import MemoryTail
from co2.store.outbox_store import OutboxStore
from co2.store.relay_log import RelayLog
from co2.store.running_time import RunningTime
from tests.simulation.ledger import Ledger

__all__ = ["BUGS", "Bug", "planted"]

Reader = satellite_module.PackageReader


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug.

    Attributes:
        breaks: what, in a line.
        oracles: first letters of those that may find it.
        where: class and name of what is replaced.
        instead: makes the replacement of the original.
    """

    breaks: str
    oracles: str
    where: tuple[Any, str]
    instead: Callable[[Any], Any]


BUGS: dict[str, Bug] = {}


def _bug(breaks: str, oracles: str, where: Any, name: str) -> Callable[[Callable[[Any], Any]], None]:
    def take(instead: Callable[[Any], Any]) -> None:
        BUGS[instead.__name__.strip("_").replace("_", " ")] = Bug(breaks, oracles, (where, name), instead)

    return take


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant a bug for a while; '' for none."""
    if not name:
        yield
        return
    bug = BUGS[name]
    where, attribute = bug.where
    raw = where.__dict__[attribute]
    original = raw.__func__ if isinstance(raw, (classmethod, staticmethod)) else raw
    replaced = bug.instead(original)
    if isinstance(raw, (classmethod, staticmethod)):
        replaced = type(raw)(replaced)
    with mock.patch.object(where, attribute, replaced):
        yield


# ---- the relay ----------------------------------------------------------------------------------------------


@_bug(
    "a frame is foreseen though one without a number waits for the disk before it", "h", RelayForecast, "receivers"
)
def _forecast_past_what_waits(original: Any) -> Any:
    def receivers(self: Any, entry: Any) -> Any:
        fan_out = self._core.fan_out
        fresh, fan_out._fresh = fan_out._fresh, deque()
        try:
            return original(self, entry)
        finally:
            fan_out._fresh = fresh

    return receivers


@_bug("a frame is foreseen for packages that do not want it", "h", SatelliteForecast, "next_deliver")
def _forecast_without_interests(original: Any) -> Any:
    def next_deliver(self: Any, stretch: Any) -> Any:
        found = original(self, stretch)
        return found and (found[0], [one.package for one in self._core._readers.values() if one.is_live])

    return next_deliver


@_bug("a frame is foreseen though its messages have come before", "h", SatelliteForecast, "next_deliver")
def _forecast_of_repeats(original: Any) -> Any:
    def next_deliver(self: Any, stretch: Any) -> Any:
        found = original(self, stretch)
        if not found:
            return found
        numbers = tuple(number._replace(value=0) for number in found[0].numbers)
        return found[0]._replace(numbers=numbers), found[1]

    return next_deliver


@_bug("a frame is foreseen though others wait before it", "h", Outbox, "is_given")
def _forecast_past_the_outbox(_original: Any) -> Any:
    return property(lambda self: True)


@_bug("a message is acknowledged when it comes", "g", RelayCore, "_publish")
def _acknowledged_before_the_commit(original: Any) -> Any:
    def publish(self: Any, peer: Any, frame: Publish) -> None:
        original(self, peer, frame)
        if frame.epoch and peer.state == "open":
            peer.write(encode_link_frame(Ack(frame.epoch, frame.seq + batch_count(frame.batch) - 1)))

    return publish


@_bug("durable packages get what is not on disk yet", "gac", FanOut, "_limit")
def _durable_stream_given_uncommitted_messages(original: Any) -> Any:
    return lambda self, stream: self.visible if stream.durable else original(self, stream)


@_bug("that a log was rolled back is not seen from a receipt", "acf", RelayLog, "was_rolled_back")
def _log_id_not_changed(_original: Any) -> Any:
    return lambda self, log_id, run, position: False


@_bug("a reader goes on in a log that does not know its run", "iacdf", RelayLog, "holds")
def _unknown_run_accepted(_original: Any) -> Any:
    return lambda self, run, position: True


@_bug("whoever comes with an origin is its owner", "ig", OriginBook, "is_owner")
def _origins_belong_to_nobody(_original: Any) -> Any:
    return lambda self, origin, token: True


@_bug("a position that was never given renames the log, without a receipt", "i", RelayCore, "_rolled_back")
def _rolled_back_without_a_receipt(_original: Any) -> Any:
    def rolled_back(self: Any, origin: str, hello: Any) -> bool:
        known = [sub.position for sub in hello.subscriptions if sub.position is not None]
        if known and hello.log_id == self.log.log_id and not self.log.holds(hello.run, max(known)):
            hello.receipt = Receipt(hello.log_id, hello.run, max(known), b"")
            return True
        return False

    return rolled_back


@_bug("only the last log's receipt is kept: an older copy is not seen", "acf", SatelliteCore, "_keep_receipt")
def _older_receipts_forgotten(_original: Any) -> Any:
    def broken(self: Any, receipt: Receipt) -> None:
        self.receipts = (receipt,)

    return broken


@_bug("any receipt is taken for one of the relay's", "i", ReceiptKey, "is_true")
def _receipts_not_checked(_original: Any) -> Any:
    return lambda self, origin, receipt: True


@_bug("what a Hello claims of numbers is a mark of the log's at once", "ei", RelayCore, "_meet")
def _claims_are_marks(original: Any) -> Any:
    def met(self: Any, peer: Any, outbox: Any, rolled_back: bool) -> Any:
        acks = original(self, peer, outbox, rolled_back)
        for epoch, begins in peer.begins.items():
            self.log.set_mark(peer.origin, epoch, begins)
        return acks

    return met


@_bug("a loss is told without a receipt", "d", RelayCore, "_meet")
def _loss_told_without_a_receipt(original: Any) -> Any:
    return lambda self, peer, outbox, rolled_back: original(self, peer, outbox, True)


@_bug("a run that the log does not know cannot go on", "fga", RelayCore, "_meet")
def _begins_forgotten(original: Any) -> Any:
    def met(self: Any, peer: Any, outbox: Any, rolled_back: bool) -> Any:
        acks = original(self, peer, outbox, rolled_back)
        peer.begins = {}
        return acks

    return met


@_bug("what the relay has lost is told to nobody", "a", RelayLog, "add_loss")
def _loss_not_told(_original: Any) -> Any:
    return lambda self, loss: None


@_bug("a satellite's live packages get what it has sent itself", "cd", Stream, "wants")
def _own_messages_given_back(_original: Any) -> Any:
    return lambda self, entry: self.interests is not None and self.interests.wants(entry.channels)


@_bug("what has no number is passed on before it is on disk", "g", RelayCore, "append_unnumbered")
def _unnumbered_messages_passed_on_at_once(original: Any) -> Any:
    def append(self: Any, *args: Any) -> Any:
        entry = original(self, *args)
        self.fan_out._held.clear()
        self.fan_out.advance()
        return entry

    return append


@_bug("a stream with no room goes on at the head when it has some", "a", FanOut, "pump")
def _drain_to_the_head(original: Any) -> Any:
    def pump(self: Any, peer: Any) -> None:
        if peer.state == "open" and peer.live is not None and peer.live not in self._at_head:
            peer.live.position = self.visible
        original(self, peer)

    return pump


@_bug("a frame that starts behind the mark is taken as new", "gcb", RelayCore, "_repeated")
def _repeats_appended(_original: Any) -> Any:
    def repeated(self: Any, peer: Any, frame: Publish, last: int) -> None:
        entry = self.log.append(
            origin=peer.origin, host_id=str(peer.host_id), client_address=peer.address, batch=frame.batch,
            epoch=frame.epoch, seq=frame.seq, package=frame.package, plugin=frame.plugin,
            channels=None if frame.channels is None else tuple(frame.channels), crc=frame.crc,
            count=batch_count(frame.batch),
        )  # fmt: skip
        peer.unacked.append((entry.end, frame.epoch, last))
        self._unacked[peer] = None
        self._fresh.append(entry)

    return repeated


# ---- the log ------------------------------------------------------------------------------------------------


@_bug("commits are not synced", "g", LogFile, "__init__")
def _fsync_skipped(original: Any) -> Any:
    def careless(self: LogFile, *args: Any) -> None:
        original(self, *args)
        self._db.execute("PRAGMA synchronous = OFF")

    return careless


@_bug("marks get to disk with the commit after their messages", "ga", LogFile, "write_marks")
def _marks_not_in_the_same_transaction(original: Any) -> Any:
    def write(self: LogFile, marks: Any) -> None:
        late: dict[Any, Any] = getattr(self, "late", {})
        original(self, late.items())
        self.late = dict(marks)  # type: ignore[attr-defined]

    return write


@_bug("after a crash positions go on after the last message on disk", "g", LogFile, "read_meta")
def _positions_used_again(original: Any) -> Any:
    return lambda self, key, default=None: (
        original(self, "end") + 1 if key == "lease" else original(self, key, default)
    )


@_bug("what retention took is passed over in silence", "a", RelayLog, "read_disk")
def _gap_not_told_on_retention(original: Any) -> Any:
    def read(self: RelayLog, after: int, max_bytes: int) -> Reading:
        found: Reading = original(self, after, max_bytes)
        return Reading(found.entries, found.next, None)

    return read


@_bug("what is not on disk yet leaves memory", "af", MemoryTail, "append")
def _uncommitted_leaves_memory(original: Any) -> Any:
    return lambda self, entry, committed: original(self, entry, entry.end)


@_bug("a read from disk gives the position after what it has read", "ag", RelayLog, "read_disk")
def _read_off_by_one(original: Any) -> Any:
    def read(self: RelayLog, after: int, max_bytes: int) -> Reading:
        found: Reading = original(self, after + 1 if after > BEGINNING else after, max_bytes)
        return found

    return read


@_bug("each Replay has the disk read, whether or not the read before has ended", "e", FanOut, "_want_disk")
def _read_for_each_replay(_original: Any) -> Any:
    def want_disk(self: Any, stream: Stream) -> None:
        stream.reading = True
        self._events.append(DiskWanted(stream))

    return want_disk


@_bug("an Interest with many patterns counts as one with none", "e", RelayCore, "_interest")
def _patterns_not_counted(original: Any) -> Any:
    def interest(self: Any, peer: Any, frame: Any) -> None:
        before = peer.asked
        original(self, peer, frame)
        peer.asked = before

    return interest


@_bug("a link that asks for too much is read on", "e", Brake, "take")
def _brake_never_holds(_original: Any) -> Any:
    return lambda self, asked, now: 0.0


@_bug("marks that were not written for a second are forgotten", "gad", LogWriter, "turn")
def _marks_forgotten_by_age(original: Any) -> Any:
    def turn(self: Any) -> bool:
        self._file._db.execute("DELETE FROM mark WHERE at < ?", (self._ran() - 1.0,))
        result: bool = original(self)
        return result

    return turn


# ---- the satellite ------------------------------------------------------------------------------------------


@_bug("a package goes on one message too late after a reconnect", "ad", SatelliteCore, "_subscriptions")
def _cursor_off_by_one(original: Any) -> Any:
    def subscriptions(self: Any) -> list[Subscription]:
        return [
            Subscription(sub.package, sub.position and sub.position + 1, sub.channels, sub.durable)
            for sub in original(self)
        ]

    return subscriptions


@_bug("only the last sender is remembered for telling repeats", "c", Reader, "is_new")
def _dedupe_by_a_window(original: Any) -> Any:
    def is_new(self: Any, origin: str, epoch: int, last: int) -> bool:
        new: bool = original(self, origin, epoch, last)
        if len(self.seen) > 1:
            self.seen.pop(next(iter(self.seen)))
        return new

    return is_new


@_bug("numbers of different runs are compared", "a", Reader, "is_new")
def _epoch_ignored(original: Any) -> Any:
    return lambda self, origin, epoch, last: original(self, origin, 1 if epoch else 0, last)


@_bug("what a package has had is not remembered", "c", Reader, "is_new")
def _seen_map_ignored(_original: Any) -> Any:
    return lambda self, origin, epoch, last: True


@_bug("a replay moves the place of the live stream", "a", SatelliteCore, "_readers_apart")
def _live_position_moved_by_a_replay(original: Any) -> Any:
    def apart(self: Any, frame: Any, end: int) -> Any:
        found = original(self, frame, end)
        self.live_position = max(self.live_position, end)
        return found

    return apart


@_bug("the rest of a frame that was had in part is skipped", "a", SatelliteCore, "_readers_apart")
def _skip_computed_wrong(original: Any) -> Any:
    def apart(self: Any, frame: Any, end: int) -> Any:
        readers, skip = original(self, frame, end)
        return readers, batch_count(frame.batch) if skip else 0

    return apart


@_bug("a package's channels are not told after a reconnect", "a", SatelliteCore, "_subscriptions")
def _interests_lost_after_reconnect(original: Any) -> Any:
    def subscriptions(self: Any) -> list[Subscription]:
        found = original(self)
        if self.state != "hello":
            return found  # type: ignore[no-any-return]
        return [Subscription(sub.package, sub.position, [], sub.durable) for sub in found]

    return subscriptions


@_bug(
    "what a package wants is not told when it loads between Hello and Welcome",
    "af",
    SatelliteCore,
    "_tell_interest",
)
def _interest_lost_in_hello(original: Any) -> Any:
    return lambda self: original(self) if self.state == "open" else None


@_bug("frames on their way to a package that fell behind count after it caught up", "a", SatelliteCore, "_stop")
def _what_was_on_its_way_counts(original: Any) -> Any:
    def stop(self: Any, reader: Any) -> None:
        original(self, reader)
        reader.stopping = False

    return stop


@_bug("a link lost before its Welcome moves packages that were behind to the head", "a", SatelliteCore, "_end")
def _lost_hello_moves_packages(original: Any) -> Any:
    def end(self: Any, *args: Any) -> None:
        if self.state == "hello":
            self.state = "open"
        original(self, *args)

    return end


@_bug("a live message waits in the outbox with the others", "gdc", SatelliteCore, "publish_live")
def _live_message_takes_a_seq(_original: Any) -> Any:
    return lambda self, package, frame, count: self.publish(package, frame, count)


@_bug("that the log is another is saved as told before it was", "a", SatelliteCore, "durable_beginnings")
def _gap_forgotten_at_a_restart(original: Any) -> Any:
    def beginnings(self: Any) -> Mapping[str, int]:
        return {package: max(BEGINNING, position) for package, position in original(self).items()}

    return beginnings


@_bug("what the outbox wants from disk is not read", "f", SatelliteDriver, "flush")
def _outbox_not_read_back(original: Any) -> Any:
    def flush(self: Any) -> None:
        load, self._load = self._load, lambda _segment: None
        original(self)
        self._load = load

    return flush


# ---- the outbox ---------------------------------------------------------------------------------------------


@_bug("frames that are sent again are cut anew", "gf", Outbox, "again")
def _frame_cut_anew_when_sent_again(original: Any) -> Any:
    def again(self: Any) -> None:
        original(self)
        for segment in self._segments:
            cuts = segment.cuts or []
            if len(cuts) < 2:
                continue
            first, second = (decode_satellite_frame(cut.data) for cut in cuts[:2])
            if (first.plugin, first.channels) == (second.plugin, second.channels):
                batch = join_batches([first.batch, second.batch])
                first.batch, first.crc = batch, crc32(batch)
                data = encode_link_frame(first)
                segment.cuts[:2] = [Cut(cuts[0].epoch, cuts[0].first, cuts[1].last, data, cuts[0].at)]
                return

    return again


@_bug("what is left of earlier runs goes out after the new", "bg", Outbox, "put")
def _old_epochs_sent_after_the_new(original: Any) -> Any:
    def put(self: Any, *args: Any) -> None:
        original(self, *args)
        if self._segments[0].epoch != self.epoch:
            old = [segment for segment in self._segments if segment.epoch != self.epoch]
            new = [segment for segment in self._segments if segment.epoch == self.epoch]
            self._segments.clear()
            self._segments.extend([*new, *old])
            self._at = self._inside = 0

    return put


@_bug("frames are forgotten when they are written", "ag", Outbox, "give")
def _outbox_forgets_on_write(original: Any) -> Any:
    def give(self: Any, max_bytes: int) -> list[bytes]:
        given: list[bytes] = original(self, max_bytes)
        if given:
            last = decode_satellite_frame(given[-1])
            Outbox.acknowledged(self, last.epoch, last.seq + batch_count(last.batch) - 1)
        return given

    return give


@_bug("rows of the outbox are deleted before their messages are acknowledged", "a", Outbox, "stored")
def _outbox_rows_deleted_early(original: Any) -> Any:
    def stored(self: Any, segment: Any, rows: tuple[int, int]) -> None:
        original(self, segment, rows)
        self._gone = max(self._gone, rows[1])

    return stored


@_bug("what is left on the satellite's disk is not found", "a", OutboxStore, "left")
def _outbox_not_read_at_the_start(_original: Any) -> Any:
    return lambda self: []


@_bug("the place of a durable package is not read at the start", "a", Cursors, "open")
def _cursors_not_read(_original: Any) -> Any:
    return lambda cls, path: cls(path)


# ---- plugin hosts -------------------------------------------------------------------------------------------


@_bug("deaths in a message are not counted", "f", RestartPolicy, "add")
def _poison_not_counted(original: Any) -> Any:
    def add(self: Any, now: float, inside: Any) -> list[Any]:
        original(self, now, inside)
        self._tries.clear()
        return []

    return add


@_bug("the message of a death is not marked", "c", Receiver, "_mark_repeat")
def _repeat_not_marked(_original: Any) -> Any:
    return lambda message: None


@_bug("a new child goes on after the message of the death", "c", Ledger, "ended")
def _message_of_a_death_skipped(original: Any) -> Any:
    def ended(self: Any, words: Any) -> None:
        original(self, words)
        self._progress = {name: Progress(max(one.done, one.inside), 0) for name, one in self._progress.items()}

    return ended


@_bug("what a dead child had is not given to the next", "caf", Window, "again")
def _window_forgotten_at_a_death(_original: Any) -> Any:
    return lambda self: []


@_bug("a package that has no room is told nothing of it", "af", Delivery, "_pump")
def _room_not_told(original: Any) -> Any:
    def pump(self: Any) -> None:
        self._on_room = lambda: None
        original(self)

    return pump


@_bug("a gap does not say how many siblings' messages went", "a", GapRange, "frame")
def _dropped_not_told(_original: Any) -> Any:
    return lambda self, number: Gap(number, self.after, self.next, "; ".join(self.reasons))


@_bug("what the log keeps ages by the wall clock", "a", RunningTime, "__call__")
def _aged_by_the_wall_clock(_original: Any) -> Any:
    return lambda self: self.wall()


@_bug("commits of few messages are not synced", "g", journal._VfsFile, "sync")
def _journal_not_synced(_original: Any) -> Any:
    return lambda self: None


@_bug("what a crash has left in the journal is not read", "adgi", journal.Journal, "records")
def _journal_not_read_at_the_start(_original: Any) -> Any:
    return lambda self: []


@_bug("a satellite that was told to wait for room is not told that there is some", "f", RelayCore, "has_room")
def _told_to_wait_for_ever(_original: Any) -> Any:
    return lambda self: None


@_bug("a full disk ends the links of those that send", "e", RelayCore, "_storage")
def _full_disk_ends_links(_original: Any) -> Any:
    return lambda self, peer, error: self.end(peer, close_reasons.STORAGE, str(error), retry_after=5.0)


@_bug("a frame that was refused for want of room moves the mark", "agd", RelayCore, "_accept")
def _refused_frame_moves_the_mark(original: Any) -> Any:
    def accept(self: Any, peer: Any, frame: Publish, count: int) -> None:
        try:
            original(self, peer, frame, count)
        except StorageFull:
            self.log.set_mark(peer.origin, frame.epoch, frame.seq + count - 1)
            raise

    return accept


# ---- last values --------------------------------------------------------------------------------------------


@_bug("last values are those of messages that were not passed on yet", "jac", Snapshots, "_position")
def _snapshot_too_new(_original: Any) -> Any:
    return lambda self: max(1, self._fan_out.visible - 20)


@_bug("of a channel the first message counts that was ever noted", "j", LastValues, "_put")
def _snapshot_too_old(original: Any) -> Any:
    def put(self: Any, channels: Any, position: int, ip: str) -> None:
        original(self, [one for one in channels if not self._index.position(one)], position, ip)

    return put


@_bug("after last values a package goes on where it was before them", "jcb", SatelliteCore, "_snapshot")
def _snapshot_doubled(original: Any) -> Any:
    def snapshot(self: Any, frame: Any) -> None:
        frame.position = max(1, frame.position - 40)
        original(self, frame)

    return snapshot


@_bug("after last values a package goes on with what comes now", "a", Snapshots, "answered")
def _snapshot_skips_what_came_meanwhile(original: Any) -> Any:
    def answered(self: Any, question: Any, found: Any) -> None:
        work = self._works[question]
        work.question = replace(question, position=self._fan_out.visible)
        original(self, question, found)

    return answered


@_bug("last values are not looked for at the start", "j", LastValues, "restore")
def _last_values_lost_at_a_restart(_original: Any) -> Any:
    return lambda self, heads: None


@_bug("what is forgotten is not written down", "j", RelayLog, "set_forgotten")
def _forgotten_value_returns(_original: Any) -> Any:
    def set_forgotten(self: Any, forgotten: Any) -> None:
        self.forgotten = forgotten

    return set_forgotten


@_bug("frames that name no channels are not looked through", "j", LastValues, "_add_unread")
def _frames_without_names_not_read(_original: Any) -> Any:
    return lambda self, position, size, ip: None


@_bug("last values do not wait for the disk", "jg", Snapshots, "_is_on_disk")
def _last_values_before_they_are_on_disk(_original: Any) -> Any:
    return lambda self, work: True


@_bug("older last values follow what siblings have sent", "jcb", SatelliteCore, "_is_last")
def _older_values_follow_siblings(_original: Any) -> Any:
    return lambda self, value, own: True
