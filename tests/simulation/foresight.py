"""What the express would have written: every forecast that a frame fulfils is compared with what is then done.

The simulator's hosts have no express. But at each frame that comes they make the forecasts that one would have
been given, and see whether it would have passed that frame on; then the state machine must write just that.
"""

from typing import TYPE_CHECKING

import msgspec

from co2.protocol.relay.cursors import Peer
from co2.protocol.satellite.core import Delivered
from co2.protocol.satellite.events import Event
from co2.protocol.wire.checksum import crc32
from co2.protocol.wire.link_frames import Deliver, Publish, decode_relay_frame, decode_satellite_frame
from co2.server.express.frame_template import Outline
from co2.server.express.relay_forecast import RelayForecast
from co2.server.express.satellite_forecast import SatelliteForecast

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["Foresight", "filled"]

ORACLE = "h: what was foreseen is done"

_encode = msgspec.msgpack.Encoder().encode


def filled(outline: Outline, batch: bytes, at: float = 0.0) -> bytes:
    """Give a frame of which the outline was known."""
    checksum = _encode(crc32(batch)) if outline.checked else b""
    return outline.whole_head + checksum + _encode(batch) + outline.tail + (_encode(at) if outline.timed else b"")


def as_it_came(outline: Outline, frame: Deliver) -> Outline:
    """Return an outline with the numbers of a frame that has come, where they are free."""
    told = (frame.position, frame.seq)
    return outline._replace(
        numbers=tuple(
            one._replace(value=max(one.value, value)) if one.is_free else one
            for one, value in zip(outline.numbers, told, strict=True)
        )
    )


class Foresight:
    """Makes forecasts, and compares."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def at_relay(self, forecast: RelayForecast, peer: Peer, data: bytes) -> list[tuple[Peer, bytes]]:
        """Before a frame is taken: give what it becomes on which links, as far as that was foreseen."""
        if not forecast.recent or data[1:9] != b"\xa7Publish":
            return []
        frame: Publish = decode_satellite_frame(data)
        channels = None if frame.channels is None else tuple(frame.channels)
        for stretch in forecast.recent:
            if stretch != (peer, frame.epoch, frame.package, frame.plugin, channels):
                continue
            found = forecast.next_publish(stretch)
            if found is not None and filled(found[0], frame.batch) == data:
                at = self._world.relay.clock()
                return [(receiver, filled(found[1], frame.batch, at)) for receiver in found[2]]
        return []

    def relay_wrote(self, receiver: Peer, foreseen: bytes, frames: list[bytes]) -> None:
        """See that what was foreseen for a link is written to it before anything else."""
        self._world.engine.count("a frame was foreseen at the relay")
        if frames[:1] != [foreseen]:
            self._broken(f"{receiver.origin} was to get {foreseen[:80]!r}, gets {frames[:1]!r:.200}")

    def at_satellite(self, forecast: SatelliteForecast, data: bytes) -> list[str]:
        """Before a frame is taken: give which packages get it, as far as that was foreseen."""
        if not forecast.recent or data[1:9] != b"\xa7Deliver":
            return []
        frame: Deliver = decode_relay_frame(data)
        channels = None if frame.channels is None else tuple(frame.channels)
        like = (frame.host_id, frame.client_address, frame.epoch, frame.sender, frame.plugin, channels)
        for stretch in forecast.recent:
            if stretch != like:
                continue
            found = forecast.next_deliver(stretch)
            if found is not None and filled(as_it_came(found[0], frame), frame.batch, frame.at) == data:
                return found[1]
        return []

    def satellite_has(self, event: Event | None, foreseen: list[str]) -> None:
        """See that these packages get the frame, whole, before anything else happens."""
        self._world.engine.count("a frame was foreseen at a satellite")
        if not isinstance(event, Delivered) or (list(event.packages), event.skip) != (foreseen, 0):
            self._broken(f"{foreseen} were to get a frame; it became {event!r:.200}")

    def satellite_wrote(self, foreseen: Outline | None, batch: bytes, frames: list[bytes]) -> None:
        """See that what a plugin has sent goes out as it was foreseen."""
        if foreseen is not None:
            self._world.engine.count("a frame was foreseen in an outbox")
            if frames[:1] != [filled(foreseen, batch)]:
                self._broken(f"{foreseen.head[:80]!r} was to go out, what goes is {frames[:1]!r:.200}")

    def _broken(self, text: str) -> None:
        self._world.oracles.broken(ORACLE, text)
