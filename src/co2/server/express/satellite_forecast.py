"""The frames that a satellite expects next, for the express: from plugins to the link, and the other way round."""

from collections.abc import Callable, Hashable, Mapping, Sequence

from co2.plugin.parent.package import Package
from co2.plugin.parent.process import Child
from co2.protocol.satellite.core import SatelliteCore
from co2.protocol.wire.link_frames import MAX_NUMBER, Deliver, Publish
from co2.protocol.wire.plugin_frames import frames as plugin_frames
from co2.server.express.frame_template import CRC, POSITION, RUN_BYTES, Outline, host_outline, link_outline
from co2.server.express.loop import Expected
from co2.server.express.recent_streams import SMALL, RecentStreams
from co2.server.express.ways import LinkEnd, expected_or_none, host_way, link_way_in, link_way_out

__all__ = ["SatelliteForecast", "Sent", "Stretch"]

Sent = tuple[str, str, tuple[str, ...] | None]
"""(package, plugin, channels)."""

Stretch = tuple[str, tuple[str, int], int, str, str, tuple[str, ...] | None]
"""Frames that differ only in numbers and messages: (host_id, address, run, package, plugin, channels)."""

ToHost = tuple[Child, Outline]
"""A frame to a plugin host."""


class SatelliteForecast:
    """The forecast of a satellite.

    Args:
        core: its state machine.
        packages: of its plugins, by name.
        wire: returns the current connection of the link, None for none.
        renumber: continues in another run: the relay was sent a number that no message here has.

    Attributes:
        sent: plugins with recent small frames.
        recent: senders of recent small frames over the link.
    """

    def __init__(
        self,
        core: SatelliteCore,
        packages: Mapping[str, Package],
        wire: Callable[[], LinkEnd | None],
        renumber: Callable[[], None],
    ) -> None:
        self.sent: RecentStreams[Sent] = RecentStreams()
        self.recent: RecentStreams[Stretch] = RecentStreams()
        self._core = core
        self._packages = packages
        self._wire = wire
        self._renumber = renumber
        core.sent, core.heard = self._note_sent, self._note_heard

    def __call__(self) -> Sequence[Expected]:
        """Return the expected frames; called when the event loop has nothing else to do."""
        expected: list[Expected] = []
        if self.sent:
            expected += filter(None, map(self._next_sent, self.sent))
        if self.recent:
            expected += filter(None, map(self._next_received, self.recent))
        return expected

    # ---- to the link ---------------------------------------------------------------------------------------

    def next_publish(self, package: str, plugin: str, channels: Sequence[str] | None) -> Outline | None:
        """Return the form of a plugin's next frame on the link; None if there is none, or it is unsure."""
        core, outbox = self._core, self._core.outbox
        if core.state != "open" or core.paused or core.held or not outbox.is_given or not core.is_settled:
            return None
        names = None if channels is None else list(channels)
        return link_outline(Publish(outbox.epoch, outbox.last + 1, package, plugin, names, CRC, b""))

    def next_published(
        self, package: str, plugin: str, channels: Sequence[str] | None
    ) -> tuple[Child, Outline, list[ToHost]] | None:
        """Return the plugin host of a plugin, its next frame, and the frames that other packages get at once.

        Returns:
            None if that is unsure.
        """
        host_id = self._core.host_id
        carried = self._packages.get(package)
        if carried is None or (child := carried.sender) is None:
            return None
        siblings = []
        epoch, (run, seq) = self._core.outbox.epoch, self._core.next_number()
        for other in self._packages.values():
            sender = plugin if other is carried else ""
            if other.wants(channels, sender) and not other.durable:
                gets = _to_host(other, str(host_id), (host_id.ip, host_id.port), sender, (seq, run, ("", epoch)))
                if gets is None:
                    return None
                siblings.append(gets)
        names = None if channels is None else list(channels)
        return child, host_outline(plugin_frames.Publish(plugin, names, b"")), siblings

    # ---- from the link -------------------------------------------------------------------------------------

    def next_deliver(self, stretch: Stretch) -> tuple[Outline, list[str]] | None:
        """Return the next frame of the live stream, and the packages that get it.

        Args:
            stretch: one of :attr:`recent`.

        Returns:
            None if that is unsure.
        """
        core = self._core
        if core.state != "open" or not core.is_settled:
            return None
        host_id, address, epoch, sender, plugin, channels = stretch
        wanting = core.live_readers(channels)
        origin = host_id.partition("@")[0]
        if not wanting or origin == core.host_id.origin:
            return None
        # Positions and numbers jump over messages that are not for this satellite, or are its own.
        position = core.live_position + 1
        seq = max(one.seen.get((origin, epoch), 0) for one in wanting) + 1
        if max(position, seq) > MAX_NUMBER:
            return None
        names = None if channels is None else list(channels)
        comes = Deliver(position, "", host_id, address, epoch, seq, sender, plugin, names, CRC, b"")
        return link_outline(comes, origin, is_free=True), [one.package for one in wanting]

    def next_delivered(self, package: str, host_id: str, address: tuple[str, int]) -> ToHost | None:
        """Return the frame to a package for the next message of another host; None if that is unsure."""
        carried = self._packages.get(package)
        if carried is None or not carried.receives:
            return None
        place = self._core.live_position + 1 if self._core.causes else 0
        return _to_host(carried, host_id, address, "", (place, 0, POSITION))

    # ---- both ends ---------------------------------------------------------------------------------------

    def _note_sent(self, package: str, frame: plugin_frames.Publish, count: int) -> None:
        """Note that a plugin of a package has sent a frame of so many messages."""
        if count <= SMALL or self.sent:
            channels = None if frame.channels is None else tuple(frame.channels)
            self.sent.note((package, frame.plugin, channels), count)

    def _note_heard(self, frame: Deliver, count: int) -> None:
        """Note that a frame of so many messages has arrived on the live stream."""
        if count <= SMALL or self.recent:
            channels = None if frame.channels is None else tuple(frame.channels)
            stretch = (frame.host_id, frame.client_address, frame.epoch, frame.sender, frame.plugin, channels)
            self.recent.note(stretch, count)

    def _next_sent(self, stream: Sent) -> Expected | None:
        wire, published = self._wire(), self.next_publish(*stream)
        if wire is None or published is None or (out := link_way_out(wire, published)) is None:
            return None
        found = self.next_published(*stream)
        if found is None:
            return None
        child, comes, siblings = found
        ways = [host_way(*sibling) for sibling in siblings]
        return expected_or_none(host_way(child, comes), [*ways, out], self._number_taken)

    def _number_taken(self) -> bool:
        self._renumber()
        return False

    def _next_received(self, stretch: Stretch) -> Expected | None:
        wire = self._wire()
        if wire is None or (found := self.next_deliver(stretch)) is None:
            return None
        comes, packages = found
        host_id, address, *_ = stretch
        becomes = []
        for package in packages:
            gets = self.next_delivered(package, host_id, address)
            becomes.append(None if gets is None else host_way(*gets))
        return expected_or_none(link_way_in(wire, comes), becomes)


def _to_host(
    package: Package, host_id: str, address: tuple[str, int], sender: str, place: tuple[int, int, Hashable]
) -> ToHost | None:
    """Return the frame for a package; ``place`` is the position of its first message, a run, and the counter."""
    if (found := package.next_delivery(RUN_BYTES)) is None:
        return None
    child, number = found
    position, run, counter = place
    frame = plugin_frames.Deliver(number, position, run, host_id, address, b"", sender)
    return child, host_outline(frame, ("package", package.name), counter, timed=package.times)
