"""Which message made a message happen: a walk back through the log, along the causes that their senders claim."""

from collections.abc import Callable
from dataclasses import dataclass, field

from co2.errors import BadRequest
from co2.protocol.relay.log import Entry
from co2.protocol.wire.message_keys import cause_of
from co2.relay.durable_log import DurableLog
from co2.relay.message_reader import LogMessage, MessageReader
from co2.values import is_cause

__all__ = ["MAX_STEPS", "CauseChain", "Chain", "End", "Step"]

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


@dataclass(slots=True)
class Chain:
    """A message, what made it happen, what made that happen, and so on.

    Attributes:
        steps: each made the one before it happen, as that one's sender says.
        end: why there are no more.
    """

    steps: list[Step] = field(default_factory=list)
    end: End = End("no cause", "")


class CauseChain:
    """Walks back through a log.

    Args:
        log: of all messages.
        reader: of the log.
    """

    def __init__(self, log: DurableLog, reader: MessageReader) -> None:
        self._log = log
        self._reader = reader

    async def walk(self, position: int, reader: str, takes: Callable[[Step], bool]) -> Chain:
        """Walk back from a message that is on disk.

        Args:
            position: of the message.
            reader: identity of the reader, which waits for each read.
            takes: called with each message but the first; returns whether there is room for it.

        Returns:
            The chain; without steps if there is no such message.
        """
        chain = Chain()
        while True:
            step = await self._step(position, reader)
            if isinstance(step, End):
                chain.end = step
                return chain
            if chain.steps and not takes(step):
                chain.end = End("limit", "the answer would be too long", position)
                return chain
            chain.steps.append(step)
            following = self._before(step)
            if isinstance(following, End):
                chain.end = following
                return chain
            position = following
            if len(chain.steps) == MAX_STEPS:
                chain.end = End(
                    "limit", f"the chain goes on; it is shown in parts of {MAX_STEPS} messages", position
                )
                return chain

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
            return End("malformed", f"the cause of message {position} is none: {cause!r:.80}")
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
