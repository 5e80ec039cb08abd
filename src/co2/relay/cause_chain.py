"""Which message made a message happen: a walk back through the log, along the causes that their senders claim."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from co2.errors import BadRequest
from co2.protocol.relay.log import Entry
from co2.protocol.wire.message_keys import cause_of
from co2.relay.durable_log import DurableLog
from co2.relay.message_reader import LogMessage, MessageReader
from co2.server.rpc.answer_turns import STEP, AnswerTurns
from co2.values import is_cause

__all__ = ["MAX_STEPS", "CauseChain", "End", "Step"]

MAX_STEPS = 32
"""Messages of one chain, the first one included; each is one read of one entry of the log."""


@dataclass(frozen=True, slots=True)
class End:
    """Why a chain ends.

    Attributes:
        kind: ``no cause``, ``gone``, ``damaged``, ``dropped``, ``later``, ``unknown``, ``malformed`` or ``limit``.
        text: the same for people.
        position: of the cause that is not in the chain, 0 if that is unknown.
    """

    kind: str
    text: str
    position: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A message of a chain.

    Attributes:
        entry: of the log that it is in.
        message: itself.
    """

    entry: Entry
    message: LogMessage


class CauseChain:
    """Walks back through a log.

    Args:
        log: of all messages.
        reader: of the log.
        turns: of answers that take long.
    """

    def __init__(self, log: DurableLog, reader: MessageReader, turns: AnswerTurns) -> None:
        self._log = log
        self._reader = reader
        self._turns = turns

    async def walk(self, position: int, reader: str, take: Callable[[Step], bool]) -> End:
        """Walk back from a message that is on disk; return why the chain ends.

        Args:
            position: of the message.
            reader: identity of the reader, which waits for each read.
            take: called with each message, first with that one, then with what made the one before happen;
                returns whether there was room for it.
        """
        began = monotonic()
        for _ in range(MAX_STEPS):
            if monotonic() - began > STEP:
                began = await self._turns.pause(began)
            step = await self._step(position, reader)
            if isinstance(step, End):
                return step
            if not take(step):
                return End("limit", f"the answer would be too long; it continues at {position}", position)
            following = self._before(step)
            if isinstance(following, End):
                return following
            position = following
        return End("limit", f"these are {MAX_STEPS} messages; the chain continues at {position}", position)

    async def _step(self, position: int, reader: str) -> Step | End:
        """Read one message."""
        if position > self._log.committed:
            return End(
                "later", f"the log has no message {position} yet: its last one is {self._log.last}", position
            )
        reading = await self._reader.chunk(position - 1, reader, 1)
        if (gap := reading.gap) is not None and gap.next >= position:
            if position <= self._log.gone:
                return End("gone", f"the log no longer has message {position}, which is too old", position)
            return End("damaged", f"message {position} is not in the log: {gap.reason}", position)
        entry = next((one for one in reading.entries if one.position <= position <= one.end), None)
        if entry is None:
            return End("unknown", f"the log never had a message {position}", position)
        try:
            for message in self._reader.messages_of(entry, position - 1):
                if message.position == position:
                    return Step(entry, message)
                break
        except BadRequest:
            return End("damaged", f"message {position} cannot be read", position)
        return End("dropped", f"a relay plugin dropped message {position}", position)

    def _before(self, step: Step) -> int | End:
        """Return the position of the cause that a message claims."""
        cause = cause_of(step.message.packed)
        position = step.message.position
        if cause is None:
            return End("no cause", f"message {position} has no cause")
        if not is_cause(cause):
            return End("malformed", f"the key 'cause' of message {position} is no message: {cause!r:.80}")
        if isinstance(cause, list):
            run, number = cause
            found = self._log.position_of(step.entry.origin, run, number)
            if found is None:
                text = (
                    f"the cause of message {position} came from the same satellite, and the log does not have it, "
                    "or no longer has it"
                )
                return End("unknown", text)
            cause = found
        if cause >= position:
            text = (
                f"message {position} says that {cause} made it happen, which is not before it: a position in an "
                "earlier log, or made up"
            )
            return End("later", text, cause)
        return cause if cause else End("no cause", f"message {position} has no cause")
