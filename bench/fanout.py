"""Relay fan-out over XML-RPC to foreign satellites, and what one that hangs does to the others."""

import contextlib
import socket
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from bench.chart import bars
from bench.goals import Judged, lines, tell
from bench.processes import Sink, peer, proxy, relay, sink

__all__ = ["measure", "pictures", "section", "verdict"]

MESSAGES = {1: 3_000, 10: 1_500, 100: 200}
"""How many messages are sent to how many satellites."""

PATIENCE = 120.0
PACED = 600
PACE = 0.005
ROUNDS = 3
HANGING = 2
"""Rounds with a hanging satellite for one round of the others, and one more: a p99 is noisy."""


class Ours:
    """co2's relay."""

    name = "co2 relay"
    start = staticmethod(relay)

    def __init__(self, url: str) -> None:
        self._proxy = proxy(url)

    def register(self, port: int) -> None:
        self._proxy.relay.register({"host_id": f"sat{port}@127.0.0.1:{port}", "port": port})

    def send(self, data: Any) -> None:
        self._proxy.relay.relay({"host_id": "bench@127.0.0.1:0", "data": data})


class Theirs:
    """The same written with xmlrpc.server: a thread and a queue per satellite."""

    name = "xmlrpc.server relay"

    @staticmethod
    def start() -> contextlib.AbstractContextManager[str]:
        return peer("relay")

    def __init__(self, url: str) -> None:
        self._proxy = proxy(url)

    def register(self, port: int) -> None:
        self._proxy.register(port)

    def send(self, data: Any) -> None:
        self._proxy.relay({"host_id": "bench@127.0.0.1:0", "data": data})


def settle(satellites: Sink, count: int) -> None:
    """Wait until every satellite has got so many."""
    deadline = time.monotonic() + PATIENCE
    while satellites.collect() < count:
        if time.monotonic() > deadline:
            raise SystemExit("bench: messages did not arrive")
        time.sleep(0.01)


def stamped(number: int) -> list[Any]:
    return [number, f"at-{time.monotonic_ns()}", 0.815]


def throughput(side: Callable[[str], Any], start: Callable[..., Any], satellites: int) -> float:
    """Return deliveries per second, from the first send to the last arrival."""
    count = MESSAGES[satellites]
    with start() as url, sink(satellites) as them:
        relay_side = side(url)
        for port in them.ports:
            relay_side.register(port)
        relay_side.send(stamped(0))
        settle(them, 1)
        begun = time.monotonic()
        for number in range(count):
            relay_side.send(stamped(number))
        settle(them, count + 1)
        return satellites * count / (time.monotonic() - begun)


def percentile(latencies: list[int], share: float) -> float:
    """Return a percentile in microseconds."""
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1e3


def hanging(rounds: int) -> dict[str, Any]:
    """Measure the p99 of ten satellites, in turn without and with an eleventh that never answers."""
    found: dict[str, list[float]] = {"alone": [], "one hangs": []}
    for _ in range(rounds):
        for case, mine in found.items():
            # Accepts connections into its backlog and never reads one.
            with relay() as url, sink(10) as them, socket.create_server(("127.0.0.1", 0), backlog=128) as dead:
                side = Ours(url)
                for port in them.ports:
                    side.register(port)
                if case == "one hangs":
                    side.register(dead.getsockname()[1])
                side.send(stamped(0))
                settle(them, 1)
                for number in range(PACED):
                    side.send(stamped(number))
                    time.sleep(PACE)
                settle(them, PACED + 1)
                mine.append(percentile([one for per in them.latencies for one in per[1:]], 0.99))
    ratio = statistics.median(b / a for a, b in zip(found["alone"], found["one hangs"], strict=True))
    return {
        "rows": {case: statistics.median(values) for case, values in found.items()},
        "goals": [Judged("p99 with one that hangs, beside without", ratio, 1.5, 1.5, True, "×").row()],
    }


def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure throughput for 1, 10 and 100 satellites, both relays in turn, and the hanging one."""
    table: dict[str, Any] = {}
    for satellites in MESSAGES:
        rates: dict[str, list[float]] = {Ours.name: [], Theirs.name: []}
        for _ in range(rounds):
            for side in (Ours, Theirs):
                rates[side.name].append(throughput(side, side.start, satellites))
        ratios = [a / b for a, b in zip(rates[Ours.name], rates[Theirs.name], strict=True)]
        table[str(satellites)] = {
            "rows": {name: statistics.median(found) for name, found in rates.items()},
            "ratio": statistics.median(ratios),
        }
        print(f"  fan-out to {satellites}: {table[str(satellites)]}", flush=True)
    result = hanging(HANGING * rounds + 1)
    print(f"  hanging satellite: {result}", flush=True)
    return {"throughput": table, "hanging": result}


def section(result: Mapping[str, Any]) -> list[str]:
    """Write the lines of the page."""
    told = [
        "## Relay fan-out over XML-RPC",
        "",
        "One sender, and n clients whose `notify` the relay calls. The peer is a relay written with "
        "`xmlrpc.server`, with a thread and a queue for each client. Sender and receivers are the same. "
        "co2 passes a message on, and answers its sender, once it is on disk (fsync); the peer keeps it in memory "
        "only. With few clients the figure shows mostly this wait for the disk.",
        "",
        "| satellites | co2 deliveries/s | xmlrpc.server deliveries/s | ratio |",
        "|---:|---:|---:|---:|",
    ]
    for count, row in result["throughput"].items():
        ours, theirs = row["rows"].values()
        told.append(f"| {count} | {ours:,.0f} | {theirs:,.0f} | {row['ratio']:.2f} × |")
    alone, with_one = result["hanging"]["rows"].values()
    return [
        *told,
        "",
        "![fan-out](bench/fanout.svg)",
        "",
        "## One satellite hangs",
        "",
        "Ten clients get 200 messages/s, in turns without and with an eleventh client that accepts connections "
        "and never answers.",
        "",
        "| | p99 |",
        "|---|---:|",
        f"| without | {alone / 1000:.2f} ms |",
        f"| with it | {with_one / 1000:.2f} ms |",
        "",
        *lines(result["hanging"]["goals"]),
    ]


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Draw deliveries per second, by file name."""
    groups = [
        (f"to {count} satellite{'s' if count != '1' else ''}", row["rows"], f"co2 × {row['ratio']:.2f}")
        for count, row in result["throughput"].items()
    ]
    return {"fanout.svg": bars("Relay fan-out over XML-RPC: deliveries per second", groups, "/s")}


def verdict(result: Mapping[str, Any]) -> bool:
    """Print which goals are reached; return False where a floor is not held."""
    return tell(result["hanging"]["goals"])
