"""What a relay plugin costs: latency and throughput with one that looks at every message, beside none.

Beside it the same job with pyzmq: a filter process between two proxies.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from bench.chart import bars
from bench.goals import Judged, lines, tell
from bench.medians import medians
from bench.peers.base import Latency, Peer, Throughput
from bench.peers.co2 import Co2, Filtered

__all__ = ["ROUNDS", "SECONDS", "added", "judged", "measure", "pictures", "section", "unmeasured", "verdict"]

SECONDS = 2.0
ROUNDS = 5
RATE = 1000

GOAL, FLOOR = 1.0, 1.5
"""Goal and floor for the p50 that a relay plugin adds, as a multiple of what a filter process adds with pyzmq."""

MESSAGES = 200_000
"""A second, that must pass it."""

NONE, LOOKS, CHANGES = "none", "one that looks", "one that changes"

CASES = {NONE: Co2(), LOOKS: Filtered(change=False), CHANGES: Filtered(change=True)}

ONE_PROXY, TWO_PROXIES, FILTER = "a proxy", "two proxies", "a filter between two"


DIFFERENCES = {
    "a relay plugin that looks": (LOOKS, NONE),
    "a relay plugin that changes": (CHANGES, NONE),
    "pyzmq: a filter and a second proxy": (FILTER, ONE_PROXY),
    "pyzmq: a filter where there are two proxies": (FILTER, TWO_PROXIES),
}
"""What is added, and the cases with and without it."""

OURS = "a relay plugin that looks"

RATIOS = {
    "p50 that a relay plugin adds, beside a filter and a second proxy with pyzmq": (
        "pyzmq: a filter and a second proxy",
        FLOOR,
    ),
    "the same beside the filter alone, where there are two proxies": (
        "pyzmq: a filter where there are two proxies",
        None,
    ),
}
"""What is compared, with the floor. With the first a message passes the hub, and a process, once more, as here."""

Rounds = Mapping[str, Sequence[Mapping[str, float]]]
"""Case → figures by name, for each round."""

Found = TypeVar("Found", Latency, Throughput)


def with_pyzmq() -> dict[str, Peer]:
    """Return the same job with pyzmq.

    Raises:
        ImportError: its library is missing.
    """
    from bench.peers import pyzmq  # what else is here works without its library

    return {ONE_PROXY: pyzmq.PEER, TWO_PROXIES: pyzmq.TwoProxies(), FILTER: pyzmq.Filtered()}


def measure(seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure all cases in turn.

    Raises:
        ImportError: pyzmq is missing.
        RuntimeError: messages are missing.
    """
    theirs = with_pyzmq()
    found: dict[str, list[dict[str, float]]] = {case: [] for case in (*CASES, *theirs)}
    for round_number in range(rounds):
        for case, peer in (*CASES.items(), *theirs.items()):
            latency = complete(case, peer.latency(RATE, seconds))
            figures = {"p50": latency.p50, "p99": latency.p99}
            if case in CASES:
                figures["rate"] = complete(case, peer.throughput(1, 1, seconds)).rate
            found[case].append(figures)
        told = "  ".join(
            f"{case} {'/'.join(f'{v:,.0f}' for v in all_[-1].values())}" for case, all_ in found.items()
        )
        print(f"  relay plugins, round {round_number + 1} of {rounds}: {told}", flush=True)
    rows = {case: medians(all_) for case, all_ in found.items()}
    return {
        "rows": {case: rows[case] for case in CASES},
        "beside": {case: rows[case] for case in theirs},
        "added": added(found),
        "seconds": seconds,
        "rounds": rounds,
        "goals": [
            *judged(found),
            Judged("messages that pass it", rows[LOOKS]["rate"], MESSAGES, MESSAGES, False, "/s").row(),
            Judged("messages that it changes", rows[CHANGES]["rate"], MESSAGES, unit="/s").row(),
        ],
        "unmeasured": list(unmeasured(found)),
    }


def complete(case: str, found: Found) -> Found:
    """Return what was found; messages that are missing are no measurement."""
    if found.missing:
        raise RuntimeError(f"{case}: {found.missing} messages are missing")
    return found


def added(found: Rounds) -> dict[str, float]:
    """Return the microseconds that each thing adds to p50: the median of the differences, round by round."""
    return {
        what: statistics.median(
            one["p50"] - without["p50"] for one, without in zip(found[more], found[less], strict=True)
        )
        for what, (more, less) in DIFFERENCES.items()
    }


def judged(found: Rounds) -> Iterator[dict[str, Any]]:
    """Compare what is added; one median beside another: in a single round a difference may be nearly nothing."""
    adds = added(found)
    for what, (theirs, floor) in RATIOS.items():
        if adds[theirs] > 0:
            yield Judged(what, adds[OURS] / adds[theirs], GOAL, floor, True, "×").row()


def unmeasured(found: Rounds) -> Iterator[str]:
    """Return what a floor compares and nobody knows: the filter seemed to add nothing, on an uneven machine."""
    known = {row["what"] for row in judged(found)}
    yield from (what for what, (_, floor) in RATIOS.items() if floor and what not in known)


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
        *(beside_pyzmq(result) if "beside" in result else ()),
        *lines(result["goals"]),
        "![a relay plugin](bench/transit.svg)",
        "",
    ]


def beside_pyzmq(result: Mapping[str, Any]) -> list[str]:
    """Write what pyzmq takes for the same job; runs of earlier versions have not measured it."""
    return [
        "The same job with pyzmq in the same rounds, same messages, same pace: a filter process between two "
        "proxies, SUB at the first, PUB at the second. Both decode each message (msgspec), call the same function "
        "with it and encode what it returns. The filter process sends that on. The plugin host compares it with "
        "what came; where nothing is changed, the relay passes on what it had. Besides, the relay writes every "
        "message to its log, keeps the order of each sender, and lets messages pass by a plugin that hangs.",
        "",
        "| pyzmq | p50 | p99 |",
        "|---|---:|---:|",
        *(f"| {case} | {row['p50']:,.0f} µs | {row['p99']:,.0f} µs |" for case, row in result["beside"].items()),
        "",
        "What is added to p50: the median of the differences, round by round. With a relay plugin a message "
        "passes one process more, and the relay twice; a filter and a second proxy are that for a network that "
        "has one proxy. A filter alone, between two proxies that are there anyway, is one hop less.",
        "",
        "| | adds to p50 |",
        "|---|---:|",
        *(f"| {what} | {more:,.0f} µs |" for what, more in result["added"].items()),
        "",
    ]


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Draw, by file name."""
    shown = {f"co2: {case}": row for case, row in result["rows"].items()}
    times = {**shown, **{f"pyzmq: {case}": row for case, row in result.get("beside", {}).items()}}
    groups: list[tuple[str, Mapping[str, float], str]] = [
        ("p50, µs", {case: row["p50"] for case, row in times.items()}, ""),
        ("messages/s", {case: row["rate"] for case, row in shown.items()}, f"floor {MESSAGES:,}"),
    ]
    return {"transit.svg": bars("A relay plugin", groups, "")}


def verdict(result: Mapping[str, Any]) -> bool:
    """Print which goals are reached; return False where a floor is not held or not measured."""
    return tell(result["goals"], result.get("unmeasured", ()))
