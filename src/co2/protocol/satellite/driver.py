"""The order in which a shell drives the satellite's state machine: the product, ``co2.testing`` and the simulator.

Each has its own connections, disk and clock. From a frame of a plugin or of the relay to the frames that result,
all three do the same steps in the same order, which is written here.
"""

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from co2.protocol.satellite.core import SatelliteCore
from co2.protocol.satellite.events import Event
from co2.protocol.satellite.outbox import Segment
from co2.protocol.wire.plugin_frames.frames import Publish

__all__ = ["SatelliteDriver", "Wire"]


class Wire(Protocol):
    """The connection to the relay as the driver needs it."""

    @property
    def is_full(self) -> bool:
        """Whether it takes no further frames for now."""

    def write(self, messages: list[bytes], /) -> None:
        """Write frames, in the form in which they are joined."""

    def close(self) -> None:
        """Close in good order: written frames still arrive."""


_WireType = TypeVar("_WireType", bound=Wire)


class SatelliteDriver(Generic[_WireType]):
    """Drives a satellite's state machine. After each use of the core by others, :meth:`flush`.

    Args:
        core: the state machine.
        handle: called with each event.
        join: joins frames for :meth:`Wire.write`.
        load: loads a segment of the outbox into memory; then :meth:`flush`.
        processed: called after received frames, before anything is written.

    Attributes:
        wire: the connection, None without one.
    """

    def __init__(
        self,
        core: SatelliteCore,
        *,
        handle: Callable[[Event], None],
        join: Callable[[list[bytes]], list[bytes]],
        load: Callable[[Segment], None],
        processed: Callable[[], None] = lambda: None,
    ) -> None:
        self.wire: _WireType | None = None
        self._core = core
        self._events = core.events
        self._outbox = core.outbox
        self._handle = handle
        self._join = join
        self._load = load
        self._processed = processed

    def connected(self, wire: _WireType) -> None:
        """Begin a link on a new connection. Then :meth:`flush`, as soon as it can be written to."""
        self.wire = wire
        self._core.connected()

    def publish(self, package: str, frame: Publish, count: int) -> None:
        """Send messages of a plugin.

        Args:
            package: of the plugin.
            frame: as its plugin host sent it.
            count: number of messages in it.
        """
        publish = self._core.publish_live if frame.live else self._core.publish
        publish(package, frame, count)
        self.flush()

    def received(self, frames: Iterable[bytes | memoryview]) -> None:
        """Process frames of the relay, each with its events; the connection of a link that has ended is closed."""
        core, events, handle = self._core, self._events, self._handle
        for data in frames:
            core.receive(data)
            while events:
                handle(events.popleft())
        self._processed()
        self.flush()
        if core.state == "away" and self.wire is not None:
            self.wire.close()

    def lost(self, why: str) -> None:
        """End the link after its connection is lost."""
        self.wire = None
        self._core.lost(why)
        self.flush()

    def flush(self) -> None:
        """Handle events, then write waiting frames as far as the connection takes them; the rest waits."""
        while self._events:
            self._handle(self._events.popleft())
        wire = self.wire
        if wire is None:
            return
        while not wire.is_full and (frames := self._core.taken()):
            wire.write(self._join(frames))
        if (segment := self._outbox.wanted()) is not None:
            self._load(segment)
