"""Reading of links: in turns, with a brake for links that ask for much, and only as fast as the disk."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from co2.protocol.relay.core import RelayCore
from co2.protocol.relay.cursors import Peer
from co2.protocol.relay.driver import RelayDriver
from co2.relay.brake import ASK_BURST, Brake
from co2.relay.durable_log import DurableLog
from co2.relay.frame_turns import FrameTurns
from co2.relay.standing import Standing
from co2.server.express.fair_selector import is_late
from co2.server.link.websocket_transport import MANY_FRAMES, WebSocketTransport

__all__ = ["MAX_BACKLOG", "LinkReader"]

MAX_BACKLOG = 16 * 1024 * 1024
"""Bytes waiting for the disk, or on their way through relay plugins, above which links are not read."""

LAST_TURNS = 4
"""Turns of a link's frames (:data:`~co2.protocol.relay.core.ASKED_AT_ONCE`) that are handled after its end."""


class LinkReader:
    """Passes frames of links to the state machine. Used in the event loop in which it is made.

    Args:
        core: the state machine.
        log: its backlog pauses links.
        wires: the connection of each link.
        driver: of the state machine.
        committed: called with the position up to which all is on disk, if that is noticed here.

    Attributes:
        braked: how often a link was paused because it asked for too much.
    """

    def __init__(
        self,
        core: RelayCore,
        log: DurableLog,
        wires: Mapping[Peer, WebSocketTransport],
        driver: RelayDriver,
        *,
        committed: Callable[[int], None],
    ) -> None:
        self.braked = 0
        self._core = core
        self._log = log
        self._wires = wires
        self._driver = driver
        self._committed = committed
        self._brakes: dict[Peer, Brake] = {}
        self._standings: dict[Peer, Standing] = {}
        self._braked: dict[WebSocketTransport, asyncio.TimerHandle] = {}
        self._held: dict[Peer, None] = {}
        self._loop = asyncio.get_running_loop()
        self._frames = FrameTurns(self._loop, self._receive, self._read_again)

    @property
    def backlog(self) -> int:
        """Bytes that wait for the disk, or are on their way through relay plugins."""
        return self._log.backlog + self._core.filter_chain.bytes

    def opened(self, peer: Peer, wire: WebSocketTransport) -> None:
        """Start reading a new link."""
        self._standings[peer] = Standing(wire, self._loop.time(), is_late(self._loop))

    def received(self, peer: Peer, frames: list[bytes | memoryview], more: bool = False) -> None:
        """Handle frames of a link; ``more`` means that frames of other links follow at once."""
        taken = self._receive(peer, frames)
        if taken < len(frames) and peer.state != "closed" and (wire := self._wires.get(peer)) is not None:
            wire.pause_reading()
            rest = [bytes(frame) for frame in frames[taken:]]
            self._frames.add(peer, rest, rests=wire in self._braked)
        if not more and self._log.committed > self._core.fan_out.committed:
            self._committed(self._log.look())
        if self.backlog > MAX_BACKLOG and (wire := self._wires.get(peer)) is not None:
            wire.pause_reading()  # its sender then notices and waits
            self._held[peer] = None

    def _receive(self, peer: Peer, frames: Sequence[bytes | memoryview]) -> int:
        """Pass frames of a link to the state machine; return how many were handled."""
        began = self._loop.time()
        taken = self._driver.received(peer, frames)
        if (standing := self._standings.get(peer)) is not None:
            now = self._loop.time()
            size = sum(map(len, frames[:taken]))
            asked = min(peer.asked, ASK_BURST)
            late, links = is_late(self._loop), len(self._wires)
            standing.take(now - began, size, asked, now, late, frames=taken, links=links)
        if peer.asked:
            self._brake(peer)
        return taken

    def _brake(self, peer: Peer) -> None:
        """Count the requests of a link; pause it if there are too many."""
        asked, peer.asked = min(peer.asked, ASK_BURST), 0
        wire = self._wires.get(peer)
        if wire is None or peer.state == "closed":
            return
        if asked > MANY_FRAMES:
            wire.read_less()
        loop = self._loop
        brake = self._brakes.get(peer)
        if brake is None:
            brake = self._brakes[peer] = Brake(loop.time())
        if (pause := brake.take(asked, loop.time())) and wire not in self._braked:
            self.braked += 1
            wire.pause_reading()
            self._frames.hold(peer)
            self._braked[wire] = loop.call_later(pause, self._release_brake, peer, wire)

    def _release_brake(self, peer: Peer, wire: WebSocketTransport) -> None:
        del self._braked[wire]
        if peer in self._frames:
            self._frames.go_on(peer)
        else:
            self._read_again(peer)

    def _read_again(self, peer: Peer) -> None:
        """Resume reading a link, unless there is another reason not to."""
        wire = self._wires.get(peer)
        if wire is None or wire in self._braked or peer in self._frames:
            return
        if self.backlog > MAX_BACKLOG:
            self._held[peer] = None
        else:
            wire.resume_reading()

    def read_on(self) -> None:
        """Resume reading the paused links: the backlog has room."""
        held, self._held = self._held, {}
        for peer in held:
            self._read_again(peer)

    def forget(self, peer: Peer) -> None:
        """Drop the unhandled frames of a link that has said goodbye."""
        self._frames.forget(peer)

    def ended(self, peer: Peer, wire: WebSocketTransport) -> None:
        """Handle the last frames of a link whose connection has ended, and forget the link."""
        rest = self._frames.forget(peer)
        for _ in range(LAST_TURNS):  # its messages, and its Goodbye if little is before it
            if rest:
                rest = rest[self._receive(peer, rest) :]
        self._brakes.pop(peer, None)
        self._standings.pop(peer, None)
        self._held.pop(peer, None)
        if (timer := self._braked.pop(wire, None)) is not None:
            timer.cancel()
