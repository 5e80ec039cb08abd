"""``relay.why``: which message made a message happen."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from co2.errors import BadParams, Unreachable, ValueRefused
from co2.protocol.relay.core import RelayCore
from co2.protocol.wire.channel_patterns import MAX_CHANNEL
from co2.protocol.wire.link_frames import FIRST_POSITION
from co2.protocol.wire.message_keys import keys_of
from co2.relay.cause_chain import CauseChain, End, Step
from co2.relay.commit_waiters import CommitWaiters
from co2.relay.durable_log import DurableLog
from co2.relay.message_reader import LogMessage, MessageReader
from co2.relay.notifier import plain_message
from co2.server.rpc.answer_turns import AnswerTurns
from co2.server.rpc.arguments import integer, one_dict
from co2.values import pack_value
from co2.xmlrpc.registry import Caller

__all__ = ["MAX_ASKING", "MAX_SHOWN", "WHY_BYTES", "Reason", "Why", "WhyMethods"]

MAX_ASKING = 16
"""Calls of relay.why that may be under way."""

MAX_SHOWN = 8 * 1024
"""Bytes of a message that is shown whole; of a larger one only envelope and channel are shown, and its size."""

WHY_BYTES = 128 * 1024
"""Bytes of the shown messages of a chain, as they travel."""


class Reason(NamedTuple):
    """A message of a chain, as it is told.

    Attributes:
        message: as it was written for the caller.
        name: of its host, '' if that has none.
        plugin: that sent it, '' for a sender that is not a satellite.
        size: bytes of the message if it is too large to be shown; else 0.
    """

    message: Any
    name: str
    plugin: str
    size: int


class Why(NamedTuple):
    """The answer to a question why a message was sent.

    Attributes:
        chain: the message, and before it what made it happen, each for the one before it in the list.
        end: why there are no more.
    """

    chain: Sequence[Reason]
    end: End


class WhyMethods:
    """The handler of ``relay.why``.

    Args:
        core: knows the names of hosts.
        log: of all messages.
        reader: of the log.
        waiters: wait for the disk.
        turns: of answers that take long.
    """

    def __init__(
        self,
        core: RelayCore,
        log: DurableLog,
        *,
        reader: MessageReader,
        waiters: CommitWaiters,
        turns: AnswerTurns,
    ) -> None:
        self._names = core.names
        self._log = log
        self._chain = CauseChain(log, reader, turns)
        self._waiters = waiters
        self._asking = 0

    async def why(self, params: Sequence[Any], _caller: Caller) -> dict[str, Any]:
        """Say which message made a message happen, which one made that happen, and so on.

        Takes {position}. Returns {chain, end}: in ``chain`` {message, name, plugin} each, first the message of
        that position as relay.fetch returns it, then its cause, then the cause of that; ``name`` is that of its
        host. A message over 8 KiB is shown with its ``size`` and ``channel`` only. ``end`` is {kind, text,
        position}: why there are no more, such as "no cause" or "gone". Each cause is what the sender of the
        message says, as all in a message.
        """
        position = integer(one_dict(params), "position", 0, 0, 2**63 - 1)
        found = await self.find(position, plain_message)
        return {
            "chain": [
                {
                    "message": one.message,
                    "name": one.name,
                    "plugin": one.plugin,
                    **({"size": one.size} if one.size else {}),
                }
                for one in found.chain
            ],
            "end": {"kind": found.end.kind, "text": found.end.text, "position": found.end.position},
        }

    async def find(self, position: int, write: Callable[[LogMessage], Any]) -> Why:
        """Return the chain of a message, each message written in some form.

        Args:
            position: of the message.
            write: writes a message; of one that is not shown whole it gets the channel only.

        Raises:
            BadParams: the log has no such message; the text says why.
            Unreachable: too many such calls are under way.
        """
        if position < FIRST_POSITION:
            raise BadParams(f"key 'position': the first message of a log has position {FIRST_POSITION}")
        if self._asking >= MAX_ASKING:
            raise Unreachable(f"{MAX_ASKING} calls of relay.why are under way; try again")
        self._asking += 1
        reasons: list[Reason] = []
        shown = 0

        def take(step: Step) -> bool:
            nonlocal shown
            shown += min(len(step.message.packed), MAX_SHOWN)
            if shown > WHY_BYTES:
                return False
            reasons.append(self._reason(step, write))  # at once: a step holds a whole frame of the log
            return True

        try:
            if position <= self._log.last:
                await self._waiters.on_disk(position)
            end = await self._chain.walk(position, "why", take)
        finally:
            self._asking -= 1
        if not reasons:
            raise BadParams(end.text)
        return Why(reasons, end)

    def _reason(self, step: Step, write: Callable[[LogMessage], Any]) -> Reason:
        message, size = step.message, 0
        name = self._names.shown(step.entry.origin)
        if len(message.packed) > MAX_SHOWN:
            size = len(message.packed)
        else:
            try:
                return Reason(write(message), name, step.entry.plugin, 0)
            except ValueRefused:
                size = len(message.packed)
        keys = keys_of(message.packed)
        channel = keys.channel if keys is not None else ""
        is_shown = isinstance(channel, str) and 0 < len(channel) <= MAX_CHANNEL
        bare = replace(message, packed=pack_value({"channel": channel} if is_shown else {}))
        return Reason(write(bare), name, step.entry.plugin, size)
