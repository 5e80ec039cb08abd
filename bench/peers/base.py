"""What all peers have in common: how a measurement goes, and what a peer has to bring for it."""

import contextlib
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from bench.busy import LOADS
from bench.footprint import cpu_seconds
from bench.peers.brokers import wait_for

__all__ = [
    "Asking",
    "Fleet",
    "Latency",
    "PairedPeer",
    "Peer",
    "Receiving",
    "Role",
    "Sending",
    "Sent",
    "Throughput",
]

DRAIN = 5.0
"""Seconds, and times the seconds of sending, in which all must have arrived; what has not by then is missing."""

SILENCE = 3.0
"""Seconds without any message after which those that miss are lost."""

WARM_UP = 0.3


class Role(StrEnum):
    """What a process on the way of a message does. Only co2 has satellites; its programs are plugin hosts."""

    SENDER = "sending program"
    SENDING_SATELLITE = "its satellite"
    BROKER = "relay, proxy or router"
    RECEIVING_SATELLITE = "receiving satellite"
    RECEIVER = "receiving program"


@dataclass(frozen=True, slots=True)
class Sent:
    """What a sender has done.

    Attributes:
        count: messages sent, and acknowledged where the peer acknowledges.
        begun, ended: nanoseconds of the monotonic clock.
    """

    count: int
    begun: int
    ended: int


@dataclass(frozen=True, slots=True)
class Throughput:
    """How fast messages came.

    Attributes:
        rate: messages per second that the slowest receiver got.
        missing: messages that did not come to some receiver, at most; lost, or not here in time.
        cost: nanoseconds of processor time for a message, the kernel's work included, by the role of the process;
            empty where there is more than one sender or receiver.
    """

    rate: float
    missing: int
    cost: Mapping[Role, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Latency:
    """Microseconds, one way."""

    p50: float
    p99: float
    missing: int


class Sending(Protocol):
    """A sender in a process of its own."""

    def begin(self, do: str, seconds: float = 0, rate: float = 0) -> None:
        """Begin to ``probe`` (one message), ``run`` (as fast as it can) or ``pace``."""

    def finish(self) -> Sent:
        """Wait until it is done."""


class Receiving(Protocol):
    """A receiver in a process of its own; see Tally."""

    def state(self) -> dict[str, Any]: ...

    def microseconds(self) -> list[float]: ...

    def reset(self) -> None: ...


class Asking(Protocol):
    """Whoever begins round trips, in a process of its own."""

    def trips(self, count: int, pause: float) -> list[float]:
        """Make so many, one after the other, with a pause of so many seconds before each; return microseconds."""


class Fleet:
    """Broker, senders and receivers, all running.

    Args:
        senders, receivers: all of them.
        roles: process ids by what the process does, where there is one way for a message only.
    """

    def __init__(
        self,
        senders: Sequence[Sending],
        receivers: Sequence[Receiving],
        roles: Mapping[Role, int] | None = None,
    ) -> None:
        self.senders = senders
        self.receivers = receivers
        self.roles = roles or {}
        self._ends = 0

    def meet(self) -> None:
        """Send probes until every receiver has got one from every sender."""

        def met() -> bool:
            self.send("probe")
            return all(receiver.state()["met"] == len(self.senders) for receiver in self.receivers)

        wait_for(met, "a first message of every sender at every receiver", pause=0.05)

    def send(self, do: str, seconds: float = 0, rate: float = 0) -> list[Sent]:
        """Let all senders work at the same time."""
        for sender in self.senders:
            sender.begin(do, seconds, rate)
        return [sender.finish() for sender in self.senders]

    def measured(self, do: str, seconds: float, rate: float = 0) -> Throughput:
        """Send, wait until all has come or no more comes; the clock runs from first send to last arrival."""
        for receiver in self.receivers:
            receiver.reset()
        self._ends += len(self.senders)
        sent = self.send(do, seconds, rate)
        total = sum(one.count for one in sent)
        begun = min(one.begun for one in sent)
        arrivals = self._settle(total, DRAIN * (1 + seconds))
        return Throughput(
            min(count * 1e9 / max(1, last - begun) for count, last in arrivals),
            max(0, *(total - count for count, _ in arrivals)),
        )

    def costed(self, seconds: float) -> Throughput:
        """Send as fast as it goes, and say what a message takes of the processors."""
        before = {role: cpu_seconds(pid) for role, pid in self.roles.items()}
        found = self.measured("run", seconds)
        count = min(receiver.state()["count"] for receiver in self.receivers) or 1
        cost = {role: (cpu_seconds(pid) - before[role]) * 1e9 / count for role, pid in self.roles.items()}
        return replace(found, cost=cost)

    def _settle(self, total: int, patience: float) -> list[tuple[int, int]]:
        """Return (count, time of the last one) of every receiver."""
        deadline = time.monotonic() + patience
        counts = [0] * len(self.receivers)
        seen = [time.monotonic_ns()] * len(self.receivers)
        while True:
            states = [receiver.state() for receiver in self.receivers]
            now = time.monotonic_ns()
            for i, state in enumerate(states):
                if state["count"] > counts[i]:
                    counts[i], seen[i] = state["count"], now
            done = [state["ended"] == self._ends and state["count"] >= total for state in states]
            if all(done) or now - max(seen) > SILENCE * 1e9 or time.monotonic() > deadline:
                # Where messages are lost, the one that says the end may be too: then what was seen last counts.
                return [
                    (count, int(state["last"]) if is_done else last)
                    for count, state, is_done, last in zip(counts, states, done, seen, strict=True)
                ]
            time.sleep(0.1)


class Peer(ABC):
    """One broker with its senders and receivers.

    Attributes:
        title: for tables.
        durable: messages are on disk and acknowledged, as far as its title says.
    """

    title: str
    durable = False

    @abstractmethod
    def fleet(self, senders: int, receivers: int, stamped: bool) -> contextlib.AbstractContextManager[Fleet]:
        """Start everything; end everything by its process id."""

    def throughput(self, senders: int, receivers: int, seconds: float) -> Throughput:
        """Measure messages per second as every receiver gets them."""
        with self.fleet(senders, receivers, stamped=False) as fleet:
            fleet.meet()
            fleet.measured("run", WARM_UP)
            return fleet.costed(seconds)

    def latency(self, rate: float, seconds: float, load: str = "quiet") -> Latency:
        """Measure how long messages take one way at a quiet pace, on a machine that is quiet or busy otherwise."""
        with self.fleet(1, 1, stamped=True) as fleet:
            fleet.meet()
            with LOADS[load]():
                fleet.measured("pace", WARM_UP, rate)
                found = fleet.measured("pace", seconds, rate)
            took = fleet.receivers[0].microseconds()
        cuts = statistics.quantiles(took, n=100)
        return Latency(cuts[49], cuts[98], found.missing)

    def acked(self, seconds: float) -> float:
        """Measure messages per second that are acknowledged to the sender; nobody receives."""
        with self.fleet(1, 0, stamped=False) as fleet:
            fleet.send("run", WARM_UP)
            (sent,) = fleet.send("run", seconds)
            return sent.count * 1e9 / (sent.ended - sent.begun)


class PairedPeer(Peer):
    """One whose ends can both send and receive."""

    @abstractmethod
    def pair(self) -> contextlib.AbstractContextManager[Asking]:
        """Start a broker, one that asks and one that answers; they have met."""
