"""The links of a relay: WebSockets on one side, the state machine on the other, the log beneath.

Nobody waits for anybody: what comes is taken, kept and passed on within one call of the transport's, and what a
link's transport does not take stays in the log, behind that link's cursor.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Protocol

from co2.errors import BadParams, CallTimeout, RemoteFault, TooBig, Unreachable, ValueRefused
from co2.host_id import HostId
from co2.logs import LineBudgets
from co2.plugin.parent.process import Child
from co2.protocol.relay.core import (
    AdmissionWanted,
    CallReceived,
    DiskWanted,
    IdReused,
    Joined,
    Left,
    OriginClaimed,
    RelayCore,
    ResultReceived,
    Stretch,
)
from co2.protocol.relay.cursors import CHUNK, Peer, Stream
from co2.protocol.relay.filter_chain import Filter
from co2.protocol.relay.log import Log, Reading
from co2.protocol.relay.receipts import ReceiptKey
from co2.protocol.wire import close_reasons
from co2.protocol.wire.frame_template import Outline
from co2.protocol.wire.link_frames import MAX_LINK_FRAME, Call, Result
from co2.relay.brake import ASK_BURST, Brake
from co2.relay.call_turns import CallTurns
from co2.relay.disk_reads import DiskReads
from co2.relay.frame_turns import FrameTurns
from co2.relay.member_keeper import MemberKeeper
from co2.relay.pending_calls import PendingCalls
from co2.relay.standing import Standing
from co2.server.express.fair_selector import is_late
from co2.server.express.loop import COUNTED, MAX_RUN_MESSAGES, Expected, Way
from co2.server.link.websocket_transport import MANY_FRAMES, WebSocketTransport, joined
from co2.server.rpc.link_calls import MAX_TEXT, answer_call
from co2.server.rpc.results import Results
from co2.sources import BySource, source_of
from co2.store.relayed_ids import RelayedIds
from co2.tasks import TaskSet
from co2.values import pack_value

__all__ = [
    "CLOSE_TIMEOUT",
    "HELLO_TIMEOUT",
    "MAX_ANSWERS",
    "MAX_BACKLOG",
    "MAX_UNSAID",
    "MAX_WAYS",
    "REFUSED_FOR",
    "DurableLog",
    "Links",
    "Owner",
]

CLOSE_TIMEOUT = 0.5
"""Seconds in which links close when the relay stops."""

MAX_BACKLOG = 16 * 1024 * 1024
"""Bytes waiting for the disk, or on their way through relay plugins, above which links are not read."""

MAX_ANSWERS = 1000
"""Calls of one satellite that may be under way; one more is refused."""

HELLO_TIMEOUT = 10.0
"""Seconds from its beginning in which a link must have brought a Hello."""

MAX_UNSAID = 512
"""Links that may wait for their Hello besides those that there is room for; one more, and the oldest of the source
that has most of them ends."""

RECEIPT_INTERVAL = 5.0
"""Seconds between two receipts of what is on disk, on each link."""

RECEIPTS_AT_ONCE = 256
"""Links that are given one before the event loop does something else."""

MAX_WAYS = 64
"""Frames, all together, that expected ones may become: to foresee more would take longer than it saves."""

REFUSED_FOR = 30.0
"""Seconds after which a satellite that a relay plugin has refused may ask again."""

_logger = logging.getLogger("co2.relay")


class DurableLog(Log, Protocol):
    """A log that has a disk."""

    @property
    def backlog(self) -> int:
        """Bytes that wait for the disk."""

    @property
    def ids(self) -> RelayedIds:
        """Of messages that came with one."""

    def look(self) -> int:
        """Give the position up to which all is on disk; who has looked is not told of it any more."""

    def pass_over(self, position: int) -> None:
        """Give no message a position up to this one."""

    def read_disk(self, after: int, max_bytes: int) -> Reading:
        """Read on from a cursor; takes its time."""


class Owner(Protocol):
    """Who is told about links."""

    async def refusal(self, host: HostId, methods: Sequence[str], plugins: Sequence[str]) -> str:
        """Tell why a host may not join, '' where it may."""

    def joined(self, peer: Peer) -> None:
        """A satellite has come, or tells other methods."""

    def left(self, peer: Peer, reason: str, text: str) -> None:
        """A link has ended."""

    async def called(self, peer: Peer, method: str, argument: Any) -> Any:
        """A satellite calls a method of the relay's."""

    def committed(self, position: int) -> None:
        """Everything up to this position is on disk; to be passed on to :meth:`Links.committed`."""

    def has_room(self) -> None:
        """What waits is no more than :data:`MAX_BACKLOG`."""

    def next_passed(
        self, through: Filter, host_id: str, address: tuple[str, int], channels: Sequence[str] | None
    ) -> tuple[Child, Outline, Outline] | None:
        """Return what :meth:`Supervisor.next_passed` does."""


class Links:
    """All links.

    Args:
        log: the relay's.
        host_id: the relay's own.
        owner: is told what happens.
        max_links: gives how many there may be now.
        now: monotonic seconds.
        keeper: brings to disk whose origins are whose; None where nobody does.
        receipts: key of the receipts that satellites are given; None for none.

    Attributes:
        disk_reads: reads of the log from disk; closed with :meth:`stop`.
        calls: of methods of satellites that are under way.
        lines: how many lines of the log each origin, and all together, may cause.
        braked: how often a link was not read for a while, because it asked for too much.
    """

    def __init__(
        self,
        log: DurableLog,
        host_id: str,
        owner: Owner,
        *,
        max_links: Callable[[], int],
        now: Callable[[], float],
        keeper: MemberKeeper | None = None,
        receipts: ReceiptKey | None = None,
    ) -> None:
        origins = None if keeper is None else keeper.book
        self.core = RelayCore(log, host_id, max_peers=max_links, now=now, origins=origins, receipts=receipts)
        self.core.keeps = keeper is not None
        self._keeper = keeper
        self.core.filter_chain.released = self._come_through
        self.disk_reads = DiskReads(log)
        self._results = Results()
        self.lines = LineBudgets()
        self.reused_numbers = 0
        self.braked = 0
        self._log = log
        self._owner = owner
        self._max_links = max_links
        self._wires: dict[Peer, WebSocketTransport] = {}
        self._unsaid: dict[Peer, asyncio.TimerHandle] = {}
        self._unsaid_of: BySource[Peer] = BySource()
        self._brakes: dict[Peer, Brake] = {}
        self._standings: dict[Peer, Standing] = {}
        self._braked: dict[WebSocketTransport, asyncio.TimerHandle] = {}
        self._answering: Counter[Peer] = Counter()
        self._held: list[Peer] = []
        self._closing: list[WebSocketTransport] = []
        self._emptied: asyncio.Future[None] | None = None
        self.calls = PendingCalls()
        self._loop = asyncio.get_running_loop()
        self._turns = CallTurns(self._loop, self._begin_call)
        self._frames = FrameTurns(self._loop, self._receive, self._read_again)
        self._stopping = False
        self._tasks = TaskSet(_logger, "a task of the relay")

    def open(self, wire: WebSocketTransport) -> "_Carried":
        """Take in a new link; give who carries it to its end: the handler of ``/link``."""
        peer = self.core.opened(wire.address)
        self._wires[peer] = wire
        self._standings[peer] = Standing(wire, self._loop.time(), is_late(self._loop))
        self._unsaid[peer] = asyncio.get_running_loop().call_later(HELLO_TIMEOUT, self._says_nothing, peer)
        self._unsaid_of.add(source_of(wire.address[0]), peer)
        if len(self._unsaid) > max(0, self._max_links() - len(self.core.peers)) + MAX_UNSAID:
            oldest = self._unsaid_of.oldest_of_largest()
            self._has_spoken(oldest)
            self._wires[oldest].abort()
        return _Carried(self, peer)

    def _has_spoken(self, peer: Peer) -> None:
        """No Hello is waited for any more."""
        if (timer := self._unsaid.pop(peer, None)) is not None:
            timer.cancel()
            self._unsaid_of.discard(peer)

    def _says_nothing(self, peer: Peer) -> None:
        if (wire := self._wires.get(peer)) is not None and wire.has_unread:  # there was no time to read it
            self._unsaid[peer] = self._loop.call_later(HELLO_TIMEOUT, self._says_nothing, peer)
            return
        self._has_spoken(peer)
        if peer.state == "opening":  # else somebody is asked whether it may join
            self.core.end(peer, close_reasons.SILENT, f"no Hello within {HELLO_TIMEOUT:g} s")
            self.flush()

    def received(self, peer: Peer, frames: list[bytes | memoryview], more: bool = False) -> None:
        """Take what a link brings; with ``more`` what others have brought comes right behind it."""
        taken = self._receive(peer, frames)
        if taken < len(frames) and peer.state != "closed" and (wire := self._wires.get(peer)) is not None:
            wire.pause_reading()
            rest = [bytes(frame) for frame in frames[taken:]]
            self._frames.add(peer, rest, rests=wire in self._braked)
        if not more and self._log.committed > self.core.fan_out.committed:
            self._owner.committed(self._log.look())
        if self.backlog > MAX_BACKLOG and (wire := self._wires.get(peer)) is not None:
            wire.pause_reading()  # its sender then waits, and knows it
            self._held.append(peer)

    def _receive(self, peer: Peer, frames: Sequence[bytes | memoryview]) -> int:
        """Take some of what a link has brought; give how many frames."""
        began = self._loop.time()
        try:
            taken = self.core.receive_some(peer, frames)
        except Exception as error:
            taken = len(frames)
            who = peer.origin or peer.address[0]
            if self.lines.take(who, 2000):
                _logger.exception("the link of %s failed", who)
            self.core.lost(peer, f"an error of ours: {type(error).__name__}")
        self.flush()
        if (standing := self._standings.get(peer)) is not None:
            now = self._loop.time()
            size = sum(map(len, frames[:taken]))
            asked = min(peer.asked, ASK_BURST)
            late, links = is_late(self._loop), len(self._wires)
            standing.take(now - began, size, asked, now, late, frames=taken, links=links)
        if peer.asked:
            self._brake(peer)
        return taken

    def _brake(self, peer: Peer) -> None:
        """Count what a link has asked for; read it no more for a while where that is too much."""
        asked, peer.asked = min(peer.asked, ASK_BURST), 0
        wire = self._wires.get(peer)
        if wire is None or peer.state == "closed":
            return
        if asked > MANY_FRAMES:
            wire.read_less()
        loop = self._loop
        brake = self._brakes.get(peer)
        if brake is None:
            brake = self._brakes[peer] = Brake(loop.time())
        if (pause := brake.take(asked, loop.time())) and wire not in self._braked:
            self.braked += 1
            wire.pause_reading()
            self._frames.hold(peer)
            self._braked[wire] = loop.call_later(pause, self._release_brake, peer, wire)

    def _release_brake(self, peer: Peer, wire: WebSocketTransport) -> None:
        del self._braked[wire]
        if peer in self._frames:
            self._frames.go_on(peer)
        else:
            self._read_again(peer)

    def _read_again(self, peer: Peer) -> None:
        """Read a link, unless there is another reason not to."""
        wire = self._wires.get(peer)
        if wire is None or wire in self._braked or peer in self._frames:
            return
        if self.backlog > MAX_BACKLOG:
            self._held.append(peer)
        else:
            wire.resume_reading()

    @property
    def backlog(self) -> int:
        """Bytes that wait for the disk, or are on their way through relay plugins."""
        return self._log.backlog + self.core.filter_chain.bytes

    def silence(self, peer: Peer) -> float:
        """Return for how many seconds, about, nothing has come over a link."""
        wire = self._wires.get(peer)
        return wire.silence if wire is not None else 0.0

    def unanswered(self, peer: Peer) -> float:
        """Return for how many seconds a link has left a ping without an answer."""
        wire = self._wires.get(peer)
        return wire.unanswered if wire is not None else 0.0

    def buffered(self, peer: Peer) -> int:
        """Give the bytes that wait for a link's other side."""
        wire = self._wires.get(peer)
        return peer.out_bytes + (wire.buffered if wire is not None else 0)

    def forecast(self) -> Sequence[Expected]:
        """Tell what comes next, for the express."""
        expected: list[Expected] = []
        ways = 0
        for stretch in self.core.recent:
            if ways >= MAX_WAYS:
                break
            found = self._next_publish(stretch) or self._next_filtered(stretch)
            expected += found
            ways += sum(len(one.becomes) for one in found)
        return expected

    def _next_publish(self, stretch: Stretch) -> Sequence[Expected]:
        """Foresee what comes and goes to receivers at once."""
        if (found := self.core.next_publish(stretch)) is None:
            return ()
        comes, becomes, receivers = found
        way, ways = self._way_in(stretch[0], comes), self._ways_out(receivers, becomes)
        return (Expected(way, ways, self._refused()),) if way is not None and ways else ()

    def _next_filtered(self, stretch: Stretch) -> Sequence[Expected]:
        """Foresee what comes and goes to a relay plugin, and the answer, which goes to receivers."""
        if (found := self.core.next_filtered(stretch)) is None:
            return ()
        through, comes, becomes, receivers = found
        peer = stretch[0]
        passes = self._owner.next_passed(through, str(peer.host_id), peer.address, stretch[4])
        if passes is None:
            return ()
        child, gets, answers = passes
        descriptor = child.descriptor
        way, ways = self._way_in(peer, comes), self._ways_out(receivers, becomes)
        if way is None or not ways or descriptor < 0:
            return ()
        given = Expected(way, [Way(child, descriptor, COUNTED, gets)], self._refused())
        return given, Expected(Way(child, descriptor, COUNTED, answers), ways, self._refused(), answers=given)

    def _way_in(self, peer: Peer, comes: Outline) -> Way | None:
        wire = self._wires.get(peer)
        return None if wire is None else wire.way_in(comes)

    def _ways_out(self, receivers: Sequence[Peer], becomes: Outline) -> list[Way]:
        """Return the ways to all of them; none where one is not known."""
        ways = [self._wires[peer].way_out(becomes) for peer in receivers]
        known = [way for way in ways if way is not None]
        return known if len(known) == len(ways) else []

    def _refused(self) -> Callable[[], bool]:
        return partial(self._was_refused, self._log.last)

    def _was_refused(self, last: int) -> bool:
        """The log has not taken what was passed on behind a position; tell whether it takes nothing more.

        Its thread may have found that out since the forecast was made. The positions that were told with it, of at
        most one run, are given to nothing else.
        """
        self._log.pass_over(last + MAX_RUN_MESSAGES)
        return not self._log.takes

    def counted(self) -> dict[str, int]:
        """Give how the links are, all together."""
        wires, peers = self._wires.values(), self._wires
        return {
            "links": len(wires),
            "links_full": sum(wire.is_full for wire in wires),
            "links_waiting": sum(peer.waits for peer in peers),
            "links_held": sum(wire.is_held for wire in wires),
            "links_braked": self.braked,
            "link_bytes": sum(map(self.buffered, peers)),
            "packages_behind": sum(peer.behind for peer in peers),
            "packages_replaying": sum(peer.replaying for peer in peers),
        }

    def drained(self, peer: Peer) -> None:
        """A link's transport has room again."""
        self.core.resume(peer)
        self.flush()

    def ended(self, peer: Peer, why: str) -> None:
        """A link's connection is gone."""
        self._has_spoken(peer)
        if rest := self._frames.forget(peer):
            self._receive(peer, rest)  # its messages, and its Goodbye where little is before it
        self.core.lost(peer, why)
        self.flush()
        self._brakes.pop(peer, None)
        self._standings.pop(peer, None)
        if (timer := self._braked.pop(self._wires.pop(peer), None)) is not None:
            timer.cancel()
        if not self._wires and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def make_room(self, ip: str, others: int) -> bool:
        """End the link that gives way to a member without one, as :meth:`RelayCore.make_room`."""
        found = self.core.make_room(ip, others)
        self.flush()
        return found

    def has_room(self) -> None:
        """The log's disk, which was full, has room again."""
        self.core.has_room()
        self.flush()

    def committed(self, position: int) -> None:
        """Everything up to this position is on disk."""
        self.core.committed(position)
        self.flush()
        self._read_on()

    def _come_through(self) -> None:
        """Messages have passed the relay plugins."""
        self.core.come_through()
        self.flush()
        self._read_on()

    def _read_on(self) -> None:
        if self.backlog > MAX_BACKLOG:
            return
        self._owner.has_room()
        if self._held:
            held, self._held = self._held, []
            for peer in held:
                self._read_again(peer)

    def flush(self) -> None:
        """Act on what has happened, and write what is out."""
        core = self.core
        while core.events or core.ready:
            while core.events:
                self._take(core.events.popleft())
            ready, core.ready = core.ready, {}
            last: list[bytes] = []
            messages: list[bytes] = []
            for peer in ready:
                frames = core.taken(peer)
                wire = self._wires.get(peer)
                if wire is None or not frames:
                    continue
                if frames != last:  # what all get is the same objects, so this is quick, and they are joined once
                    last, messages = frames, joined(frames)
                wire.write(messages)
        while self._closing:
            self._closing.pop().close()

    async def call(
        self, peer: Peer, method: str, argument: Any, timeout: float,
        *, caller: Hashable = None, who: str = "it", written: bool = False,
    ) -> Any:  # fmt: skip
        """Call a method of a satellite.

        Args:
            peer: its link.
            method: name of the method.
            argument: what it gets.
            timeout: seconds that it may take.
            caller: whose call it is, for the limits of :class:`PendingCalls`.
            who: the caller, for texts.
            written: the result goes out as XML, see :meth:`Results.value_of`.

        Raises:
            BadParams: the argument cannot travel.
            RemoteFault: it answered with a Fault.
            Unreachable: its link has ended, or too many calls are under way.
            CallTimeout: no answer in time.
            AnswerTooBig: see :meth:`Results.value_of`.
        """
        if peer.state != "open":
            raise Unreachable(f"{peer.host_id}: its link has ended")
        try:
            packed = pack_value(argument)
        except (ValueRefused, TooBig) as error:
            raise BadParams(str(error)) from None
        pending = self.calls.add(peer, caller, who)
        self.core.call(peer, Call(pending.number, method, packed, timeout))
        self.flush()
        try:
            async with asyncio.timeout(timeout):
                result = await pending.answer
        except TimeoutError:
            raise CallTimeout(f"{method} on {peer.host_id}", timeout) from None
        finally:
            self.calls.remove(pending)
        if result.code:
            raise RemoteFault(result.code, result.error[:MAX_TEXT])
        return await self._results.value_of(result.value, str(peer.host_id), written=written)

    async def give_receipts(self) -> None:
        """Tell links every few seconds what is on disk, some at a time; and note who has sent something."""
        while True:
            await asyncio.sleep(RECEIPT_INTERVAL)
            peers = list(self.core.peers.values())
            for first in range(0, len(peers), RECEIPTS_AT_ONCE):
                some = [peer for peer in peers[first : first + RECEIPTS_AT_ONCE] if peer.state == "open"]
                self.core.give_receipts(some)
                self.core.note_publishers(some)
                self.flush()
                await asyncio.sleep(0)
            if self._keeper is not None:
                self._keeper.keep()

    async def stop(self) -> None:
        """Say goodbye to everybody; who does not close its end soon is cut off."""
        self._stopping = True
        for peer in list(self._wires):
            self.core.end(peer, close_reasons.STOPPING, "the relay stops")
        self.flush()
        wires = list(self._wires.values())
        for wire in wires:
            wire.close()
        if wires:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._emptied,), timeout=CLOSE_TIMEOUT)
        for wire in wires:
            wire.abort()
        await self._tasks.stop()
        self.disk_reads.close()
        self._results.close()

    def _take(self, event: Any) -> None:
        match event:
            case DiskWanted(stream):
                self._tasks.start(self._read_disk(stream))
            case CallReceived(peer, call):
                self._called(peer, call)
            case ResultReceived(peer, result):
                if not self.calls.answered(peer, result):
                    peer.asked += 1
            case AdmissionWanted():
                self._tasks.start(self._admit(event))
            case OriginClaimed():
                self._tasks.start(self._claim(event))
            case Joined(peer):
                self._has_spoken(peer)
                if (wire := self._wires.get(peer)) is not None:
                    wire.allow(MAX_LINK_FRAME)
                self._owner.joined(peer)
            case Left(peer, reason, text):
                self._left(peer, reason, text)
            case IdReused(peer, epoch, seq):
                self.reused_numbers += 1
                self.lines.log(
                    _logger, logging.ERROR, peer.origin,
                    "E_ID_REUSE: %s used number %d of run %d for two messages: a restored or copied state folder; "
                    "the second was not passed on",
                    peer.host_id, seq, epoch,
                )  # fmt: skip

    def _left(self, peer: Peer, reason: str, text: str) -> None:
        self.calls.left(peer)
        self._turns.forget(peer)
        self._frames.forget(peer)
        self.disk_reads.forget(peer)
        self._answering.pop(peer, None)
        wire = self._wires.get(peer)
        if wire is not None and not self._stopping:
            self._closing.append(wire)
        self._owner.left(peer, reason, text)
        if self._keeper is not None:
            self._keeper.keep()

    async def _read_disk(self, stream: Stream) -> None:
        peer = stream.peer
        try:
            reading = await self.disk_reads.read(peer, stream.position, CHUNK)
        except Exception as error:
            _logger.exception("the log could not be read for %s", peer.host_id)
            self.core.lost(peer, f"an error of ours: {type(error).__name__}")
        else:
            self.core.disk_read(stream, reading)
        self.flush()

    async def _admit(self, asked: AdmissionWanted) -> None:
        why = await self._owner.refusal(asked.host_id, asked.hello.methods, asked.hello.plugins)
        if why:
            self.core.end(asked.peer, close_reasons.REFUSED, why, REFUSED_FOR)
        else:
            self.core.admit(asked)
        self.flush()

    async def _claim(self, claim: OriginClaimed) -> None:
        if self._keeper is not None:
            await self._keeper.kept()
        self.core.claimed(claim)
        self.flush()

    def _called(self, peer: Peer, call: Call) -> None:
        if self._answering[peer] >= MAX_ANSWERS:
            why = f"{call.method}: {MAX_ANSWERS} calls of this satellite are under way already"
            self.core.answer(peer, Result(call.call_id, b"", Unreachable.code, why))
        else:
            self._answering[peer] += 1
            self._turns.add(peer, call)

    def _begin_call(self, peer: Peer, call: Call) -> None:
        self._tasks.start(self._answer(peer, call))

    async def _answer(self, peer: Peer, call: Call) -> None:
        try:
            result = await answer_call(call, partial(self._owner.called, peer))
        finally:
            if peer in self._answering:  # else its link has ended
                self._answering[peer] -= 1
        self.core.answer(peer, result)
        self.flush()


class _Carried:
    """One link, for its wire."""

    __slots__ = ("_links", "_peer")

    def __init__(self, links: Links, peer: Peer) -> None:
        self._links = links
        self._peer = peer

    def received(self, frames: list[bytes | memoryview], more: bool = False) -> None:
        self._links.received(self._peer, frames, more)

    def filled(self) -> None:
        self._links.core.pause(self._peer)

    def drained(self) -> None:
        self._links.drained(self._peer)

    def ended(self, why: str) -> None:
        self._links.ended(self._peer, why)
