"""The order in which a shell drives the relay's state machine: the product, ``co2.testing`` and the simulator.

Each has its own connections, disk and clock. From a received frame to the frames that result from it, all three do
the same steps in the same order, which is written here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from co2.protocol.relay.core import OriginClaimed, RelayCore
from co2.protocol.relay.cursors import Peer, Stream
from co2.protocol.relay.events import Event, Left
from co2.protocol.relay.last_values import Answer, Question
from co2.protocol.relay.log import Reading

__all__ = ["RelayDriver", "Wire"]


class Wire(Protocol):
    """The connection of a link as the driver needs it."""

    def write(self, messages: list[bytes], /) -> None:
        """Write frames, in the form in which they are joined."""

    def close(self) -> None:
        """Close in good order: written frames still arrive."""


class RelayDriver:
    """Drives a relay's state machine. Each step ends with :meth:`flush`; after other uses of the core call it.

    Args:
        core: the state machine.
        wires: the connection of each link; a shell removes one when it has ended, not before.
        handle: called with each event.
        join: joins frames for :meth:`Wire.write`; once for links that get the same frames.
        failed: called while an exception is handled that frames of this link have caused; then the link ends.
        read_on: called when less may wait for the disk or the relay plugins than before.
    """

    def __init__(
        self,
        core: RelayCore,
        wires: Mapping[Peer, Wire],
        *,
        handle: Callable[[Event], None],
        join: Callable[[list[bytes]], list[bytes]],
        failed: Callable[[Peer], None],
        read_on: Callable[[], None],
    ) -> None:
        self._core = core
        self._wires = wires
        self._handle = handle
        self._join = join
        self._failed = failed
        self._read_on = read_on
        self._closing: list[Wire] = []
        core.filter_chain.released = self.come_through

    def received(self, peer: Peer, frames: Sequence[bytes | memoryview]) -> int:
        """Process frames of a link as :meth:`RelayCore.receive_some`; return the number of frames processed."""
        try:
            count = self._core.receive_some(peer, frames)
        except Exception as error:
            count = len(frames)
            self._failed(peer)
            self._core.lost(peer, f"internal error: {type(error).__name__}")
        self.flush()
        return count

    def committed(self, position: int) -> None:
        """Handle the commit of all positions up to this one; links are read on behind its acknowledgements."""
        self._core.committed(position)
        self.flush()
        self._read_on()

    def come_through(self) -> None:
        """Handle messages that have passed the relay plugins."""
        self._core.come_through()
        self.flush()
        self._read_on()

    def has_room(self) -> None:
        """Resume after the log's disk was full."""
        self._core.has_room()
        self.flush()

    def resume(self, peer: Peer) -> None:
        """Resume a link whose transport has room again."""
        self._core.resume(peer)
        self.flush()

    def lost(self, peer: Peer, why: str) -> None:
        """End a link whose connection is lost."""
        self._core.lost(peer, why)
        self.flush()

    def claimed(self, claim: OriginClaimed) -> None:
        """Admit a satellite whose ownership of its origin is on disk now."""
        self._core.claimed(claim)
        self.flush()

    def disk_read(self, stream: Stream, reading: Reading) -> None:
        """Pass on entries that were read from disk for a stream."""
        self._core.disk_read(stream, reading)
        self.flush()

    def values_restored(self) -> None:
        """Go on with the wishes for last values: the index is complete."""
        self._core.values_restored()
        self.flush()

    def values_read(self, question: Question, found: Answer) -> None:
        """Send a package the last values that were read for it."""
        self._core.values_read(question, found)
        self.flush()

    def values_unread(self, peer: Peer, question: Question, why: str) -> None:
        """End a link whose last values cannot be read."""
        self._core.values_unread(peer, question, why)
        self.flush()

    def flush(self) -> None:
        """Handle events, then write waiting frames, until there are none; then close the links that have ended."""
        core = self._core
        while core.events or core.ready:
            while core.events:
                event = core.events.popleft()
                if type(event) is Left and (wire := self._wires.get(event.peer)) is not None:
                    self._closing.append(wire)
                self._handle(event)
            ready, core.ready = core.ready, {}
            last: list[bytes] = []
            messages: list[bytes] = []
            for peer in ready:
                frames = core.taken(peer)
                wire = self._wires.get(peer)
                if wire is None or not frames:
                    continue
                if frames != last:  # all get the same objects: the comparison is quick, and they are joined once
                    last, messages = frames, self._join(frames)
                wire.write(messages)
        while self._closing:
            self._closing.pop().close()
