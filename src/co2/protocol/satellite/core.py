"""The satellite's side of the link, without I/O: frames in, frames and events out.

1. Everything that changes the state of the link is in this subpackage. The satellite calls the methods of
   :class:`SatelliteCore`, sends what the link has to send, and handles ``SatelliteCore.events``.
2. There are no sockets, no asyncio, no threads and no clocks here.
3. :data:`co2.protocol.transitions.SATELLITE` defines which frame is allowed in which state.

Messages of packages are put into the outbox and sent at the speed of the link. Received messages go to the
packages that want them: live packages share the live stream; one that is too slow leaves it, and catches up
through a replay of its own.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from co2.errors import BadRequest
from co2.host_id import HostId
from co2.host_name import is_host_name
from co2.protocol.satellite.events import (
    CallReceived,
    Delivered,
    Ended,
    Event,
    GapTold,
    Held,
    NumbersTaken,
    ResultReceived,
    RosterTold,
    SnapshotCame,
    SnapshotRefused,
    Welcomed,
)
from co2.protocol.satellite.outbox import Outbox
from co2.protocol.transitions import SATELLITE, Connected, Lost, in_place, next_state
from co2.protocol.wire import close_reasons
from co2.protocol.wire.batch import batch_count
from co2.protocol.wire.channel_patterns import Interests
from co2.protocol.wire.checksum import crc32
from co2.protocol.wire.link_frames import (
    BEGINNING,
    MAX_RECEIPTS,
    Ack,
    Applied,
    Call,
    Deliver,
    Gap,
    Goodbye,
    Hello,
    Hold,
    Interest,
    Publish,
    Receipt,
    RelayFrame,
    Replay,
    Result,
    Roster,
    Snapshot,
    SnapshotValue,
    Subscription,
    Welcome,
    Wish,
    decode_relay_frame,
    encode_link_frame,
)
from co2.protocol.wire.message_keys import channels_in
from co2.protocol.wire.package_health import Health
from co2.protocol.wire.plugin_frames import frames as plugin_frames
from co2.protocol.wire.subscription_limits import bounded
from co2.values import MAX_RUN

__all__ = [
    "CallReceived",
    "Delivered",
    "Ended",
    "GapTold",
    "Held",
    "NumbersTaken",
    "PackageReader",
    "ResultReceived",
    "RosterTold",
    "SatelliteCore",
    "SnapshotCame",
    "SnapshotRefused",
    "Welcomed",
]

ROOM = 1024 * 1024
"""Bytes waiting for the transport above which the outbox sends nothing."""

REPLAY_ROOM = 2 * 1024 * 1024
"""Bytes that a package asks for at a time in a replay."""

MAX_REMEMBERED = 20_000
"""Channels on which messages were sent while a package starts, and are remembered; of more, the oldest are not."""

MAX_SEEN = 10_000
"""Senders' runs whose last number a package remembers; the one that was silent longest is dropped first."""


@dataclass(slots=True)
class PackageReader:
    """A package that receives.

    Attributes:
        position: last message that it was given; a live package uses the core's ``live_position``.
        state: ``current``; ``behind``, when it can take no more now; or ``replaying``.
        full: it is replaying and can take no more than it has asked for.
        stopping: it fell behind, and messages that the relay sent before it knew may still come: they are ignored.
        eager: it has room again while it is stopping.
        begun: position where it began in the current log, None while unknown; 0 if it must first be told that the
            log was replaced.
        placed: it has had a place in a log.
        wish: last values that it waits for, None for none; it is ``behind`` until they have come.
        values: the parts of them that have come.
        seen: last number by (origin, epoch): after a crash of the relay, or with an older copy of its log, the
            same messages come at other positions.
    """

    package: str
    interests: Interests
    durable: bool
    position: int | None
    state: str = "current"
    full: bool = False
    stopping: bool = False
    eager: bool = False
    begun: int | None = None
    placed: bool = False
    wish: Wish | None = None
    values: list[SnapshotValue] = field(default_factory=list)
    seen: dict[tuple[str, int], int] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        """Whether it reads the live stream."""
        return self.state == "current" and not self.durable

    def is_new(self, origin: str, epoch: int, last: int) -> bool:
        """Return whether a frame is new to the package, and remember it."""
        if not epoch:
            return True
        key = (origin, epoch)
        before = self.seen.pop(key, 0)
        self.seen[key] = max(last, before)
        if len(self.seen) > MAX_SEEN:
            del self.seen[next(iter(self.seen))]
        return last > before


class SatelliteCore:
    """A satellite's link and the state that outlives it.

    Args:
        host_id: proposed to the relay.
        outbox: messages that wait to be sent.
        names: returns (methods, plugins) for the relay.
        token: of the state folder, which proves to the relay that the origin is ours.
        wish: name that the host wishes for; '' for one made of its origin.

    Attributes:
        name: that the relay has given to this host; before that, the wish.
        receipts: the last one of each log that the relay has had, newest first; at most 1 + ``MAX_RECEIPTS``.
        gives_snapshots: the relay of the present link gives last values.
        causes: the relay of the last link wants messages to say in which message they were sent.
        held: why the relay stores no messages, '' while it does.
        sent: called with what plugins send, as :meth:`publish`; None if nobody wants it.
        heard: called with each numbered frame of the live stream and its number of messages; likewise.
    """

    def __init__(
        self,
        host_id: HostId,
        outbox: Outbox,
        names: Callable[[], tuple[list[str], list[str]]],
        token: str = "",
        wish: str = "",
    ) -> None:
        self.host_id = host_id
        self.name = self._wish = wish
        self._token = token
        self.receipts: tuple[Receipt, ...] = ()
        self.outbox = outbox
        self.state = "away"
        self.events: deque[Event] = deque()
        self.log_id = ""
        self.run = ""
        self.live_position = BEGINNING
        self.paused = False
        self.repeats = 0
        self.held = ""
        self.live_dropped = 0
        self.sent: Callable[[str, plugin_frames.Publish, int], None] | None = None
        self.heard: Callable[[Deliver, int], None] | None = None
        self.gives_snapshots = False
        self.causes = False
        self._wish_number = 0
        self._sent: dict[str, tuple[int, int]] | None = None
        self._names = names
        self._untold = False
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._readers: dict[str, PackageReader] = {}
        handlers: dict[type, Callable[[Any], None]] = {
            Welcome: self._welcome,
            Ack: self._ack,
            Hold: self._hold,
            Receipt: self._keep_receipt,
            Deliver: self._deliver,
            Snapshot: self._snapshot,
            Replay: self._replayed,
            Gap: self._gap,
            Roster: lambda roster: self.events.append(RosterTold(roster)),
            Call: lambda call: self.events.append(CallReceived(call)),
            Result: lambda result: self.events.append(ResultReceived(result)),
            Goodbye: lambda goodbye: self._end(goodbye.reason, goodbye.text, goodbye.retry_after),
        }
        self._handlers = in_place(SATELLITE, handlers)

    # ---- the link --------------------------------------------------------------------------------------

    def connected(self) -> None:
        """Send a Hello on a new connection."""
        self._out.clear()
        self._out_bytes = 0
        self.paused = self._untold = False
        self.held = ""
        self.state = next_state(SATELLITE, self.state, Connected)
        methods, plugins = self._names()
        self._write(
            Hello(
                str(self.host_id),
                self.log_id,
                self.run,
                self._subscriptions(),
                self.outbox.unacknowledged(),
                methods,
                plugins,
                self._token,
                self.receipts[0] if self.receipts else None,
                holds=True,
                former_receipts=list(self.receipts[1:]),
                name=self._wish,
            )
        )

    def receive(self, data: bytes | memoryview) -> None:
        """Process one frame. An invalid one ends the link."""
        if self.state == "away":
            return
        try:
            frame: RelayFrame = decode_relay_frame(data)
            if (handler := self._handlers[self.state].get(type(frame))) is not None:
                handler(frame)
                return
        except BadRequest as error:
            self.end(close_reasons.GARBAGE, str(error))
            return
        self.end(close_reasons.OUT_OF_PLACE, f"{type(frame).__name__} in state {self.state}")

    def lost(self, why: str) -> None:
        """End the link after the connection is lost."""
        if self.state != "away":
            self._end("", why, 0.0)

    def end(self, reason: str, text: str) -> None:
        """Send a Goodbye."""
        if self.state != "away":
            self._write(Goodbye(reason, text[:512]))
            self._end(reason, text, 0.0)

    @property
    def is_settled(self) -> bool:
        """Whether nothing has happened that was not acted on, and nothing waits to be written but the outbox."""
        return not (self._out or self._untold or self.events)

    def taken(self) -> list[bytes]:
        """Return the frames for the transport, those of the outbox included, and forget them."""
        self._write_interest()
        if self.state == "open" and not self.paused and not self.held:
            for data in self.outbox.give(ROOM - self._out_bytes):
                self._out.append(data)
        taken = list(self._out)
        self._out.clear()
        self._out_bytes = 0
        return taken

    def _end(self, reason: str, text: str, retry_after: float) -> None:
        was_open, self.state = self.state == "open", next_state(SATELLITE, self.state, Lost)
        for reader in self._readers.values():
            if reader.is_live:
                if was_open:  # else each has the position at which the link before ended
                    reader.position = self.live_position
            elif reader.state == "replaying":
                reader.state = "behind" if reader.full else "current"
                reader.full = False
            elif reader.eager:
                reader.state = "current"
            reader.stopping = reader.eager = False
            if reader.wish is not None:  # the next link gives it all of them
                reader.position = reader.begun = None
                reader.values.clear()
        self.held = ""
        self.events.append(Ended(reason, text, retry_after))

    def _welcome(self, welcome: Welcome) -> None:
        try:
            self.host_id = HostId.parse(welcome.host_id)
        except ValueError as error:
            raise BadRequest(str(error)) from None
        if not all(self._acknowledged(epoch, seq) for epoch, seq in welcome.acks):
            return
        other_log = welcome.anew or (bool(self.log_id) and welcome.log_id != self.log_id)
        if welcome.receipt is not None:
            self._keep_receipt(welcome.receipt)
        # A relay older than names gives none.
        self.name = welcome.name if is_host_name(welcome.name) else self._wish
        self.log_id, self.run = welcome.log_id, welcome.run
        self.live_position = welcome.position
        self.gives_snapshots = welcome.snapshots
        self.causes = welcome.causes
        self.state = next_state(SATELLITE, self.state, Welcome)
        self.outbox.again()
        for reader in self._readers.values():
            self._place(reader, other_log)
        for reader in self._readers.values():
            self._go_on(reader)
        self.events.append(Welcomed(welcome, other_log))

    def _place(self, reader: PackageReader, other_log: bool) -> None:
        """Set the position of a package in the current log."""
        if other_log and reader.wish is not None and reader.placed:
            # Its last values, and all that has come since it waits for them, went with the log.
            self.events.append(GapTold([reader.package], Gap(reader.package, 0, BEGINNING, "log replaced")))
        reader.placed = True
        if other_log and reader.position is not None:
            reader.position, reader.begun = BEGINNING, 0
        if reader.position is None:
            reader.position = self.live_position
        elif not reader.position:
            # In an earlier run the satellite learned of the new log, and ended before the package did.
            reader.position, reader.begun = BEGINNING, 0
            self.events.append(GapTold([reader.package], Gap(reader.package, 0, BEGINNING, "log replaced")))
        if reader.begun is None:
            reader.begun = reader.position

    def _go_on(self, reader: PackageReader) -> None:
        """Resume a package at its position."""
        assert reader.position is not None
        if reader.wish is not None and not self.gives_snapshots:
            reader.wish, reader.state = None, "current"
            self.events.append(SnapshotRefused(reader.package))
        if reader.state == "behind":
            self._stop(reader)
        elif not reader.durable and reader.position < self.live_position:
            self._replay(reader)

    # ---- packages --------------------------------------------------------------------------------------

    def subscribe(
        self,
        package: str,
        channels: Sequence[str] | None = None,
        *,
        durable: bool = False,
        position: int | None = None,
        snapshot: Sequence[str] = (),
    ) -> None:
        """Start a subscription of a package, or change the channels of its present one.

        Args:
            package: its name.
            channels: patterns of all its plugins, None for everything.
            durable: see :class:`~co2.protocol.wire.link_frames.Subscription`.
            position: where it resumes, in the log ``self.log_id``; None for the end of the log.
            snapshot: patterns of channels; a new subscription without a position first gets their last values
                (:class:`SnapshotCame`).
        """
        interests = Interests(None) if channels is None else Interests.together(channels)
        known = self._readers.get(package)
        if known is not None and known.durable == durable:
            known.interests = interests
        else:
            known = None
            wish = self._new_wish(snapshot) if position is None else None
            if position is None and self.state == "open":
                position = self.live_position
            reader = PackageReader(package, interests, durable, position, wish=wish)
            if wish is not None:
                reader.state = "behind"
            self._readers[package] = reader
        self._tell_interest()
        if known is None and self.state == "open":
            self._place(reader, other_log=False)
            self._go_on(reader)

    def _new_wish(self, patterns: Sequence[str]) -> Wish | None:
        if not patterns:
            return None
        self._wish_number += 1
        return Wish(self._wish_number, list(Interests.together(patterns).patterns or (">",)))

    def unsubscribe(self, package: str) -> None:
        """End the subscription of a package."""
        if self._readers.pop(package, None) is not None:
            self._tell_interest()
            self._write_interest()  # at once: a new package of this name must begin anew at the relay too

    def names_changed(self) -> None:
        """Send changed names of methods and plugins to the relay."""
        self._tell_interest()

    def fell_behind(self, package: str) -> None:
        """Stop giving messages to a package that can take no more, until it catches up."""
        reader = self._readers.get(package)
        if reader is None or reader.state == "behind":
            if reader is not None:
                reader.eager = False
            return
        if reader.state == "replaying":
            reader.full = True  # the bytes it asked for are on their way; it asks for no more
            return
        if reader.is_live and self.state == "open":
            reader.position = self.live_position
        reader.state = "behind"
        if self.state == "open" and reader.position is not None:
            self._stop(reader)

    def catch_up(self, package: str) -> None:
        """Resume a package that fell behind and has room again."""
        reader = self._readers.get(package)
        if reader is None or reader.state == "current" or reader.wish is not None:
            return
        reader.full = False
        if reader.stopping:
            reader.eager = True
        elif reader.state == "behind":
            reader.state = "current"
            if self.state == "open":
                self._replay(reader)

    def live_readers(self, channels: tuple[str, ...] | None) -> list[PackageReader]:
        """Return the packages that get frames of such channels from the live stream."""
        return [one for one in self._readers.values() if one.is_live and one.interests.wants(channels)]

    def count(self, state: str) -> int:
        """Return the number of packages that are ``current``, ``behind`` or ``replaying``."""
        return sum(reader.state == state for reader in self._readers.values())

    def durable_beginnings(self) -> dict[str, int]:
        """Return where each durable package began in this log; 0 if it must be told that the log was replaced."""
        return {
            package: reader.begun
            for package, reader in self._readers.items()
            if reader.durable and reader.begun is not None
        }

    def positions(self) -> dict[str, int]:
        """Return the position of each package."""
        return {
            package: self.live_position if reader.is_live else reader.position or 0
            for package, reader in self._readers.items()
        }

    def _subscriptions(self) -> list[Subscription]:
        """Return the subscriptions for the relay, as many as a frame holds."""
        subscriptions = [
            Subscription(
                reader.package,
                reader.position,
                None if reader.interests.patterns is None else list(reader.interests.patterns),
                reader.durable,
                reader.wish,
            )
            for reader in self._readers.values()
        ]
        return bounded(subscriptions)

    def _tell_interest(self) -> None:
        """Note that the relay must learn of changes; all until the next :meth:`taken` go into one frame."""
        if self.state != "away":  # otherwise the next Hello has them
            self._untold = True

    def _write_interest(self) -> None:
        if self._untold and self.state == "open":
            self._untold = False
            methods, plugins = self._names()
            self._write(Interest(self._subscriptions(), methods, plugins))

    def _stop(self, reader: PackageReader) -> None:
        """Make the relay send nothing to a package for now. It answers; messages before its answer are ignored."""
        assert reader.position is not None
        reader.stopping, reader.eager = True, False
        self._write_interest()  # the relay must know a package before it gets requests for it
        self._write(Replay(reader.package, reader.position, 0))

    def _replay(self, reader: PackageReader) -> None:
        assert reader.position is not None
        reader.state, reader.full = "replaying", False
        self._write_interest()
        self._write(Replay(reader.package, reader.position, REPLAY_ROOM))

    # ---- messages --------------------------------------------------------------------------------------

    def publish(self, package: str, frame: plugin_frames.Publish, count: int) -> None:
        """Send messages of a plugin; they stay in the outbox until the relay has them on disk.

        Args:
            package: of the plugin.
            frame: as its plugin host sent it.
            count: number of its messages.
        """
        self.outbox.put(package, frame, count)
        if self._sent is not None:
            self._remember_sent(frame)
        if self.sent is not None:
            self.sent(package, frame, count)

    def publish_live(self, package: str, frame: plugin_frames.Publish, count: int) -> None:
        """Send messages that are worthless a second later: now, or not at all."""
        if self.state != "open" or self.paused or self._out_bytes > ROOM:
            self.live_dropped += count
            return
        batch = frame.batch
        self._write(Publish(0, 0, package, frame.plugin, frame.channels, crc32(batch), batch))

    def next_number(self) -> tuple[int, int]:
        """Return the end of the run and the number of the plugins' next message, as causes have them.

        Returns:
            (0, 0) if the relay wants no causes.
        """
        run = self.outbox.epoch & MAX_RUN
        return (run, self.outbox.last + 1) if self.causes and run else (0, 0)

    def _keep_receipt(self, receipt: Receipt) -> None:
        others = (one for one in self.receipts if one.log_id != receipt.log_id)
        self.receipts = (receipt, *others)[: 1 + MAX_RECEIPTS]

    def _hold(self, hold: Hold) -> None:
        """Keep messages that the relay has no room for; or send them again."""
        self.held = hold.text[:512]
        if not self.held:
            self.outbox.again()
            self._write(Hold())
        self.events.append(Held(self.held))

    def _ack(self, ack: Ack) -> None:
        self._acknowledged(ack.epoch, ack.seq)

    def _acknowledged(self, epoch: int, seq: int) -> bool:
        """Process an acknowledgement; one of messages never sent ends the link, to resend the waiting ones.

        Another sender has used the numbers of this run: the relay would take our messages for repeats.
        """
        if self.outbox.acknowledged(epoch, seq):
            return True
        self.events.append(NumbersTaken(epoch, seq))
        last = self.outbox.last_of(epoch)
        text = f"the relay acknowledged message {seq}, but the last one was {last}: sending in a new run"
        self.end(close_reasons.OUT_OF_ORDER, text)
        return False

    def _deliver(self, frame: Deliver) -> None:
        count = batch_count(frame.batch)
        if crc32(frame.batch) != frame.crc:
            self.end(close_reasons.DAMAGED, f"wrong checksum of the frame at position {frame.position}")
            return
        end = frame.position + count - 1
        origin = frame.host_id.partition("@")[0]
        last = frame.seq + count - 1
        channels = None if frame.channels is None else tuple(frame.channels)
        skip = 0
        if frame.package:
            readers, skip = self._readers_apart(frame, end)
        else:
            readers = [reader for reader in self._readers.values() if reader.is_live]
            if frame.position:
                self.live_position = end
                if self.heard is not None and frame.epoch:
                    self.heard(frame, count)
        packages = []
        for reader in readers:
            if not reader.interests.wants(channels):
                continue
            if reader.is_new(origin, frame.epoch, last):
                packages.append(reader.package)
            else:
                self.repeats += count
        if packages:
            self.events.append(Delivered(packages, frame, skip, count))

    def _readers_apart(self, frame: Deliver, end: int) -> tuple[list[PackageReader], int]:
        reader = self._readers.get(frame.package)
        if reader is None or reader.state == "behind" or reader.is_live or end <= (reader.position or 0):
            return [], 0
        skip = max(0, (reader.position or 0) - frame.position + 1)
        reader.position = end
        return [reader], skip

    # ---- last values -----------------------------------------------------------------------------------

    @property
    def waits_for_values(self) -> bool:
        """Whether a package waits for last values."""
        return any(reader.wish is not None for reader in self._readers.values())

    def remember_sent(self, wanted: bool) -> None:
        """Remember what plugins send from now on, or no longer.

        A package that starts gets the messages of its siblings at once. Last values that are older, or that are
        these same messages, must not come behind them.
        """
        if wanted:
            self._sent = {} if self._sent is None else self._sent
        else:
            self._sent = None

    def _remember_sent(self, frame: plugin_frames.Publish) -> None:
        assert self._sent is not None
        number = self.outbox.epoch, self.outbox.last
        for channel in channels_in(frame.batch) if frame.channels is None else frame.channels:
            self._sent.pop(channel, None)
            self._sent[channel] = number
        while len(self._sent) > MAX_REMEMBERED:
            del self._sent[next(iter(self._sent))]

    def _snapshot(self, frame: Snapshot) -> None:
        """Take last values; with the last part the package reads on behind their position."""
        reader = self._readers.get(frame.package)
        if reader is None or reader.wish is None or reader.wish.number != frame.number:
            return  # for an earlier package of this name
        reader.values += frame.values
        if not frame.ends:
            return
        values = [value for value in reader.values if reader.durable or self._is_last(value, frame.own)]
        for value in reader.values:  # with another copy of this log, the same messages may come at other positions
            reader.is_new(value.host_id.partition("@")[0], value.epoch, value.last)
        reader.values, reader.wish = [], None
        reader.position = reader.begun = frame.position
        self.events.append(SnapshotCame(frame.package, values, frame.left_out))
        self.catch_up(frame.package)

    def _is_last(self, value: SnapshotValue, own: int) -> bool:
        """Return whether no message that siblings have got from us at once follows a value, or is the same.

        Args:
            value: as the relay has it.
            own: number of our last message that the relay had then.
        """
        sent = (self._sent or {}).get(value.channel)
        if sent is None:
            return True
        epoch, number = sent
        if epoch != self.outbox.epoch or number > own:
            return False
        is_own = value.host_id.partition("@")[0] == self.host_id.origin and value.epoch == epoch
        return not (is_own and value.seq <= number)

    def _replayed(self, frame: Replay) -> None:
        """End a replay: all requested messages have come, or no more will, as the package fell behind."""
        reader = self._readers.get(frame.package)
        if reader is None:
            return
        if reader.stopping:
            reader.stopping = False
            if reader.eager:
                self._replay(reader)
            return
        if reader.state != "replaying":
            return
        reader.position = frame.position
        full = reader.full
        if frame.room > 0:
            reader.state, reader.full = "current", False
            if not reader.durable:
                # The relay's live stream is there too, though it had nothing to send on the way.
                self.live_position = max(self.live_position, frame.position)
            if full:
                self.fell_behind(frame.package)
        elif full:
            reader.state, reader.full = "behind", False
        else:
            self._replay(reader)

    def _gap(self, gap: Gap) -> None:
        if gap.package:
            reader = self._readers.get(gap.package)
            if reader is None or (reader.stopping and gap.next > BEGINNING):
                return  # messages before it were ignored; the relay reports it again in its place
            packages = [gap.package]
            reader.position = gap.next
        else:
            packages = [reader.package for reader in self._readers.values() if reader.is_live]
            self.live_position = max(self.live_position, gap.next)
        if packages:
            self.events.append(GapTold(packages, gap))

    # ---- calls and the rest ----------------------------------------------------------------------------

    def call(self, call: Call) -> None:
        """Call a method of the relay."""
        self._write(call)

    def answer(self, result: Result) -> None:
        """Answer a call from the relay."""
        if self.state == "open":
            self._write(result)

    def tell_applied(self) -> None:
        """Report the positions of the packages."""
        if self.state == "open" and self._readers:
            self._write(Applied(self.positions()))

    def tell_health(self, health: list[Health], listens: str) -> None:
        """Report the health of the packages, and the IP address that this host listens on."""
        if self.state == "open":
            self._write(Applied(self.positions(), health, listens))

    def _write(self, frame: Any) -> None:
        data = encode_link_frame(frame)
        self._out.append(data)
        self._out_bytes += len(data)
