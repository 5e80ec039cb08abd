"""A satellite's process: core, driver, outbox and books as they are, wired as ``satellite/link.py`` has it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from co2.host_id import HostId
from co2.plugin.parent.delivery import NETWORK
from co2.plugin.parent.delivery_queue import Envelope, GapRange, QueuedBatch
from co2.plugin.parent.snapshot_batches import left_out_words, snapshot_batches
from co2.protocol.satellite.core import Delivered, Ended, GapTold, SatelliteCore, SnapshotCame, Welcomed
from co2.protocol.satellite.driver import SatelliteDriver
from co2.protocol.satellite.events import Event
from co2.protocol.satellite.outbox import Outbox, Segment
from co2.protocol.wire import close_reasons
from co2.protocol.wire.batch import batch_count, make_batch
from co2.protocol.wire.channel_patterns import channels_of_frame
from co2.protocol.wire.plugin_frames.frames import Publish
from co2.satellite.link import BUSY_MAX, retry_delays
from co2.satellite.outbox_disk import TICK
from co2.satellite.satellite import APPLIED_TICKS, CURSOR_INTERVAL
from co2.server.express.frame_template import Outline
from co2.server.express.satellite_forecast import SatelliteForecast
from co2.store.cursors import Cursors
from co2.store.outbox_store import OutboxStore
from co2.store.sqlite import close_database
from tests.simulation.engine import Process, Timer
from tests.simulation.net import CONNECT_TIMEOUT, End
from tests.simulation.plugin_host import PackagePlan, SimPackage
from tests.simulation.truth import Ear, Message, Run

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["SimSatellite"]

_encode = msgspec.msgpack.Encoder().encode


class SimOutboxStore(OutboxStore):
    """The outbox's store, whose thread is events of the simulator."""

    satellite: "SimSatellite"
    busy = False

    def _wake(self) -> None:
        if not self.busy:
            self.busy = True
            satellite = self.satellite
            satellite.engine.after(satellite.world.sync_time(), satellite.process, self._turn)

    def _turn(self) -> None:
        self.busy = False
        self.turn()
        if self.something():
            self._wake()

    def end(self) -> None:
        for connection in (self._db, self._reader):
            close_database(connection, tidy=False)


class SimSatellite:
    """One satellite, through all its processes.

    Attributes:
        origin: of its state folder; a clone has the same.
        token: likewise; '' for a satellite of before tokens.
        ears: its receiving plugins.
        run: what it sends in the process of now.
    """

    def __init__(
        self, world: "World", name: str, number: int, plans: list[PackagePlan], origin: str, token: str
    ) -> None:
        self.token = token
        self.world = world
        self.engine = world.engine
        self.name = name
        self.origin = origin
        self.ip = f"10.0.1.{number}"
        self.port = 2004
        self.folder = world.folder / name
        self.folder.mkdir(exist_ok=True)
        self.plans = plans
        self.up = False
        self.process = Process(name)
        truth = world.truth
        self.ears = [
            Ear(
                truth,
                self,
                plan.name,
                plugin.name,
                plugin.channels,
                any(one.durable for one in plan.plugins),
                plugin.snapshot,
            )
            for plan in plans
            for plugin in plan.plugins
            if plugin.receives
        ]
        truth.ears += self.ears
        truth.satellites[self.ip] = self
        self.core: SatelliteCore
        self.outbox: Outbox
        self.run: Run
        self.packages: dict[str, SimPackage] = {}
        self._restored = self.was_restored = False

    @property
    def has_place(self) -> bool:
        """Whether it is up, and a place of a durable plugin is on its disk."""
        return self.up and any(ear.durable and ear.saved is not None for ear in self.ears)

    # ---- life ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start its process."""
        world, engine = self.world, self.engine
        self.process = Process(self.name)
        self.up = True
        epoch = world.dice.getrandbits(63) | 1
        self.run = world.truth.new_run(self.origin, epoch)
        self.run.of_before = not self.token
        self.outbox = Outbox(epoch, world.outbox_max, self._outbox_full, self._outbox_room, lambda: engine.now)
        self._paused = False
        self._watching: Timer | None = None
        self._store = SimOutboxStore.open(self.folder / "outbox.db", self._stored_in_thread)
        self._store.satellite = self
        self.outbox.found(self._store.left())
        if len(self.outbox):
            engine.count("a run begins with what an earlier one left")
        self._watch_acks()
        self.core = SatelliteCore(
            HostId(self.origin, self.ip, self.port), self.outbox, lambda: ([], []), self.token
        )
        self.forecast = SatelliteForecast(self.core, {}, lambda: None, lambda: None)
        self.core.remember_sent(wanted=True)
        self._cursors = Cursors.open(self.folder / "cursors.json")
        self.core.log_id, self.core.run = self._cursors.log_id, self._cursors.run
        self.core.receipts = self._cursors.receipts
        self._not_loaded = {plan.name for plan in self.plans} & self._cursors.positions.keys()
        for name in sorted(self._not_loaded):
            self.core.subscribe(name, durable=True, position=self._cursors.positions[name])
            self.core.fell_behind(name)
        self.driver: SatelliteDriver[End] = SatelliteDriver(
            self.core, handle=self._handle, join=self._joined, load=self._load
        )
        self._foreseen: tuple[Outline | None, bytes] = None, b""
        self._foreseen_receivers: list[str] = []
        self._delays = retry_delays(BUSY_MAX)
        self._retry_after = 0.0
        self._welcomed = False
        for ear in self.ears:
            place = self._cursors.positions.get(ear.package) if ear.durable else None
            ear.new_life(None if place is None else (self._cursors.log_id, place), restored=self._restored)
        self._restored = False
        world.truth.satellite_started(self)
        ears = {ear.plugin: ear for ear in self.ears}
        idle = {plugin.name: Ear(world.truth, self, plan.name, plugin.name, [], False, [])
                for plan in self.plans for plugin in plan.plugins if not plugin.receives}  # fmt: skip
        self.packages = {
            plan.name: SimPackage(
                self, plan, {one.name: ears.get(one.name) or idle[one.name] for one in plan.plugins}
            )
            for plan in self.plans
        }
        self._look_after_outbox()
        self._connect()
        engine.after(CURSOR_INTERVAL, self.process, self._keep_cursors, 1)
        for plan in self.plans:
            if plan.rate and world.sending:
                engine.after(world.dice.expovariate(plan.rate), self.process, self._send_some, plan)
        engine.trace(f"{self.name} up, {len(self.outbox)} messages wait")

    def _watch_acks(self) -> None:
        acknowledged, truth, origin = self.outbox.acknowledged, self.world.truth, self.origin

        def watched(epoch: int, seq: int) -> bool:
            truth.acked(origin, epoch, seq)
            return acknowledged(epoch, seq)

        self.outbox.acknowledged = watched  # type: ignore[method-assign]

    def kill(self) -> None:
        """End its process at once: its memory is lost, what is on disk stays."""
        if not self.up:
            return
        self.up = False
        self.process.alive = False
        self.run.alive = False
        for package in self.packages.values():
            package.dispose()
        if self._store.busy and self.world.dice.random() < 0.5:
            self._store.turn()  # it was on disk, and nobody was told
        self._store.end()
        self.world.net.vanished(self.process)
        self.engine.trace(f"{self.name} is killed")

    def dispose(self) -> None:
        """Let go of everything."""
        self.kill()

    def keep_copy(self, copy: Path) -> None:
        """Copy its state folder as a crash leaves it."""
        if copy.exists():
            shutil.rmtree(copy)
        shutil.copytree(self.folder, copy)

    def restore(self, copy: Path) -> None:
        """Take an older state folder; while it is down."""
        shutil.rmtree(self.folder)
        shutil.copytree(copy, self.folder)
        self._restored = self.was_restored = True
        # What is on its disk now, it need not be able to send any more.
        for run in self.world.truth.runs.values():
            if run.origin == self.origin and not run.alive:
                run.stored = 0

    # ---- sending ---------------------------------------------------------------------------------------

    def _send_some(self, plan: PackagePlan) -> None:
        world = self.world
        if not world.sending:
            return
        self.engine.after(world.dice.expovariate(plan.rate), self.process, self._send_some, plan)
        if self._paused:
            self.engine.count("a send waits for room in the outbox")
            return
        if world.budget <= 0:
            return
        dice = world.dice
        plugin = dice.choice(plan.plugins)
        live = plan.live and dice.random() < 0.3
        count = dice.choice((1, 1, 2, 5, dice.randint(1, 40)))
        world.budget -= count
        channels = [f"meter.{dice.randint(1, 2)}"] if live else world.channels_for(dice)
        self.send(plan.name, plugin.name, [(dice.choice(channels), world.fate()) for _ in range(count)], live=live)

    def send(
        self, package: str, plugin: str, messages: list[tuple[str, str | None]], *, live: bool = False
    ) -> None:
        """A plugin sends: channel and fate of each message; with the next numbers of this run."""
        run, world = self.run, self.world
        packed = []
        for channel, fate in messages:
            own = run.live if live else run.messages
            number = -1 - len(own) if live else len(own)
            own.append(Message(self.engine.now, f"{self.origin}/{plugin}", channel))
            message: dict[str, Any] = {"data": [run.number, number, world.padding()]}
            if channel:
                message["channel"] = channel
            if fate is not None:
                message["fate"] = fate
            packed.append(_encode(message))
        names = channels_of_frame({channel for channel, _ in messages})
        self._published(package, plugin, names, make_batch(packed), live)

    def _published(self, name: str, plugin: str, channels: list[str] | None, batch: bytes, live: bool) -> None:
        """As in ``Supervisor.published``: siblings at once, then the network."""
        host_id, frame, count = self.core.host_id, Publish(plugin, channels, batch, live), batch_count(batch)
        for other in self.packages.values():
            sender = plugin if other.name == name else ""
            if other.ledger.durable:
                continue
            if other.wants(channels, sender):
                envelope = Envelope(str(host_id), (host_id.ip, host_id.port), sender)
                other.deliver(name, QueuedBatch(envelope, batch, count))
        dropped = self.core.live_dropped
        if self.driver.wire is not None and not self.driver.wire.is_full and not live:
            self._foreseen = self.forecast.next_publish(name, plugin, channels), batch
        self.driver.publish(name, frame, count)
        if self.core.live_dropped > dropped:
            self.engine.count("live message dropped at its satellite")
        self._look_after_outbox()

    def _outbox_full(self) -> None:
        self.engine.count("outbox full")
        self._paused = True

    def _outbox_room(self) -> None:
        self._paused = False

    # ---- the outbox's disk: satellite/outbox_disk.py ---------------------------------------------------

    def _look_after_outbox(self) -> None:
        if self._watching is None:
            self._watching = self.engine.after(TICK, self.process, self._look)

    def _look(self) -> None:
        self._watching = None
        for segment in self.outbox.to_store():
            self.engine.count("outbox spills to disk")
            self._store.put(segment)
        if row := self.outbox.to_forget():
            self._store.forget(row)
        if len(self.outbox):
            self._look_after_outbox()

    def _stored_in_thread(self, segment: Segment, rows: tuple[int, int]) -> None:
        run = self.world.truth.run_of(self.origin, segment.epoch)
        if run is not None:
            run.stored = max(run.stored, segment.last)
        self.engine.after(0.0002, self.process, self._stored, segment, rows)

    def _stored(self, segment: Segment, rows: tuple[int, int]) -> None:
        self.outbox.stored(segment, rows)
        self._look_after_outbox()

    def _load(self, segment: Segment) -> None:
        self.engine.count("outbox read back from disk")
        self.engine.after(self.world.dice.uniform(0.0003, 0.01), self.process, self._loaded, segment, segment.rows)

    def _loaded(self, segment: Segment, rows: tuple[int, int]) -> None:
        lost = self.outbox.lost
        self.outbox.loaded(segment, self._store.load(rows))
        if self.outbox.lost > lost:
            self.world.oracles.broken("a: nothing is lost", f"{self.name}'s disk did not give back what it had")
        self.driver.flush()

    # ---- the link: satellite/link.py -------------------------------------------------------------------

    def _connect(self) -> None:
        self._retry_after = 0.0
        self.world.net.connect(self.process, self.name, self.ip, self._opened, self._not_opened)

    def _not_opened(self, why: str) -> None:
        self._try_again()

    def _try_again(self) -> None:
        delay = max(next(self._delays), self._retry_after)
        self.engine.after(delay, self.process, self._connect)

    def _opened(self, end: End) -> None:
        if end.closed:  # by the other side, before this one has heard that it is open
            self._try_again()
            return
        self._welcomed = False
        end.on_frames = lambda frames: self._received(end, frames)
        end.on_closed = lambda why: self._lost(end, why)
        end.on_room = self.driver.flush
        self.driver.connected(end)
        self.engine.trace(f"{self.name} says hello at {self.core.positions()}")
        self.driver.flush()
        self.engine.after(CONNECT_TIMEOUT, self.process, self._not_welcomed, end)

    def _not_welcomed(self, end: End) -> None:
        if self.driver.wire is end and not self._welcomed:
            self.engine.count("no Welcome in time")
            end.die("no Welcome in time")

    def _received(self, end: End, frames: list[bytes]) -> None:
        self.driver.received(self._foreseeing(frames))
        if self.core.state == "away":
            self._lost(end, "it has ended")

    def _foreseeing(self, frames: list[bytes]) -> Iterator[bytes]:
        """Yield frames; see that each does what was foreseen, while the driver processes it."""
        for data in frames:
            self._foreseen_receivers = self.world.foresight.at_satellite(self.forecast, data)
            yield data
            self._compare_with_foreseen(None)

    def _compare_with_foreseen(self, event: Event | None) -> None:
        foreseen, self._foreseen_receivers = self._foreseen_receivers, []
        if foreseen:
            self.world.foresight.satellite_has(event, foreseen)

    def _lost(self, end: End, why: str) -> None:
        if self.driver.wire is not end:
            return
        self.driver.lost(why)
        end.close()
        if self._welcomed:
            self._delays = retry_delays(BUSY_MAX)
        self._try_again()

    def _joined(self, frames: list[bytes]) -> list[bytes]:
        """Return frames to write, after a look at whether they are those that were foreseen."""
        self.world.foresight.satellite_wrote(*self._foreseen, frames)
        self._foreseen = None, b""
        return frames

    def _handle(self, event: Event) -> None:
        self._compare_with_foreseen(event)
        match event:
            case Delivered() as delivered:
                if delivered.skip:
                    self.engine.count("part of a frame skipped")
                for package in delivered.packages:
                    if not self._deliver(package, delivered):
                        self.engine.count("package falls behind")
                        self.core.fell_behind(package)
            case GapTold(packages, gap):
                self.engine.trace(f"{self.name} {packages} gap {gap.after}-{gap.next}: {gap.reason}")
                for package in packages:
                    missing = GapRange(gap.after, gap.next + 1, (gap.reason,), 0, self.core.log_id)
                    self.packages[package].gap(NETWORK, missing)
            case SnapshotCame(package, values, left_out):
                self.engine.count("snapshot given")
                self.engine.trace(f"{self.name}/{package} begins with {len(values)} values, {left_out} left out")
                self._begin(package, values, left_out)
            case Welcomed(welcome, other_log):
                self._welcomed = True
                self.engine.trace(f"{self.name} welcome at {welcome.position} {welcome.acks}")
                if other_log:
                    self.engine.count("another log than before")
                    for ear in self.ears:
                        if ear.floor is not None:
                            ear.floor = (welcome.log_id, 1)
                self.world.truth.welcomed(self, welcome.log_id, welcome.position)
            case Ended(reason, text, retry_after):
                self._retry_after = retry_after
                self.engine.trace(f"{self.name} link ended: {reason} {text}")
                if reason and reason not in _FROM_RELAY:
                    self.engine.count(f"goodbye of a satellite: {reason}")

    def _begin(self, name: str, values: Any, left_out: int) -> None:
        self._remember_sent()
        position = self.core._readers[name].position or 0
        for ear in self.ears:
            if ear.package == name:
                ear.began_with_values(self.core.log_id, position)
        package = self.packages.get(name)
        if package is None or not package.wants(None):
            return
        has_room = True
        for queued in snapshot_batches(name, values, self.origin, times=False):
            has_room = package.deliver_from_network(queued)
        if left_out:
            package.gap(NETWORK, GapRange(reasons=(left_out_words(left_out),)))
        if not has_room:
            self.core.fell_behind(name)

    def _deliver(self, name: str, delivered: Delivered) -> bool:
        package = self.packages.get(name)
        if package is None or not package.wants(None):
            return True
        frame, skip, count = delivered.frame, delivered.skip, delivered.count
        own = frame.host_id.partition("@")[0] == self.origin and frame.sender == name
        envelope = Envelope(frame.host_id, frame.client_address, frame.plugin if own else "")
        self.engine.trace(
            f"{self.name}/{name} {frame.position}+{count} of {frame.host_id[:6]} {frame.seq} skip {skip}"
        )
        position = frame.position if frame.package else 0
        if package.ledger.durable and frame.package:
            last = frame.seq + count - 1
            self.world.truth.given_to_durable(
                f"{self.name}/{name}", frame.host_id.partition("@")[0], frame.epoch, last
            )
        return package.deliver_from_network(
            QueuedBatch(envelope, frame.batch, count, skip, position, self.core.log_id)
        )

    def has_room(self, name: str) -> None:
        """A package that could take no more has room again."""
        self.core.catch_up(name)
        self.driver.flush()

    # ---- packages: satellite/satellite.py --------------------------------------------------------------

    def methods_changed(self, package: SimPackage) -> None:
        """A package has loaded for the first time."""
        core = self.core
        for ear in self.ears:
            if ear.package == package.name:
                ear.loaded_at = self.engine.now
        for one in self.packages.values():
            receivers = [plugin for plugin in one.ledger.plugins if plugin.receives]
            if receivers:
                everything = any(not plugin.channels for plugin in receivers)
                channels = sorted({channel for plugin in receivers for channel in plugin.channels})
                durable = one.ledger.durable
                snapshot = sorted({pattern for plugin in receivers for pattern in plugin.snapshot})
                core.subscribe(one.name, None if everything else channels, durable=durable, snapshot=snapshot)
                if one.name in self._not_loaded:
                    self._not_loaded.discard(one.name)
                    core.catch_up(one.name)
                if core.state == "open" and core._readers[one.name].wish is None:
                    for ear in self.ears:
                        if ear.package == one.name:
                            ear.begins(core.log_id, core.live_position)
            elif one.state != "starting":
                core.unsubscribe(one.name)
        self._remember_sent()
        core.names_changed()
        self.driver.flush()

    def _remember_sent(self) -> None:
        starting = any(package.state == "starting" for package in self.packages.values())
        self.core.remember_sent(wanted=starting or self.core.waits_for_values)

    def _keep_cursors(self, tick: int) -> None:
        self.engine.after(CURSOR_INTERVAL, self.process, self._keep_cursors, tick + 1)
        core = self.core
        if tick % APPLIED_TICKS == 0:
            core.tell_applied()
            self.driver.flush()
        now = (core.log_id, core.run, self._positions())
        if core.state == "open" and self._cursors.differ(*now):
            self.engine.after(self.world.sync_time(), self.process, self._save_cursors, *now)

    def _save_cursors(self, log_id: str, run: str, positions: dict[str, int]) -> None:
        self._cursors.save(log_id, run, positions, self.core.receipts)
        for ear in self.ears:
            if ear.durable and ear.package in positions:
                ear.place_saved()

    def _positions(self) -> dict[str, int]:
        core = self.core
        own = {
            package.name: position
            for package in self.packages.values()
            if package.ledger.durable and (position := package.ledger.position(core.log_id))
        }
        return {**core.durable_beginnings(), **own}

    def what_waits(self) -> str:
        """Give what is not done yet, '' for nothing."""
        wire = self.driver.wire
        if self.core.state != "open" or wire is None or not wire.works:
            return "no link"
        if len(self.outbox) or wire.buffered:
            return f"{len(self.outbox)} in the outbox, {wire.buffered} in the transport"
        for package in self.packages.values():
            delivery = package.ledger.delivery
            if package.state != "running" or delivery.waiting.bytes or delivery.window.bytes:
                return f"{package.name} {package.state}, {package.ledger.held} held"
        for reader in self.core._readers.values():
            if reader.state != "current":
                return f"{reader.package} {reader.state} at {reader.position}"
        return ""


_FROM_RELAY = {
    close_reasons.STOPPING,
    close_reasons.STORAGE,
    close_reasons.TAKEN_OVER,
    close_reasons.CLONED,
    close_reasons.LOG_REPLACED,
    close_reasons.OUT_OF_ORDER,
}
