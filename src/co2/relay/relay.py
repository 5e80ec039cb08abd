"""The relay: accepts messages, stores them in the log, and passes them on to every other member."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from co2.config import RelayConfig
from co2.errors import AnswerTooBig, PeerError
from co2.host_id import HostId
from co2.protocol.relay.away import AwayBook
from co2.protocol.relay.core import RelayCore
from co2.protocol.relay.cursors import Peer
from co2.protocol.relay.log import Entry
from co2.protocol.relay.receipts import ReceiptKey
from co2.protocol.wire import close_reasons
from co2.relay.commit_waiters import CommitWaiters
from co2.relay.durable_log import DurableLog
from co2.relay.links import Links
from co2.relay.live_ring import LiveRing
from co2.relay.liveness import LivenessChecker
from co2.relay.member_keeper import MemberKeeper
from co2.relay.members import Member, Members, names_in
from co2.relay.message_methods import FETCH_WAIT
from co2.relay.message_reader import MessageReader
from co2.relay.notifier import Notifier
from co2.relay.plugins import RelayPlugins
from co2.server.express.message_clock import LOOK_INTERVAL, MessageClock
from co2.tasks import TaskSet
from co2.xmlrpc.answers import NAMES
from co2.xmlrpc.client import RpcClient
from co2.xmlrpc.registry import Caller
from co2.xmlrpc.writer import WrittenValue

__all__ = ["ROSTER_DELAY", "RelayRole"]

ROSTER_DELAY = 0.05
"""Seconds after which a change of members is reported to satellites."""

ALIVE_INTERVAL = 60.0
"""Seconds between two notes on disk that this relay is up; after a crash, its links count as seen until then."""

SILENT_AFTER = 2.0
"""Seconds without an answer to a ping after which a link counts as silent; it ends some seconds later."""

LAST_MESSAGES = 2.0
"""Seconds for messages to pass the relay plugins when the relay stops."""

MAX_OVERLONG = 3
"""Too long answers to ``notify``, ``ping`` and ``system.listMethods`` after which a member is dropped."""

TELL_INTERVAL = 1.0
"""Seconds between two reports of suppressed lines about members."""

ROSTER_RATE = 16 * 1024 * 1024
"""Bytes per second that the relay spends on reports of members; thousands of satellites get them in turn."""

_logger = logging.getLogger("co2.relay")


class RelayRole:
    """The relay role: members, their links and notifiers, the log.

    Args:
        config: its limits and deadlines.
        client: to call members with.
        log: the durable log.
        host_id: of the relay.
        dispatch: calls a method of this relay for a satellite: (method, argument, caller).
        keeper: saves the owners of origins; None for none.
        receipts: key of the receipts for satellites; None for none.

    Attributes:
        core: the state machine of the links.
        plugins: the relay plugins; None for none.
        published: number of messages over links that have ended.
    """

    def __init__(
        self,
        config: RelayConfig,
        client: RpcClient,
        log: DurableLog,
        host_id: str,
        dispatch: Callable[[str, Any, Caller], Awaitable[Any]],
        *,
        keeper: MemberKeeper | None = None,
        receipts: ReceiptKey | None = None,
    ) -> None:
        self.log = log
        self.away = AwayBook(wall=time.time, now=time.monotonic) if keeper is None else keeper.away
        self._keeper = keeper
        self.members = Members(config.max_sats)
        self.published = 0
        self.dropped_members = 0
        self._stopping = False
        self._dispatch = dispatch
        self._config = config
        self._client = client
        self.waiters = CommitWaiters()
        self.waiters.committed = log.committed
        self._telling: asyncio.TimerHandle | None = None
        self._filters_empty = asyncio.Event()
        self._tasks = TaskSet(_logger, "a task of the relay")
        self.now = time.monotonic
        self.clock = MessageClock()
        self.plugins: RelayPlugins | None = None
        self.core = RelayCore(
            log,
            host_id,
            max_peers=self._max_links,
            now=self.now,
            wall=self.clock,
            origins=None if keeper is None else keeper.book,
            receipts=receipts,
            name=config.name,
        )
        self.core.causes = config.causes
        self.core.elsewhere = self.members.foreign_address
        self.links = Links(self.core, log, self, max_links=self._max_links, keeper=keeper)
        self.reader = MessageReader(log, self.links.disk_reads.read)
        self._live_heard: dict[str, Callable[[Entry], None]] = {}
        self._news: Callable[[], None] | None = None
        self.live = LiveRing(
            self.now,
            self.waiters.live_came,
            partial(self.listen_to_live, "fetching"),
            max(config.fetch_timeout, FETCH_WAIT),
        )

    @property
    def relayed(self) -> int:
        """Number of messages accepted from satellites; never decreases."""
        linked = sum(member.peer.published for member in self.members if member.peer is not None)
        return self.published + linked

    def _max_links(self) -> int:
        return self.members.room_for_links

    def start(self) -> None:
        """Start the liveness checker and the other regular tasks. Needs a running loop."""
        self._tasks.start(self._note_alive())
        self._tasks.start(self._look_at_the_clock())
        config = self._config
        checker = LivenessChecker(
            self.members,
            self._client,
            self.drop,
            interval=config.check_interval,
            drop_after=config.drop_after,
            fetch_timeout=config.fetch_timeout,
            timeout=config.notify_timeout,
            now=self.now,
            too_long=self._too_long,
        )
        self._tasks.start(checker.run())
        self._tasks.start(self._tell_lines())
        self._tasks.start(self.links.give_receipts())
        self._tasks.start(self.links.value_reads.restore())

    async def _look_at_the_clock(self) -> None:
        """Follow the wall clock, and record in the log where it has jumped."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            if seconds := self.clock.look():
                self.log.add_clock_jump(seconds)

    async def _note_alive(self) -> None:
        """Save regularly until when this relay, and with it its satellites, was up."""
        while True:
            await asyncio.sleep(ALIVE_INTERVAL)
            if self.away.here:
                self._keep_away()

    async def take_no_more(self) -> None:
        """Accept no more messages, and wait for those on their way through the relay plugins."""
        core = self.core
        core.closing = True
        if core.filter_chain.bytes:
            self._filters_empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_MESSAGES):
                    await self._filters_empty.wait()

    async def stop(self) -> None:
        """Stop links, notifiers, the liveness checker and waiting fetches."""
        self._stopping = True
        if self._telling is not None:
            self._telling.cancel()
        self.live.stop()
        await self.links.stop()
        for member in self.members:
            self.dismiss(member)
        await self._tasks.stop()
        self.links.lines.tell(_logger, ending=True)
        self.reader.close()
        self.waiters.end()

    def settle(self, member: Member, host_id: HostId, kind: str, *, known: bool) -> None:
        """Start the notifier that a member's kind needs; replace it if the port or kind has changed."""
        changed = not known or member.host_id != host_id or member.kind != kind
        member.host_id, member.kind = host_id, kind
        if kind == "watcher":
            member.state, member.seen_at = "ok", self.now()
        if not changed:
            member.wake.set()
            return
        self.dismiss(member)
        if kind != "watcher":
            timeout = self._config.notify_timeout
            notifier = Notifier(
                member, self.reader, self._client, timeout, now=self.now, too_long=self._too_long, say=self.say
            )
            member.notifier = self._tasks.start(notifier.run())
            self._tasks.start(self._learn_methods(member))

    async def _learn_methods(self, member: Member) -> None:
        try:
            timeout = self._config.notify_timeout
            names = await self._client.call(member.url, "system.listMethods", timeout=timeout, limit=NAMES)
            names = names.value if isinstance(names, WrittenValue) else names
            member.methods, _ = names_in({"methods": names, "plugins": list(member.plugins)})
            if self.members.get(member.host_id.origin) is member:
                self.show(member)
        except PeerError as error:
            _logger.debug("%s does not list its methods: %s", member.label, error)
            if isinstance(error, AnswerTooBig):
                member.last_error = str(error)
                self._too_long(member)

    def _too_long(self, member: Member) -> None:
        """Count an answer that was too long; drop a member with too many of them."""
        member.overlong += 1
        if member.overlong >= MAX_OVERLONG and self.members.get(member.host_id.origin) is member:
            self.drop(member, f"{member.overlong} of its answers were too long: {member.last_error}")

    # ---- events of links -----------------------------------------------------------------------------------

    def joined(self, peer: Peer) -> None:
        """Add a satellite that has opened a link, or update its methods."""
        member = before = self.members.get(peer.origin)
        if member is not None and member.peer is not peer:
            self.take_out(member, keep_cursor=False)
            member = None
        if member is None:
            member = self.members.add(peer.host_id, "co2", 0, self.now(), resume=False)
            member.peer, member.state = peer, "ok"
            # It keeps its earlier claims: else a host that claims its names once would have precedence for ever.
            if before is not None:
                member.offered, member.held, member.held_at = before.offered, before.held, before.held_at
            elif (gone := self.away.get(peer.origin)) is not None:
                member.held, member.held_at = gone.claims, self.away.since(gone)
            self.say(logging.INFO, peer.origin, "%s joined", peer.label)
        member.host_id, member.name = peer.host_id, peer.name
        member.methods, member.plugins = peer.methods, peer.plugins
        self.show(member)
        if self.away.joined(peer.host_id, peer.methods, peer.plugins, {**member.offered, **member.held}):
            self._keep_away()
        if self._keeper is not None:
            self._keeper.keep()  # its name may be another one

    def listen_to_live(self, who: str, take: Callable[[Entry], None] | None) -> None:
        """Let somebody take live messages from now on; with None no longer."""
        if take is None:
            self._live_heard.pop(who, None)
        else:
            self._live_heard[who] = take
        takers = list(self._live_heard.values())
        self.core.live_heard = None if not takers else takers[0] if len(takers) == 1 else partial(_all, takers)

    def on_news(self, tell: Callable[[], None] | None) -> None:
        """Call a function after each commit; None for none."""
        self._news = tell

    def _keep_away(self) -> None:
        if self._keeper is not None:
            self._keeper.keep_away()

    def has_room(self) -> None:
        """Handle a small enough backlog: resume plugins' sends, and end the wait of :meth:`take_no_more`."""
        if not self.core.filter_chain.bytes:
            self._filters_empty.set()
        if self.plugins is not None:
            self.plugins.has_room()

    async def refusal(self, host: HostId, methods: Sequence[str], plugins: Sequence[str]) -> str:
        """Ask relay plugins whether a host may join; return the reason why not, '' if it may."""
        return await self.plugins.refusal(host, methods, plugins) if self.plugins is not None else ""

    def left(self, peer: Peer, reason: str, text: str) -> None:
        """Remove the satellite of a link that has ended, and log the cause."""
        why = f"{reason}: {text}" if reason else text
        member = self.members.get(peer.origin)
        if member is None or member.peer is not peer:
            if peer.origin or reason:
                self.say(logging.WARNING, peer.address[0], "a link from %s was refused: %s", peer.address[0], why)
            return
        self.take_out(member, keep_cursor=False)
        stopped = reason == close_reasons.STOPPING and not self._stopping
        self.away.left(peer.origin, stopped=stopped, ago=self.links.silence(peer))
        self._keep_away()
        self.published += peer.published
        if self._stopping:
            return  # all links end: one line each would delay the stop
        if reason == close_reasons.STOPPING:
            self.say(logging.INFO, peer.origin, "%s said goodbye", member.label)
        else:
            self.say(logging.WARNING, peer.origin, "the link of %s has ended: %s", member.label, why)

    async def called(self, peer: Peer, method: str, argument: Any) -> Any:
        """Call a method of this relay for a satellite."""
        # The satellite may pass on a call of any host: only public methods are allowed.
        found = await self._dispatch(method, argument, Caller(*peer.address, relayed=True, over_link=True))
        return found.value if isinstance(found, WrittenValue) else found

    def committed(self, position: int) -> None:
        """Report a commit up to this position, or further, to links, waiters and members."""
        position = max(position, self.log.look())
        self.links.driver.committed(position)
        self.waiters.on_commit(position)
        for member in self.members.foreign:
            member.wake.set()
        if self._news is not None:
            self._news()

    def show(self, member: Member) -> None:
        """Update a member in the roster."""
        member.offer(self.away.next_claim())
        book = self.core.roster
        if not book.put(member.host_id.origin, str(member.host_id), member.methods, member.plugins, member.name):
            self.say(
                logging.WARNING,
                member.host_id.origin,
                "%s has more methods than the relay can announce",
                member.label,
            )
        self._roster_changed()
        if self.plugins is not None:
            self.plugins.hosts_changed([member.as_host()], ())

    def take_out(self, member: Member, *, keep_cursor: bool) -> None:
        """Remove a member everywhere; with ``keep_cursor`` it can return and resume."""
        self.dismiss(member)
        self.members.remove(member, keep_cursor=keep_cursor)
        if member.host_id.origin not in self.core.peers:  # a link keeps the name by itself
            self.core.names.left(member.host_id.origin)
        self.core.roster.remove(member.host_id.origin)
        self._roster_changed()
        if self.plugins is not None:
            self.plugins.hosts_changed((), [member.as_host()])

    def _roster_changed(self) -> None:
        """Schedule a roster report to links, slightly later: many members may join at once."""
        if self._telling is None and not self._stopping:
            self._telling = asyncio.get_running_loop().call_later(ROSTER_DELAY, self._tell_roster)

    def _tell_roster(self) -> None:
        self._telling = None
        if self.core.roster.tell(int(ROSTER_RATE * ROSTER_DELAY)):
            self._roster_changed()
        self.links.driver.flush()

    def forget(self, origin: str) -> bool:
        """Forget a satellite that is away, with its origin and cursor; return whether it was known."""
        known = self.away.forget(origin)
        known = self.core.origins.forget(origin) or known
        self.members.forget(origin)
        self._keep_away()
        if self._keeper is not None:
            self._keeper.keep()
        return known

    def state_of(self, member: Member) -> str:
        """Return the state of a member: ``silent`` if its link has not answered for a while."""
        if member.peer is not None and self.links.unanswered(member.peer) > SILENT_AFTER:
            return "silent"
        return member.state

    def silence_of(self, member: Member) -> float:
        """Return the seconds of a member's silence."""
        return member.silence(self.now()) if member.peer is None else self.links.silence(member.peer)

    def drop(self, member: Member, why: str) -> None:
        self.say(logging.WARNING, member.host_id.origin, "%s dropped: %s", member.label, why)
        self.dropped_members += 1
        self.take_out(member, keep_cursor=True)

    def dismiss(self, member: Member) -> None:
        if member.notifier is not None:
            member.notifier.cancel()
            member.notifier = None

    def say(self, level: int, source: str, text: str, *values: object) -> None:
        """Log a line that a member has caused, within its budget."""
        self.links.lines.log(_logger, level, source, text, *values)

    async def _tell_lines(self) -> None:
        while True:
            await asyncio.sleep(TELL_INTERVAL)
            self.links.lines.tell(_logger)


def _all(takers: Sequence[Callable[[Entry], None]], entry: Entry) -> None:
    for take in takers:
        take(entry)
