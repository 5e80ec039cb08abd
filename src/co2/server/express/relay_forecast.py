"""The frames that a relay expects next, for the express: of a satellite, and the same for all who receive it."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from co2.protocol.relay.core import RelayCore
from co2.protocol.relay.cursors import Peer, deliver_frame
from co2.protocol.relay.filter_chain import Filter
from co2.protocol.relay.log import Entry
from co2.protocol.wire.batch import MAX_BATCH_MESSAGES
from co2.protocol.wire.link_frames import MAX_NUMBER, Publish
from co2.protocol.wire.plugin_frames.transit import Transit, Transited
from co2.server.express.frame_template import CRC, Outline, host_outline, link_outline
from co2.server.express.loop import MAX_RUN_MESSAGES, Expected, Way
from co2.server.express.recent_streams import SMALL, RecentStreams
from co2.server.express.ways import LinkEnd, host_way, link_way_in, link_way_out

if TYPE_CHECKING:  # most relays carry no plugin, and start without these
    from co2.plugin.parent.package import Package
    from co2.plugin.parent.process import Child

__all__ = ["MAX_LIVE_STREAMS", "MAX_WAYS", "RelayForecast", "Stretch"]

MAX_WAYS = 64
"""Frames in total that are forecast to be written: a longer forecast would take more time than it saves."""

MAX_LIVE_STREAMS = 64
"""Live streams up to which receivers are forecast: each stream is checked for that."""

Stretch = tuple[Peer, int, str, str, tuple[str, ...] | None]
"""Frames that differ only in numbers and messages: (sender, run, package, plugin, channels)."""


class RelayForecast:
    """The forecast of a relay.

    Args:
        core: its state machine.
        wires: the connection of each link.
        pass_over: makes the log skip all positions up to one.
        packages: of the relay plugins, by name.

    Attributes:
        recent: senders of recent small frames.
    """

    def __init__(
        self,
        core: RelayCore,
        wires: Mapping[Peer, LinkEnd],
        pass_over: Callable[[int], None],
        packages: "Mapping[str, Package]" = MappingProxyType({}),
    ) -> None:
        self.recent: RecentStreams[Stretch] = RecentStreams()
        self._core = core
        self._wires = wires
        self._pass_over = pass_over
        self._packages = packages
        core.appended = self._note

    def __call__(self) -> Sequence[Expected]:
        """Return the expected frames; called when the event loop has nothing else to do."""
        expected: list[Expected] = []
        ways = 0
        for stretch in self.recent:
            if ways >= MAX_WAYS:
                break
            found = self._next_passed_on(stretch) or self._next_passed_through(stretch)
            expected += found
            ways += sum(len(one.becomes) for one in found)
        return expected

    def next_publish(self, stretch: Stretch) -> tuple[Outline, Outline, list[Peer]] | None:
        """Return the next frame of a sender, its form on live links, and the receivers; None if that is unsure.

        Args:
            stretch: one of :attr:`recent`.
        """
        return None if self._core.filter_chain.occupied else self._foreseen(stretch, stretch[0].origin)

    def next_filtered(self, stretch: Stretch) -> tuple[Filter, Outline, Outline, list[Peer]] | None:
        """Return the only relay plugin, and the same as :meth:`next_publish` for a frame that passes it.

        None if there is no such plugin, or something is on its way through it. Several frames may be in the plugin
        at a time, so the numbers of those that enter and of those that leave are counted apart.
        """
        through = self._core.filter_chain.lone
        if through is None or not through.wants(stretch[4]):
            return None
        found = self._foreseen(stretch, ("filtered", stretch[0].origin))
        return None if found is None else (through, *found)

    def next_passed(
        self, through: Filter, host_id: str, address: tuple[str, int], channels: Sequence[str] | None
    ) -> "tuple[Child, Outline, Outline] | None":
        """Return the plugin host that gets the next message for a relay plugin, its frame, and the answer.

        Args:
            through: the relay plugin, which wants the message.
            host_id, address: the sender's.
            channels: of the message, before and after the plugin. The plugin is expected to change it if it has
                changed the last one.

        Returns:
            None if that is unsure.
        """
        for package in self._packages.values():
            for stage in package.filters.stages:
                if stage is through and (found := package.next_passed(stage)) is not None:
                    child, number = found
                    gets = Transit(number, stage.plugin, host_id, address, b"")
                    names = None if channels is None else list(channels)
                    answers = Transited(number, b"", names, 0, stage.changes)
                    whose = package.name
                    return child, host_outline(gets, ("given", whose)), host_outline(answers, ("answered", whose))
        return None

    def _foreseen(self, stretch: Stretch, leaves: Hashable) -> tuple[Outline, Outline, list[Peer]] | None:
        """Return the result of :meth:`next_publish`; ``leaves`` identifies the numbers of frames to receivers."""
        core, log = self._core, self._core.log
        peer, epoch, package, plugin, channels = stretch
        mark = log.marks.get((peer.origin, epoch))
        if mark is None or peer.state != "open" or core.closing or peer.skips:
            return None
        if max(mark, log.last) > MAX_NUMBER - 2 * MAX_BATCH_MESSAGES:
            return None  # the next frame, or one that follows, is refused
        if core.events or core.ready or not log.takes:
            return None
        entry = Entry(
            log.last + 1, 1, peer.origin, str(peer.host_id), peer.address, epoch, mark + 1, package, plugin,
            channels, CRC, b"",
        )  # fmt: skip
        receivers = self.receivers(entry)
        if receivers is None:
            return None
        names = None if channels is None else list(channels)
        comes = link_outline(Publish(epoch, mark + 1, package, plugin, names, CRC, b""), peer.origin)
        return comes, link_outline(deliver_frame(entry, ""), leaves), receivers

    def receivers(self, entry: Entry) -> list[Peer] | None:
        """Return the links that would get an entry at once; None if that is unsure."""
        fan_out, losses = self._core.fan_out, self._core.log.losses
        if fan_out.has_fresh or len(fan_out.at_head) > MAX_LIVE_STREAMS:
            return None
        found = []
        for stream in fan_out.at_head:
            if not stream.peer.has_room or not stream.wants(entry):
                continue
            if losses.next(stream.losses, stream.begun, entry.position)[0] is not None:
                return None
            found.append(stream.peer)
        return found

    def _note(self, peer: Peer, entry: Entry) -> None:
        """Note a frame that the log has taken."""
        if entry.count <= SMALL or self.recent:
            self.recent.note((peer, entry.epoch, entry.package, entry.plugin, entry.channels), entry.count)

    def _next_passed_on(self, stretch: Stretch) -> Sequence[Expected]:
        """Return the expected frame that goes to receivers at once."""
        if (found := self.next_publish(stretch)) is None:
            return ()
        comes, becomes, receivers = found
        way, ways = self._way_in(stretch[0], comes), self._ways_out(receivers, becomes)
        return (Expected(way, ways, self._refused()),) if way is not None and ways else ()

    def _next_passed_through(self, stretch: Stretch) -> Sequence[Expected]:
        """Return the expected frames to a relay plugin, and of its answer to receivers."""
        if (found := self.next_filtered(stretch)) is None:
            return ()
        through, comes, becomes, receivers = found
        peer = stretch[0]
        passes = self.next_passed(through, str(peer.host_id), peer.address, stretch[4])
        if passes is None:
            return ()
        child, gets, answers = passes
        way, ways = self._way_in(peer, comes), self._ways_out(receivers, becomes)
        to_host, from_host = host_way(child, gets), host_way(child, answers)
        if way is None or not ways or to_host is None or from_host is None:
            return ()
        given = Expected(way, [to_host], self._refused())
        return given, Expected(from_host, ways, self._refused(), answers=given)

    def _way_in(self, peer: Peer, comes: Outline) -> Way | None:
        wire = self._wires.get(peer)
        return None if wire is None else link_way_in(wire, comes)

    def _ways_out(self, receivers: Sequence[Peer], becomes: Outline) -> list[Way]:
        """Return the ways to all receivers; none at all if one of them is unknown."""
        ways = [link_way_out(self._wires[peer], becomes) for peer in receivers]
        known = [way for way in ways if way is not None]
        return known if len(known) == len(ways) else []

    def _refused(self) -> Callable[[], bool]:
        return partial(self._was_refused, self._core.log.last)

    def _was_refused(self, last: int) -> bool:
        """Handle frames that were passed on and not appended to the log; return whether it accepts nothing more.

        The log's thread may have found a full disk since the forecast was made. Receivers have seen the positions
        after ``last``, at most those of one run: they must not be used for other messages.
        """
        self._pass_over(last + MAX_RUN_MESSAGES)
        return not self._core.log.takes
