"""Who speaks XML-RPC: one that sends and repeats until it is answered, one that fetches."""

from typing import TYPE_CHECKING

import msgspec

from tests.simulation.engine import Process
from tests.simulation.relay_host import REFUSED
from tests.simulation.truth import Message

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["Fetcher", "XmlSender"]

TIMEOUT = 10.0


class XmlSender:
    """Calls ``relay.relay``, one call at a time; a call that fails is repeated with the same id."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.engine = world.engine
        self.ip = f"10.0.2.{number + 1}"
        self.origin = f"xml{number}"
        self.run = world.truth.new_run(self.origin, 0)
        self.process = Process(self.origin)
        self.idle = True
        self._try = 0
        self._rate = world.dice.choice((0.5, 5.0, 30.0))
        self._next()

    def _next(self) -> None:
        self.engine.after(self.world.dice.expovariate(self._rate), self.process, self._send)

    def _send(self) -> None:
        world = self.world
        if not world.sending or world.budget <= 0:
            return
        world.budget -= 1
        channel = world.dice.choice(("", "stage.left", "house.light"))
        self.run.messages.append(Message(self.engine.now, f"{self.origin}/client", channel))
        self.idle = False
        self._call(len(self.run.messages) - 1, channel)

    def _call(self, number: int, channel: str) -> None:
        self._try += 1
        net = self.world.net
        self.engine.after(net.latency(), None, self._arrive, number, channel, self._try)
        self.engine.after(TIMEOUT, self.process, self._again, number, channel, self._try)

    def _arrive(self, number: int, channel: str, attempt: int) -> None:
        relay = self.world.relay
        if relay.up and self.origin not in self.world.net.partitioned:
            self.engine.after(0.0, relay.process, self._serve, number, channel, attempt)
        else:
            self.engine.after(0.5, self.process, self._again, number, channel, attempt)

    def _serve(self, number: int, channel: str, attempt: int) -> None:
        message: dict[str, object] = {"data": [self.run.number, number]}
        if channel:
            message["channel"] = channel

        def answer(position: int) -> None:
            self.engine.after(self.world.net.latency(), self.process, self._answered, number, attempt)

        try:
            self.world.relay.relay(
                self.origin, self.ip, str(number), msgspec.msgpack.encode(message), (channel,), answer
            )
        except REFUSED:
            self.engine.count("relay.relay refused for want of room")
            self.engine.after(1.0, self.process, self._again, number, channel, attempt)

    def _answered(self, number: int, attempt: int) -> None:
        if attempt == self._try and not self.idle:
            self._try += 1
            self.run.answered.add(number)
            self.idle = True
            self._next()

    def _again(self, number: int, channel: str, attempt: int) -> None:
        if attempt == self._try and not self.idle:
            self.engine.count("relay.relay repeated")
            self._call(number, channel)


class Fetcher:
    """Calls ``relay.fetch`` and goes on after what it got."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.engine = world.engine
        self.origin = f"fetch{number}"
        self.process = Process(self.origin)
        self.after = 0
        self.log_id = ""
        self.last = 0
        self._ask()

    def _ask(self) -> None:
        relay = self.world.relay
        self.engine.after(self.world.dice.uniform(0.2, 3.0), self.process, self._ask)
        if relay.up:
            self.engine.after(self.world.net.latency(), relay.process, self._serve, self.after)

    def _serve(self, after: int) -> None:
        log_id, read, gaps = self.world.relay.fetch(self.origin, after, self.world.dice.choice((5, 100)))
        self.engine.after(self.world.net.latency(), self.process, self._got, after, log_id, read, gaps)

    def _got(self, after: int, log_id: str, read: object, gaps: list[tuple[int, int, str]]) -> None:
        if after != self.after:
            return
        if log_id != self.log_id:
            self.log_id, self.last = log_id, 0
        if gaps:
            self.engine.count("relay.fetch told a gap")
            self.last = min(self.last, gaps[0][1])
        for message in read.messages:  # type: ignore[attr-defined]
            if message.position <= self.last:
                self.world.oracles.broken(
                    "g: relay.fetch gives each message once, in order",
                    f"{message.position} after {self.last}",
                )
            self.last = max(self.last, message.position)
            run, number, *_ = msgspec.msgpack.decode(message.packed)["data"]
            if self.world.truth.find(self.world.truth.runs[run], number) is None:
                self.world.oracles.broken("d: no invention", f"relay.fetch gave {run}/{number}")
        self.after = read.next  # type: ignore[attr-defined]
