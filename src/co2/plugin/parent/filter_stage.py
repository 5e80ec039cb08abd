"""Messages on their way through the relay plugins of a package, at the relay.

No plugin holds them up for long. Messages bypass a plugin that makes no progress for :data:`PATIENCE` seconds,
that is :data:`BEHIND` seconds behind, or whose plugin host dies; so do all later messages until it has caught up.
After a change of code the new code gets the messages under way that the old code was not done with.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from co2.protocol.relay.filter_chain import InFlight, Passed
from co2.protocol.wire.batch import batch_count
from co2.protocol.wire.channel_patterns import Interests
from co2.protocol.wire.plugin_frames.frames import PluginInfo
from co2.protocol.wire.plugin_frames.transit import Transit, Transited

__all__ = ["BEHIND", "PATIENCE", "STUCK", "WINDOW", "FilterStage", "PackageFilters", "TransitCounts"]

PATIENCE = 1.0
"""Seconds without any progress after which messages bypass a plugin."""

BEHIND = 5.0
"""Seconds that messages wait for a slow plugin, or during a change of its code, before they bypass it."""

WINDOW = 128 * 1024
"""Bytes of messages that a plugin may have unanswered; one frame is always allowed."""

STUCK = "makes no progress"
SLOW = "is slower than its messages arrive"
"""Reasons why messages bypass a plugin."""

Done = Callable[[Passed | None], None]


@dataclass(slots=True)
class TransitCounts:
    """Counts of the messages that came to the relay plugins of a package.

    Attributes:
        seen: answered by the plugins.
        dropped: dropped by the plugins.
        changed: changed by the plugins.
        failed: passed on unchanged, because ``relay`` raised, or its result cannot be packed.
        passed_by: not filtered: the plugin host was away, or made no progress.
    """

    seen: int = 0
    dropped: int = 0
    changed: int = 0
    failed: int = 0
    passed_by: int = 0


class PackageFilters:
    """The relay plugins of one package.

    Attributes:
        stages: one for each of them, in order.
        counts: of their messages.
    """

    def __init__(self) -> None:
        self.stages: list[FilterStage] = []
        self.counts = TransitCounts()
        self.next_number = 1
        self.give: Callable[[Transit], None] | None = None
        self.held = False

    # the current child

    def begin(self, give: Callable[[Transit], None], plugins: Sequence[PluginInfo]) -> None:
        """Send everything to this child, starting with the messages that its predecessor had not done."""
        wanted = {one.name: one for one in plugins if one.relays}
        known = {stage.plugin: stage for stage in self.stages}
        self.stages = [known.get(name) or FilterStage(name, self) for name in wanted]
        for name, stage in known.items():
            if name not in wanted:
                stage.lose()
        self.give, self.held = give, False
        for stage in self.stages:
            stage.begin(wanted[stage.plugin])

    def resume(self, give: Callable[[Transit], None]) -> None:
        """Send to the same child again; it still has all its messages."""
        self.give, self.held = give, False
        for stage in self.stages:
            stage.pump()

    def hold(self) -> None:
        """Hold all messages until :meth:`begin` or :meth:`resume`."""
        self.give, self.held = None, True

    def lose(self) -> None:
        """Bypass the plugins with all messages, those here and those to come: the child has ended."""
        self.give, self.held = None, False
        for stage in self.stages:
            stage.lose()

    def answered(self, frame: Transited) -> None:
        """Handle an answer of the child."""
        for stage in self.stages:
            if stage.answered(frame):
                return

    def look(self, now: float, word: Callable[[str], int]) -> list[tuple[str, str]]:
        """Bypass plugins that hold messages up; return (name, reason) for each new bypass.

        Args:
            now: monotonic seconds.
            word: returns a plugin's activity word.
        """
        looked = [(stage.plugin, stage.look(now, word(stage.plugin))) for stage in self.stages]
        return [(plugin, why) for plugin, why in looked if why]


@dataclass(slots=True)
class _WaitingFrame:
    """A frame that is neither answered nor bypassed yet."""

    frame: Transit
    count: int
    done: Done


@dataclass(slots=True, eq=False)
class FilterStage:
    """One relay plugin; a :class:`~co2.protocol.relay.filter_chain.Filter`.

    Attributes:
        plugin: its name.
        filters: those of its package.
        changes: messages that its last answer changed.
    """

    plugin: str
    filters: PackageFilters
    changes: int = 0
    _interests: Interests = field(default_factory=lambda: Interests(None))
    _waiting: deque[_WaitingFrame] = field(default_factory=deque)
    _given: dict[int, _WaitingFrame] = field(default_factory=dict)
    _given_bytes: int = 0
    _owed: set[int] = field(default_factory=set)
    _stood: tuple[int, int] = (0, 0)
    _stood_since: float = 0.0
    _newest: int = 0
    _newest_since: float = 0.0

    def wants(self, channels: tuple[str, ...] | None) -> bool:
        """Return whether the plugin filters messages of these channels."""
        return self._interests.wants(channels)

    def take(self, in_flight: InFlight, done: Done) -> None:
        """Filter messages; call ``done`` with the result, or with None if all are unchanged."""
        filters = self.filters
        if (filters.give is None and not filters.held) or self._owed or self not in filters.stages:
            filters.counts.passed_by += in_flight.count
            done(None)
            return
        number, batch, count = filters.next_number, in_flight.batch, in_flight.count
        filters.next_number += count
        frame = Transit(number, self.plugin, in_flight.host_id, in_flight.client_address, batch)
        self._waiting.append(_WaitingFrame(frame, count, done))
        self.pump()

    @property
    def next_number(self) -> int:
        """The number of the next frame if the child gets it at once and has no other; else 0."""
        filters = self.filters
        has_nothing = not (self._given or self._waiting or self._owed)
        return filters.next_number if has_nothing and filters.give is not None and self in filters.stages else 0

    def begin(self, info: PluginInfo) -> None:
        """Send the plugin's new child the frames that its predecessor had not done."""
        self._interests = Interests(info.channels or None)
        self._owed.clear()
        give = self.filters.give
        assert give is not None
        for waiting in self._given.values():
            give(waiting.frame)
        self.pump()

    def pump(self) -> None:
        """Send as many waiting frames as the window allows."""
        while self._waiting and (give := self.filters.give) is not None:
            size = len(self._waiting[0].frame.batch)
            if self._given and self._given_bytes + size > WINDOW:
                return
            waiting = self._waiting.popleft()
            self._given[waiting.frame.number] = waiting
            self._given_bytes += size
            give(waiting.frame)

    def answered(self, frame: Transited) -> bool:
        """Handle an answer; return whether it was to one of this stage's frames."""
        if frame.number in self._owed:
            self._owed.discard(frame.number)  # too late: the messages have bypassed it
            return True
        waiting = self._given.pop(frame.number, None)
        if waiting is None:
            return False
        self._given_bytes -= len(waiting.frame.batch)
        counts = self.filters.counts
        counts.seen += waiting.count
        counts.dropped += frame.dropped
        counts.changed += frame.changed
        self.changes = frame.changed
        counts.failed += frame.failed
        self.pump()  # first, so that the plugin works on the next frame while this one is passed on
        waiting.done(_passed(frame, waiting))
        return True

    def pass_by(self) -> None:
        """Pass on all frames here unchanged."""
        going = [*self._given.values(), *self._waiting]
        self._given, self._given_bytes = {}, 0
        self._waiting.clear()
        for waiting in going:
            self.filters.counts.passed_by += waiting.count
            waiting.done(None)

    def lose(self) -> None:
        """Pass on all frames unchanged: the child has ended."""
        self._owed.clear()
        self.pass_by()

    def look(self, now: float, word: int) -> str:
        """Bypass a plugin that holds messages up; return the reason if that begins now, else ''."""
        undone = [*self._given, *(one.frame.number for one in self._waiting)]
        stands = (undone[0] if undone else 0, word)
        if stands != self._stood or not undone or self.filters.held:
            self._stood, self._stood_since = stands, now
        if not undone or undone[0] > self._newest:
            # All earlier frames are done: measure from the newest one now.
            self._newest, self._newest_since = undone[-1] if undone else self._newest, now
            return ""
        stuck = now - self._stood_since >= PATIENCE
        if not stuck and now - self._newest_since < BEHIND:
            return ""
        self._owed |= self._given.keys()
        self.pass_by()
        return STUCK if stuck else SLOW


def _passed(frame: Transited, waiting: _WaitingFrame) -> Passed | None:
    """Return the messages to pass on; None for the original ones, also if the answer is not valid."""
    if not frame.batch or frame.batch == waiting.frame.batch or batch_count(frame.batch) != waiting.count:
        return None
    return Passed(frame.batch, None if frame.channels is None else tuple(frame.channels))
