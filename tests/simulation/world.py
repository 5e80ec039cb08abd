"""A world: what is in it is drawn from its seed, then things happen, then all is healed and judged."""

import random
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import msgspec

from co2.protocol.wire import channel_patterns
from tests.simulation import faults
from tests.simulation.clients import Fetcher, XmlSender
from tests.simulation.engine import Engine
from tests.simulation.foresight import Foresight
from tests.simulation.hostile import CHANCE, Hostile
from tests.simulation.knobs import NORMAL, drawn, installed
from tests.simulation.net import Net
from tests.simulation.oracles import (
    Broken,
    Oracles,
    check_bounds,
    check_drained,
    check_history,
    what_is_missing,
)
from tests.simulation.plugin_host import PackagePlan, PluginPlan
from tests.simulation.relay_host import SimRelay
from tests.simulation.satellite_host import SimSatellite
from tests.simulation.truth import Truth

__all__ = ["DRAIN", "Outcome", "World", "run_seed"]

DRAIN = 300.0
"""Seconds after healing in which everything must be drained."""

CHANNELS = ("", "stage.left", "stage.right.fader1", "house.light")
PATTERNS: tuple[list[str], ...] = ([], [], [], ["stage.>"], ["*.left", "house.light", "meter.*"], ["stage.*"])

_SHM = Path("/dev/shm")


class World:
    """Everything of one seed.

    Args:
        seed: of all that is drawn.
        folder: for state folders.
        keep_all: keep all of the trace.
        plans: of the satellites' packages, instead of drawn ones.
    """

    def __init__(self, seed: int | str, folder: Path, *, keep_all: bool = False) -> None:
        self.seed = seed
        self.engine = Engine(seed, keep_all=keep_all)
        self.dice = dice = self.engine.dice
        self.folder = folder
        self.oracles = Oracles(self.engine)
        self.foresight = Foresight(self)
        self.truth = Truth(self.engine, self.oracles)
        more = random.Random(f"more of {seed}")
        self.knobs = drawn(dice, more)
        self.net = Net(
            self.engine,
            high=dice.choice((4 * 2**20, 8 * 1024, 32 * 1024)),
            bandwidth=dice.choice((1e8, 1e8, 1e6, 1e5)),
            latency=dice.choice(((0.00005, 0.0003), (0.0002, 0.005), (0.001, 0.08), (0.05, 0.3))),
        )
        self.log_bytes = dice.choice((2**30, 2**30, 2**30, 20_000, 60_000))
        self.log_age = dice.choice((86_400.0, 86_400.0, 86_400.0, 25.0))
        self.durability = more.choice((0.0, 0.0, 0.0, 0.1, 1.0))
        self.outbox_max = dice.choice((2**30, 2**30, 16_000, 64_000))
        self.receive_deadline = dice.choice((5.0, 30.0))
        self.sending = True
        self.budget = dice.choice((300, 900, 1800))
        self.may_reuse = False
        self.reused: list[tuple[str, int, int]] = []
        self.history: dict[int, tuple[int, int]] = {}
        self.satellites: list[SimSatellite] = []
        self.senders: list[XmlSender] = []
        self.fetchers: list[Fetcher] = []
        self.fates: dict[str, float] = {}
        self.done: dict[str, int] = {}
        self._sync = dice.choice((0.0008, 0.004, 0.02, 0.3))
        self._pad = dice.choice((0, 0, 30, 300))
        self._copies = 0
        if self.knobs["MAX_WAITING"] != NORMAL and self._pad <= 30:
            self.knobs["MAX_WAITING"] = 64 * 1024
        self.relay: SimRelay
        self.hostile: Hostile | None = None
        self.of_before = 0.15
        self._other_dice = random.Random(f"co2 members {seed}")
        self.value_dice = random.Random(f"last values {seed}")
        self.snapshots = self.value_dice.choice((0.0, 0.3, 0.7))
        self.forgets = self.value_dice.choice((0.0, 0.5))
        # Frames that name no channels are rare, and are frequent here.
        self._names = self.value_dice.choice((32, 32, 1))

    # ---- what is drawn ---------------------------------------------------------------------------------

    def furnish(self) -> None:
        """Draw who is there."""
        dice = self.dice
        self.relay = SimRelay(self, self.folder / "relay")
        self.relay.start()
        for number in range(dice.choice((2, 2, 3, 3, 4, 5, 8, 12))):
            self.add_satellite(self._drawn_plans(number))
        for _ in range(dice.choice((0, 0, 1, 2))):
            self.senders.append(XmlSender(self, len(self.senders)))
        for _ in range(dice.choice((0, 1))):
            self.fetchers.append(Fetcher(self, len(self.fetchers)))
        if dice.random() < 0.3:
            self.fates = {"raise": 0.01, "die": dice.choice((0.0, 0.01)), "hang": dice.choice((0.0, 0.005))}

    def invite_hostile(self) -> None:
        """Have a member that means harm, in some worlds."""
        if self._other_dice.random() < CHANCE:
            self.hostile = Hostile(self)

    def _drawn_plans(self, number: int) -> list[PackagePlan]:
        dice = self.dice
        plans = []
        hears = dice.choice((0.8, 0.8, 0.8, 0.0)) if number else 0.8
        for at in range(dice.choice((1, 2, 2, 3))):
            durable = dice.random() < 0.35
            cost = dice.choice((0.00001, 0.00001, 0.00001, 0.002, 0.05))
            name = f"p{at}"
            plugins = [
                PluginPlan(
                    f"{name}.m.X{index}",
                    receives=dice.random() < hears,
                    channels=dice.choice(PATTERNS),
                    durable=durable,
                    cost=cost,
                    snapshot=self.value_dice.random() < self.snapshots,
                )
                for index in range(dice.choice((1, 1, 1, 2)))
            ]
            rate = dice.choice((0.0, 1.0, 5.0, 20.0)) if hears and (number or at) else 10.0
            plans.append(PackagePlan(name, plugins, rate, dice.random() < 0.3))
        return plans

    def add_satellite(
        self, plans: list[PackagePlan], *, clone_of: SimSatellite | None = None, copy: Path | None = None
    ) -> SimSatellite:
        """Add a satellite and start it."""
        number = len(self.satellites)
        origin, token = f"sat{number}", f"token of {number}"
        if clone_of is not None:
            origin, token = clone_of.origin, clone_of.token
        elif self._other_dice.random() < self.of_before:
            token = ""
        satellite = SimSatellite(self, f"s{number}", number + 1, plans, origin, token)
        if copy is not None:
            shutil.rmtree(satellite.folder)
            shutil.copytree(copy, satellite.folder)
        self.satellites.append(satellite)
        satellite.start()
        return satellite

    def channels_for(self, dice: random.Random) -> list[str]:
        """Draw the channels of a batch."""
        return dice.choice(((CHANNELS[0],), (CHANNELS[0],), CHANNELS, CHANNELS[1:3]))  # type: ignore[arg-type]

    def fate(self) -> str | None:
        """Draw what a message does to whoever gets it."""
        for what, chance in self.fates.items():
            if chance and self.dice.random() < chance:
                return what
        return None

    def padding(self) -> bytes:
        """Draw something that makes a message longer."""
        if not self._pad:
            return b""
        return bytes(self.dice.choice((0, self._pad, self._pad * self.dice.choice((1, 1, 4)))))

    def sync_time(self) -> float:
        """Draw the seconds that a commit takes."""
        dice = self.dice
        return self._sync * dice.uniform(0.5, 1.5) * (50 if dice.random() < 0.005 else 1)

    def copy_folder(self) -> Path:
        """Give a name for a copy of a state folder."""
        self._copies += 1
        return self.folder / f"copy-{self._copies}"

    # ---- what happens ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Let it happen, heal it, judge it."""
        with installed(self.knobs, self.dice), mock.patch.object(channel_patterns, "MAX_CHANNELS", self._names):
            try:
                self.furnish()
                self.invite_hostile()
                self._every_second()
                if self.forgets:
                    self._forget_sometimes()
                plan = faults.Plan(self)
                plan.begin()
                self.go(plan.duration)
                plan.heal()
                self.finish()
            finally:
                self.dispose()

    def finish(self) -> None:
        """Send no more; see that all is drained, and judge."""
        self.sending = False
        healed = self.engine.now
        self.go(1.0)
        while not self.drained() and self.engine.now < healed + DRAIN:
            self.go(2.0)
        if self.oracles.first is None:
            check_drained(self, DRAIN)
        self.go(1.5)
        if self.oracles.first is None:
            self.read_history()
            check_history(self)
        if self.oracles.first is None:
            what_is_missing(self)
        self.engine.trace(f"ended, {sum(ear.total for ear in self.truth.ears)} messages heard")

    def go(self, seconds: float) -> None:
        """Let so many seconds go by, or fewer when something is broken."""
        self.engine.run(self.engine.now + seconds, lambda: self.oracles.first is not None)

    def _every_second(self) -> None:
        check_bounds(self)
        self.engine.after(1.0, None, self._every_second)

    def _forget_sometimes(self) -> None:
        self.relay.forget_value(self.value_dice.choice(CHANNELS[1:]))
        self.engine.after(self.value_dice.expovariate(self.forgets), None, self._forget_sometimes)

    def drained(self) -> bool:
        """Tell whether nothing moves any more."""
        return not self.what_waits()

    def what_waits(self) -> str:
        """Give what is not drained yet, '' for nothing."""
        relay = self.relay
        if not relay.up:
            return "the relay is down"
        if relay.log._writer.something():
            return "the log's disk"
        for satellite in self.satellites:
            if satellite.up and (why := satellite.what_waits()):
                return f"{satellite.name}: {why}"
        core = relay.core
        for peer in core.peers.values():
            for stream in (peer.live, *peer.streams.values()):
                if stream is None or stream.position < (
                    core.fan_out.committed if stream.durable else core.fan_out.visible
                ):
                    return f"a stream: {stream}"[:300]
        if any(theirs.buffered for _, theirs in self.net.links.values() if not theirs.closed):
            return "a transport of the relay's"
        return "" if all(sender.idle for sender in self.senders) else "a client of XML-RPC"

    def read_history(self) -> None:
        """Read all that the log shows, as ``relay.fetch`` does."""
        after = 0
        while True:
            _, read, gaps = self.relay.fetch("", after, 500)
            if gaps:
                self.oracles.broken("g: the log shows what was put there", f"a gap in the history: {gaps}")
                return
            for message in read.messages:
                run, number, *_ = msgspec.msgpack.decode(message.packed)["data"]
                self.history[message.position] = (run, number)
            if read.next <= after:
                return
            after = read.next

    def dispose(self) -> None:
        """Let go of everything."""
        for satellite in self.satellites:
            satellite.dispose()
        if hasattr(self, "relay"):
            self.relay.dispose()


class Outcome(msgspec.Struct):
    """What became of a seed."""

    seed: int
    oracle: str
    text: str
    digest: str
    seconds: float
    events: int
    messages: int
    heard: int
    counts: dict[str, int]
    faults: dict[str, int]
    lines: list[str] = []


def run_seed(seed: int, *, keep_all: bool = False) -> Outcome:
    """Run a world; give what became of it."""
    folder = Path(tempfile.mkdtemp(prefix="co2-sim-", dir=_SHM if _SHM.is_dir() else None))
    try:
        world = World(seed, folder, keep_all=keep_all)
        error: BaseException | None = None
        try:
            world.run()
        except Exception as caught:
            error = caught
            world.engine.trace(f"FAILED {type(caught).__name__}: {caught}")
        first = world.oracles.first
        if error is not None and first is None:
            first = Broken("no error of ours", f"{type(error).__name__}: {error}")
            first.__cause__ = error
        if first is not None and keep_all and error is not None:
            raise error
        return Outcome(
            seed,
            first.oracle if first else "",
            str(first) if first else "",
            world.engine.digest,
            world.engine.now,
            world.engine.events,
            sum(len(run.messages) + len(run.live) for run in world.truth.runs.values()),
            sum(ear.total for ear in world.truth.ears),
            dict(world.engine.counts),
            world.done,
            list(world.engine.lines) if first or keep_all else [],
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
