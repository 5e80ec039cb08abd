"""What must be true, each with a name. The first that is not ends the world."""

import re
from typing import TYPE_CHECKING, Any

from co2.plugin.parent import delivery_queue
from co2.protocol.relay import cursors
from co2.protocol.satellite import core as satellite_core
from co2.store import relay_log
from tests.simulation.hostile import check_hostile_bounds

if TYPE_CHECKING:
    from tests.simulation.engine import Engine
    from tests.simulation.truth import Ear, Run
    from tests.simulation.world import World

__all__ = ["Broken", "Oracles", "check_bounds", "check_drained", "check_history", "what_is_missing"]

SLACK = 192 * 1024
"""Bytes by which a bound may be passed: what comes in one piece."""


class Broken(AssertionError):
    """An oracle has fired.

    Attributes:
        oracle: its name.
    """

    def __init__(self, oracle: str, text: str) -> None:
        super().__init__(f"{oracle}: {text}")
        self.oracle = oracle


class Oracles:
    """Collects what is broken; the product's own nets for exceptions must not catch it."""

    def __init__(self, engine: "Engine") -> None:
        self.first: Broken | None = None
        self._engine = engine

    def broken(self, oracle: str, text: str) -> None:
        """An oracle fires."""
        if self.first is None:
            self.first = Broken(oracle, text)
            self._engine.trace(f"BROKEN {oracle}: {text}")


# ---- (a) nothing is lost in silence -------------------------------------------------------------------------


def what_is_missing(world: "World") -> None:
    """(a): what was sent while it had to come is delivered, a dead letter, or told as a gap; to every ear."""
    for ear in world.truth.ears:
        if not ear.satellite.up:
            continue
        for run in world.truth.runs.values():
            missing = _missing(world, ear, run)
            if missing:
                world.oracles.broken(
                    "a: nothing is lost in silence",
                    f"{ear.name} misses {len(missing)} of run {run.number} ({run.origin}): {missing[:8]}, "
                    f"in the log at {run.positions(missing[0])[:3]}; since {ear.since}, gaps {ear.gaps[-3:]}",
                )
                return


def _missing(world: "World", ear: "Ear", run: "Run") -> list[int]:
    satellite = ear.satellite
    if run.origin == satellite.origin and not ear.durable:
        since = ear.loaded_at if run is satellite.run else None
        siblings = True
    else:
        since = ear.saved if ear.saved is not None and ear.durable else ear.since
        siblings = False
    if since is None:
        return []
    heard = ear.ever[run.number] if ear.durable else ear.got[run.number]
    own = f"{run.origin}/{ear.plugin}"
    mine = run.origin == satellite.origin
    missing = []
    for number, message in enumerate(run.messages):
        if number in heard or message.time <= since or (mine and message.plugin == own):
            continue
        if not siblings and ear.is_excused_by_its_values(run, number, message.channel, world.relay.log.gone):
            continue
        if not ear.interests.wants_one(message.channel) or (run.number, number) in ear.given_up:
            continue
        if (siblings or run.is_safe(number)) and not _excused(world, ear, run, number, siblings):
            missing.append(number)
    return missing


def _excused(world: "World", ear: "Ear", run: "Run", number: int, siblings: bool) -> bool:
    """Tell whether a gap was told that covers a message."""
    for gap in ear.gaps:
        for reason in gap.reasons:
            if reason.startswith("the relay lost messages "):
                origin = reason.split()[-1].partition("@")[0]
                named = re.findall(r"(\d+) to (\d+)", reason)
                if origin == run.origin and any(int(first) <= number + 1 <= int(last) for first, last in named):
                    return True
            elif "were dropped" in reason:
                if siblings:
                    return True
            elif reason == "log replaced":
                if not _in_log(world, run, number):
                    return True
                # It was told so when the log went; numbers that came since make it a repeat (delivery.md).
                if world.truth.came_back and any(position > gap.after for _, position in run.positions(number)):
                    return True
            elif any(gap.after < position < gap.next for _, position in run.positions(number)):
                return True
        if len(gap.reasons) >= delivery_queue.MAX_REASONS:
            return True
    return False


def _in_log(world: "World", run: "Run", number: int) -> bool:
    key = (run.number, number)
    return any(world.history.get(position) == key for position in world.truth.positions_now(run, number))


# ---- (e) bounds ---------------------------------------------------------------------------------------------


def check_bounds(world: "World") -> None:
    """(e): nothing grows beyond its bound."""

    def check(what: str, size: int, bound: int) -> None:
        if size > bound + SLACK:
            world.oracles.broken("e: bounds", f"{what}: {size} bytes, the bound is {bound}")

    relay = world.relay
    # A read or a batch of entries comes as a whole; and what was made ready while the transport was filled is
    # written too.
    out = cursors.ROOM + max(cursors.CHUNK, cursors.MAX_ENTRY_BATCH)
    if relay.up:
        check("what waits for the log's disk", relay.log.backlog, relay_log.MAX_BACKLOG)
        check_hostile_bounds(world)
        for peer in relay.core.peers.values():
            check(f"what is out for {peer.origin}", peer.out_bytes, out)
    for ours, theirs in world.net.links.values():
        check(f"the transport of {ours.name}", ours.buffered, world.net.high + satellite_core.ROOM)
        check(f"the transport of {theirs.name}", theirs.buffered, world.net.high + 2 * out)
    for satellite in world.satellites:
        if not satellite.up:
            continue
        check(f"the outbox of {satellite.name}", satellite.outbox.bytes, world.outbox_max)
        for package in satellite.packages.values():
            check(
                f"what waits for {package.name}", package.ledger.delivery.waiting.bytes, delivery_queue.MAX_WAITING
            )
            check(f"the window of {package.name}", package.ledger.delivery.window.bytes, delivery_queue.WINDOW)


# ---- (f) liveness -------------------------------------------------------------------------------------------


def check_drained(world: "World", seconds: float) -> None:
    """(f): once all is healed, everything is drained in time."""
    if why := world.what_waits():
        world.oracles.broken("f: drained after healing", f"not within {seconds:g} s: {why}")
        return
    for ear in world.truth.ears:
        if ear.satellite.up and ear.since is None:
            world.oracles.broken("f: every package is subscribed", f"the relay has not heard of {ear.name}")
            return


# ---- (g) history --------------------------------------------------------------------------------------------


def check_history(world: "World") -> None:
    """(g): what the log shows is what was sent, each once, in order, and where it was put."""
    last: dict[Any, int] = {}
    for position, (run_number, number) in sorted(world.history.items()):
        run = world.truth.runs.get(run_number)
        if run is None or position not in world.truth.positions_now(run, number):
            world.oracles.broken(
                "g: the log shows what was put there",
                f"{run_number}/{number} at {position}, which nobody put there",
            )
            return
        if not run.epoch:
            continue
        if number <= last.get(run_number, -1):
            world.oracles.broken(
                "g: the log holds each message once, in order",
                f"{number} of run {run_number} after {last[run_number]}, at {position}",
            )
        last[run_number] = number
    for run in world.truth.runs.values():
        gone = int(world.relay.log._reader.read_meta("gone"))
        for number in range(len(run.messages)):
            if not run.epoch or number + 1 > run.acked or number + 1 <= run.in_doubt or world.truth.replaced:
                continue
            positions = world.truth.positions_now(run, number)
            if all(position > gone and position not in world.history for position in positions):
                world.oracles.broken(
                    "g: what was acknowledged is in the log",
                    f"message {number + 1} of {run.origin} was acknowledged; it was put at {positions}",
                )
                return
