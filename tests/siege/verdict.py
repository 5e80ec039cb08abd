"""What was measured, and whether it is within what is promised."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.siege.machine import Share, percentile

__all__ = [
    "LATENCY_FACTOR",
    "LATENCY_FLOOR",
    "MAX_CALM",
    "MAX_GROWTH",
    "MAX_LOGS",
    "MAX_PING",
    "MAX_REFUSED",
    "Measured",
    "percentile",
    "verdict",
]

LATENCY_FACTOR = 5.0
"""Times the calm 99th percentile of latency that it may be under attack."""

LATENCY_FLOOR = 0.05
"""Seconds below which that is no failure: it would be about the machine's other work."""

MAX_GROWTH = 128 * 2**20
"""Bytes that the relay may take more under attack."""

MAX_CALM = 5.0
"""Seconds after the attack until all is as before."""

MAX_PING = 5.0
"""Seconds that a ping over a new connection may take, where it is answered."""

MAX_REFUSED = 0.05
"""Part of these pings that may get no answer. Attackers come from the same address, which has its share only."""

MAX_LOGS = 4 * 2**20
"""Bytes of logs per minute, and once besides."""


@dataclass
class Measured:
    """Figures of one siege; latencies in seconds, sizes in bytes.

    Attributes:
        calm_p50, calm_p99: latency before the attack.
        p50, p99: latency under attack.
        slowest_ping: of a new connection under attack.
        refused_pings: of how many that were tried got no answer.
        calm_rss, largest_rss, rss_after: memory of the relay's process.
        calm_after: seconds until the honest had their latency again and the links of attackers were gone.
        sent, received: messages of the honest.
        missing: sent and never received.
        wrong: what was received and should not have been.
        links_lost: how often an honest link has ended.
        log_bytes: of the files of logs at the end.
        seconds: from when it was calm until then.
        errors: exceptions of attackers, and of what measures: they have not done what they should.
        attacks: how often each was done.
        shares: what relay, honest and attackers had of the machine under attack.
        others: processors that everything else on the machine took meanwhile.
        idle_p99: how late a process with nothing to do was woken under attack: what the machine itself withholds.
        idle_slowest: the same, the latest time.
    """

    calm_p50: float = 0.0
    calm_p99: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    slowest_ping: float = 0.0
    pings: int = 0
    refused_pings: int = 0
    calm_rss: int = 0
    largest_rss: int = 0
    rss_after: int = 0
    calm_after: float = 0.0
    sent: int = 0
    received: int = 0
    missing: int = 0
    wrong: list[str] = field(default_factory=list)
    links_lost: int = 0
    log_bytes: int = 0
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)
    attacks: dict[str, int] = field(default_factory=dict)
    shares: dict[str, Share] = field(default_factory=dict)
    others: float = 0.0
    idle_p99: float = 0.0
    idle_slowest: float = 0.0

    def own(self, seconds: float, late: float) -> float:
        """Return what is left of a latency without what the machine withheld from relay and honest.

        Whoever stands ready without a processor for half of the time does everything in twice the time.

        Args:
            seconds: the latency.
            late: seconds by which a process with nothing to do was late.
        """
        ready = [1 - min(1.0, self.shares[name].queued) for name in ("relay", "honest") if name in self.shares]
        return max(0.0, seconds - late) * math.prod(ready)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
        return asdict(self)


def latency_bound(calm_p99: float, floor: float = LATENCY_FLOOR) -> float:
    """Return the seconds that the 99th percentile may be under attack."""
    return max(floor, LATENCY_FACTOR * calm_p99)


def verdict(measured: Measured, floor: float = LATENCY_FLOOR) -> list[str]:
    """Say what is not as promised; nothing where all is."""
    found = []
    if measured.missing:
        found.append(f"{measured.missing} messages were lost")
    if measured.wrong:
        found.append(f"{len(measured.wrong)} times something else came than was to come: {measured.wrong[:5]}")
    if measured.links_lost:
        found.append(f"{measured.links_lost} links of satellites that mean well have ended")
    bound = latency_bound(measured.calm_p99, floor) + measured.idle_p99
    if measured.p99 > bound:
        found.append(f"p99 was {measured.p99 * 1000:.1f} ms; the bound is {bound * 1000:.1f} ms")
    growth = measured.largest_rss - measured.calm_rss
    if growth > MAX_GROWTH:
        found.append(f"the relay took {growth / 2**20:.0f} MiB more; the bound is {MAX_GROWTH / 2**20:.0f} MiB")
    left = measured.rss_after - measured.calm_rss
    if left > MAX_GROWTH:
        found.append(f"it kept {left / 2**20:.0f} MiB of that; the bound is {MAX_GROWTH / 2**20:.0f} MiB")
    if measured.own(measured.slowest_ping, measured.idle_slowest) > MAX_PING:
        found.append(f"a ping took {measured.slowest_ping:.1f} s; the bound is {MAX_PING:g} s")
    if measured.refused_pings > MAX_REFUSED * measured.pings:
        found.append(f"{measured.refused_pings} of {measured.pings} pings got no answer")
    logs = MAX_LOGS * (1 + measured.seconds / 60)
    if measured.log_bytes > logs:
        found.append(f"the logs have {measured.log_bytes / 2**20:.1f} MiB; the bound is {logs / 2**20:.1f} MiB")
    if measured.calm_after > MAX_CALM:
        found.append(f"it was calm {measured.calm_after:.1f} s after the attack; the bound is {MAX_CALM:g} s")
    found += [f"internal error: {text}" for text in measured.errors]
    if not measured.received:
        found.append("nothing was received at all")
    idle = [name for name, times in measured.attacks.items() if not times]
    if idle or not measured.attacks:
        found.append(f"attacks that were never made: {idle or 'all'}")
    return found
