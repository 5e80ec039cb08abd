"""The relay: takes messages in, keeps them in the log, passes them on to every other member."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from co2.config import RelayConfig
from co2.errors import BadParams, PeerError
from co2.host_id import HostId
from co2.relay.checker import Checker
from co2.relay.courier import Courier, write_plain
from co2.relay.dedupe import MAX_ID_LENGTH, RecentIds
from co2.relay.log import BEGINNING, MemoryLog, Reading
from co2.relay.members import Member, Members
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

MAX_NAMES = 10_000
"""Methods, and plugins, that one satellite may name."""

_logger = logging.getLogger("co2.relay")


class Relay:
    """Everything that a relay does, as handlers of its ``relay.…`` methods.

    Args:
        config: its limits and deadlines.
        client: to call members with.
    """

    def __init__(self, config: RelayConfig, client: RpcClient) -> None:
        self.log = MemoryLog(config.log_messages, config.log_bytes)
        self.members = Members(config.max_sats)
        self.relayed = 0
        self.repeats = 0
        self.dropped_members = 0
        self._stopping = False
        self._config = config
        self._client = client
        self._recent = RecentIds()
        self._waiting: set[asyncio.Future[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.now = time.monotonic

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
        """End couriers, the checker and waiting fetches."""
        self._stopping = True
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
                host_id, kind, self.log.head, self.now(), resume=argument.get("resume") is not False
            )
            _logger.info("%s registered (%s)", host_id, kind)
        elif argument.get("resume") is False:
            member.cursor = self.log.head
        if argument.get("log_id", self.log.log_id) != self.log.log_id:
            self._other_log(member)
        member.methods, member.plugins = names["methods"], names["plugins"]
        self._settle(member, host_id, kind, known=known)
        return {
            "host_id": str(host_id),
            "position": member.cursor,
            "log_id": self.log.log_id,
            "packed": True,
        }

    def unregister(self, params: Sequence[Any], caller: Caller) -> bool:
        """Leave the network. Takes {host_id}, returns true; nothing more is delivered."""
        member = self.members.find(callers_host_id(one_dict(params), caller))
        self._dismiss(member)
        self.members.remove(member, keep_cursor=False)
        _logger.info("%s said goodbye", member.host_id)
        return True

    def relay(self, params: Sequence[Any], caller: Caller) -> int:
        """Send a message to all other members.

        Takes {host_id, data, id?, …}; other keys travel along. Returns the message's position in the log. A
        repeated ``id`` (at most 64 characters, within the host's last 10,000) returns the first one's position.
        """
        argument = one_dict(params)
        host_id = callers_host_id(argument, caller)
        self.members.check_owner(host_id)
        message_id = text(argument, "id", MAX_ID_LENGTH) if "id" in argument else ""
        if message_id and (first := self._recent.position(host_id.origin, message_id)) is not None:
            self.repeats += 1
            return first
        packed = message_in(argument)
        position = self.log.append(host_id.origin, str(host_id), (caller.address, caller.port), packed)
        if message_id:
            self._recent.remember(host_id.origin, message_id, position)
        self.relayed += 1
        self._wake_all()
        return position

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
            member.cursor = min(after, self.log.head) if after else member.cursor
            gaps, member.gaps_to_tell = member.gaps_to_tell, []
        while True:
            member.seen_at = self.now()
            reading = self.log.read(after, maximum, FETCH_BYTES, member.host_id.origin)
            if reading.gap:
                gaps.append(reading.gap.as_dict())
                member.gaps += 1
            after = reading.next
            left = deadline - self.now()
            if reading.entries or gaps or left <= 0 or not await self._appended(left):
                break
        return self._fetched(member, reading, gaps)

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
                "position": member.cursor,
                "lag": self.log.head - member.cursor,
                "sent": member.sent,
                "refused": member.refused,
                "gaps": member.gaps,
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
            courier = Courier(member, self.log, self._client, self._config.notify_timeout, self.now)
            member.courier = self._spawn(courier.run())
        if kind == "notified":
            self._spawn(self._learn_methods(member))

    async def _learn_methods(self, member: Member) -> None:
        try:
            names = await self._client.call(member.url, "system.listMethods", timeout=self._config.notify_timeout)
            member.methods = _names({"methods": names}, "methods")
        except PeerError as error:
            _logger.debug("%s does not tell its methods: %s", member.host_id, error)

    def _fetched(self, member: Member, reading: Reading, gaps: list[dict[str, Any]]) -> dict[str, Any]:
        member.sent += len(reading.entries)
        messages = [Written(self.log.written(entry, "plain", write_plain)) for entry in reading.entries]
        return {"messages": messages, "next": reading.next, "gaps": gaps, "log_id": self.log.log_id}

    async def _appended(self, timeout: float) -> bool:
        """Wait until something is appended; tell whether it was in time."""
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
    if not argument.get("port"):
        return "fetching"
    return "co2" if argument.get("packed") is True else "notified"


def _names(argument: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = argument.get(key, [])
    if (
        not isinstance(names, list)
        or len(names) > MAX_NAMES
        or not all(isinstance(name, str) and len(name) <= 256 for name in names)
    ):
        raise BadParams(f"key {key!r}: a list of at most {MAX_NAMES} names is wanted")
    return tuple(names)
