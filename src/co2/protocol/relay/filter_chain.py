"""The path of messages through the relay plugins: one after the other, in order of arrival.

Without I/O. Every filter is a stage with its own queue, and messages leave it in their order of arrival. Messages
that a filter does not want wait at its stage only behind messages of the same sender. So each filter, and the log,
gets the messages of a sender in order, and a slow filter delays only the senders that it filters. No filter delays
messages for long: its host makes the chain skip one that does not answer.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

__all__ = ["Filter", "FilterChain", "InFlight", "Passed"]


@dataclass(frozen=True, slots=True)
class Passed:
    """The result of a filter.

    Attributes:
        batch: as many messages as before, nil for each dropped one.
        channels: of the remaining messages, None for too many to name, () for none left.
    """

    batch: bytes
    channels: tuple[str, ...] | None


class Filter(Protocol):
    """A relay plugin that messages pass."""

    def wants(self, channels: tuple[str, ...] | None) -> bool:
        """Return whether the filter wants messages of these channels, at present."""

    def take(self, in_flight: "InFlight", done: Callable[[Passed | None], None]) -> None:
        """Filter messages; call ``done`` once, in the order of the calls, with None if they are unchanged."""


@dataclass(slots=True, eq=False)
class InFlight:
    """Messages of one sender on their way.

    Attributes:
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection.
        batch: the messages.
        count: messages in it; those that a filter has dropped count too.
        channels: of them; () once nothing is left.
        release: called with this when it has passed all filters.
    """

    host_id: str
    client_address: tuple[str, int]
    batch: bytes
    count: int
    channels: tuple[str, ...] | None
    release: Callable[["InFlight"], None] = lambda _passenger: None
    _at: "_ChainStage | None" = None
    _ready: bool = False
    _size: int = 0


@dataclass(slots=True, eq=False)
class _ChainStage:
    filter: Filter
    queue: deque[InFlight] = field(default_factory=deque)
    senders: Counter[str] = field(default_factory=Counter)


class FilterChain:
    """All filters of a relay, and the messages on their way through them.

    Attributes:
        occupied: messages must pass here: there are filters, or messages on their way.
        bytes: of messages on their way.
        released: called after messages have passed later than they entered.
    """

    def __init__(self) -> None:
        self.occupied = False
        self.bytes = 0
        self.released: Callable[[], None] = lambda: None
        self._stages: list[_ChainStage] = []
        self._inside = 0

    @property
    def lone(self) -> Filter | None:
        """The only filter that there is, while nothing is on its way through it; else None."""
        return self._stages[0].filter if len(self._stages) == 1 and not self._inside else None

    def set_filters(self, filters: Sequence[Filter]) -> None:
        """Set the filters. Messages at a removed filter continue unchanged."""
        known = {id(stage.filter): stage for stage in self._stages}
        before = self._stages
        after = [known.get(id(one)) or _ChainStage(one) for one in filters]
        self._stages = after
        # Messages inside a removed filter move to the next remaining one: the last filter first, which has the
        # oldest.
        for index, stage in reversed([*enumerate(before)]):
            if stage not in after:
                following = next((later for later in before[index + 1 :] if later in after), None)
                self._clear(stage, following)
        self._settle()

    def enter(self, in_flight: InFlight, behind: Filter | None = None) -> None:
        """Start messages on their way.

        Args:
            in_flight: the messages.
            behind: the filter that sends them itself: they pass only the filters after it.
        """
        first = 0
        if behind is not None:
            first = next((at + 1 for at, stage in enumerate(self._stages) if stage.filter is behind), 0)
        in_flight._size = len(in_flight.batch)
        self.bytes += in_flight._size
        self._inside += 1
        self.occupied = True
        self._arrive(in_flight, first)

    def _arrive(self, in_flight: InFlight, at: int) -> None:
        """Put messages into a stage, or release them behind the last one."""
        if at >= len(self._stages):
            self.bytes -= in_flight._size
            self._inside -= 1
            in_flight._at = None
            self._settle()
            in_flight.release(in_flight)
            return
        stage = self._stages[at]
        wanted = in_flight.channels != () and stage.filter.wants(in_flight.channels)
        if not wanted and in_flight.host_id not in stage.senders:
            self._arrive(in_flight, at + 1)
            return
        in_flight._at = stage
        stage.queue.append(in_flight)
        stage.senders[in_flight.host_id] += 1
        in_flight._ready = not wanted
        if wanted:
            stage.filter.take(in_flight, partial(self._done, stage, in_flight))

    def _done(self, stage: _ChainStage, in_flight: InFlight, passed: Passed | None) -> None:
        if in_flight._at is not stage or in_flight._ready:
            return  # it moved on when its filter was removed
        if passed is not None:
            in_flight.batch, in_flight.channels = passed.batch, passed.channels
            self.bytes += len(passed.batch) - in_flight._size
            in_flight._size = len(passed.batch)
        in_flight._ready = True
        if stage.queue[0] is in_flight:
            self._drain(stage)
            self.released()

    def _drain(self, stage: _ChainStage) -> None:
        while stage.queue and stage.queue[0]._ready:
            self._arrive(self._next(stage), self._stages.index(stage) + 1)

    @staticmethod
    def _next(stage: _ChainStage) -> InFlight:
        in_flight = stage.queue.popleft()
        stage.senders[in_flight.host_id] -= 1
        if not stage.senders[in_flight.host_id]:
            del stage.senders[in_flight.host_id]
        return in_flight

    def _clear(self, stage: _ChainStage, following: _ChainStage | None) -> None:
        at = len(self._stages) if following is None else self._stages.index(following)
        while stage.queue:
            self._arrive(self._next(stage), at)
        self.released()

    def _settle(self) -> None:
        self.occupied = bool(self._stages or self._inside)
