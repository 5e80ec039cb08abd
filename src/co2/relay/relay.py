"""The relay: takes messages in, keeps them in the log, passes them on to every other member."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from co2.config import RelayConfig
from co2.errors import BadParams, PeerError
from co2.host_id import HostId
from co2.protocol import goodbyes
from co2.protocol.batch import make_batch
from co2.protocol.link_frames import BEGINNING, Roster
from co2.protocol.streams import Peer
from co2.relay.checker import Checker
from co2.relay.courier import Courier, write_plain
from co2.relay.dedupe import MAX_ID_LENGTH, RecentIds
from co2.relay.links import DurableLog, Links
from co2.relay.members import Member, Members
from co2.relay.reading import MessageReader, Messages
from co2.server.arguments import callers_host_id, integer, number, one_dict, text
from co2.xmlrpc.client import RpcClient
from co2.xmlrpc.forms import message_in
from co2.xmlrpc.registry import Caller
from co2.xmlrpc.writer import Written

__all__ = ["FETCH_BYTES", "FETCH_MAX", "FETCH_WAIT", "MAX_NAMES", "Relay"]

FETCH_MAX = 1_000
"""Messages in one answer to relay.fetch."""

FETCH_WAIT = 25.0
"""Seconds that relay.fetch waits at most."""

FETCH_BYTES = 512 * 1024
"""Encoded bytes after which an answer to relay.fetch is cut."""

ROSTER_DELAY = 0.05
"""Seconds after which a change of who is there is told to all satellites."""

MAX_NAMES = 10_000
"""Methods, and plugins, that one satellite may name."""

_logger = logging.getLogger("co2.relay")


class Relay:
    """Everything that a relay does, as handlers of its ``relay.…`` methods.

    Args:
        config: its limits and deadlines.
        client: to call members with.
        log: the durable record.
        host_id: the relay's own.
        dispatch: calls a method of this relay for a satellite: (method, argument, caller).
    """

    def __init__(
        self,
        config: RelayConfig,
        client: RpcClient,
        log: DurableLog,
        host_id: str,
        dispatch: Callable[[str, Any, Caller], Awaitable[Any]],
    ) -> None:
        self.log = log
        self.members = Members(config.max_sats)
        self.relayed = 0
        self.repeats = 0
        self.dropped_members = 0
        self.reader = MessageReader(log)
        self._stopping = False
        self._dispatch = dispatch
        self._config = config
        self._client = client
        self._recent = RecentIds()
        self._waiting: set[asyncio.Future[None]] = set()
        self._committing: dict[int, list[asyncio.Future[None]]] = {}
        self._telling: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.now = time.monotonic
        self.links = Links(log, host_id, self, max_links=self._room_for_links, now=self.now)

    def start(self) -> None:
        """Start the checker. Needs a running loop."""
        config = self._config
        checker = Checker(
            self.members,
            self._client,
            self._drop,
            interval=config.check_interval,
            drop_after=config.drop_after,
            fetch_timeout=config.fetch_timeout,
            timeout=config.notify_timeout,
            now=self.now,
        )
        self._spawn(checker.run())

    async def stop(self) -> None:
        """End links, couriers, the checker and waiting fetches."""
        self._stopping = True
        if self._telling is not None:
            self._telling.cancel()
        await self.links.stop()
        for member in self.members:
            self._dismiss(member)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._wake_all()

    def register(self, params: Sequence[Any], caller: Caller) -> dict[str, Any]:
        """Become a member of this relay's network.

        Takes {port?, host_id?}. With a port the relay calls ``notify`` there, without one the caller fetches
        with relay.fetch. A known host_id from the same address resumes where it was. Returns {host_id,
        position, log_id}.
        """
        argument = one_dict(params)
        host_id = self._registering(argument, caller)
        self.members.check_owner(host_id)
        names = {key: _names(argument, key) for key in ("methods", "plugins")}
        kind = _kind(argument)
        member = self.members.get(host_id.origin)
        known = member is not None
        if member is None:
            member = self.members.add(
                host_id, kind, self.log.committed, self.now(), resume=argument.get("resume") is not False
            )
            _logger.info("%s registered (%s)", host_id, kind)
            self._roster_changed()
        elif argument.get("resume") is False:
            member.cursor = self.log.committed
        if argument.get("log_id", self.log.log_id) != self.log.log_id:
            self._other_log(member)
        member.methods, member.plugins = names["methods"], names["plugins"]
        self._settle(member, host_id, kind, known=known)
        return {
            "host_id": str(host_id),
            "position": member.cursor,
            "log_id": self.log.log_id,
        }

    def unregister(self, params: Sequence[Any], caller: Caller) -> bool:
        """Leave the network. Takes {host_id}, returns true; nothing more is delivered."""
        member = self.members.find(callers_host_id(one_dict(params), caller))
        self._dismiss(member)
        self.members.remove(member, keep_cursor=False)
        _logger.info("%s said goodbye", member.host_id)
        self._roster_changed()
        return True

    async def relay(self, params: Sequence[Any], caller: Caller) -> int:
        """Send a message to all other members.

        Takes {host_id, data, id?, …}; other keys travel along. Returns the message's position in the log, once it
        is on disk. A repeated ``id`` (at most 64 characters, within the host's last 10,000) returns the first
        one's position.
        """
        argument = one_dict(params)
        host_id = callers_host_id(argument, caller)
        self.members.check_owner(host_id)
        message_id = text(argument, "id", MAX_ID_LENGTH) if "id" in argument else ""
        if message_id and (first := self._recent.position(host_id.origin, message_id)) is not None:
            self.repeats += 1
            await self._on_disk(first)
            return first
        packed, channel = message_in(argument)
        entry = self.links.core.append_unnumbered(
            origin=host_id.origin,
            host_id=str(host_id),
            client_address=(caller.address, caller.port),
            batch=make_batch([packed]),
            channels=(channel,),
        )
        if message_id:
            self._recent.remember(host_id.origin, message_id, entry.position)
        self.relayed += 1
        self.links.flush()
        await self._on_disk(entry.position)
        return entry.position

    async def fetch(self, params: Sequence[Any], caller: Caller) -> dict[str, Any]:
        """Read messages, waiting for the next one where there is none.

        Takes {host_id, after, max, wait}: ``after`` the position read last (0: the oldest kept), at most ``max``
        messages, ``wait`` up to 25 seconds. Returns {messages, next, gaps}; ``next`` is the next call's
        ``after``, which acknowledges this answer. Own messages are left out.
        """
        argument = one_dict(params)
        member = self.members.find(callers_host_id(argument, caller))
        after = integer(argument, "after", member.cursor, 0, 2**63 - 1)
        maximum = integer(argument, "max", 100, 1, FETCH_MAX)
        deadline = self.now() + number(argument, "wait", 0, 0, FETCH_WAIT)
        gaps: list[dict[str, Any]] = []
        if member.kind == "fetching":
            # What comes after a call has acknowledged what came before it, but for the oldest kept.
            member.cursor = min(after, self.log.committed) if after else member.cursor
            gaps, member.gaps_to_tell = member.gaps_to_tell, []
        while True:
            member.seen_at = self.now()
            if after >= self.log.lease:
                gaps.append({"after": after, "next": BEGINNING, "reason": "log replaced"})
                after = BEGINNING
            read = await self.reader.read(after, maximum, FETCH_BYTES, member.host_id.origin)
            if read.gap:
                gaps.append({"after": read.gap.after, "next": read.gap.next, "reason": read.gap.reason})
                member.gaps += 1
            after = read.next
            left = deadline - self.now()
            if read.messages or gaps or left <= 0 or not await self._appended(left):
                break
        return self._fetched(member, read, gaps)

    def get_satellites(self, _params: Sequence[Any], _caller: Caller) -> list[dict[str, Any]]:
        """List the connected satellites: {host_id, kind, state, age, methods, plugins, lag, …} each."""
        now = self.now()
        return [
            {
                "host_id": str(member.host_id),
                "kind": member.kind,
                "state": member.state,
                "age": round(now - member.registered_at, 3),
                "silent": round(now - member.seen_at, 3),
                "methods": list(member.methods),
                "plugins": list(member.plugins),
                "position": member.position,
                "lag": max(0, self.log.last - member.position),
                "sent": member.delivered,
                "refused": member.refused,
                "gaps": member.gaps_told,
                "last_error": member.last_error,
            }
            for member in self.members
        ]

    def _registering(self, argument: Mapping[str, Any], caller: Caller) -> HostId:
        if "host_id" not in argument:
            port = integer(argument, "port", 0, 0, 65535)
            return HostId(self.members.new_origin(), caller.address, port)
        host_id = callers_host_id(argument, caller)
        port = integer(argument, "port", host_id.port, 0, 65535)
        return HostId(host_id.origin, host_id.ip, port)

    def _other_log(self, member: Member) -> None:
        member.cursor = BEGINNING
        member.gaps += 1
        member.gaps_to_tell.append({"after": 0, "next": BEGINNING, "reason": "log replaced"})

    def _settle(self, member: Member, host_id: HostId, kind: str, *, known: bool) -> None:
        """Give a member the courier that its kind needs; a changed port or kind gets a new one."""
        changed = not known or member.host_id != host_id or member.kind != kind
        member.host_id, member.kind = host_id, kind
        if kind == "fetching":
            member.state, member.seen_at = "ok", self.now()
        if not changed:
            member.wake.set()
            return
        self._dismiss(member)
        if kind != "fetching":
            courier = Courier(member, self.reader, self._client, self._config.notify_timeout, self.now)
            member.courier = self._spawn(courier.run())
            self._spawn(self._learn_methods(member))

    async def _learn_methods(self, member: Member) -> None:
        try:
            names = await self._client.call(member.url, "system.listMethods", timeout=self._config.notify_timeout)
            member.methods = _names({"methods": names}, "methods")
            self._roster_changed()
        except PeerError as error:
            _logger.debug("%s does not tell its methods: %s", member.host_id, error)

    def _fetched(self, member: Member, read: Messages, gaps: list[dict[str, Any]]) -> dict[str, Any]:
        member.sent += len(read.messages)
        messages = [Written(self.reader.written(message, write_plain)) for message in read.messages]
        return {"messages": messages, "next": read.next, "gaps": gaps, "log_id": self.log.log_id}

    # ---- what links tell -------------------------------------------------------------------------------

    def joined(self, peer: Peer) -> None:
        """A satellite has come over its link, or tells other methods."""
        member = self.members.get(peer.origin)
        if member is not None and member.peer is not peer:
            self._dismiss(member)
            self.members.remove(member, keep_cursor=False)
            member = None
        if member is None:
            member = self.members.add(peer.host_id, "linked", 0, self.now(), resume=False)
            member.peer, member.state = peer, "ok"
            _logger.info("%s joined", peer.host_id)
        member.host_id = peer.host_id
        member.methods, member.plugins = peer.methods, peer.plugins
        self._roster_changed()

    def left(self, peer: Peer, reason: str, text: str) -> None:
        """A link has ended."""
        member = self.members.get(peer.origin)
        if member is None or member.peer is not peer:
            if peer.origin or reason:
                _logger.warning("a link from %s was refused: %s %s", peer.address[0], reason, text)
            return
        self.members.remove(member, keep_cursor=False)
        if reason == goodbyes.STOPPING:
            _logger.info("%s said goodbye", member.host_id)
        else:
            _logger.warning("the link of %s has ended: %s %s", member.host_id, reason, text)
        self._roster_changed()

    async def called(self, peer: Peer, method: str, argument: Any) -> Any:
        """A satellite calls a method of this relay."""
        return await self._dispatch(method, argument, Caller(*peer.address))

    def committed(self, position: int) -> None:
        """Everything up to this position is on disk."""
        self.links.committed(position)
        for done in [waited for waited in self._committing if waited <= position]:
            for waiting in self._committing.pop(done):
                if not waiting.done():
                    waiting.set_result(None)
        self._wake_all()

    async def _on_disk(self, position: int) -> None:
        """Wait until a message is on disk."""
        if position > self.log.committed:
            waiting = asyncio.get_running_loop().create_future()
            self._committing.setdefault(position, []).append(waiting)
            await waiting

    def _room_for_links(self) -> int:
        return self.members.max_sats - sum(member.peer is None for member in self.members)

    def _roster_changed(self) -> None:
        """Tell all links who is there, a moment later: many may come at once."""
        if self._telling is None and not self._stopping:
            self._telling = asyncio.get_running_loop().call_later(ROSTER_DELAY, self._tell_roster)

    def _tell_roster(self) -> None:
        self._telling = None
        rows = [(str(member.host_id), list(member.methods), list(member.plugins)) for member in self.members]
        self.links.core.send_roster(Roster(rows))
        self.links.flush()

    async def _appended(self, timeout: float) -> bool:
        """Wait until something more is on disk; tell whether it was in time."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            async with asyncio.timeout(timeout):
                await waiting
            return not self._stopping
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(waiting)

    def _wake_all(self) -> None:
        for member in self.members:
            member.wake.set()
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _drop(self, member: Member, why: str) -> None:
        _logger.warning("%s dropped: %s", member.host_id, why)
        self.dropped_members += 1
        self._dismiss(member)
        self.members.remove(member, keep_cursor=True)
        self._roster_changed()

    def _dismiss(self, member: Member) -> None:
        if member.courier is not None:
            member.courier.cancel()
            member.courier = None

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("a task of the relay ended", exc_info=error)


def _kind(argument: Mapping[str, Any]) -> str:
    return "notified" if argument.get("port") else "fetching"


def _names(argument: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = argument.get(key, [])
    if (
        not isinstance(names, list)
        or len(names) > MAX_NAMES
        or not all(isinstance(name, str) and len(name) <= 256 for name in names)
    ):
        raise BadParams(f"key {key!r}: a list of at most {MAX_NAMES} names is wanted")
    return tuple(names)
