"""The relay's side of the link, without I/O: frames in, frames and events out.

1. Everything that changes the state of a link is in this subpackage. The relay calls the methods of
   :class:`RelayCore`, sends what the links have to send, and handles ``RelayCore.events``.
2. There are no sockets, no asyncio, no threads and no clocks here: ``now`` returns the time, and ``log`` stores
   the messages.
3. :data:`co2.protocol.transitions.RELAY` defines which frame is allowed in which state.

The path of a message: a Publish is checked against the sender's mark and appended to the log. It is sent at once
to every live stream at the end of the log; when it is on disk, its sender is acknowledged and durable streams get
it. If there are relay plugins, it passes them first (``filter_chain.py``). A message without a number (from
XML-RPC) is delivered only once it is on disk, and delays later messages until then.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from co2.errors import BadRequest, StorageFailed, StorageFull
from co2.host_id import ADDRESS_PREFIX, HostId
from co2.host_name import is_host_name
from co2.protocol.relay.cursors import Peer, Stream, union
from co2.protocol.relay.events import (
    AdmissionWanted,
    CallReceived,
    DiskWanted,
    Event,
    IdReused,
    Joined,
    Left,
    OriginClaimed,
    ResultReceived,
    ValuesWanted,
)
from co2.protocol.relay.fan_out import FanOut
from co2.protocol.relay.filter_chain import FilterChain, InFlight
from co2.protocol.relay.last_values import MAX_FORGOTTEN, Answer, Question
from co2.protocol.relay.log import Entry, Log, LogGap, Reading
from co2.protocol.relay.losses import MAX_LOSSES
from co2.protocol.relay.origins import OriginBook, hash_of_token
from co2.protocol.relay.places import Places
from co2.protocol.relay.receipts import ReceiptKey
from co2.protocol.relay.resume import in_this_log, live_beginning, lost_in_words, meet
from co2.protocol.relay.roster import RosterBook
from co2.protocol.relay.snapshots import Snapshots
from co2.protocol.relay.takeovers import RETURN, Takeovers
from co2.protocol.transitions import RELAY, Admitted, Asked, Lost, in_place, next_state
from co2.protocol.wire import close_reasons
from co2.protocol.wire.batch import batch_count
from co2.protocol.wire.channel_patterns import Interests
from co2.protocol.wire.checksum import crc32
from co2.protocol.wire.host_names import check_names
from co2.protocol.wire.link_frames import (
    Ack,
    Applied,
    Call,
    Gap,
    Goodbye,
    Hello,
    Hold,
    Interest,
    Publish,
    Replay,
    Result,
    SatelliteFrame,
    Subscription,
    Welcome,
    decode_satellite_frame,
    encode_link_frame,
)
from co2.protocol.wire.package_health import MAX_HEALTH_TEXT, health_text

__all__ = [
    "AdmissionWanted",
    "CallReceived",
    "DiskWanted",
    "IdReused",
    "Joined",
    "Left",
    "OriginClaimed",
    "RelayCore",
    "ResultReceived",
    "ValuesWanted",
]

ASKED_BYTES = 256
"""Bytes of a request frame for which it counts once more in :attr:`Peer.asked`."""

ASKED_SUBSCRIPTIONS = 8
"""Subscriptions for which a frame counts once more: each takes 1 to 2 microseconds."""

ASKED_PATTERNS = 16
"""Patterns of subscriptions for which a frame counts once more: each takes 0.8 microseconds."""

ASKED_AT_ONCE = 16
"""Count of one link's frames in one turn, before others have theirs: about a millisecond."""

REPEAT_ASKED = 5
"""Count of a resent frame: it is looked up in the log."""

_FREE = frozenset((Publish, Result))
"""Frames that do not count: messages, which the log's backlog limits, and answers to calls of ours."""

IMPOSTOR_FOR = 60.0
"""Seconds after which a satellite with another one's origin may try again."""

FULL_FOR = 10.0
"""Seconds after which a satellite that found no place, or gave way, may try again."""

MORE_LOST = "the relay lost messages of more satellites than it can list"
"""Reason for the last loss that is reported in one run."""

_NOT_YOURS = (
    "the origin {0} belongs to another state folder, whose file 'secret' is missing or different here. Restore "
    "it; "
    "or remove 'origin' and 'secret' here to join as a new satellite; or, if the other satellite is gone for "
    "good, "
    "run `co2 forget {0}` on the relay's machine, which releases the origin"
)

_NO_PLACE = (
    "the relay is full (max_sats), and no other address has enough more satellites than yours for one of them to "
    "give way. Raise max_sats on the relay, or stop satellites that are not needed"
)

_GIVES_WAY = (
    "the relay is full (max_sats), and {0} has the most satellites, {1}: a satellite from another address took "
    "this "
    "place. Raise max_sats on the relay, or stop satellites at {0} that are not needed"
)


class RelayCore:
    """All links of a relay and its log.

    Args:
        log: that stores all messages.
        host_id: the relay's own.
        max_peers: returns how many links there may be now.
        now: monotonic seconds.
        wall: time of a message that comes now, seconds since 1970.
        origins: owners of the origins; None for a new, empty book.
        receipts: key of the satellites' receipts; None for no receipts, and no proofs then.
        name: of the relay, as it wishes for it; '' for one made of its origin.

    Attributes:
        filter_chain: the relay plugins that messages pass.
        asks: a relay plugin decides whether a satellite may join: see :class:`AdmissionWanted`.
        keeps: changes of ``origins`` get to disk before their satellite joins: see :class:`OriginClaimed`.
        elsewhere: returns the address that has registered an origin without a link, '' for none.
        impostors: Hellos that were refused because their origin belongs to another satellite.
        names: of all hosts.
        name: the relay's own.
        places: the places of the links.
        gave_way: links that ended to make room for another address.
        live_heard: takes live messages, for members without a link; None if nobody wants them.
        appended: called with each numbered frame that the log has taken, and its peer; None if nobody wants them.
        closing: no more messages are accepted; their senders keep them for the relay's next run.
    """

    def __init__(
        self,
        log: Log,
        host_id: str,
        *,
        max_peers: Callable[[], int],
        now: Callable[[], float],
        wall: Callable[[], float],
        origins: OriginBook | None = None,
        receipts: ReceiptKey | None = None,
        name: str = "",
    ) -> None:
        self._receipts = receipts
        self._renamed = False
        self._losers: dict[str, int] = {}  # each with where the log was when its loss was noted
        self.origins = OriginBook() if origins is None else origins
        self.names = self.origins.names
        origin = host_id.partition("@")[0]
        self.name = self.names.give(origin, name)
        self.names.arrived(origin)
        self.keeps = False
        self.elsewhere: Callable[[str], str] = lambda _origin: ""
        self.impostors = 0
        self.gave_way = 0
        self.log = log
        self.host_id = host_id
        self.events: deque[Event] = deque()
        self.ready: dict[Peer, None] = {}
        self.peers: dict[str, Peer] = {}
        self.places = Places(self.origins)
        self.roster = RosterBook(self.peers)
        self._max_peers = max_peers
        self._now = now
        self.wall = wall
        self.takeovers = Takeovers(now)
        self.filter_chain = FilterChain()
        self.asks = False
        self.causes = True
        self.closing = False
        self.fan_out = FanOut(log, self.events)
        self.snapshots = Snapshots(log, self.fan_out, self.events)
        self._unacked: dict[Peer, None] = {}
        self._waiting: dict[Peer, None] = {}
        self.live_heard: Callable[[Entry], None] | None = None
        self.appended: Callable[[Peer, Entry], None] | None = None
        handlers: dict[type, Callable[[Peer, Any], None]] = {
            Hello: self._hello,
            Publish: self._publish,
            Hold: self._comes_again,
            Interest: self._interest,
            Replay: self._replay,
            Applied: self._applied,
            Call: lambda peer, call: self.events.append(CallReceived(peer, call)),
            Result: lambda peer, result: self.events.append(ResultReceived(peer, result)),
            Goodbye: lambda peer, goodbye: self._leave(peer, goodbye.reason, goodbye.text),
        }
        self._handlers = in_place(RELAY, handlers)

    # ---- links -----------------------------------------------------------------------------------------

    def opened(self, address: tuple[str, int]) -> Peer:
        """Return the peer of a new connection."""
        return Peer(self, address)

    def receive(self, peer: Peer, *frames: bytes | memoryview) -> None:
        """Process frames that arrived together; their messages are passed on together.

        An invalid frame ends this one link, with a Goodbye that says why.
        """
        peer.scanned = 0
        for data in frames:
            self._process_frame(peer, data)
        self.fan_out.advance()

    def receive_some(self, peer: Peer, frames: Sequence[bytes | memoryview]) -> int:
        """Process frames as :meth:`receive` does, until they count for :data:`ASKED_AT_ONCE`.

        Returns:
            The number of frames processed. The caller sets :attr:`Peer.asked` to 0 before it passes the rest.
        """
        peer.scanned = 0
        count = 0
        for data in frames:
            self._process_frame(peer, data)
            count += 1
            if peer.asked >= ASKED_AT_ONCE:
                break
        self.fan_out.advance()
        return count

    def _process_frame(self, peer: Peer, data: bytes | memoryview) -> None:
        if peer.state == "closed":
            return
        try:
            frame: SatelliteFrame = decode_satellite_frame(data)
            if (handler := self._handlers[peer.state].get(type(frame))) is not None:
                handler(peer, frame)
                if type(frame) not in _FREE:
                    peer.asked += 1 + len(data) // ASKED_BYTES
                return
        except BadRequest as error:
            self.end(peer, close_reasons.GARBAGE, str(error))
            return
        except StorageFull as error:
            self._storage(peer, error)
            return
        self.end(peer, close_reasons.OUT_OF_PLACE, f"{type(frame).__name__} while the link is {peer.state}")

    def _storage(self, peer: Peer, error: StorageFull) -> None:
        """Make a sender wait for room on disk; end its link if it cannot wait or the disk failed."""
        if peer.holds and not isinstance(error, StorageFailed):
            if peer.state == "open":
                peer.skips = True
                if not peer.waits:
                    peer.waits = True
                    self._waiting[peer] = None
                    peer.write(encode_link_frame(Hold(str(error)[:512])))
                    self.has_room()  # the log's thread may have made room since the refusal
            return
        self.end(peer, close_reasons.STORAGE, str(error), retry_after=5.0)

    def has_room(self) -> None:
        """Resume the senders that wait to resend, if the disk has room again."""
        if not self._waiting or not self.log.takes:
            return
        waiting, self._waiting = self._waiting, {}
        for peer in waiting:
            peer.waits = False
            peer.write(encode_link_frame(Hold()))

    def _comes_again(self, peer: Peer, _hold: Hold) -> None:
        """Accept messages again: from here on the peer resends all unacknowledged ones, from the first."""
        if peer.skips and not peer.waits:
            peer.skips = False
            peer.resends += 1

    def lost(self, peer: Peer, why: str) -> None:
        """End a link whose connection is lost."""
        self._leave(peer, "", why)

    def end(self, peer: Peer, reason: str, text: str, retry_after: float = 0.0) -> None:
        """Send a Goodbye."""
        if peer.state == "closed":
            return
        peer.write(encode_link_frame(Goodbye(reason, text[:512], retry_after)))
        self._leave(peer, reason, text)

    def pause(self, peer: Peer) -> None:
        """Stop a peer's streams: the transport's buffer is full."""
        peer.paused = True

    def resume(self, peer: Peer) -> None:
        """Resume a peer's streams: the transport has room again."""
        peer.paused = False
        self.fan_out.pump(peer)

    def taken(self, peer: Peer) -> list[bytes]:
        """Return the frames that wait for a peer, and read on for it."""
        frames = peer.taken()
        self.fan_out.pump(peer)
        return frames

    # ---- hello and goodbye -----------------------------------------------------------------------------

    def _hello(self, peer: Peer, hello: Hello) -> None:
        try:
            proposed = HostId.parse(hello.host_id)
        except ValueError as error:
            self.end(peer, close_reasons.IDENTITY, str(error))
            return
        if proposed.origin.startswith(ADDRESS_PREFIX):
            self.end(
                peer,
                close_reasons.IDENTITY,
                (f"origins that begin with {ADDRESS_PREFIX} are reserved for senders without a link"),
            )
            return
        if hello.name and not is_host_name(hello.name):
            raise BadRequest(f"not a name of a host: {hello.name!r}")
        check_names(hello.methods, hello.plugins)
        seen = HostId(proposed.origin, peer.address[0], proposed.port)
        if not self.asks:
            self._let_in(peer, seen, hello)
        elif not self._is_refused(peer, seen, hello):
            peer.state = next_state(RELAY, peer.state, Asked)
            self.events.append(AdmissionWanted(peer, seen, hello))

    def admit(self, asked: AdmissionWanted) -> None:
        """Admit a satellite; a refused one gets :meth:`end` instead."""
        if asked.peer.state == "asked":
            self._let_in(asked.peer, asked.host_id, asked.hello)
            self.fan_out.advance()

    def claimed(self, claim: OriginClaimed) -> None:
        """Admit a satellite whose ownership of its origin is on disk now."""
        if claim.peer.state == "asked":
            self._admit(claim.peer, claim.host_id, claim.hello)
            self.fan_out.advance()

    def _is_refused(self, peer: Peer, host_id: HostId, hello: Hello) -> bool:
        """Refuse a satellite that does not own its origin, or has no place; the owner's link is not affected."""
        origin, token = host_id.origin, hash_of_token(hello.token)
        older = self.peers.get(origin)
        # An owner that the book had no room for holds its origin as long as its link lasts.
        holder = b"" if older is None or self.origins.get(origin) is not None else older.token
        if not self.origins.is_owner(origin, token) or holder not in (b"", token):
            self.impostors += 1
            self.end(peer, close_reasons.IDENTITY, _NOT_YOURS.format(origin), IMPOSTOR_FOR)
        elif self.elsewhere(origin) not in ("", host_id.ip):
            self.impostors += 1
            self.end(peer, close_reasons.IDENTITY, f"{origin} is registered from another address", IMPOSTOR_FOR)
        elif older is None and self._is_full and self.places.giving_way(peer.address[0]) is None:
            self.end(peer, close_reasons.FULL, _NO_PLACE, FULL_FOR)
        else:
            return False
        return True

    @property
    def _is_full(self) -> bool:
        return len(self.peers) >= self._max_peers()

    def make_room(self, ip: str, others: int = 0) -> bool:
        """End the link that gives way to a newcomer, if there is one; return whether there was.

        Args:
            ip: the newcomer's address.
            others: members without a link from that address.
        """
        peer = self.places.giving_way(ip, others)
        if peer is None:
            return False
        self.gave_way += 1
        here, number = peer.address[0], self.places.held_by(peer.address[0])
        self.end(peer, close_reasons.FULL, _GIVES_WAY.format(here, number), FULL_FOR)
        return True

    def _let_in(self, peer: Peer, host_id: HostId, hello: Hello) -> None:
        """Admit the owner of an origin: at once, or when its ownership is on disk."""
        if self._is_refused(peer, host_id, hello):
            return
        peer.was_known = self.origins.get(host_id.origin) is not None
        if self.origins.claim(host_id, hash_of_token(hello.token), hello.name) and self.keeps:
            if peer.state == "opening":
                peer.state = next_state(RELAY, peer.state, Asked)
            self.events.append(OriginClaimed(peer, host_id, hello))
        else:
            self._admit(peer, host_id, hello)

    def _admit(self, peer: Peer, host_id: HostId, hello: Hello) -> None:
        if self._is_refused(peer, host_id, hello):  # much may have happened during the wait for the disk
            return
        older = self.peers.get(host_id.origin)
        peer.run = hello.outbox[-1][0] if hello.outbox else 0
        peer.holds = hello.holds
        if older is not None and not self._take_over(older, peer):
            return
        if self._is_full:
            self.make_room(peer.address[0])
        peer.host_id, peer.token = host_id, hash_of_token(hello.token)
        peer.state = next_state(RELAY, peer.state, Hello if peer.state == "opening" else Admitted)
        self.peers[peer.origin] = peer
        # Not before: a satellite that is refused must not rename the one whose identity it has.
        peer.name = self.origins.name(peer.origin, hello.name)
        self.names.arrived(peer.origin)
        self.places.take(peer)
        rolled_back = self._rolled_back(peer.origin, hello)
        acks = self._meet(peer, hello.outbox, rolled_back)
        subscriptions, gaps = self._welcome(peer, hello, acks, rolled_back)
        peer.methods, peer.plugins = tuple(hello.methods), tuple(hello.plugins)
        for package, gap in gaps:
            peer.gaps += 1
            peer.write(encode_link_frame(Gap(package, gap.after, gap.next, gap.reason)))
        self._subscribe(peer, subscriptions)
        self.events.append(Joined(peer))

    def _take_over(self, older: Peer, newer: Peer) -> bool:
        if self.takeovers.is_clone(older.origin, older.run, newer.run):
            text = (
                f"two satellites use the same identity, from {older.address[0]} and {newer.address[0]}: was a "
                "state folder, or a whole memory card, copied? Stop one of them and give it a new identity "
                "with `co2 state new-id --state FOLDER`; until then both are refused"
            )
            for peer in (older, newer):
                self.end(peer, close_reasons.CLONED, text, retry_after=60.0)
            return False
        self.end(
            older,
            close_reasons.TAKEN_OVER,
            f"replaced by a newer link from {newer.address[0]}",
            retry_after=RETURN,
        )
        return True

    def _rolled_back(self, origin: str, hello: Hello) -> bool:
        """Return whether a satellite shows a receipt of ours for messages that this log does not hold.

        The newest receipt for this log counts. One for an earlier id of the log proves nothing more once the
        satellite has one for a later id: it has been told by then.
        """
        if hello.receipt is None or self._receipts is None:
            return False
        for receipt in (hello.receipt, *hello.former_receipts):
            if self.log.was_called(receipt.log_id) and self._receipts.is_true(origin, receipt):
                return self.log.was_rolled_back(receipt.log_id, receipt.run, receipt.position)
        return False

    def _meet(self, peer: Peer, outbox: Sequence[tuple[int, int]], rolled_back: bool) -> list[tuple[int, int]]:
        """Find where each run's numbers resume; return the last seq of each that is on disk.

        Claims about a run that the log does not know are kept with the link only, until there is a message of that
        run: endless Hellos leave nothing behind. Losses are reported once per run of the relay for each satellite,
        in one gap.
        """
        met = [(epoch, meet(self.log, peer, epoch, first, rolled_back)) for epoch, first in outbox]
        peer.begins = {epoch: found.acked for epoch, found in met if found.is_new_mark}
        lost = [found.lost for _, found in met if found.lost is not None]
        if lost and peer.origin not in self._losers and len(self._losers) < MAX_LOSSES:
            self._losers[peer.origin] = self.log.last
            is_last = len(self._losers) == MAX_LOSSES
            told = MORE_LOST if is_last else lost_in_words(str(peer.host_id), lost)
            # Noted before the marks: a crash in between must not hide the loss.
            self.fan_out.add_loss("" if is_last else peer.origin, told)
            for epoch, found in met:
                if found.lost is not None:
                    self.log.set_mark(peer.origin, epoch, found.acked)
        return [(epoch, found.acked) for epoch, found in met]

    def _welcome(
        self, peer: Peer, hello: Hello, acks: list[tuple[int, int]], rolled_back: bool
    ) -> tuple[list[Subscription], list[tuple[str, LogGap]]]:
        """Send a Welcome; return the subscriptions as they apply to this log, and the gaps that result."""
        known = [sub.position for sub in hello.subscriptions if sub.position is not None]
        has_read_on = known and hello.log_id == self.log.log_id and not self.log.holds(hello.run, max(known))
        if has_read_on and rolled_back and not self._renamed:
            self._renamed = True
            self.log.replace_id()
            for other in [other for other in self.peers.values() if other.live is not None]:
                text = "a satellite has read beyond the end of this log: the log was rolled back"
                self.end(other, close_reasons.LOG_REPLACED, text)
        subscriptions, gaps = in_this_log(self.log, hello)
        peer.live = Stream(peer, "", live_beginning(subscriptions, self.fan_out.visible), union(subscriptions))
        welcome = Welcome(
            str(peer.host_id), self.host_id, self.log.log_id, self.log.run, peer.live.position, acks,
            anew=bool(gaps), name=peer.name, snapshots=True, causes=self.causes,
        )  # fmt: skip
        if peer.token and self._receipts is not None and self._gives_receipts(peer):
            peer.receipt = self.fan_out.committed
            welcome.receipt = self._receipts.sign(peer.origin, self.log.log_id, self.log.run, peer.receipt)
        peer.write(encode_link_frame(welcome))
        return subscriptions, gaps

    def _gives_receipts(self, peer: Peer) -> bool:
        """Return whether a satellite gets a new receipt: not before the loss that its last one proved is on disk.

        Otherwise a crash would take away both: the noted loss, and its proof.
        """
        if not self.log.takes:  # the run of this log may not be on disk
            return False
        noted = self._losers.get(peer.origin)
        return noted is None or self.fan_out.committed > noted

    def give_receipts(self, peers: Iterable[Peer]) -> None:
        """Send new receipts to links, for messages that have reached the disk; every few seconds."""
        if self._receipts is None or not self.log.takes:
            return
        position = self.fan_out.committed
        for peer in peers:
            if peer.token and peer.receipt < position and peer.has_room and self._gives_receipts(peer):
                receipt = self._receipts.sign(peer.origin, self.log.log_id, self.log.run, position)
                peer.receipt = position
                peer.write(encode_link_frame(receipt))

    def note_publishers(self, peers: Iterable[Peer]) -> None:
        """Keep the origins known that have sent messages; every few seconds."""
        for peer in peers:
            if peer.published:
                self.origins.has_published(peer.origin)

    def _leave(self, peer: Peer, reason: str, text: str) -> None:
        if peer.state == "closed":
            return
        was_open = peer.state == "open"
        peer.state = next_state(RELAY, peer.state, Lost)
        if was_open and self.peers.get(peer.origin) is peer:
            del self.peers[peer.origin]
            self.names.left(peer.origin)
        self.places.free(peer)
        if peer.published:
            self.origins.has_published(peer.origin)
        self._unacked.pop(peer, None)
        self._waiting.pop(peer, None)
        self.snapshots.forget(peer)
        for stream in [peer.live, *peer.streams.values()]:
            if stream is not None:
                self.fan_out.forget(stream)
        self.events.append(Left(peer, reason, text))

    # ---- subscriptions ---------------------------------------------------------------------------------

    def _interest(self, peer: Peer, frame: Interest) -> None:
        check_names(frame.methods, frame.plugins)
        patterns = sum(
            len(sub.channels or ()) + (len(sub.wish.channels) if sub.wish is not None else 0)
            for sub in frame.subscriptions
        )
        peer.asked += len(frame.subscriptions) // ASKED_SUBSCRIPTIONS + patterns // ASKED_PATTERNS
        peer.methods, peer.plugins = tuple(frame.methods), tuple(frame.plugins)
        self._subscribe(peer, frame.subscriptions)
        self.events.append(Joined(peer))

    def _subscribe(self, peer: Peer, subscriptions: Sequence[Subscription]) -> None:
        """Set up a stream for each durable package; live packages share one, until they ask for a replay."""
        for stream in peer.subscribe(subscriptions, self.fan_out.committed):
            self.fan_out.forget(stream)
        self.snapshots.subscribed(peer)
        self.fan_out.pump(peer)

    def _replay(self, peer: Peer, frame: Replay) -> None:
        sub = peer.subscriptions.get(frame.package)
        if sub is None:
            raise BadRequest(f"replay requested for {frame.package[:80]!r}, which has no subscription")
        self._check_position(frame.position)
        if frame.package in peer.streams:
            self.fan_out.forget(peer.streams[frame.package])
        interests, room = Interests(sub.channels), max(0, frame.room)
        peer.streams[frame.package] = Stream(peer, frame.package, frame.position, interests, sub.durable, room)
        if not room:
            # Earlier frames belong to the old stream: the reader waits for this one, and ignores them.
            peer.write(encode_link_frame(Replay(frame.package, frame.position, 0)))
        peer.settle_live()
        self.fan_out.pump(peer)

    def _applied(self, peer: Peer, frame: Applied) -> None:
        for position in frame.positions.values():
            self._check_position(position)
        peer.applied = frame.positions
        if frame.health is not None:
            if health_text(frame.health) > MAX_HEALTH_TEXT:
                raise BadRequest(f"the health report of the packages has more than {MAX_HEALTH_TEXT} characters")
            peer.health, peer.health_at, peer.listens = frame.health, self._now(), frame.listens

    def _check_position(self, position: int) -> None:
        if position >= self.log.lease:
            raise BadRequest(f"position {position} was never assigned; the last one was {self.log.lease - 1}")

    # ---- messages in -----------------------------------------------------------------------------------

    def _publish(self, peer: Peer, frame: Publish) -> None:
        if self.closing:
            return
        count = batch_count(frame.batch)
        if crc32(frame.batch) != frame.crc:
            self.end(peer, close_reasons.DAMAGED, f"wrong checksum of message {frame.seq}")
        elif frame.epoch and peer.skips:
            return  # it was on its way when its sender was told to wait
        elif self.filter_chain.occupied:
            if frame.epoch and peer.holds:
                self.log.check_room()
            self._send_through(peer, frame, count)
        else:
            self._accept(peer, frame, count)

    def _send_through(self, peer: Peer, frame: Publish, count: int) -> None:
        """Pass messages through the relay plugins first. They count even if their link ends meanwhile."""
        resends = peer.resends

        def release(through: InFlight) -> None:
            if frame.epoch and peer.resends != resends:
                return  # a message before it was refused meanwhile: both come again, in order
            if through.batch is not frame.batch:
                frame.batch, frame.crc = through.batch, crc32(through.batch)
                frame.channels = None if through.channels is None else list(through.channels)
            try:
                self._accept(peer, frame, count)
            except StorageFull as error:
                self._storage(peer, error)

        channels = None if frame.channels is None else tuple(frame.channels)
        self.filter_chain.enter(InFlight(str(peer.host_id), peer.address, frame.batch, count, channels, release))

    def _accept(self, peer: Peer, frame: Publish, count: int) -> None:
        """Accept a frame that has passed the relay plugins."""
        if not frame.epoch:
            self.fan_out.advance()  # earlier messages of the same read go first
            self._pass_live(peer, frame, count)
            return
        mark = self.log.marks.get((peer.origin, frame.epoch))
        last = frame.seq + count - 1
        if mark is None or (last > mark and frame.seq != mark + 1):
            begins = peer.begins.get(frame.epoch)
            if peer.skips:
                return  # it is resent behind the message that was refused before it
            if begins is None or frame.seq != begins + 1 or begins < (mark or 0):
                after = mark if begins is None else begins
                self.end(peer, close_reasons.OUT_OF_ORDER, f"got message {frame.seq} of this run after {after}")
                return
        elif last <= mark:
            self._repeated(peer, frame, last)
            return
        entry = self.log.append(
            origin=peer.origin,
            host_id=str(peer.host_id),
            client_address=peer.address,
            batch=frame.batch,
            count=count,
            epoch=frame.epoch,
            seq=frame.seq,
            package=frame.package,
            plugin=frame.plugin,
            channels=None if frame.channels is None else tuple(frame.channels),
            crc=frame.crc,
            at=self.wall(),
        )
        peer.begins.pop(frame.epoch, None)
        if self.appended is not None:
            self.appended(peer, entry)
        peer.published += count
        if peer.state == "open":
            peer.unacked.append((entry.end, frame.epoch, last))
            self._unacked[peer] = None
        self.fan_out.add(entry)

    def _pass_live(self, peer: Peer, frame: Publish, count: int) -> None:
        """Pass on messages that are worthless a second later, to peers that have room for them now."""
        channels = None if frame.channels is None else tuple(frame.channels)
        entry = Entry(
            0, count, peer.origin, str(peer.host_id), peer.address, 0, 0, frame.package, frame.plugin, channels,
            frame.crc, frame.batch, self.wall(),
        )  # fmt: skip
        peer.published += count
        self._give_live(entry)

    def pass_live_unnumbered(self, origin: str, message: InFlight) -> None:
        """Pass on live messages of a sender without a link.

        Args:
            origin: the sender's.
            message: as it left the relay plugins.
        """
        self.fan_out.advance()  # earlier messages go first
        self._give_live(
            Entry(
                0, message.count, origin, message.host_id, message.client_address, 0, 0, "", "", message.channels,
                crc32(message.batch), message.batch, self.wall(),
            )
        )  # fmt: skip

    def _give_live(self, entry: Entry) -> None:
        if self.live_heard is not None:
            self.live_heard(entry)
        for other in self.peers.values():
            stream = other.live
            if stream is None or not stream.wants(entry):
                continue
            if other.has_room:
                stream.give_live(entry)
            else:
                other.live_dropped += entry.count

    def _repeated(self, peer: Peer, frame: Publish, last: int) -> None:
        peer.repeats += 1
        peer.asked += REPEAT_ASKED
        crc = self.log.find(peer.origin, frame.epoch, frame.seq)
        if (
            crc is not None and crc != frame.crc and not self.filter_chain.occupied
        ):  # relay plugins may have changed it
            self.events.append(IdReused(peer, frame.epoch, frame.seq))
        if peer.state != "open":
            return
        # It may have been appended and not be on disk yet: then the commit acknowledges it.
        peer.unacked.append((self.log.last, frame.epoch, last))
        self._unacked[peer] = None
        if self.log.committed >= self.log.last:
            self._acknowledge(peer)

    def come_through(self) -> None:
        """Pass on messages that have passed the relay plugins."""
        self.fan_out.advance()

    def append_unnumbered(self, origin: str, message: InFlight, message_id: str = "") -> Entry:
        """Append a message that has no number, with its id; it is passed on once it is on disk.

        Args:
            origin: the sender's.
            message: as it left the relay plugins.
            message_id: that its sender gave it, '' for none.

        Raises:
            StorageFull: there is no room.
            StorageFailed: the disk failed.
        """
        entry = self.log.append(
            origin=origin,
            host_id=message.host_id,
            client_address=message.client_address,
            batch=message.batch,
            count=message.count,
            channels=message.channels,
            crc=crc32(message.batch),
            at=self.wall(),
            message_id=message_id,
        )
        self.fan_out.add(entry, from_disk=True)
        self.fan_out.advance()
        return entry

    # ---- last values -------------------------------------------------------------------------------------

    def values_restored(self) -> None:
        """Go on with the wishes for last values: the index is complete."""
        self.snapshots.work()

    def values_read(self, question: Question, found: Answer) -> None:
        """Send a package the last values that it has wished for."""
        self.snapshots.answered(question, found)

    def values_unread(self, peer: Peer, question: Question, why: str) -> None:
        """End a link whose values cannot be read; its satellite tries again."""
        self.snapshots.failed(question)
        self.lost(peer, why)

    def forget_values(self, pattern: str) -> int:
        """Make channels have no last value, for later runs too, until the next message; return their number.

        A question about them should have been asked before: it finds those that only batches name.

        Raises:
            BadRequest: not a pattern; or too many channels are forgotten whose messages the log still has.
        """
        values, log = self.fan_out.last_values, self.log
        channels = values.channels(Interests((pattern,)))
        forgotten = {
            one: up_to
            for one, up_to in log.forgotten.items()
            # A newer message on disk is found before those that are forgotten.
            if up_to > log.gone and not up_to < values.position(one) <= log.committed
        }
        forgotten |= dict.fromkeys(channels, log.last)
        if len(forgotten) > MAX_FORGOTTEN:
            raise BadRequest(
                f"{len(forgotten)} channels would be forgotten whose messages the log still has; the limit is "
                f"{MAX_FORGOTTEN}. Send a message with ttl = 0 on a channel instead, which empties it, too"
            )
        if channels:
            log.set_forgotten(forgotten)
            for channel in channels:
                values.forget(channel)
        return len(channels)

    # ---- commits -----------------------------------------------------------------------------------------

    def committed(self, position: int) -> None:
        """Note that everything up to this position is on disk."""
        self.fan_out.reached_disk(position)
        for peer in tuple(self._unacked):
            if peer.unacked[0][0] <= position:
                self._acknowledge(peer)
        self.fan_out.run_durable()
        self.snapshots.work()
        self.has_room()

    def _acknowledge(self, peer: Peer) -> None:
        acks: dict[int, int] = {}
        while peer.unacked and peer.unacked[0][0] <= self.fan_out.committed:
            _, epoch, seq = peer.unacked.popleft()
            acks[epoch] = seq
        if not peer.unacked:
            self._unacked.pop(peer, None)
        for epoch, seq in acks.items():
            peer.write(encode_link_frame(Ack(epoch, seq)))

    def disk_read(self, stream: Stream, reading: Reading) -> None:
        """Pass on entries that were read from disk for a stream."""
        self.fan_out.disk_read(stream, reading)

    # ---- to satellites ---------------------------------------------------------------------------------

    def call(self, peer: Peer, call: Call) -> None:
        """Call a method of a satellite."""
        peer.write(encode_link_frame(call))

    def answer(self, peer: Peer, result: Result) -> None:
        """Answer a satellite's call."""
        if peer.state == "open":
            peer.write(encode_link_frame(result))
