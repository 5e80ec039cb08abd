"""Messages for one package: those that wait, and those that its child has and is not done with."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from co2.protocol.frames import Deliver

__all__ = ["MAX_BATCH", "MAX_WAITING", "WINDOW", "Envelope", "Waiting", "Window"]

MAX_WAITING = 8 * 1024 * 1024
"""Bytes of messages that wait for one package; beyond it the oldest are dropped, which is a gap."""

WINDOW = 1024 * 1024
"""Bytes of messages that a child may have and not be done with."""

MAX_BATCH = 2048
"""Messages in one Deliver frame."""

_OVERHEAD = 64
"""Bytes that a waiting message takes besides itself, roughly."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What travels beside messages.

    Attributes:
        host_id: of the sending host.
        client_address: (ip, port) of its connection.
        sender: the plugin of this very package that sent them, else ''.
    """

    host_id: str
    client_address: tuple[str, int]
    sender: str = ""


class Waiting:
    """A bounded queue, fair to its sources: whoever floods it loses messages of its own.

    A source is the network, or one package of this satellite. They take turns, and a source's order is
    kept; when the bound is passed, the oldest of the source with the most bytes goes.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self.bytes = 0
        self._queues: dict[str, deque[tuple[Envelope, bytes]]] = {}
        self._sizes: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def put(self, source: str, envelope: Envelope, messages: Sequence[bytes]) -> int:
        """Queue messages; give how many older ones had to go."""
        queue = self._queues.setdefault(source, deque())
        size = sum(map(len, messages)) + _OVERHEAD * len(messages)
        queue.extend((envelope, message) for message in messages)
        self._sizes[source] = self._sizes.get(source, 0) + size
        self.bytes += size
        dropped = 0
        while self.bytes > MAX_WAITING:
            self._pop(max(self._sizes, key=self._sizes.__getitem__))
            dropped += 1
        self.dropped += dropped
        return dropped

    def take(self, room: int) -> tuple[Envelope, list[bytes]] | None:
        """Take messages of one envelope, at least one and up to ``room`` bytes, from the next source."""
        source = next(iter(self._queues), None)
        if source is None:
            return None
        queue = self._queues[source]
        envelope = queue[0][0]
        batch: list[bytes] = []
        while queue and queue[0][0] == envelope and room > 0 and len(batch) < MAX_BATCH:
            message = self._pop(source)
            batch.append(message)
            room -= len(message) + _OVERHEAD
        if source in self._queues:
            self._queues[source] = self._queues.pop(source)  # to the end: the others' turn
        return envelope, batch

    def clear(self) -> None:
        """Forget all of it."""
        self._queues.clear()
        self._sizes.clear()
        self.bytes = 0

    def _pop(self, source: str) -> bytes:
        queue = self._queues[source]
        _, message = queue.popleft()
        size = len(message) + _OVERHEAD
        self.bytes -= size
        self._sizes[source] -= size
        if not queue:
            del self._queues[source]
            del self._sizes[source]
        return message


class Window:
    """What was given to the child, by number, until all its plugins are done with it."""

    def __init__(self) -> None:
        self.bytes = 0
        self._next = 1
        self._given: deque[tuple[int, Envelope, bytes]] = deque()

    def __len__(self) -> int:
        return len(self._given)

    @property
    def room(self) -> int:
        """Bytes that may still be given."""
        return WINDOW - self.bytes

    def give(self, envelope: Envelope, messages: Sequence[bytes]) -> Deliver:
        """Number messages; give the frame for the child."""
        first = self._next
        for message in messages:
            self._given.append((self._next, envelope, message))
            self._next += 1
            self.bytes += len(message) + _OVERHEAD
        return _frame(first, envelope, messages)

    def done(self, last: int) -> int:
        """Forget what is done with; give how many these were."""
        count = 0
        while self._given and self._given[0][0] <= last:
            _, _, message = self._given.popleft()
            self.bytes -= len(message) + _OVERHEAD
            count += 1
        return count

    def again(self) -> list[Deliver]:
        """Give the frames for a new child: all that is not done with, with the numbers it had."""
        frames: list[Deliver] = []
        batch: list[bytes] = []
        first, envelope = 0, None
        for number, its_envelope, message in self._given:
            if envelope is not None and (its_envelope != envelope or len(batch) == MAX_BATCH):
                frames.append(_frame(first, envelope, batch))
                batch = []
            if not batch:
                first, envelope = number, its_envelope
            batch.append(message)
        if envelope is not None and batch:
            frames.append(_frame(first, envelope, batch))
        return frames

    def find(self, number: int) -> tuple[Envelope, bytes] | None:
        """Give a message that is not done with."""
        for its_number, envelope, message in self._given:
            if its_number == number:
                return envelope, message
        return None


def _frame(first: int, envelope: Envelope, messages: Sequence[bytes]) -> Deliver:
    return Deliver(first, envelope.host_id, envelope.client_address, list(messages), envelope.sender)
