"""The satellite's forecast for the express: its plugins' next messages for the link, and the link's for them."""

from collections.abc import Callable, Sequence

from co2.plugin.parent.process import Child
from co2.plugin.parent.supervisor import Supervisor
from co2.protocol.satellite.core import Stretch
from co2.protocol.wire.frame_template import SMALL, Outline, Recent
from co2.protocol.wire.plugin_frames.frames import Publish
from co2.satellite.link import Link
from co2.server.express.loop import COUNTED, Expected, Way

__all__ = ["Forecaster"]

Sent = tuple[str, str, tuple[str, ...] | None]
"""(package, plugin, channels)."""


class Forecaster:
    """Forecasts the next messages; call it as the express wants.

    Args:
        link: to the relay.
        supervisor: of the plugins.

    Attributes:
        sent: streams that plugins have sent lately in small frames.
    """

    def __init__(self, link: Link, supervisor: Supervisor) -> None:
        self.sent: Recent[Sent] = Recent()
        self._link = link
        self._supervisor = supervisor

    def note(self, package: str, frame: Publish, count: int) -> None:
        """Record that a plugin of a package has sent a frame of ``count`` messages."""
        if count <= SMALL or self.sent:
            channels = None if frame.channels is None else tuple(frame.channels)
            self.sent.note((package, frame.plugin, channels), count)

    def __call__(self) -> Sequence[Expected]:
        """Return the expected frames; called when the event loop is idle."""
        expected: list[Expected] = []
        if self.sent:
            expected += filter(None, map(self._next_sent, self.sent))
        if self._link.core.recent:
            expected += filter(None, map(self._next_received, self._link.core.recent))
        return expected

    def _next_sent(self, stream: Sent) -> Expected | None:
        package, plugin, channels = stream
        wire = self._link.wire
        published = self._link.core.next_publish(*stream)
        if wire is None or published is None or (out := wire.way_out(published)) is None:
            return None
        found = self._supervisor.next_published(package, plugin, channels)
        if found is None:
            return None
        child, comes, siblings = found
        return _expected(_way(child, comes), [*(_way(*sibling) for sibling in siblings), out], self._renumber)

    def _renumber(self) -> bool:
        """Start another run of numbers: the relay already has a number that no message here has."""
        self._link.renumber()
        return False

    def _next_received(self, stretch: Stretch) -> Expected | None:
        wire = self._link.wire
        if wire is None or (found := self._link.core.next_deliver(stretch)) is None:
            return None
        comes, packages = found
        host_id, address, *_ = stretch
        becomes = []
        for package in packages:
            gets = self._supervisor.next_delivered(package, host_id, address)
            becomes.append(None if gets is None else _way(*gets))
        return _expected(wire.way_in(comes), becomes)


def _way(child: Child, outline: Outline) -> Way | None:
    return Way(child, child.descriptor, COUNTED, outline) if child.descriptor >= 0 else None


def _expected(
    comes: Way | None, becomes: Sequence[Way | None], failed: Callable[[], bool] = lambda: False
) -> Expected | None:
    """Return the expected frame if all its ways are known, else None."""
    known = [way for way in becomes if way is not None]
    return Expected(comes, known, failed) if comes is not None and len(known) == len(becomes) else None
