"""What a relay plugin costs: latency and throughput with one that looks at every message, beside none."""

import statistics
from collections.abc import Mapping
from typing import Any

from bench.chart import bars
from bench.goals import Judged, lines, tell
from bench.peers.co2 import Co2, Filtered

__all__ = ["ROUNDS", "SECONDS", "measure", "pictures", "section", "verdict"]

SECONDS = 2.0
ROUNDS = 5
RATE = 1000

MORE_MICROSECONDS = 150
"""p50 that a relay plugin may cost."""

MESSAGES = 200_000
"""A second, that must pass it."""

CASES = {"none": Co2(), "one that looks": Filtered(change=False), "one that changes": Filtered(change=True)}


def measure(seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure all cases in turn."""
    found: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
    for round_number in range(rounds):
        for case, peer in CASES.items():
            latency, through = peer.latency(RATE, seconds), peer.throughput(1, 1, seconds)
            if latency.missing or through.missing:
                raise RuntimeError(f"{case}: {max(latency.missing, through.missing)} messages are missing")
            found[case].append({"p50": latency.p50, "p99": latency.p99, "rate": through.rate})
        told = "  ".join(f"{case} {'/'.join(f'{v:,.0f}' for v in found[case][-1].values())}" for case in CASES)
        print(f"  relay plugins, round {round_number + 1} of {rounds}: {told}", flush=True)
    rows = {
        case: {name: statistics.median(one[name] for one in all_) for name in all_[0]}
        for case, all_ in found.items()
    }
    more = statistics.median(
        one["p50"] - without["p50"] for one, without in zip(found["one that looks"], found["none"], strict=True)
    )
    return {
        "rows": rows,
        "seconds": seconds,
        "rounds": rounds,
        "goals": [
            Judged(
                "p50 with a relay plugin, more by", more, MORE_MICROSECONDS, MORE_MICROSECONDS, True, "µs"
            ).row(),
            Judged("messages that pass it", rows["one that looks"]["rate"], MESSAGES, MESSAGES, False, "/s").row(),
            Judged("messages that it changes", rows["one that changes"]["rate"], MESSAGES, unit="/s").row(),
        ],
    }


def section(result: Mapping[str, Any]) -> list[str]:
    """Write the lines of the page."""
    return [
        "## A relay plugin",
        "",
        "One sender, one receiver. Every message passes a relay plugin in its own process, which only looks at "
        f"it, or adds a key to it. Latency at 1,000 messages/s. Medians of {result['rounds']} rounds of "
        f"{result['seconds']:g} s, in turns.",
        "",
        "| relay plugin | p50 | p99 | messages/s |",
        "|---|---:|---:|---:|",
        *(
            f"| {case} | {row['p50']:,.0f} µs | {row['p99']:,.0f} µs | {row['rate']:,.0f} |"
            for case, row in result["rows"].items()
        ),
        "",
        *lines(result["goals"]),
        "![a relay plugin](bench/transit.svg)",
        "",
    ]


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Draw, by file name."""
    rows = result["rows"]
    groups = [
        ("p50, µs", {case: row["p50"] for case, row in rows.items()}, ""),
        ("messages/s", {case: row["rate"] for case, row in rows.items()}, f"floor {MESSAGES:,}"),
    ]
    return {"transit.svg": bars("A relay plugin", groups, "")}


def verdict(result: Mapping[str, Any]) -> bool:
    """Tell which goals are reached; False where a floor is not held."""
    return tell(result["goals"])
