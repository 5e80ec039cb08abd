"""What goes wrong, and when: each seed draws which faults there are, and a row of moments for them."""

import random
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.satellite_host import SimSatellite
    from tests.simulation.world import World

__all__ = ["FAULTS", "Plan"]


NEW, OLDER = "relay with a new state folder", "relay with an older state folder"

STILL = 60.0
"""Seconds that plugins stand still at most where their satellite is to be killed meanwhile."""


class Plan:
    """The faults of a world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        dice = world.dice
        self.duration = dice.choice((6.0, 15.0, 30.0, 60.0))
        names = sorted(FAULTS)
        self.on = [name for name in names if dice.random() < dice.choice((0.15, 0.4))]
        if OLDER in self.on:
            self.on = [name for name in self.on if name != NEW]  # one of them is enough to tell about
        self.often = dice.choice((0.3, 1.0, 3.0))
        self._relay_copy: Path | None = None
        self._away: list[str] = []
        self._satellite_copies: dict[str, Path] = {}
        self._clone: SimSatellite | None = None
        self._cuts_power = dice.random() < 0.5
        self._clock_dice = random.Random(f"co2 clock {world.seed}")
        self._new_dice = random.Random(f"co2 new state {world.seed}")
        self._between_dice = random.Random(f"co2 another folder in between {world.seed}")
        self._is_to_tell = False

    def begin(self) -> None:
        """Set the first one."""
        if self.on:
            self.world.engine.after(1.0 + self.world.dice.random(), None, self._next)

    def _next(self) -> None:
        world = self.world
        if not world.sending:
            return
        name = world.dice.choice(self.on)
        world.engine.trace(f"FAULT {name}")
        if FAULTS[name](self):
            world.done[name] = world.done.get(name, 0) + 1
        world.engine.after(world.dice.expovariate(1 / (3.0 * self.often)), None, self._next)

    # ---- helpers ---------------------------------------------------------------------------------------

    def _satellite(self) -> "SimSatellite":
        return self.world.dice.choice([one for one in self.world.satellites if one is not self._clone])

    def _relay_soon(self) -> None:
        world = self.world
        world.engine.after(world.dice.choice((0.05, 0.3, 2.0, 10.0)) * world.dice.random(), None, self._relay_up)

    def _relay_up(self) -> None:
        if not self.world.relay.up and self.world.sending:
            if self._clock_dice.random() < 0.25:
                self._jump(self._clock_dice)
                self.world.engine.count("wall clock jumps while the relay is down")
            self._start_relay()

    def _start_relay(self) -> None:
        relay = self.world.relay
        relay.disk.room, relay.disk.sync_fails = None, False
        relay.exit_wanted = False
        relay.start()

    def _satellite_soon(self, satellite: "SimSatellite") -> None:
        world = self.world
        world.engine.after(world.dice.choice((0.1, 1.0, 8.0)), None, self._satellite_up, satellite)

    def _satellite_up(self, satellite: "SimSatellite") -> None:
        if not satellite.up and self.world.sending:
            satellite.start()

    # ---- the relay -------------------------------------------------------------------------------------

    def kill_relay(self) -> bool:
        if not self.world.relay.up:
            return False
        self.world.relay.end("kill")
        self._relay_soon()
        return True

    def cut_power(self) -> bool:
        if not self.world.relay.up:
            return False
        self.world.relay.end("")
        self._relay_soon()
        return True

    def stop_relay(self) -> bool:
        relay = self.world.relay
        if not relay.up or relay.process.standing or relay.disk.room is not None or relay.disk.sync_fails:
            return False
        relay.stop()
        self._relay_soon()
        return True

    def new_state(self) -> bool:
        if not self.world.relay.up or self._is_to_tell:
            return False
        durable = [one for one in self.world.satellites if one is not self._clone and one.has_place]
        if durable and self._new_dice.random() < 0.6:
            self._forget_before_it_is_told(self._new_dice.choice(durable))
        else:
            self._replace_state()
        return True

    def _replace_state(self) -> None:
        relay = self.world.relay
        relay.end("kill")
        relay.change_disk(self.world.copy_folder())
        self.world.truth.state_replaced()
        self._relay_soon()

    def _forget_before_it_is_told(self, satellite: "SimSatellite") -> None:
        """Replace the state while plugins of a satellite stand still; kill it once it knows, and they do not.

        For the rest of the world there is no other new state: its gap would stand for this one's, too.
        """
        self._is_to_tell = True
        for package in satellite.packages.values():
            package.stand(STILL)
        self.world.engine.after(self._new_dice.uniform(0.5, 2.0), None, self._replace_behind, satellite)

    def _replace_behind(self, satellite: "SimSatellite") -> None:
        if not self.world.sending:
            return
        before = self.world.relay.log.log_id
        self._replace_state()
        self._kill_when_it_knows(satellite, before, self._new_dice.uniform(0.7, 3.0))

    def _kill_when_it_knows(self, satellite: "SimSatellite", before: str, later: float) -> None:
        """Kill a satellite so many seconds after it was told that the log is another."""
        core, engine = satellite.core, self.world.engine
        if satellite.up and core.state == "open" and core.log_id != before:
            engine.after(later, None, self._kill, satellite)
        elif self.world.sending:
            engine.after(0.1, None, self._kill_when_it_knows, satellite, before, later)

    def older_state(self) -> bool:
        """Keep a copy first; put it back the next time. Once: see "What it does not show" in the docs."""
        relay, world = self.world.relay, self.world
        if not relay.up or world.truth.replaced:
            return False
        relay.end("kill")
        copy, self._relay_copy = self._relay_copy, None
        if copy is None:
            self._relay_copy = world.copy_folder()
            copy_tree(relay.folder, self._relay_copy)
            if world.dice.random() < 0.5:
                # Who hears is away until it is put back: so nobody can know that it was, but who only sends.
                self._away = [one.name for one in world.satellites if one.ears]
                for name in self._away:
                    world.net.partitioned.add(name)
                    world.net.cut(name)
        elif self._between_dice.random() < 0.5:
            self._replace_state()
            world.truth.came_back = True
            world.engine.after(self._between_dice.uniform(2.0, 12.0), None, self._put_back, copy)
            return True
        else:
            self._put_back(copy)
            return True
        self._relay_soon()
        return False

    def _put_back(self, copy: Path) -> None:
        """Have the relay start with an older copy of its state folder, maybe after another folder."""
        world = self.world
        world.engine.after(8.0, None, world.net.partitioned.difference_update, self._away)
        if not world.sending:
            return
        world.relay.end("kill")
        world.relay.change_disk(copy)
        world.truth.state_replaced()
        self._relay_soon()

    def disk_error(self) -> bool:
        self.world.relay.disk.sync_fails = True
        self.world.engine.after(5.0, None, self._disk_is_sound)
        return True

    def _disk_is_sound(self) -> None:
        relay = self.world.relay
        relay.disk.sync_fails = False
        if relay.exit_wanted and not relay.up:
            self._relay_up()

    def disk_full(self) -> bool:
        world = self.world
        world.relay.disk.room = world.dice.choice((0, 50_000))
        world.engine.after(world.dice.uniform(0.5, 8.0), None, self._disk_has_room)
        return True

    def _disk_has_room(self) -> None:
        self.world.relay.disk.room = None

    def stand_relay(self) -> bool:
        return self._stand(self.world.relay.process) if self.world.relay.up else False

    def _stand(self, process: object) -> bool:
        world = self.world
        if process.standing or not process.alive:  # type: ignore[attr-defined]
            return False
        world.engine.stand(process)  # type: ignore[arg-type]
        seconds = world.dice.choice((0.3, 3.0, 20.0, 60.0)) * world.dice.random()
        for ours, theirs in world.net.links.values():
            for end in (ours, theirs):
                if end.process is process:
                    end.other.watch()
        world.engine.after(seconds, None, world.engine.go_on, process)
        return True

    # ---- satellites ------------------------------------------------------------------------------------

    def kill_satellite(self) -> bool:
        return self._kill(self._satellite())

    def _kill(self, satellite: "SimSatellite") -> bool:
        if not satellite.up or not self.world.sending:
            return False
        satellite.kill()
        self._satellite_soon(satellite)
        return True

    def older_satellite(self) -> bool:
        """Keep a copy first; put it back the next time."""
        satellite = self._satellite()
        if not satellite.up:
            return False
        satellite.kill()
        copy = self._satellite_copies.pop(satellite.name, None)
        if copy is None:
            self._satellite_copies[satellite.name] = self.world.copy_folder()
            satellite.keep_copy(self._satellite_copies[satellite.name])
        else:
            satellite.restore(copy)
        self._satellite_soon(satellite)
        return copy is not None

    def clone(self) -> bool:
        world = self.world
        if self._clone is not None:
            return False
        original = self._satellite()
        copy = world.copy_folder()
        original.keep_copy(copy)
        self._clone = world.add_satellite(original.plans, clone_of=original, copy=copy)
        return True

    def change_port(self) -> bool:
        satellite = self._satellite()
        if not satellite.up:
            return False
        satellite.kill()
        satellite.port += 1
        self._satellite_soon(satellite)
        return True

    def stand_satellite(self) -> bool:
        return self._stand(self._satellite().process)

    def kill_child(self) -> bool:
        satellite = self._satellite()
        package = self.world.dice.choice(list(satellite.packages.values()))
        return satellite.up and package.kill(in_a_message=self.world.dice.random() < 0.8)

    def stand_child(self) -> bool:
        satellite = self._satellite()
        package = self.world.dice.choice(list(satellite.packages.values()))
        return satellite.up and package.stand(self.world.dice.choice((0.5, 3.0, 20.0)) * self.world.dice.random())

    # ---- the net ---------------------------------------------------------------------------------------

    def cut_link(self) -> bool:
        return self.world.net.cut(self._satellite().name)

    def cut_all(self) -> bool:
        return sum(self.world.net.cut(satellite.name) for satellite in self.world.satellites) > 0

    def _hold(self, seconds: float, *, both: bool) -> bool:
        pair = self.world.net.links.get(self._satellite().name)
        if pair is None or pair[0].closed:
            return False
        until = self.world.engine.now + seconds
        for end in pair if both else [self.world.dice.choice(pair)]:
            end.hold(until)
        return True

    def clog(self) -> bool:
        return self._hold(self.world.dice.uniform(0.1, 8.0), both=False)

    def half_open(self) -> bool:
        return self._hold(40.0, both=self.world.dice.random() < 0.7)

    def partition(self) -> bool:
        world = self.world
        names = [one.name for one in world.satellites if world.dice.random() < 0.5]
        seconds = world.dice.choice((2.0, 12.0, 40.0)) * world.dice.random()
        for name in names:
            world.net.partitioned.add(name)
            for end in world.net.links.get(name, ()):
                end.hold(world.engine.now + seconds)
        world.engine.after(seconds, None, world.net.partitioned.difference_update, names)
        return bool(names)

    def wall_clock(self) -> bool:
        self._jump(self.world.dice)
        return True

    def _jump(self, dice: random.Random) -> None:
        self.world.engine.wall_offset += dice.choice((-1, 1)) * dice.choice((3.0, 3600.0, 3e8))

    # ---- the end ---------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Nothing more goes wrong: all that is down comes up, all that is held goes on."""
        world = self.world
        if world.oracles.first is not None:
            return
        world.sending = False
        world.engine.trace("HEAL")
        if world.hostile is not None:
            world.hostile.stop()
        world.relay.disk.room, world.relay.disk.sync_fails = None, False
        world.net.release()
        if self._clone is not None:
            self._clone.kill()
            self._clone.run.stored = 0  # its disk is not used any more
        for process in [world.relay.process, *(satellite.process for satellite in world.satellites)]:
            if process.standing:
                world.engine.go_on(process)
        if not world.relay.up:
            self._start_relay()
        for satellite in world.satellites:
            if not satellite.up and satellite is not self._clone:
                satellite.start()
        world.engine.after(7.0, None, self._relay_must_be_up)

    def _relay_must_be_up(self) -> None:
        # It may have ended by itself, by an error of its disk just before.
        if not self.world.relay.up:
            self._start_relay()


def copy_tree(source: Path, target: Path) -> None:
    """Copy a state folder."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


FAULTS = {
    "a child killed": Plan.kill_child,
    "a child stands still": Plan.stand_child,
    "a connection cut": Plan.cut_link,
    "a clogged link": Plan.clog,
    "a half-open link": Plan.half_open,
    "a partition": Plan.partition,
    "all connections cut": Plan.cut_all,
    "disk error": Plan.disk_error,
    "disk full": Plan.disk_full,
    "relay killed": Plan.kill_relay,
    "relay stands still": Plan.stand_relay,
    "relay stopped": Plan.stop_relay,
    NEW: Plan.new_state,
    OLDER: Plan.older_state,
    "relay's power cut": Plan.cut_power,
    "satellite killed": Plan.kill_satellite,
    "satellite stands still": Plan.stand_satellite,
    "satellite with an older state folder": Plan.older_satellite,
    "satellite with another port": Plan.change_port,
    "two clones": Plan.clone,
    "wall clock jumps": Plan.wall_clock,
}
"""What can go wrong, by name."""
