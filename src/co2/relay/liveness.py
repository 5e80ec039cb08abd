"""Liveness of members: ping silent ones, drop those that do not answer."""

import asyncio
import logging
from collections.abc import Callable

from co2.errors import AnswerTooBig, PeerError, RemoteFault
from co2.relay.members import Member, Members
from co2.xmlrpc.answers import BRIEF
from co2.xmlrpc.client import RpcClient
from co2.xmlrpc.faults import as_fault

__all__ = ["PINGS_AT_ONCE", "LivenessChecker"]

PINGS_AT_ONCE = 50

_logger = logging.getLogger("co2.relay")


class LivenessChecker:
    """Pings members that were silent for an interval and drops those silent for too long.

    Args:
        members: the table.
        client: to ping with.
        drop: called with a member to be dropped.
        interval: seconds between rounds.
        drop_after: seconds of silence after which a member with a port is dropped.
        fetch_timeout: the same for a member that fetches.
        timeout: seconds that a ping may take.
        now: the monotonic clock, in seconds.
        too_long: called for each answer over its limit.
    """

    def __init__(
        self,
        members: Members,
        client: RpcClient,
        drop: Callable[[Member, str], None],
        *,
        interval: float,
        drop_after: float,
        fetch_timeout: float,
        timeout: float,
        now: Callable[[], float],
        too_long: Callable[[Member], None],
    ) -> None:
        self._members = members
        self._client = client
        self._drop = drop
        self._interval = interval
        self._drop_after = drop_after
        self._fetch_timeout = fetch_timeout
        self._timeout = timeout
        self._now = now
        self._too_long = too_long
        self._free = asyncio.Semaphore(PINGS_AT_ONCE)

    async def run(self) -> None:
        """Check all members at each interval, until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            await asyncio.gather(*(self._check(member) for member in self._members.foreign))

    async def _check(self, member: Member) -> None:
        if member.kind != "watcher" and self._now() - member.seen_at >= self._interval:
            async with self._free:
                await self._ping(member)
        limit = self._fetch_timeout if member.kind == "watcher" else self._drop_after
        silent = self._now() - member.seen_at
        if silent > limit and self._members.get(member.host_id.origin) is member:
            self._drop(member, f"silent for {silent:.0f} s, the limit is {limit:g} s")

    async def _ping(self, member: Member) -> None:
        try:
            await self._client.call(member.url, "ping", timeout=self._timeout, limit=BRIEF)
        except RemoteFault:
            pass  # a server without ping has answered, too
        except Exception as error:  # an error of ours, too: it must not end the checks of all members
            self._unanswered(member, as_fault(error, f"ping of {member.label}"))
            return
        member.state = "ok"
        member.seen_at = self._now()

    def _unanswered(self, member: Member, error: PeerError) -> None:
        if member.state != "unreachable":
            _logger.warning("%s does not answer ping: %s", member.host_id, error)
        member.state = "unreachable"
        member.last_error = str(error)[:512]
        if isinstance(error, AnswerTooBig):
            self._too_long(member)
