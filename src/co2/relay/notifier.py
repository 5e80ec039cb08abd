"""Deliver messages to one foreign member by calling its ``notify``.

Each member has its own notifier, which reads the log at the member's pace: a dead, slow or hanging member delays
no other and needs no memory besides the log. One call runs at a time, so order is kept. (Our own satellites
have a link.)
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from co2.errors import AnswerTooBig, CallTimeout, FailedInside, PeerError, RemoteFault, Unreachable, ValueRefused
from co2.protocol.relay.log import LogGap
from co2.protocol.wire.gap_reasons import gap_words
from co2.relay.members import Member
from co2.relay.message_reader import MAX_FORM, LogMessage, MessageReader, unreadable
from co2.xmlrpc.answers import BRIEF
from co2.xmlrpc.client import RpcClient
from co2.xmlrpc.faults import as_fault
from co2.xmlrpc.forms import plain_form
from co2.xmlrpc.writer import write_call, write_value

__all__ = ["MAX_TRIES", "Notifier", "write_live", "write_plain"]

READ_AT_ONCE = 64
"""Messages that are read from the log at once."""

_READ_BYTES = 1024 * 1024

MAX_TRIES = 3
"""Attempts after which a message is given up: the member answers nonsense, or hangs though it answers ping."""

_FIRST_RETRY = 0.1
_LONGEST_RETRY = 5.0


class Notifier:
    """Calls one member's ``notify`` for every message after its cursor.

    Args:
        member: the receiver.
        reader: of the log.
        client: to call with.
        timeout: seconds one call may take.
        now: the monotonic clock, in seconds.
        too_long: called for each answer over its limit.
        say: logs a line, (level, source, text, *values), within the limits of the source.
    """

    def __init__(
        self,
        member: Member,
        reader: MessageReader,
        client: RpcClient,
        timeout: float,
        *,
        now: Callable[[], float],
        too_long: Callable[[Member], None],
        say: Callable[..., None],
    ) -> None:
        self._member = member
        self._reader = reader
        self._client = client
        self._timeout = timeout
        self._now = now
        self._too_long = too_long
        self._say = say
        self._tries = 0

    async def run(self) -> None:
        """Deliver for as long as the member is registered; ends by cancellation."""
        delay = _FIRST_RETRY
        while True:
            try:
                await self._deliver_once()
                delay = _FIRST_RETRY
                self._tries = 0
            except Exception as error:  # an error of ours, too: the member must get the messages after this one
                await self._handle_failure(as_fault(error, f"notify of {self._member.label}"))
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, _LONGEST_RETRY)

    async def _deliver_once(self) -> None:
        member = self._member
        member.wake.clear()
        read = await self._reader.read(member.cursor, READ_AT_ONCE, _READ_BYTES, member.host_id.origin)
        if read.gap is not None:
            self._tell(read.gap)
        for message in read.messages:
            if self._tries < MAX_TRIES:
                await self._send(message)
            else:
                self._refused(message, f"given up after {MAX_TRIES} tries: {member.last_error}")
            self._tries = 0
            member.cursor = message.position
        member.cursor = max(member.cursor, read.next)
        if not read.messages and read.gap is None:
            await member.wake.wait()

    def _tell(self, gap: LogGap) -> None:
        member = self._member
        member.cursor = gap.next
        if member.miss(gap.after, gap.next, gap.reason):
            self._say(
                logging.WARNING,
                self._member.host_id.origin,
                "gap for %s: %s",
                member.host_id,
                gap_words(gap.after, gap.next, gap.reason),
            )

    async def _send(self, message: LogMessage) -> None:
        member = self._member
        gaps = list(member.gaps_to_tell)
        try:
            written = await self._reader.written(message, write_plain)
            if gaps:
                written = _with_gaps(written, gaps)
        except ValueRefused:
            self._tell(unreadable(message.position - 1, message.position))
            return
        try:
            await self._client.call_written(member.url, write_call("notify", [written]), self._timeout, BRIEF)
            member.sent += 1
        except RemoteFault as fault:
            self._refused(message, str(fault))
        member.has_heard(gaps)
        if member.state != "ok":
            self._say(logging.INFO, self._member.host_id.origin, "%s answers", member.host_id)
        member.state = "ok"
        member.seen_at = self._now()

    def _refused(self, message: LogMessage, why: str) -> None:
        member = self._member
        member.refused += 1
        member.last_error = why[:512]
        self._say(
            logging.WARNING,
            self._member.host_id.origin,
            "%s did not accept message %d: %s",
            member.host_id,
            message.position,
            member.last_error,
        )

    async def _handle_failure(self, error: PeerError) -> None:
        self._failed(error)
        if isinstance(error, AnswerTooBig):
            self._too_long(self._member)
        await self._count_try(error)

    async def _count_try(self, error: PeerError) -> None:
        """Count a failure against the message if the member is reachable but cannot accept this message.

        Otherwise one message that makes a foreign server answer nonsense, fail or hang would block all later ones.
        """
        if isinstance(error, CallTimeout | FailedInside):
            try:
                await self._client.call(self._member.url, "ping", timeout=self._timeout, limit=BRIEF)
            except RemoteFault:
                pass  # it is reachable: a Fault is an answer
            except PeerError:
                return
        if isinstance(error, FailedInside) or not isinstance(error, Unreachable):
            self._tries += 1

    def _failed(self, error: PeerError) -> None:
        member = self._member
        member.last_error = str(error)[:512]
        if member.state != "unreachable":
            self._say(
                logging.WARNING,
                self._member.host_id.origin,
                "%s cannot be reached: %s",
                member.host_id,
                member.last_error,
            )
        member.state = "unreachable"


def _with_gaps(written: bytes, gaps: list[dict[str, Any]]) -> bytes:
    """Add gaps to an encoded message; no message of a plugin has this key (``plain_form``)."""
    end = b"</struct></value>"
    return written.removesuffix(end) + b"<member><name>gaps</name>" + write_value(gaps) + b"</member>" + end


def write_plain(message: LogMessage) -> bytes:
    """Encode a message for foreign receivers.

    Raises:
        ValueRefused: it cannot be decoded, or has more values than fit.
    """
    return write_value(plain_message(message), MAX_FORM)


def write_live(message: LogMessage) -> bytes:
    """Encode a live message for foreign receivers: it has no position.

    Raises:
        ValueRefused: it cannot be decoded, or has more values than fit.
    """
    plain = plain_message(message)
    del plain["position"]
    return write_value(plain, MAX_FORM)


def plain_message(message: LogMessage) -> dict[str, Any]:
    """Return a message for foreign receivers, not encoded yet.

    Raises:
        ValueRefused: it cannot be decoded.
    """
    return {
        **plain_form(message.packed),
        "host_id": message.host_id,
        "client_address": list(message.client_address),
        "position": message.position,
        **({"at": message.at} if message.at else {}),
    }
