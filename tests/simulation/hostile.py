"""A member that means harm: it says what no satellite would. Whatever it claims must concern only itself."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from co2.protocol.relay import losses, origins
from co2.protocol.relay.core import ASKED_AT_ONCE, ASKED_BYTES, ASKED_PATTERNS
from co2.protocol.relay.receipts import ReceiptKey
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.checksum import crc32
from co2.protocol.wire.link_frames import (
    Applied,
    Hello,
    Interest,
    Publish,
    Receipt,
    Replay,
    Subscription,
    Welcome,
    decode_relay_frame,
    encode_link_frame,
)
from co2.relay.brake import ASK_BURST, ASK_RATE, Brake
from co2.store import log_file
from co2.store.relay_log import MARKS_SLACK, MAX_EPOCHS_OF_ONE
from tests.simulation.engine import Process

if TYPE_CHECKING:
    from co2.protocol.relay.cursors import Peer
    from tests.simulation.world import World

__all__ = ["CHANCE", "Hostile", "check_hostile_bounds"]

CHANCE = 0.4
"""Of a world to have one."""

MAX_LINKS = 5
"""That it has at a time."""

FLOOD = 20
"""Frames that it says at once."""

MUCH = 30
"""Times as many that it says now and then: more than it may ask for."""


@dataclass(slots=True)
class _Asking:
    """What one of its links has asked for, as ``relay/links.py`` has it.

    Attributes:
        brake: of the link.
        since: when it began to ask.
        taken: what the relay has taken, by what it costs.
        waiting: frames that it has not taken yet, each with what it costs.
    """

    brake: Brake
    since: float
    taken: int = 0
    waiting: list[tuple[bytes, int]] = field(default_factory=list)


class _Mouth:
    """Stands where the relay has the end of a connection: keeps what is written."""

    def __init__(self, look: Callable[[Any], None]) -> None:
        self._look = look
        self.frames: list[Any] = []
        self.reading = True
        self.closed = False

    def write(self, frames: list[bytes]) -> None:
        for data in frames:
            frame = decode_relay_frame(data)
            self._look(frame)
            self.frames.append(frame)
        del self.frames[:-50]

    def read_again(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True


class Hostile:
    """Acts every now and then, with dice of its own, so that a world without it stays as it is."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.engine = world.engine
        self.dice = random.Random(f"co2 hostile {world.seed}")
        self.process = Process("hostile")
        self.ip = "10.0.3.1"
        self._links: list[tuple[Peer, _Mouth]] = []
        self._asking: dict[Peer, _Asking] = {}
        self._flood_dice = random.Random(f"co2 flood {world.seed}")
        self._receipt: Receipt | None = None
        self._often = self.dice.choice((0.3, 2.0))
        self._next()

    def stop(self) -> None:
        """Leave, and do no more."""
        self.process.alive = False
        relay = self.world.relay
        if relay.up:
            for peer, _ in self._links:
                relay.core.lost(peer, "it has left")
                relay.wires.pop(peer, None)
            relay.driver.flush()

    def _next(self) -> None:
        self.engine.after(self.dice.expovariate(1 / self._often), self.process, self._act)

    def _act(self) -> None:
        self._next()
        relay = self.world.relay
        if not relay.up or relay.process.standing or not self.world.sending:
            return
        self._links = [(peer, mouth) for peer, mouth in self._links if peer in relay.wires]
        what = self.dice.choice(
            (self._take_an_origin, self._claim_positions, self._claim_numbers, self._say_hello_often, self._flood)
        )
        self.engine.count(f"hostile:{what.__name__.replace('_', ' ')}")
        what()
        if len(self._links) > MAX_LINKS:
            peer, _ = self._links.pop(0)
            relay.core.lost(peer, "cut")
            relay.wires.pop(peer, None)
        relay.driver.flush()

    # ---- what it says ----------------------------------------------------------------------------------

    def _take_an_origin(self) -> None:
        """Come as somebody else, with numbers far ahead; only where the relay knows whose the origin is."""
        relay = self.world.relay
        victim = self.dice.choice(self.world.satellites)
        if not relay.core.origins.has_owner(victim.origin):
            return
        epoch = self.dice.choice((victim.run.epoch, self.dice.getrandbits(62)))
        ahead = len(victim.run.messages) + self.dice.choice((1, 1001))
        token = self.dice.choice(("", "guessed"))
        before = relay.log.marks.get((victim.origin, epoch))
        mouth = self._said(self._hello(victim.origin, outbox=[(epoch, ahead)], token=token))
        names = [type(frame).__name__ for frame in mouth.frames]
        if names != ["Goodbye"] or relay.log.marks.get((victim.origin, epoch)) != before:
            self.world.oracles.broken("i: an origin is its owner's", f"{victim.origin} was taken: {names}")

    def _claim_positions(self) -> None:
        """Have read what was never given, in a run that never was; with a receipt of one's own making."""
        log = self.world.relay.log
        position = self.dice.choice((1, log.last, log.last + 1, log.last + 10**6, 2**61))
        run = self.dice.choice((log.run, "made up", self.dice.choice(list(log._runs))))
        forged = ReceiptKey("guessed").sign("mallory", log.log_id, run, position)
        receipt = self.dice.choice((None, forged, Receipt(log.log_id, run, position, b""), self._receipt))
        subscriptions = [Subscription("p", position), Subscription("d", position, durable=True)]
        before = log.log_id

        def look(frame: Any) -> None:
            if isinstance(frame, Welcome) and run == "made up" and not frame.anew:
                self.world.oracles.broken("i: what was never given begins anew", f"{position} in {run} is taken")

        given = {"log_id": before, "run": run, "subscriptions": subscriptions, "receipt": receipt}
        self._said(self._hello(self._name(), **given), look)
        if log.log_id != before and not self.world.truth.replaced:
            self.world.oracles.broken("i: a log keeps its name", f"a Hello at {position} in {run} has renamed it")

    def _claim_numbers(self) -> None:
        """Have been acknowledged what was never sent."""
        outbox = [(self.dice.getrandbits(62), self.dice.choice((1, 1002, 10**12))) for _ in range(64)]
        self._said(self._hello(self._name(), outbox=outbox, receipt=self._receipt))

    def _name(self) -> str:
        """Be oneself, or somebody new: who comes too often is taken for a clone."""
        return self.dice.choice(("mallory", f"m{self.dice.getrandbits(32):x}"))

    def _say_hello_often(self) -> None:
        """Come as many, one after the other."""
        for _ in range(FLOOD):
            outbox = [(self.dice.getrandbits(62), self.dice.randint(1, 10**6)) for _ in range(64)]
            self._said(self._hello(f"m{self.dice.getrandbits(32):x}", outbox=outbox, receipt=self._receipt))

    def _flood(self) -> None:
        """Ask for the same again and again, want other things, and number messages so that none can be taken."""
        relay = self.world.relay
        open_ones = [(peer, mouth) for peer, mouth in self._links if peer.state == "open"]
        if not open_ones:
            self._said(self._hello(subscriptions=[Subscription("p", 1), Subscription("d", 1, durable=True)]))
            return
        peer, _ = self.dice.choice(open_ones)
        batch = make_batch([msgspec.msgpack.encode({"data": 0})])
        last = relay.log.last
        frames = {
            "replay": lambda: Replay("p", self.dice.randint(0, last), self.dice.choice((0, 1, 2**20))),
            "durable": lambda: Replay("d", self.dice.randint(0, last), self.dice.choice((0, 1, 2**20))),
            "interest": lambda: Interest(
                [Subscription("p", channels=[f"c{self.dice.randint(0, 9)}"] * self.dice.choice((1, 200)))], [], []
            ),
            "applied": lambda: Applied({"p": self.dice.choice((1, last, last + 1))}),
            "publish": lambda: Publish(
                self.dice.choice((7, self.dice.getrandbits(62))), self.dice.choice((2, 2**40)), "p", "x", [""],
                crc32(batch), batch,
            ),
        }  # fmt: skip
        kind = self.dice.choice(list(frames))
        said: list[Any] = [frames[kind]() for _ in range(FLOOD)]
        much = MUCH if kind != "publish" and self._flood_dice.random() < 0.3 else 1
        self._ask(peer, [(encode_link_frame(frame), _cost(frame)) for frame in said] * much)

    def _ask(self, peer: "Peer", frames: list[tuple[bytes, int]]) -> None:
        asking = self._asking.get(peer)
        if asking is None:
            now = self.engine.now
            asking = self._asking[peer] = _Asking(Brake(now), now)
        is_held = bool(asking.waiting)
        asking.waiting += frames
        if not is_held:
            self._bring(peer, asking)

    def _bring(self, peer: "Peer", asking: _Asking) -> None:
        """Have the relay take what waits, until it takes no more for a while; see that this is in time.

        (e): it takes so much at once before others have their turn, and so much a second.
        """
        relay, now, broken = self.world.relay, self.engine.now, self.world.oracles.broken
        if not relay.up or peer not in relay.wires or peer.state != "open":
            del self._asking[peer]
            return
        if relay.process.standing:
            self.engine.after(0.1, self.process, self._bring, peer, asking)
            return
        while asking.waiting:
            peer.asked = 0
            count = relay.driver.received(peer, [data for data, _ in asking.waiting])
            costs = [cost for _, cost in asking.waiting[:count]]
            del asking.waiting[:count]
            if peer.state != "open":  # what came behind the frame that ended it was passed over
                break
            asking.taken += sum(costs)
            if (at_once := sum(costs[:-1])) >= ASKED_AT_ONCE:
                broken("e: bounds", f"asked for at once: {at_once}, the bound is {ASKED_AT_ONCE}")
            bound = ASK_BURST + ASK_RATE * (now - asking.since) + ASKED_AT_ONCE + costs[-1]
            if asking.taken > bound:
                broken("e: bounds", f"asked for by a link: {asking.taken}, the bound by now is {bound:.0f}")
            if pause := asking.brake.take(peer.asked, now):
                self.engine.count("hostile: braked")
                self.engine.after(pause, self.process, self._bring, peer, asking)
                break
        relay.driver.flush()

    def _hello(self, origin: str = "mallory", **fields: Any) -> bytes:
        log = self.world.relay.log
        given: dict[str, Any] = {
            "log_id": self.dice.choice((log.log_id, "another")), "run": log.run, "subscriptions": [],
            "outbox": [(7, 1)], "methods": [], "plugins": [], "token": "mallory's", **fields,
        }  # fmt: skip
        return encode_link_frame(Hello(f"{origin}@{self.ip}:1", **given))

    def _said(self, hello: bytes, look: Callable[[Any], None] = lambda _frame: None) -> _Mouth:
        relay, mouth = self.world.relay, _Mouth(look)
        peer = relay.opened(mouth, self.ip)
        self._links.append((peer, mouth))
        relay.driver.received(peer, [hello])
        for frame in mouth.frames:
            self._receipt = getattr(frame, "receipt", None) or self._receipt
        return mouth


def _cost(frame: Any) -> int:
    """Return what a frame counts at least, of those that are bounded: messages are bounded by the log."""
    if isinstance(frame, Publish):
        return 0
    patterns = sum(len(one.channels or ()) for one in frame.subscriptions) if isinstance(frame, Interest) else 0
    return 1 + len(encode_link_frame(frame)) // ASKED_BYTES + patterns // ASKED_PATTERNS


def check_hostile_bounds(world: "World") -> None:
    """(e): what is kept for members, and what they have claimed, stays within its bounds."""
    core, log = world.relay.core, world.relay.log

    def check(what: str, number: int, bound: int) -> None:
        if number > bound:
            world.oracles.broken("e: bounds", f"{what}: {number}, the bound is {bound}")

    check("origins that are known", len(core.origins), origins.MAX_KNOWN)
    check("losses that are told", sum(1 for _ in log.losses), losses.MAX_LOSSES)
    # Those of messages that wait for the disk are not trimmed yet.
    check("marks", len(log.marks), log_file.MAX_MARKS + MARKS_SLACK + 1000)
    check("marks of one", max(map(len, log._epochs.values()), default=0), MAX_EPOCHS_OF_ONE)
    if not world.truth.replaced:
        senders = {run.origin for run in world.truth.runs.values()}
        check("marks of those that never sent", len({origin for origin, _ in log.marks} - senders), 0)
