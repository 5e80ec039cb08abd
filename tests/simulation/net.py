"""Connections: bytes in order, with latency, until they are cut; clogged ones, half-open ones, and none at all."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.engine import Engine, Process, Timer

__all__ = ["CONNECT_TIMEOUT", "End", "Net", "Port"]

CONNECT_TIMEOUT = 5.0
"""Seconds until a connection stands, or none comes; as in ``satellite/link.py``."""

PIECE = 16 * 1024
"""Bytes that come over at once, about."""

NOTICED = (10.0, 25.0)
"""Seconds within which a silent other side is given up: pings see to it."""


class End:
    """One end of a connection, in a process.

    Attributes:
        on_frames: called with frames that have come together.
        on_closed: called with why, once, when the other side has ended it.
        on_full: called when more than :attr:`Net.high` bytes wait here, ``on_room`` when a quarter of it does.
        buffered: bytes that are written and have not come over.
        is_full: whether more than :attr:`Net.high` bytes have waited here, and a quarter of it still does.
    """

    def __init__(self, net: "Net", process: Process, name: str) -> None:
        self.net = net
        self.process = process
        self.name = name
        self.other: End
        self.closed = False
        self.buffered = 0
        self.is_full = False
        self.reading = True
        self.on_frames: Callable[[list[bytes]], None] = lambda frames: None
        self.on_closed: Callable[[str], None] = lambda why: None
        self.on_full: Callable[[], None] = lambda: None
        self.on_room: Callable[[], None] = lambda: None
        self._way: deque[tuple[float, list[bytes], int]] = deque()
        self._timer: Timer | None = None
        self._last = 0.0
        self._held_until = self._held_since = 0.0
        self._ending = False

    @property
    def works(self) -> bool:
        """Whether both ends are open, and nothing has ended a direction."""
        return not (self.closed or self._ending or self.other.closed or self.other._ending)

    def write(self, frames: list[bytes]) -> None:
        """Write frames that go together."""
        if self.closed or self._ending:
            return
        net = self.net
        size = sum(map(len, frames))
        self.buffered += size
        self._last = max(self._last, net.engine.now + net.latency())
        for part, part_size in [(frames, size)] if size <= PIECE else _pieces(frames):
            self._last += part_size / net.bandwidth
            self._way.append((self._last, part, part_size))
        self._go()
        if not self.is_full and self.buffered >= net.high:
            self.is_full = True
            net.engine.count("transport full")
            self.on_full()

    def close(self) -> None:
        """Close in good order: what is written comes over first."""
        if not self.closed:
            self.closed = True
            self.break_off(1.0)

    def die(self, why: str) -> None:
        """Give the connection up at this end, which learns of it; the other end too, if it can be reached."""
        if not self.closed:
            self.closed = True
            self.break_off(0.0)
            self.on_closed(why)

    def break_off(self, share: float) -> None:
        """End this direction: of what is on its way so much still comes over, and then the end of it."""
        if self._ending:
            return
        self._ending = True
        for _ in range(len(self._way) - round(share * len(self._way))):
            self._way.pop()
        if not self._way:
            self._end_other()

    def hold(self, until: float) -> None:
        """Nothing that is written here comes over before that time; the ends find out when it takes long."""
        if self._held_until <= self.net.engine.now:
            self._held_since = self.net.engine.now
        self._held_until = max(self._held_until, until)
        self.watch()
        self.other.watch()

    def release(self) -> None:
        """What was held goes on."""
        self._held_until = 0.0
        self.net.engine.cancel(self._timer)
        self._timer = None
        if self._way:
            self._go()
        elif self._ending and not self.other.closed:
            self._end_other()

    def read_again(self) -> None:
        """Go on reading."""
        self.reading = True
        self.other._go()

    def _end_other(self) -> None:
        engine = self.net.engine
        if self._held_until > engine.now:
            self._timer = engine.after(self._held_until - engine.now, None, self._end_other)
        else:
            engine.after(self.net.latency(), self.other.process, self.other._ended)

    def _ended(self) -> None:
        if not self.closed:
            self.closed = True
            self.break_off(0.0)
            self.on_closed("the other side has ended it")

    def _go(self) -> None:
        if self._timer is None and self._way and self.other.reading:
            engine = self.net.engine
            when = max(self._way[0][0], self._held_until, engine.now)
            self._timer = engine.after(when - engine.now, None, self._arrive)

    def _arrive(self) -> None:
        """What is at the front of the way has come to the other machine; its process gets it when it can."""
        self._timer = None
        engine, other = self.net.engine, self.other
        if not self._way or not other.process.alive:
            return
        if self._held_until > engine.now or not other.reading:
            self._go()
            return
        if other.process.standing:
            self._timer = engine.after(0.0, other.process, self._arrive)
            return
        _, frames, size = self._way.popleft()
        self.buffered -= size
        if not other.closed:
            other.on_frames(frames)
        if self.is_full and self.buffered <= self.net.high // 4:
            self.is_full = False
            engine.after(0.0, self.process, self._tell_room)
        if self._way:
            self._go()
        elif self._ending:
            self._end_other()

    def _tell_room(self) -> None:
        if not self.closed and not self.is_full:
            self.on_room()

    def watch(self) -> None:
        """The other side may be silent from now on: see whether it still is when pings would have told."""
        since = self.net.engine.now
        self.net.engine.after(self.net.engine.dice.uniform(*NOTICED), self.process, self._notice, since)

    def _notice(self, since: float) -> None:
        engine = self.net.engine
        other = self.other
        silent = other._held_until > engine.now and other._held_since <= since
        deaf = self._held_until > engine.now and self._held_since <= since
        stands = other.process.standing and other.process.stood_since <= since
        if not self.closed and (silent or deaf or stands):
            engine.count("silent link given up")
            engine.trace(f"{self.name} hears nothing and gives its link up")
            self.die("no answer to a ping")


def _pieces(frames: list[bytes]) -> list[tuple[list[bytes], int]]:
    """Put frames together that come together."""
    pieces: list[tuple[list[bytes], int]] = []
    for data in frames:
        if pieces and pieces[-1][1] + len(data) <= PIECE:
            pieces[-1] = ([*pieces[-1][0], data], pieces[-1][1] + len(data))
        else:
            pieces.append(([data], len(data)))
    return pieces


@dataclass(slots=True)
class Port:
    """Where somebody listens."""

    process: Process
    accept: Callable[[End, str], None]


class Net:
    """All connections.

    Attributes:
        high: bytes in a transport above which its owner is told to pause.
        bandwidth: bytes per second of a connection.
        partitioned: names of hosts that nobody reaches.
        port: the relay's, None while nobody listens.
    """

    def __init__(self, engine: Engine, *, high: int, bandwidth: float, latency: tuple[float, float]) -> None:
        self.engine = engine
        self.high = high
        self.bandwidth = bandwidth
        self.partitioned: set[str] = set()
        self.port: Port | None = None
        self.links: dict[str, tuple[End, End]] = {}
        self._pairs: list[tuple[End, End]] = []
        self._latency = latency

    def latency(self) -> float:
        """Seconds on the way."""
        dice = self.engine.dice
        low, high = self._latency
        return high * 20 if dice.random() < 0.01 else low + (high - low) * dice.random()

    def connect(
        self, process: Process, name: str, ip: str, opened: Callable[[End], None], failed: Callable[[str], None]
    ) -> None:
        """Open a connection to the relay, or fail in some seconds."""
        engine = self.engine
        state = {"done": False}

        def fail(why: str) -> None:
            if not state["done"]:
                state["done"] = True
                failed(why)

        def arrive() -> None:
            port = self.port
            if name in self.partitioned or state["done"]:
                return
            if port is None or not port.process.alive:
                engine.after(self.latency(), process, fail, "connection refused")
                return
            engine.after(0.0, port.process, accept, port)

        def accept(port: Port) -> None:
            if state["done"] or not process.alive:
                return
            ours, theirs = End(self, process, name), End(self, port.process, f"relay-{name}")
            ours.other, theirs.other = theirs, ours
            port.accept(theirs, ip)
            engine.after(self.latency(), process, stand, ours)

        def stand(ours: End) -> None:
            if state["done"]:
                ours.die("too late")
                return
            state["done"] = True
            self.links[name] = (ours, ours.other)
            self._pairs = [pair for pair in self._pairs if not (pair[0].closed and pair[1].closed)]
            self._pairs.append(self.links[name])
            opened(ours)

        engine.after(CONNECT_TIMEOUT, process, fail, "no answer")
        engine.after(self.latency(), None, arrive)

    def cut(self, name: str) -> bool:
        """Cut a host's connection; some of what is on its way may still come."""
        pair = self.links.pop(name, None)
        if pair is None or pair[0].closed:
            return False
        for end in pair:
            end.break_off(self._share())
        return True

    def vanished(self, process: Process) -> None:
        """A process has ended: the kernel closes what it had."""
        for name, pair in list(self.links.items()):
            for end in pair:
                if end.process is process:
                    end.break_off(self._share())
                    self.links.pop(name, None)

    def release(self) -> None:
        """All that was held goes on."""
        self.partitioned.clear()
        for pair in self._pairs:
            for end in pair:
                end.release()

    def _share(self) -> float:
        return self.engine.dice.choice((0.0, 1.0, self.engine.dice.random()))
