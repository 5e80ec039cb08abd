"""Messages in and out for members without a link: ``relay.relay``, ``relay.fetch``, and what comes as JSON."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from types import MappingProxyType
from typing import Any

from co2.errors import BadParams, StorageFull, Unreachable, ValueRefused
from co2.exact_json.messages import SentMessage
from co2.host_id import HostId
from co2.protocol.relay.core import RelayCore
from co2.protocol.relay.filter_chain import InFlight
from co2.protocol.relay.log import LogGap
from co2.protocol.wire.batch import MAX_BATCH_BYTES, make_batch
from co2.protocol.wire.channel_patterns import channels_of_frame
from co2.protocol.wire.link_frames import BEGINNING
from co2.relay.callers import check_not_passed_on, check_unowned
from co2.relay.commit_waiters import CommitWaiters
from co2.relay.durable_log import DurableLog
from co2.relay.live_ring import LiveRing
from co2.relay.long_turns import LONG, LongTurns
from co2.relay.members import Member, Members
from co2.relay.message_reader import LogMessage, MessageReader, Messages, unreadable
from co2.relay.notifier import write_live, write_plain
from co2.server.rpc.answer_turns import STEP, AnswerTurns
from co2.server.rpc.arguments import callers_host_id, integer, number, one_dict, text
from co2.sources import source_of
from co2.xmlrpc.forms import message_in
from co2.xmlrpc.registry import Caller
from co2.xmlrpc.writer import Written

__all__ = ["FETCH_BYTES", "FETCH_MAX", "FETCH_WAIT", "MAX_ID_LENGTH", "MessageMethods"]

FETCH_MAX = 1_000
"""Messages in one answer to relay.fetch."""

FETCH_WAIT = 25.0
"""Seconds that relay.fetch waits at most."""

FETCH_BYTES = 1024 * 1024
"""Bytes, in XML, after which an answer to relay.fetch is cut; one message is always returned."""

MAX_ID_LENGTH = 64
"""Characters of an ``id`` of relay.relay."""

_NO_NEWS: Mapping[str, Any] = MappingProxyType({"live": [], "live_missed": 0})


class MessageMethods:
    """Handlers of ``relay.relay`` and ``relay.fetch``.

    Args:
        core: appends messages to the log.
        flush: handles the resulting events.
        log: of all messages.
        members: may fetch.
        reader: of the log.
        live: the last live messages.
        waiters: wait for the disk, and for the next message.
        now: returns monotonic seconds.
        turns: of answers that take long.

    Attributes:
        relayed: number of messages that the log has taken; never decreases.
        repeats: number of repeated messages.
    """

    def __init__(
        self,
        core: RelayCore,
        flush: Callable[[], None],
        log: DurableLog,
        *,
        members: Members,
        reader: MessageReader,
        live: LiveRing,
        waiters: CommitWaiters,
        now: Callable[[], float],
        turns: AnswerTurns,
    ) -> None:
        self.relayed = 0
        self.repeats = 0
        self._core = core
        self._flush = flush
        self._log = log
        self._members = members
        self._reader = reader
        self._live = live
        self._waiters = waiters
        self._now = now
        self._turns = turns
        self._under_way: dict[tuple[str, str], asyncio.Future[int]] = {}
        self._long = LongTurns(lambda: log.last)

    async def relay(self, params: Sequence[Any], caller: Caller) -> int:
        """Send a message to all other members.

        Takes {data, host_id?, id?, …}; other keys travel along. Who has not registered needs no host_id, and gets
        one of its address. Returns the message's position in the log, once it is on disk. A repeated ``id`` (at
        most 64 characters, within the host's last 10,000) returns the first one's position, also after a restart
        of the relay.
        """
        argument = one_dict(params)
        check_not_passed_on(caller, "relay")
        host_id = _sender(argument, caller)
        self._members.check_owner(host_id)
        check_unowned(self._core.origins, host_id)
        self._check_open()
        message_id = text(argument, "id", MAX_ID_LENGTH) if "id" in argument else ""
        if message_id and (first := self._log.ids.position(host_id.origin, message_id)) is not None:
            self.repeats += 1
            await self._waiters.on_disk(first)
            return first
        packed, channels = message_in(argument)
        message = InFlight(str(host_id), (caller.address, caller.port), make_batch([packed]), 1, channels)
        return await self._to_disk(caller, message, lambda: self._through(host_id.origin, message, message_id))

    async def send(self, messages: Sequence[SentMessage], caller: Caller) -> int | None:
        """Send messages for a caller who has not registered, in their order.

        Returns:
            The position of the last one in the log, once it is on disk; None if all were live.

        Raises:
            PeerError: the caller may not send, or the log has no room; then a part of the messages may be sent.
        """
        check_not_passed_on(caller, "relay")
        host_id = HostId.of_address(caller.address)
        self._members.check_owner(host_id)
        check_unowned(self._core.origins, host_id)
        self._check_open()
        position: int | None = None
        for batch in _batches(messages):
            channels = channels_of_frame({one.channel for one in batch})
            message = InFlight(
                str(host_id),
                (caller.address, caller.port),
                make_batch([one.packed for one in batch]),
                len(batch),
                None if channels is None else tuple(channels),
            )
            if batch[0].is_live:
                self._pass_live(host_id.origin, message)
            elif len(message.batch) > LONG:
                passed = partial(self._pass_on, host_id.origin, message)
                position = await self._to_disk(caller, message, passed) + len(batch) - 1
            else:
                position = await self._pass_on(host_id.origin, message) + len(batch) - 1
        if position is not None:
            await self._waiters.on_disk(position)
        return position

    def _check_open(self) -> None:
        if self._core.closing:
            raise Unreachable("the relay is stopping; send the message again once a relay is back")

    async def _to_disk(
        self, caller: Caller, message: InFlight, pass_on: Callable[[], Coroutine[Any, Any, int]]
    ) -> int:
        """Pass messages on, in turn if they are long, and wait until they are on disk; return the first position.

        Raises:
            Busy: too many long messages wait.
        """

        async def work() -> int:
            self._check_open()  # it may have waited for its turn
            position = await pass_on()
            await self._waiters.on_disk(position + message.count - 1)
            return position

        return await self._long.through(source_of(caller.address), len(message.batch), message.count, work)

    def _pass_live(self, origin: str, message: InFlight) -> None:
        chain = self._core.filter_chain
        if not chain.occupied:
            self._core.pass_live_unnumbered(origin, message)
        else:
            message.release = lambda through: self._core.pass_live_unnumbered(origin, through)
            chain.enter(message)
        self._flush()

    async def _through(self, origin: str, message: InFlight, message_id: str) -> int:
        """Accept a message, one with an id only once, even while it is on its way through the relay plugins."""
        if not message_id:
            return await self._pass_on(origin, message)
        key = (origin, message_id)
        if (under_way := self._under_way.get(key)) is not None:
            self.repeats += 1
        else:
            under_way = asyncio.ensure_future(self._pass_on(origin, message, message_id))
            self._under_way[key] = under_way
            under_way.add_done_callback(lambda _task: self._under_way.pop(key))
        return await asyncio.shield(under_way)  # completes even if this caller is gone

    async def _pass_on(self, origin: str, message: InFlight, message_id: str = "") -> int:
        """Append a message to the log, after the relay plugins; return its position.

        Raises:
            StorageFull: the log has no room.
            StorageFailed: the disk has failed.
        """
        filter_chain = self._core.filter_chain
        if not filter_chain.occupied:
            position = self._append(origin, message, message_id)
            self._flush()
            return position
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def release(through: InFlight) -> None:
            try:
                position = self._append(origin, through, message_id)
            except StorageFull as error:
                if not found.done():
                    found.set_exception(error)
                return
            if not found.done():  # the caller may be gone
                found.set_result(position)

        message.release = release
        filter_chain.enter(message)
        self._flush()
        return await found

    def _append(self, origin: str, message: InFlight, message_id: str) -> int:
        position = self._core.append_unnumbered(origin, message, message_id).position
        self.relayed += message.count
        return position

    async def fetch(self, params: Sequence[Any], caller: Caller) -> dict[str, Any]:
        """Read messages, waiting for the next one where there is none.

        Takes {host_id, after, max, wait}: ``after`` the position read last (0: the oldest kept), at most ``max``
        messages, ``wait`` up to 25 seconds. Returns {messages, next, gaps}; ``next`` is the next call's
        ``after``, which acknowledges this answer. ``at`` of a message is the time at which the relay got it, in
        seconds since 1970; where its clock has jumped, {clock_jumps} says behind which position, and by how
        many seconds. Own messages are left out. With ``live`` true it also returns {live, live_missed}: live
        messages since the last such call, and how many had gone by then. With ``names`` true it also returns
        {names}: the senders' names, by their host_id.
        """
        argument = one_dict(params)
        check_not_passed_on(caller, "fetch")
        member = self._members.find(callers_host_id(argument, caller))
        after = integer(argument, "after", member.cursor, 0, 2**63 - 1)
        maximum = integer(argument, "max", 100, 1, FETCH_MAX)
        deadline = self._now() + number(argument, "wait", 0, 0, FETCH_WAIT)
        gaps: list[dict[str, Any]] = []
        if member.kind == "watcher":
            # A position acknowledges all messages before it, except 0, the oldest kept.
            member.cursor = min(after, self._log.committed) if after else member.cursor
            if after == member.told_next:
                # The caller continues after the answer that reported them: only now are they certain to be known.
                member.has_heard(member.unconfirmed)
            gaps = list(member.gaps_to_tell)
        live = argument.get("live", False)
        names = argument.get("names", False)
        for key, given in (("live", live), ("names", names)):
            if not isinstance(given, bool):
                raise BadParams(f"key {key!r}: expected a boolean")
        if live:
            head = self._live.watch()
            member.live_next = head if member.live_next is None else member.live_next
        wanted = _Fetch(after, maximum, deadline, (caller.address, caller.port), tuple(gaps), live, names)
        if live:
            member.live_call = wanted
        member.has_fetched = True
        member.fetches += 1
        try:
            return await self._fetch(member, wanted)
        finally:
            member.fetches -= 1

    async def _fetch(self, member: Member, wanted: "_Fetch") -> dict[str, Any]:
        after = begun_at = wanted.after
        gaps = list(wanted.gaps)
        while True:
            member.seen_at = self._now()
            seen = self._waiters.committed
            if after >= self._log.lease:
                gaps.append({"after": after, "next": BEGINNING, "reason": "log replaced"})
                member.gaps += 1
                after = BEGINNING
            read = await self._reader.read(after, wanted.maximum, FETCH_BYTES, member.host_id.origin)
            if read.gap:
                gaps.append(_told(read.gap))
                member.gaps += 1
            begun_at, after = min(after, begun_at), read.next
            left = wanted.deadline - self._now()
            # A caller may have dropped an earlier call, unnoticed by the relay.
            is_latest = member.live_call is wanted
            heard: list[LogMessage] = []
            news = await self._live_news(member, wanted, heard) if is_latest else _NO_NEWS if wanted.live else {}
            if read.messages or gaps or left <= 0 or news.get("live") or news.get("live_missed"):
                break
            if not await self._waiters.appended(seen, left, wanted.end, live=is_latest):
                break
        answer = await self._fetched(member, read, gaps)
        jumps = [one for one in self._log.clock_jumps if begun_at <= one.position < answer["next"]]
        if jumps:
            answer["clock_jumps"] = [{"position": one.position, "seconds": one.seconds} for one in jumps]
        member.told_next, member.unconfirmed = answer["next"], list(wanted.gaps)
        if wanted.names:
            answer["names"] = self._names_of([*read.messages, *heard])
        return {**answer, **news}

    def _names_of(self, messages: Sequence[LogMessage]) -> dict[str, str]:
        """Return the names of the senders of messages by host_id, of those that have one."""
        names = self._core.names
        found = {host_id: names.shown(host_id.partition("@")[0]) for host_id in {one.host_id for one in messages}}
        return {host_id: name for host_id, name in found.items() if name}

    async def _live_news(self, member: Member, wanted: "_Fetch", heard: list[LogMessage]) -> dict[str, Any]:
        """Return the live messages since the last call of this member; it never gets the ones left out now.

        Args:
            member: that fetches.
            wanted: by its call.
            heard: gets these messages, as they are in the log.
        """
        assert member.live_next is not None
        read = self._live.read(member.live_next, wanted.maximum, FETCH_BYTES, member.host_id.origin)
        heard += read.messages
        member.live_next, missed = read.next, read.missed
        messages: list[Written] = []
        size = 0
        began = monotonic()
        for message in read.messages:
            if monotonic() - began > STEP:
                began = await self._turns.pause(began)
            try:
                written = await self._reader.written(message, write_live)
            except ValueRefused:
                missed += 1
                continue
            size += len(written)
            if messages and size > FETCH_BYTES:
                missed += 1  # far larger in XML than packed
                continue
            messages.append(Written(written))
        member.sent += len(messages)
        return {"live": messages, "live_missed": missed}

    async def _fetched(self, member: Member, read: Messages, gaps: list[dict[str, Any]]) -> dict[str, Any]:
        messages: list[Written] = []
        following, size = read.next, 0
        last = 0
        began = monotonic()
        for message in read.messages:
            if monotonic() - began > STEP:
                began = await self._turns.pause(began)
            try:
                written = await self._reader.written(message, write_plain)
            except ValueRefused:
                gaps.append(_told(unreadable(message.position - 1, message.position)))
                member.gaps += 1
            else:
                size += len(written)
                if messages and size > FETCH_BYTES:
                    following = last
                    break
                messages.append(Written(written))
            last = message.position
        member.sent += len(messages)
        return {"messages": messages, "next": following, "gaps": gaps, "log_id": self._log.log_id}


@dataclass(frozen=True, slots=True)
class _Fetch:
    """The arguments of relay.fetch, with its deadline, the caller's address, and the gaps to report."""

    after: int
    maximum: int
    deadline: float
    end: tuple[str, int]
    gaps: tuple[dict[str, Any], ...] = ()
    live: bool = False
    names: bool = False


def _batches(messages: Sequence[SentMessage]) -> Iterator[list[SentMessage]]:
    """Divide messages, in their order, as frames allow: by size, and live ones from others."""
    batch: list[SentMessage] = []
    size = 0
    for one in messages:
        size += len(one.packed)
        if batch and (size > MAX_BATCH_BYTES or one.is_live != batch[0].is_live):
            yield batch
            batch, size = [], len(one.packed)
        batch.append(one)
    if batch:
        yield batch


def _sender(argument: Mapping[str, Any], caller: Caller) -> HostId:
    """Return the sender: the host_id in the argument, else the one of the caller's address."""
    if "host_id" in argument:
        return callers_host_id(argument, caller)
    if "id" in argument:
        raise BadParams(
            "key 'id' needs the key 'host_id' with the host_id that relay.register returned, "
            "so that no other sender at your address uses the same ids"
        )
    return HostId.of_address(caller.address)


def _told(gap: LogGap) -> dict[str, Any]:
    return {"after": gap.after, "next": gap.next, "reason": gap.reason}
