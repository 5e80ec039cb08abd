"""Bring messages to one member by calling its ``notify``.

Each member has a courier of its own, which reads the log at the member's pace: a dead, slow or hanging satellite
delays nobody else and holds no messages but the log's. One call is under way at a time, so order is kept.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

from co2.errors import CallTimeout, ParseError, PeerError, RemoteFault, Unreachable
from co2.relay.log import Entry, MemoryLog
from co2.relay.members import Member
from co2.xmlrpc.client import RpcClient
from co2.xmlrpc.forms import plain_form
from co2.xmlrpc.writer import write_call, write_value

__all__ = ["BATCH_BYTES", "BATCH_MESSAGES", "MAX_TRIES", "Courier", "write_plain"]

BATCH_MESSAGES = 64
"""At most so many messages in one system.multicall to one of our satellites."""

BATCH_BYTES = 480 * 1024
"""Encoded bytes after which a batch is cut; in XML and base64 it stays below 1 MiB."""

MAX_TRIES = 3
"""A message that a member answers with nonsense, or hangs in while it answers ping, is given up after these."""

_FIRST_RETRY = 0.1
_LONGEST_RETRY = 5.0

_logger = logging.getLogger("co2.relay")


class Courier:
    """Calls one member's ``notify`` for every message after its cursor.

    Args:
        member: whom to bring them to.
        log: where they are.
        client: to call with.
        timeout: seconds one call may take.
        now: the monotonic clock, in seconds.
    """

    def __init__(
        self, member: Member, log: MemoryLog, client: RpcClient, timeout: float, now: Callable[[], float]
    ) -> None:
        self._member = member
        self._log = log
        self._client = client
        self._timeout = timeout
        self._now = now
        self._tries = 0

    async def run(self) -> None:
        """Deliver for as long as the member is registered; ends by cancellation."""
        delay = _FIRST_RETRY
        while True:
            try:
                await self._deliver_once()
                delay = _FIRST_RETRY
                self._tries = 0
            except PeerError as error:
                self._failed(error)
                await self._count_try(error)
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, _LONGEST_RETRY)

    async def _deliver_once(self) -> None:
        member = self._member
        batch = BATCH_MESSAGES if member.kind == "co2" and not self._tries else 1
        reading = self._log.read(member.cursor, batch, BATCH_BYTES, member.host_id.origin)
        if reading.gap is not None:
            member.gaps += 1
            member.gaps_to_tell.append(reading.gap.as_dict())
            member.cursor = reading.gap.next
            _logger.warning("%s misses positions over %d up to %d: %s", member.host_id,
                            reading.gap.after, reading.gap.next, reading.gap.reason)  # fmt: skip
        if not reading.entries:
            member.cursor = reading.next
            member.wake.clear()
            if self._log.head == member.cursor:
                await member.wake.wait()
            return
        if self._tries < MAX_TRIES:
            await self._send(reading.entries)
        else:
            self._refused(reading.entries[0], f"given up after {MAX_TRIES} tries: {member.last_error}")
        member.cursor = max(member.cursor, reading.next)

    async def _send(self, entries: Sequence[Entry]) -> None:
        member = self._member
        gaps = list(member.gaps_to_tell)
        written = [self._written(entry, gaps if number == 0 else []) for number, entry in enumerate(entries)]
        results: Sequence[Any]
        if len(written) > 1:
            calls = [("notify", value) for value in written]
            results = await self._client.call_many(member.url, calls, self._timeout)
        else:
            try:
                body = write_call("notify", written)
                results = [await self._client.call_written(member.url, body, self._timeout)]
            except RemoteFault as fault:
                results = [fault]
        del member.gaps_to_tell[: len(gaps)]
        self._answered(entries, results)

    def _written(self, entry: Entry, gaps: list[dict[str, Any]]) -> bytes:
        packed = self._member.kind == "co2"
        if gaps:
            form = _packed(entry, self._log.log_id) if packed else _plain(entry)
            return write_value({**form, "gaps": gaps})
        if packed:
            return self._log.written(entry, "packed", lambda e: write_value(_packed(e, self._log.log_id)))
        return self._log.written(entry, "plain", write_plain)

    def _answered(self, entries: Sequence[Entry], results: Sequence[Any]) -> None:
        member = self._member
        if len(results) != len(entries):
            raise ParseError(f"{len(entries)} calls, {len(results)} answers")
        for entry, result in zip(entries, results, strict=True):
            if isinstance(result, RemoteFault):
                self._refused(entry, str(result))
            else:
                member.sent += 1
        if member.state != "ok":
            _logger.info("%s answers", member.host_id)
        member.state = "ok"
        member.seen_at = self._now()

    def _refused(self, entry: Entry, why: str) -> None:
        member = self._member
        member.refused += 1
        member.last_error = why[:512]
        _logger.warning("%s did not take message %d: %s", member.host_id, entry.position, member.last_error)

    async def _count_try(self, error: PeerError) -> None:
        """Count a failure against the message when the member is there but cannot take this one.

        Without it one message that makes a foreign server answer nonsense, or hang, would hold up all later ones.
        """
        if isinstance(error, CallTimeout):
            try:
                await self._client.call(self._member.url, "ping", timeout=self._timeout)
            except RemoteFault:
                pass
            except PeerError:
                return
        if not isinstance(error, Unreachable):
            self._tries += 1

    def _failed(self, error: PeerError) -> None:
        member = self._member
        member.last_error = str(error)[:512]
        if member.state != "unreachable":
            _logger.warning("%s cannot be reached: %s", member.host_id, member.last_error)
        member.state = "unreachable"


def write_plain(entry: Entry) -> bytes:
    """Write a log entry as foreign receivers see it."""
    return write_value(_plain(entry))


def _plain(entry: Entry) -> dict[str, Any]:
    return {**plain_form(entry.packed), **_envelope(entry)}


def _packed(entry: Entry, log_id: str) -> dict[str, Any]:
    return {**_envelope(entry), "log_id": log_id, "packed": entry.packed}


def _envelope(entry: Entry) -> dict[str, Any]:
    return {
        "host_id": entry.host_id,
        "client_address": list(entry.client_address),
        "position": entry.position,
    }
