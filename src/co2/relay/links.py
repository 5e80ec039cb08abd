"""The links of a relay: WebSockets on one side, the state machine on the other, the log beneath.

No link waits for another: frames are handled, stored and passed on within one call of the transport, and frames
that a link's transport has no room for stay in the log, behind that link's cursor.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from co2.errors import Unreachable
from co2.host_id import HostId
from co2.logs import LineBudgets
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
    ValuesWanted,
)
from co2.protocol.relay.cursors import CHUNK, Peer, Stream
from co2.protocol.relay.driver import RelayDriver
from co2.protocol.relay.fan_out import SCANNED
from co2.protocol.relay.last_values import Question
from co2.protocol.wire import close_reasons
from co2.protocol.wire.link_frames import MAX_LINK_FRAME
from co2.relay.disk_reads import DiskReads
from co2.relay.durable_log import DurableLog
from co2.relay.link_reader import MAX_BACKLOG, LinkReader
from co2.relay.member_keeper import MemberKeeper
from co2.relay.satellite_calls import SatelliteCalls
from co2.relay.value_reads import ValueReads
from co2.server.link.websocket_transport import WebSocketTransport, joined
from co2.sources import BySource, source_of
from co2.tasks import TaskSet

__all__ = [
    "CLOSE_TIMEOUT",
    "HELLO_TIMEOUT",
    "MAX_UNSAID",
    "REFUSED_FOR",
    "Links",
    "Owner",
]

CLOSE_TIMEOUT = 0.5
"""Seconds for links to close when the relay stops."""

HELLO_TIMEOUT = 10.0
"""Seconds for a new link to send its Hello."""

MAX_UNSAID = 512
"""Links without a Hello beyond the free places; above it, the oldest one of the source with the most ends."""

RECEIPT_INTERVAL = 5.0
"""Seconds between two receipts on each link."""

RECEIPTS_AT_ONCE = 256
"""Links that get a receipt before other events are handled."""

REFUSED_FOR = 30.0
"""Seconds after which a satellite that a relay plugin has refused may ask again."""

_logger = logging.getLogger("co2.relay")


class Owner(Protocol):
    """The relay role as its links need it."""

    async def refusal(self, host: HostId, methods: Sequence[str], plugins: Sequence[str]) -> str:
        """Return the reason why a host may not join, '' if it may."""

    def joined(self, peer: Peer) -> None:
        """Handle a satellite that has joined, or has changed its methods."""

    def left(self, peer: Peer, reason: str, text: str) -> None:
        """Handle the end of a link."""

    async def called(self, peer: Peer, method: str, argument: Any) -> Any:
        """Call a method of the relay for a satellite."""

    def committed(self, position: int) -> None:
        """Handle the commit of all positions up to this one; to be passed on to :meth:`RelayDriver.committed`."""

    def has_room(self) -> None:
        """Handle a backlog of at most :data:`~co2.relay.link_reader.MAX_BACKLOG`."""


class Links:
    """The links of a relay.

    Args:
        core: the state machine.
        log: the relay's, as the core has it.
        owner: handles the links' events.
        max_links: returns how many links there may be now.
        keeper: saves the owners of origins; None for none.

    Attributes:
        wires: the connection of each link.
        disk_reads: reads of the log from disk; closed with :meth:`stop`.
        value_reads: reads of last values; likewise.
        calls: over links, both ways.
        lines: budgets of log lines for each origin, and in total.
        reader: passes frames of links to the state machine.
        driver: drives the state machine; :meth:`RelayDriver.flush` it after each use of the core.
    """

    def __init__(
        self,
        core: RelayCore,
        log: DurableLog,
        owner: Owner,
        *,
        max_links: Callable[[], int],
        keeper: MemberKeeper | None = None,
    ) -> None:
        self._core = core
        self._keeper = keeper
        core.keeps = keeper is not None
        self.disk_reads = DiskReads(log)
        self.value_reads = ValueReads(log, core.fan_out.last_values, restored=self._values_restored)
        self.lines = LineBudgets()
        self.reused_numbers = 0
        self._log = log
        self._owner = owner
        self._max_links = max_links
        self.wires: dict[Peer, WebSocketTransport] = {}
        self._unsaid: dict[Peer, asyncio.TimerHandle] = {}
        self._unsaid_of: BySource[Peer] = BySource()
        self._emptied: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.driver = RelayDriver(
            core, self.wires, handle=self._handle, join=joined, failed=self._failed, read_on=self._read_on
        )
        self.calls = SatelliteCalls(core, self.driver.flush, owner.called)
        self.reader = LinkReader(core, log, self.wires, self.driver, committed=owner.committed)
        self._tasks = TaskSet(_logger, "a task of the relay")

    def open(self, wire: WebSocketTransport) -> "_LinkOwner":
        """Accept a new link from ``/link``; return its handler."""
        peer = self._core.opened(wire.address)
        self.wires[peer] = wire
        self.reader.opened(peer, wire)
        self._unsaid[peer] = asyncio.get_running_loop().call_later(HELLO_TIMEOUT, self._says_nothing, peer)
        self._unsaid_of.add(source_of(wire.address[0]), peer)
        if len(self._unsaid) > max(0, self._max_links() - len(self._core.peers)) + MAX_UNSAID:
            oldest = self._unsaid_of.oldest_of_largest()
            self._has_spoken(oldest)
            self.wires[oldest].abort()
        return _LinkOwner(self, peer)

    def _has_spoken(self, peer: Peer) -> None:
        """Stop waiting for a Hello."""
        if (timer := self._unsaid.pop(peer, None)) is not None:
            timer.cancel()
            self._unsaid_of.discard(peer)

    def _says_nothing(self, peer: Peer) -> None:
        if (wire := self.wires.get(peer)) is not None and wire.has_unread:  # the relay had no time to read it
            self._unsaid[peer] = self._loop.call_later(HELLO_TIMEOUT, self._says_nothing, peer)
            return
        self._has_spoken(peer)
        if peer.state == "opening":  # else plugins are asked whether it may join
            self._core.end(peer, close_reasons.SILENT, f"no Hello within {HELLO_TIMEOUT:g} s")
            self.driver.flush()

    def silence(self, peer: Peer) -> float:
        """Return roughly for how many seconds a link has been silent."""
        wire = self.wires.get(peer)
        return wire.silence if wire is not None else 0.0

    def unanswered(self, peer: Peer) -> float:
        """Return for how many seconds a link has left a ping unanswered."""
        wire = self.wires.get(peer)
        return wire.unanswered if wire is not None else 0.0

    def buffered(self, peer: Peer) -> int:
        """Return the bytes that wait for a link's other side."""
        wire = self.wires.get(peer)
        return peer.out_bytes + (wire.buffered if wire is not None else 0)

    def counted(self) -> dict[str, int]:
        """Return counters of the links, in total."""
        wires, peers = self.wires.values(), self.wires
        return {
            "links": len(wires),
            "links_full": sum(wire.is_full for wire in wires),
            "links_waiting": sum(peer.waits for peer in peers),
            "links_held": sum(wire.is_held for wire in wires),
            "links_braked": self.reader.braked,
            "link_bytes": sum(map(self.buffered, peers)),
            "packages_behind": sum(peer.behind for peer in peers),
            "packages_replaying": sum(peer.replaying for peer in peers),
        }

    def filled(self, peer: Peer) -> None:
        """Pause a link whose transport is full."""
        self._core.pause(peer)

    def drained(self, peer: Peer) -> None:
        """Resume a link whose transport has room again."""
        self.driver.resume(peer)

    def ended(self, peer: Peer, why: str) -> None:
        """Handle the end of a link's connection."""
        self._has_spoken(peer)
        self.reader.ended(peer, self.wires[peer])
        self.driver.lost(peer, why)
        del self.wires[peer]
        peer.forget_streams()
        if not self.wires and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def make_room(self, ip: str, others: int) -> bool:
        """End the link that gives way to a member without a link, as :meth:`RelayCore.make_room`."""
        found = self._core.make_room(ip, others)
        self.driver.flush()
        return found

    @property
    def is_held_up(self) -> bool:
        """Whether links are not read because too much waits for the disk or the relay plugins."""
        return self.reader.backlog > MAX_BACKLOG

    def _read_on(self) -> None:
        if not self.is_held_up:
            self._owner.has_room()
            self.reader.read_on()

    async def give_receipts(self) -> None:
        """Send receipts to links every few seconds, some at a time; also note which links have published."""
        while True:
            await asyncio.sleep(RECEIPT_INTERVAL)
            peers = list(self._core.peers.values())
            for first in range(0, len(peers), RECEIPTS_AT_ONCE):
                some = [peer for peer in peers[first : first + RECEIPTS_AT_ONCE] if peer.state == "open"]
                self._core.give_receipts(some)
                self._core.note_publishers(some)
                self.driver.flush()
                await asyncio.sleep(0)
            if self._keeper is not None:
                self._keeper.keep()

    async def stop(self) -> None:
        """Send a Goodbye on all links; abort those that do not close soon."""
        for peer in list(self.wires):
            self._core.end(peer, close_reasons.STOPPING, "the relay is stopping")
        self.driver.flush()
        wires = list(self.wires.values())
        for wire in wires:
            wire.close()
        if wires:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._emptied,), timeout=CLOSE_TIMEOUT)
        for wire in wires:
            wire.abort()
        await self._tasks.stop()
        await self.calls.stop()
        self.disk_reads.close()
        self.value_reads.close()

    def _handle(self, event: Any) -> None:
        match event:
            case DiskWanted(stream):
                self._tasks.start(self._read_disk(stream))
            case ValuesWanted(peer, question):
                self._tasks.start(self._read_values(peer, question))
            case CallReceived(peer, call):
                self.calls.take(peer, call)
            case ResultReceived(peer, result):
                if not self.calls.answered(peer, result):
                    peer.asked += 1
            case AdmissionWanted():
                self._tasks.start(self._admit(event))
            case OriginClaimed():
                self._tasks.start(self._claim(event))
            case Joined(peer):
                self._has_spoken(peer)
                if (wire := self.wires.get(peer)) is not None:
                    wire.allow(MAX_LINK_FRAME)
                self._owner.joined(peer)
            case Left(peer, reason, text):
                self._left(peer, reason, text)
            case IdReused(peer, epoch, seq):
                self.reused_numbers += 1
                self.lines.log(
                    _logger, logging.ERROR, peer.origin,
                    "E_ID_REUSE: %s used number %d of run %d for two messages, as after a state folder was "
                    "restored or copied; "
                    "the second was not passed on",
                    peer.label, seq, epoch,
                )  # fmt: skip

    def _failed(self, peer: Peer) -> None:
        who = peer.origin or peer.address[0]
        if self.lines.take(who, 2000):
            _logger.exception("the link of %s failed", who)

    def _left(self, peer: Peer, reason: str, text: str) -> None:
        self.calls.forget(peer)
        self.reader.forget(peer)
        self.disk_reads.forget(peer)
        self._owner.left(peer, reason, text)
        if self._keeper is not None:
            self._keeper.keep()

    async def _read_disk(self, stream: Stream) -> None:
        peer = stream.peer
        try:
            most = SCANNED if stream.package else CHUNK
            reading = await self.disk_reads.read(peer, stream.position, most)
        except Exception as error:
            _logger.exception("the log could not be read for %s", peer.label)
            self.driver.lost(peer, f"internal error: {type(error).__name__}")
        else:
            self.driver.disk_read(stream, reading)

    def _values_restored(self) -> None:
        self.driver.values_restored()

    async def _read_values(self, peer: Peer, question: Question) -> None:
        try:
            found = await self.value_reads.answer(question, self._core.wall())
        except Unreachable:  # the relay stops
            return
        except Exception as error:
            _logger.exception("last values could not be read for %s", peer.host_id)
            self.driver.values_unread(peer, question, f"internal error: {type(error).__name__}")
        else:
            self.driver.values_read(question, found)

    async def _admit(self, asked: AdmissionWanted) -> None:
        why = await self._owner.refusal(asked.host_id, asked.hello.methods, asked.hello.plugins)
        if why:
            self._core.end(asked.peer, close_reasons.REFUSED, why, REFUSED_FOR)
        else:
            self._core.admit(asked)
        self.driver.flush()

    async def _claim(self, claim: OriginClaimed) -> None:
        if self._keeper is not None:
            await self._keeper.kept()
        self.driver.claimed(claim)


class _LinkOwner:
    """The handler of one link, for its wire."""

    __slots__ = ("_links", "_peer", "received")

    def __init__(self, links: Links, peer: Peer) -> None:
        self._links = links
        self._peer = peer
        self.received = partial(links.reader.received, peer)

    def filled(self) -> None:
        self._links.filled(self._peer)

    def drained(self) -> None:
        self._links.drained(self._peer)

    def ended(self, why: str) -> None:
        self._links.ended(self._peer, why)
