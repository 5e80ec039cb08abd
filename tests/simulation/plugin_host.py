"""A plugin package: the books of its parent, and a child with the product's own receiving in simulated time."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from co2.plugin.channels import snapshot_patterns
from co2.plugin.child.progress import ProgressWords
from co2.plugin.child.receiver import Receiver
from co2.plugin.parent.delivery_queue import GapRange, QueuedBatch
from co2.plugin.parent.restart_policy import backoff
from co2.plugin.parent.watchdog import Slow
from co2.protocol.wire.plugin_frames.frames import Deliver, Gap, PluginInfo, Progress, Start
from tests.simulation.ledger import Ledger
from tests.simulation.truth import Ear

if TYPE_CHECKING:
    from tests.simulation.satellite_host import SimSatellite

__all__ = ["PackagePlan", "PluginPlan", "SimPackage"]

PIPE = 0.00005
REPORT = 0.02
PARK_MARGIN = 62.0
"""Seconds between three deaths and the next: five within a minute would park the package."""


class PluginPlan:
    """What a plugin is like: fixed for a world.

    Attributes:
        name: ``<package>.m.<class>``.
        receives: whether it has ``receive``.
        channels: patterns, empty for everything.
        durable: as of the class.
        snapshot: it first gets the last values.
        cost: seconds that ``receive`` takes for a message.
    """

    def __init__(
        self, name: str, *, receives: bool, channels: list[str], durable: bool, cost: float, snapshot: bool = False
    ) -> None:
        self.name = name
        self.receives = receives
        self.channels = channels
        self.durable = durable
        self.cost = cost
        self.snapshot = snapshot_patterns(snapshot, channels)

    @property
    def info(self) -> PluginInfo:
        return PluginInfo(
            self.name, self.name, self.receives, "", self.channels, self.durable, snapshot=self.snapshot
        )


class PackagePlan:
    """A package: its name, plugins, and how much it sends.

    Attributes:
        rate: batches per second, 0 for none.
    """

    def __init__(self, name: str, plugins: list[PluginPlan], rate: float, live: bool) -> None:
        self.name = name
        self.plugins = plugins
        self.rate = rate
        self.live = live


class SimActor:
    """One plugin in its thread, and the ground that its receiver stands on."""

    def __init__(self, child: "SimChild", plan: PluginPlan, index: int, ear: Ear) -> None:
        self.name = plan.name
        self.jobs: deque[Callable[[], None]] = deque()
        self.plan = plan
        self.child = child
        self.ear = ear
        self.mail: deque[Deliver | Gap] = deque()
        self.busy = False
        self.calls = 0
        self.receiver = Receiver(
            self,  # type: ignore[arg-type]
            plan.channels,
            child.words.words,
            2 * index,
            snapshot=plan.snapshot,
        )

    # the plugin

    def receive(self, message: dict[str, Any]) -> None:
        """What the plugin's author wrote: here it writes down what it gets, and may die or hang."""
        child = self.child
        self.calls += 1
        self.ear.heard(message)
        what = child.package.fate(self, message)
        if what == "raise":
            self.ear.refused(message)
            raise ValueError("it does not like that")
        if what is not None:
            self.ear.died_in(message)
            child.stop_here(what, self)

    def gap(self, gap: dict[str, Any]) -> None:
        self.ear.told(gap)

    # the ground

    def run_jobs(self) -> bool:
        self.jobs.clear()
        return False

    def report(self) -> None:
        """It is told when the frame is done."""

    def finished(self, result: Any) -> Any:
        return result

    def give_up(self, frame: Deliver, message: bytes, error: BaseException) -> None:
        if not isinstance(error, ValueError) or "does not like" not in str(error):
            raise error
        self.child.package.engine.count("dead letter: receive raised")

    def complain(self, what: str, error: BaseException) -> None:
        """The log of the plugin."""

    # its thread

    def take(self, frame: Deliver | Gap) -> None:
        self.mail.append(frame)
        if not self.busy:
            self.step()

    def step(self) -> None:
        self.busy = False
        child = self.child
        if not self.mail or child.ended or child.dies or child.stands:
            return
        self.busy = True
        frame = self.mail.popleft()
        self.calls = 0
        child.plan_death(self, frame)
        self.receiver.take(self, frame)  # type: ignore[arg-type]  # a plugin as far as a receiver knows
        cost = self.calls * self.plan.cost + 0.00002
        if child.left is not None and child.left[2] is self:
            # What the receiver wrote after the moment of the death was never written.
            index = 2 * child.package.plan.plugins.index(self.plan)
            child.words.words[index] = child.left[0][index]
            child.package.engine.after(cost, child.package.process, child.stopped, child)
            return
        child.package.engine.after(cost, child.package.process, self.stepped)

    def stepped(self) -> None:
        self.child.report()
        self.step()


class SimChild:
    """One plugin host."""

    def __init__(self, package: "SimPackage") -> None:
        self.package = package
        self.words = ProgressWords()
        self.ended = False
        self.hung = self.stands = False
        self.left: tuple[list[int], str, SimActor] | None = None
        self.between = -1
        self._reporting = False
        plan = package.plan
        self.actors = [
            SimActor(self, one, index, package.ears[one.name]) for index, one in enumerate(plan.plugins)
        ]

    @property
    def dies(self) -> bool:
        """Whether its process does nothing more."""
        return self.left is not None and self.left[1] == "die"

    def take(self, frame: Start | Deliver | Gap) -> None:
        """A frame has come from the parent."""
        if self.ended:
            return
        for actor in self.actors:
            if isinstance(frame, Start):
                progress = frame.progress.get(actor.name)
                if progress is not None:
                    actor.receiver.start(Progress(progress.done, progress.inside))
            elif actor.plan.receives:
                actor.take(frame)

    def go_on(self) -> None:
        """It stood still, and does no more."""
        self.stands = False
        for actor in self.actors:
            if not actor.busy:
                actor.step()

    def plan_death(self, actor: SimActor, frame: Deliver | Gap) -> None:
        """A kill that is due comes in the middle of what is taken now."""
        package = self.package
        if package.kill_due and isinstance(frame, Deliver):
            package.kill_due = False
            package.die_after = package.world.dice.randint(0, 12)

    def stop_here(self, how: str, actor: SimActor) -> None:
        """The process ends, or hangs, inside of the message of now: nothing is written any more."""
        self.left = (self.words.words[:].tolist(), how, actor)
        actor.jobs.append(lambda: None)

    def stopped(self, _child: "SimChild") -> None:
        """What was left is what the parent finds."""
        assert self.left is not None
        words, how, actor = self.left
        index = 2 * self.package.plan.plugins.index(actor.plan)
        package = self.package
        if how != "hang":
            package.child_ended(self, None)
            return
        self.hung = True
        inside = words[index] // 2
        slow = Slow(actor.name, inside, 0, package.world.receive_deadline, True)
        package.engine.after(package.world.receive_deadline, package.process, package.child_ended, self, slow)

    def report(self) -> None:
        """Say, a moment later, where all plugins stand."""
        if not self._reporting and not self.ended:
            self._reporting = True
            self.package.engine.after(
                REPORT * self.package.world.dice.random(), self.package.process, self._report
            )

    def _report(self) -> None:
        self._reporting = False
        if self.ended or self.hung:
            return
        done = [actor.receiver.done for actor in self.actors if actor.plan.receives]
        if done:
            self.package.applied(min(done))


class SimPackage:
    """One package in its parent: what ``plugin/parent/package.py`` does around its ledger."""

    def __init__(self, satellite: "SimSatellite", plan: PackagePlan, ears: dict[str, Ear]) -> None:
        self.satellite = satellite
        self.world = satellite.world
        self.engine = satellite.engine
        self.process = satellite.process
        self.plan = plan
        self.name = plan.name
        self.ears = ears
        self.ledger = Ledger(lambda: self.satellite.has_room(self.name))
        self.state = "starting"
        self.child: SimChild | None = None
        self.kill_due = False
        self.die_after = -1
        self._delays = backoff()
        self._deaths: deque[float] = deque()
        self._start_child()

    def _start_child(self) -> None:
        self.child = child = SimChild(self)
        for ear in self.ears.values():
            ear.child_started()
        self.engine.after(self.world.dice.uniform(0.03, 0.4), self.process, self._loaded, child)

    def _loaded(self, child: SimChild) -> None:
        if child.ended:
            return
        changed = not self.ledger.plugins
        self.state = "running"
        self.ledger.begin([plugin.info for plugin in self.plan.plugins], lambda frame: self._send(child, frame))
        if changed:
            self.satellite.methods_changed(self)

    def _send(self, child: SimChild, frame: Any) -> None:
        self.engine.after(PIPE, self.process, child.take, frame)

    # messages

    def wants(self, channels: Any, sender: str = "") -> bool:
        return self.state != "parked" and self.ledger.wants(channels, sender)

    def deliver(self, source: str, queued: QueuedBatch) -> None:
        self.ledger.delivery.deliver(source, queued)

    def deliver_from_network(self, queued: QueuedBatch) -> bool:
        return self.ledger.delivery.deliver_from_network(queued)

    def gap(self, source: str, gap: GapRange) -> None:
        self.ledger.delivery.gap(source, gap)

    def applied(self, last: int) -> None:
        self.ledger.applied(last)

    # deaths

    def may_die(self) -> bool:
        """Tell whether one more death does not park it."""
        now = self.engine.now
        while self._deaths and self._deaths[0] < now - PARK_MARGIN:
            self._deaths.popleft()
        return len(self._deaths) < 2

    def kill(self, in_a_message: bool) -> bool:
        """Kill its child: in the next message that it takes, or now."""
        if self.child is None or self.child.ended or self.child.hung or not self.may_die():
            return False
        if not self.ledger.plugins:
            return False  # one that dies while it loads for the first time has failed, and does not run
        if in_a_message:
            self.kill_due = True
            self._deaths.append(self.engine.now)
            return True
        if self.child.left is not None:
            return False
        self._deaths.append(self.engine.now)
        self.child_ended(self.child, None)
        return True

    def stand(self, seconds: float) -> bool:
        """Have its child stand still for a while."""
        child = self.child
        if child is None or child.stands:
            return False
        child.stands = True
        self.engine.after(seconds, self.process, child.go_on)
        return True

    def fate(self, actor: SimActor, message: dict[str, Any]) -> str | None:
        """What becomes of a message, besides being taken: ``die``, ``hang``, ``raise`` or nothing."""
        if self.die_after > 0:
            self.die_after -= 1
        elif self.die_after == 0:
            self.die_after = -1
            self.engine.count("died in the middle of a batch")
            return "die"
        fate = message.get("fate")
        if fate is None or fate == "raise":
            return fate
        # A poison message counts once towards parking, however often it kills.
        if "repeat" in message or (self.world.sending and self.may_die()):
            if "repeat" not in message:
                self._deaths.append(self.engine.now)
            self.engine.count(f"plugin: {fate}")
            return str(fate)
        return None

    def child_ended(self, child: SimChild, too_slow: Slow | None) -> None:
        """Its child is no more."""
        if child.ended:
            return
        child.ended = True
        self.child = None
        self.die_after = -1
        loaded = self.state == "running"
        self.state = "restarting"
        self.ledger.ended(child.words if loaded else None)
        given_up = self.ledger.died(self.engine.now, too_slow)
        for letter in given_up:
            self.engine.count("dead letter: given up")
            self.engine.trace(f"{self.satellite.name}/{letter.plugin} gives a message up")
            self.ears[letter.plugin].gave_up(letter.message)
        self.engine.trace(f"{self.satellite.name}/{self.name}: its child has ended")
        if self.ledger.park(self.engine.now):
            self.state = "parked"
            self.world.oracles.broken("parked", f"{self.satellite.name}/{self.name} was parked")
            return
        self.engine.after(next(self._delays), self.process, self._start_child)

    def dispose(self) -> None:
        """The process is gone."""
        if self.child is not None:
            self.child.ended = True
