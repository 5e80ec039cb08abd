"""``relay.last`` and ``relay.forget_last``: the last values of channels, over XML-RPC."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple

from co2.errors import BadParams, BadRequest, Denied, StorageFull, Unreachable, ValueRefused
from co2.protocol.relay.core import RelayCore
from co2.protocol.relay.last_values import Answer, Question
from co2.protocol.wire.channel_patterns import MAX_CHANNEL
from co2.relay.commit_waiters import CommitWaiters
from co2.relay.durable_log import DurableLog
from co2.relay.message_reader import LogMessage, MessageReader
from co2.relay.notifier import plain_message, write_plain
from co2.relay.value_reads import ValueReads
from co2.server.rpc.answer_turns import STEP, AnswerTurns
from co2.server.rpc.arguments import one_dict, text
from co2.values import pack_value, unpack_value
from co2.xmlrpc.registry import Caller
from co2.xmlrpc.writer import Written

__all__ = ["LAST_BYTES", "MAX_ASKING", "LastValue", "LastValues", "ValueMethods"]

LAST_BYTES = 1024 * 1024
"""Bytes, as they are written, after which an answer is cut; one value is always returned."""

FORGET_TIMEOUT = 10.0
FORGET_LOOK = 0.005
"""Seconds until what is forgotten must be on disk, and between two looks."""

MAX_ASKING = 64
"""Calls of relay.last that may be under way; one at a time is answered."""


class LastValue(NamedTuple):
    """The last message on a channel.

    Attributes:
        channel: its name.
        age: seconds since the message came, None if that is unknown.
        message: as it is written for the caller.
    """

    channel: str
    age: float | None
    message: bytes


class LastValues(NamedTuple):
    """The answer to a question for last values.

    Attributes:
        values: by channel.
        position: up to which they are the last ones.
        left_out: how many did not fit.
    """

    values: Sequence[LastValue]
    position: int
    left_out: int


class ValueMethods:
    """Handlers of ``relay.last`` and ``relay.forget_last``.

    Args:
        core: has the index.
        log: keeps what is forgotten.
        reads: answers questions from the log.
        waiters: wait for the disk.
        reader: writes messages as XML.
        turns: of answers that take long.
    """

    def __init__(
        self,
        core: RelayCore,
        log: DurableLog,
        *,
        reads: ValueReads,
        waiters: CommitWaiters,
        reader: MessageReader,
        turns: AnswerTurns,
    ) -> None:
        self._core = core
        self._log = log
        self._reads = reads
        self._waiters = waiters
        self._reader = reader
        self._turns = turns
        self._asking = 0
        self._one_at_a_time = asyncio.Lock()

    async def last(self, params: Sequence[Any], caller: Caller) -> dict[str, Any]:
        """Return the last message on each channel.

        Takes {channels?}: a list of patterns, such as ["stage.>"], or all channels. Returns {values, position,
        left_out}: in ``values``, by channel, {channel, age, message} each: the message as relay.fetch returns it,
        and the seconds since it came. They are the last ones up to ``position``. A message whose ``ttl`` is over,
        or whose channel was forgotten, is not among them. ``left_out`` says how many did not fit: those sent
        longest ago.
        """
        write, shown = (write_plain, Written) if caller.takes_xml else (_pack_plain, unpack_value)
        found = await self.find(_patterns(one_dict(params) if params else {}), write)
        rows = [{"channel": row.channel, "age": row.age, "message": shown(row.message)} for row in found.values]
        return {"values": rows, "position": found.position, "left_out": found.left_out}

    async def find(self, patterns: Sequence[str], write: Callable[[LogMessage], bytes]) -> "LastValues":
        """Return the last messages on the channels of some patterns, written in some form.

        Raises:
            BadParams: a pattern is none.
            Unreachable: too many such calls are under way.
        """
        if self._asking >= MAX_ASKING:
            raise Unreachable(f"{MAX_ASKING} calls of relay.last are under way; try again")
        self._asking += 1
        try:
            async with self._one_at_a_time:
                question, found = await self._ask(patterns)
                return await self._written(question, found, write)
        finally:
            self._asking -= 1

    async def _ask(self, patterns: Sequence[str]) -> tuple[Question, Answer]:
        await self._reads.complete()
        fan_out = self._core.fan_out
        try:
            question = fan_out.last_values.ask(patterns, fan_out.visible)
        except BadRequest as error:
            raise BadParams(str(error)) from None
        await self._waiters.on_disk(question.position)
        found = await self._reads.answer(question, self._core.wall())
        fan_out.last_values.learn(found)
        return question, found

    async def _written(
        self, question: Question, found: Answer, write: Callable[[LogMessage], bytes]
    ) -> "LastValues":
        rows: list[LastValue] = []
        left_out = found.left_out
        size = 0
        began = monotonic()
        for value in reversed(found.values):
            if monotonic() - began > STEP:
                began = await self._turns.pause(began)
            try:
                entry = value.entry
                message = LogMessage(
                    value.position, entry.host_id, entry.client_address, value.packed, entry.plugin, entry.at
                )
                written = await self._reader.written(message, write)
            except ValueRefused:
                left_out += 1
                continue
            size += len(written)
            if rows and size > LAST_BYTES:
                left_out += 1
                continue
            age = None if value.age is None else round(value.age, 3)
            rows.append(LastValue(value.channel, age, written))
        rows.sort(key=lambda row: row.channel)
        return LastValues(rows, question.position, left_out)

    async def forget_last(self, params: Sequence[Any], caller: Caller) -> int:
        """Forget the last value of a channel, for good: nobody gets it any more. Only from this machine.

        Takes {channel}: a channel, or a pattern for several. Returns the number of channels that had one. The next
        message on such a channel is its last value again.
        """
        if not caller.is_local:
            raise Denied("allowed only from the relay's own machine: call 127.0.0.1, not through a relay")
        pattern = text(one_dict(params), "channel", MAX_CHANNEL)
        await self._ask([pattern])
        try:
            number = self._core.forget_values(pattern)
        except BadRequest as error:
            raise BadParams(str(error)) from None
        deadline = monotonic() + FORGET_TIMEOUT
        while not self._log.keeps_forgotten:
            if monotonic() > deadline:
                raise StorageFull(f"forgotten, but not on the relay's disk within {FORGET_TIMEOUT:g} s")
            await asyncio.sleep(FORGET_LOOK)
        return number


def _pack_plain(message: LogMessage) -> bytes:
    """Encode a message in the form of relay.fetch for callers that take no XML."""
    return pack_value(plain_message(message))


def _patterns(argument: Mapping[str, Any]) -> list[str]:
    patterns = argument.get("channels", [">"])
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise BadParams("key 'channels': expected a list of channels or patterns, such as ['stage.>']")
    return patterns
