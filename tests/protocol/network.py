"""A relay and satellites in memory: the two state machines joined by queues that the test turns."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from co2.host_id import HostId
from co2.protocol.relay.core import DiskWanted, IdReused, RelayCore, ValuesWanted
from co2.protocol.relay.cursors import Peer
from co2.protocol.relay.last_values import answer, entry_at
from co2.protocol.relay.log import ClockJump, Reading
from co2.protocol.relay.receipts import ReceiptKey
from co2.protocol.satellite.core import (
    Delivered,
    Ended,
    GapTold,
    SatelliteCore,
    SnapshotCame,
    SnapshotRefused,
)
from co2.protocol.satellite.outbox import Outbox
from co2.protocol.wire.batch import DROPPED, make_batch, split_batch
from co2.protocol.wire.link_frames import BEGINNING, FIRST_POSITION
from co2.protocol.wire.plugin_frames.frames import Publish
from co2.testing.memory_log import MemoryLog
from co2.values import MAX_RUN

KEY = ReceiptKey("the relay's secret")

__all__ = ["FakeLog", "FakeSatellite", "Network", "batch_of", "sent"]


def batch_of(*values: Any) -> bytes:
    """Encode messages with these values as their data."""
    return make_batch([msgspec.msgpack.encode({"data": value}) for value in values])


def sent(*values: Any, package: str = "p", channels: Sequence[str] = ("",)) -> tuple[str, Publish, int]:
    """Return package, frame and count of messages that a plugin sends, with these values as their data."""
    return package, Publish(f"{package}.m.X_P", list(channels), batch_of(*values)), len(values)


class FakeLog(MemoryLog):
    """A log in memory whose disk is committed when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = {self.run: FIRST_POSITION}
        self.in_memory_from = 0
        self.backlog = 0
        self.former: list[str] = []
        self.ends: dict[str, int] = {}
        self.clock_jumps: list[ClockJump] = []
        self._ids = itertools.count(2)

    def read(self, after: int, max_bytes: int) -> Reading:
        if after < self.in_memory_from:
            return Reading([], after, None, True)
        return self.read_disk(after, max_bytes)

    def read_disk(self, after: int, max_bytes: int) -> Reading:
        return super().read(after, max_bytes)

    def add_clock_jump(self, seconds: float) -> None:
        self.clock_jumps.append(ClockJump(self.last, seconds))

    def position_of(self, origin: str, run: int, seq: int) -> int | None:
        for entry in self.entries:
            if (entry.origin, entry.epoch & MAX_RUN) == (origin, run) and 0 <= seq - entry.seq < entry.count:
                return entry.position + seq - entry.seq
        return None

    def look(self) -> int:
        return self.committed

    def pass_over(self, position: int) -> None:
        self.next = max(self.next, position + 1)

    def replace_id(self) -> None:
        self.former.append(self.log_id)
        self.log_id = f"log-{next(self._ids)}"

    def forget_uncommitted(self) -> None:
        """What a crash of the relay does: what was not on disk is gone, and its positions with it."""
        self.entries = [entry for entry in self.entries if entry.end <= self.committed]
        marks: dict[tuple[str, int], int] = {}
        for entry in self.entries:
            if entry.epoch:
                marks[entry.origin, entry.epoch] = entry.seq + entry.count - 1
        self.marks = marks
        self.ends[self.run] = self.committed
        self.next = max(self.next, self.lease)
        self.lease = self.next + 10**6
        self.begin_run()

    def begin_run(self) -> None:
        self.run = f"run-{next(self._ids)}"
        self.runs[self.run] = self.next

    def holds(self, run: str, position: int) -> bool:
        if run not in self.runs:
            return False
        following = min((first for first in self.runs.values() if first > self.runs[run]), default=self.next)
        return position < following

    def was_called(self, log_id: str) -> bool:
        return log_id in (self.log_id, *self.former)

    def was_rolled_back(self, log_id: str, run: str, position: int) -> bool:
        if not self.was_called(log_id):
            return False
        return not self.holds(run, position) or position > self.ends.get(run, position)


class FakeSatellite:
    """A satellite's core with packages that write down what they get."""

    def __init__(self, name: str, epoch: int, host: int, token: str | None = None) -> None:
        token = f"token of {name}" if token is None else token
        self.waits = 0
        self.outbox = Outbox(epoch, 10**6, lambda: None, lambda: None)
        self.core = SatelliteCore(HostId(name, f"10.0.0.{host}", 2004), self.outbox, lambda: ([], []), token)
        self.address = (f"10.0.0.{host}", 40_000 + host)
        self.peer: Peer | None = None
        self.got: dict[str, list[Any]] = {}
        self.gaps: list[tuple[str, str]] = []
        self.snapshots: list[tuple[str, list[Any]]] = []
        self.left_out = 0
        self.refused: list[str] = []
        self.ended: list[Ended] = []

    def send(self, *values: Any, package: str = "p", channels: Sequence[str] = ("",)) -> None:
        self.core.publish(*sent(*values, package=package, channels=channels))

    def take_events(self) -> None:
        while self.core.events:
            match self.core.events.popleft():
                case Delivered(packages, frame, skip):
                    values = [
                        msgspec.msgpack.decode(m)["data"] for m in split_batch(frame.batch)[skip:] if m != DROPPED
                    ]
                    for package in packages:
                        self.got.setdefault(package, []).extend(values)
                case SnapshotCame(package, values, left_out):
                    self.snapshots.append(
                        (package, [msgspec.msgpack.decode(one.message)["data"] for one in values])
                    )
                    self.left_out += left_out
                case SnapshotRefused(package):
                    self.refused.append(package)
                case GapTold(packages, gap):
                    self.gaps += [(package, gap.reason) for package in packages]
                case Ended() as ended:
                    self.ended.append(ended)
                    self.peer = None


class Network:
    """A relay with its log, and satellites."""

    def __init__(self, max_peers: int = 100) -> None:
        self.log = FakeLog()
        self.now = 0.0
        self.max_peers = max_peers
        self.satellites: list[FakeSatellite] = []
        self.reused: list[IdReused] = []
        self.auto_commit = True
        self.relay = self._relay()

    def _relay(self) -> RelayCore:
        return RelayCore(self.log, "relay@10.0.0.1:2003", max_peers=lambda: self.max_peers, now=lambda: self.now,
                         wall=lambda: 10**9 + self.now, receipts=KEY)  # fmt: skip

    def satellite(
        self, name: str, *packages: str, epoch: int = 7, token: str | None = None, **subscription: Any
    ) -> FakeSatellite:
        """Add a satellite with packages that receive everything, connected; '' for one of before tokens."""
        satellite = FakeSatellite(name, epoch, len(self.satellites) + 2, token)
        self.satellites.append(satellite)
        channels = subscription.pop("channels", None)
        for package in packages:
            satellite.core.subscribe(package, channels, **subscription)
        self.connect(satellite)
        return satellite

    def connect(self, satellite: FakeSatellite) -> None:
        satellite.peer = self.relay.opened(satellite.address)
        satellite.core.connected()
        self.run()

    def cut(self, satellite: FakeSatellite) -> None:
        """Lose the connection, and everything on its way."""
        peer, satellite.peer = satellite.peer, None
        if peer is not None:
            peer.taken()
            self.relay.lost(peer, "cut")
        satellite.core.taken()
        satellite.core.lost("cut")
        satellite.take_events()

    def crash(self) -> None:
        """Kill the relay: what was not committed is gone. It starts again at once, nobody is connected."""
        for satellite in self.satellites:
            satellite.peer = None
            satellite.core.taken()
            satellite.core.lost("the relay is gone")
            satellite.take_events()
        self.log.forget_uncommitted()
        self.relay = self._relay()

    def give_receipts(self) -> None:
        """What the relay does every few seconds."""
        self.relay.give_receipts(self.relay.peers.values())
        self.run()

    def roll_back(self, kept: int, marks: dict[tuple[str, int], int]) -> None:
        """Kill the relay, and have its log be an older copy, with so many of its frames."""
        self.put_in(self.log)
        self.log.entries, self.log.marks = self.log.entries[:kept], marks
        last = self.log.entries[-1].end if kept else BEGINNING
        self.log.ends = {run: min(end, last) for run, end in self.log.ends.items()}
        self.log.committed = self.log.last
        self.relay = self._relay()

    def put_in(self, log: FakeLog) -> None:
        """Kill the relay, and start it with that log; nobody is connected."""
        self.give_receipts()
        self.crash()
        if log is not self.log:
            self.log = log
            log.forget_uncommitted()
        self.relay = self._relay()

    def commit(self) -> None:
        self.log.committed = self.log.last
        self.relay.committed(self.log.last)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Carry frames to and fro until all is quiet."""
        for _ in range(10_000):
            moved = False
            for satellite in self.satellites:
                moved |= self._carry(satellite)
            moved |= self._serve()
            if self.auto_commit and self.log.committed < self.log.last:
                self.commit()
                moved = True
            if not moved or until():
                return
        raise AssertionError("it never comes to rest")

    def _carry(self, satellite: FakeSatellite) -> bool:
        frames = satellite.core.taken()
        for data in frames:
            if satellite.peer is not None:
                self.relay.receive(satellite.peer, data)
        satellite.take_events()
        back = self.relay.taken(satellite.peer) if satellite.peer is not None else []
        for data in back:
            satellite.core.receive(data)
        satellite.take_events()
        return bool(frames or back)

    def _serve(self) -> bool:
        moved = bool(self.relay.events)
        while self.relay.events:
            match self.relay.events.popleft():
                case ValuesWanted(_, question):
                    found = answer(question, partial(entry_at, self.log.read_disk), self.now)
                    self.relay.values_read(question, found)
                case DiskWanted(stream):
                    self.relay.disk_read(stream, self.log.read_disk(stream.position, 2**20))
                case IdReused() as reused:
                    self.reused.append(reused)
        return moved
