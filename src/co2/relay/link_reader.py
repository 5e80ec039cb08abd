"""Which link is read when: in turns, with a brake for those that ask for much, and as far as the disk keeps up."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from co2.logs import LineBudgets
from co2.protocol.relay.core import RelayCore
from co2.protocol.relay.cursors import Peer
from co2.relay.brake import ASK_BURST, Brake
from co2.relay.durable_log import DurableLog
from co2.relay.frame_turns import FrameTurns
from co2.relay.standing import Standing
from co2.server.express.fair_selector import is_late
from co2.server.link.websocket_transport import MANY_FRAMES, WebSocketTransport

__all__ = ["MAX_BACKLOG", "LinkReader"]

MAX_BACKLOG = 16 * 1024 * 1024
"""Bytes waiting for the disk, or on their way through relay plugins, above which links are not read."""

_logger = logging.getLogger("co2.relay")


class LinkReader:
    """Hands what links bring to the state machine. Used in the event loop that it is made in.

    Args:
        core: the state machine.
        log: what waits for its disk holds up links.
        wires: the connection of each link.
        flush: acts on what has happened, and writes what is out.
        committed: told up to which position all is on disk, where that is seen here.
        lines: how many lines of the log each origin may cause.

    Attributes:
        braked: how often a link was not read for a while, because it asked for too much.
    """

    def __init__(
        self,
        core: RelayCore,
        log: DurableLog,
        wires: Mapping[Peer, WebSocketTransport],
        *,
        flush: Callable[[], None],
        committed: Callable[[int], None],
        lines: LineBudgets,
    ) -> None:
        self.braked = 0
        self._core = core
        self._log = log
        self._wires = wires
        self._flush = flush
        self._committed = committed
        self._lines = lines
        self._brakes: dict[Peer, Brake] = {}
        self._standings: dict[Peer, Standing] = {}
        self._braked: dict[WebSocketTransport, asyncio.TimerHandle] = {}
        self._held: list[Peer] = []
        self._loop = asyncio.get_running_loop()
        self._frames = FrameTurns(self._loop, self._receive, self._read_again)

    @property
    def backlog(self) -> int:
        """Bytes that wait for the disk, or are on their way through relay plugins."""
        return self._log.backlog + self._core.filter_chain.bytes

    def opened(self, peer: Peer, wire: WebSocketTransport) -> None:
        """Read a new link."""
        self._standings[peer] = Standing(wire, self._loop.time(), is_late(self._loop))

    def received(self, peer: Peer, frames: list[bytes | memoryview], more: bool = False) -> None:
        """Take what a link brings; with ``more`` what others have brought comes right behind it."""
        taken = self._receive(peer, frames)
        if taken < len(frames) and peer.state != "closed" and (wire := self._wires.get(peer)) is not None:
            wire.pause_reading()
            rest = [bytes(frame) for frame in frames[taken:]]
            self._frames.add(peer, rest, rests=wire in self._braked)
        if not more and self._log.committed > self._core.fan_out.committed:
            self._committed(self._log.look())
        if self.backlog > MAX_BACKLOG and (wire := self._wires.get(peer)) is not None:
            wire.pause_reading()  # its sender then waits, and knows it
            self._held.append(peer)

    def _receive(self, peer: Peer, frames: Sequence[bytes | memoryview]) -> int:
        """Take some of what a link has brought; give how many frames."""
        began = self._loop.time()
        try:
            taken = self._core.receive_some(peer, frames)
        except Exception as error:
            taken = len(frames)
            who = peer.origin or peer.address[0]
            if self._lines.take(who, 2000):
                _logger.exception("the link of %s failed", who)
            self._core.lost(peer, f"an error of ours: {type(error).__name__}")
        self._flush()
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
        """Count what a link has asked for; read it no more for a while where that is too much."""
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
        """Read a link, unless there is another reason not to."""
        wire = self._wires.get(peer)
        if wire is None or wire in self._braked or peer in self._frames:
            return
        if self.backlog > MAX_BACKLOG:
            self._held.append(peer)
        else:
            wire.resume_reading()

    def read_on(self) -> None:
        """Read the links again that were held up: there is room."""
        held, self._held = self._held, []
        for peer in held:
            self._read_again(peer)

    def forget(self, peer: Peer) -> None:
        """Drop what has come over a link and was not taken: it has said goodbye."""
        self._frames.forget(peer)

    def ended(self, peer: Peer, wire: WebSocketTransport) -> None:
        """Take what has come over a link whose connection is gone, and forget it."""
        if rest := self._frames.forget(peer):
            self._receive(peer, rest)  # its messages, and its Goodbye where little is before it
        self._brakes.pop(peer, None)
        self._standings.pop(peer, None)
        if (timer := self._braked.pop(wire, None)) is not None:
            timer.cancel()
