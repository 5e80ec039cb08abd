"""What times, last values and causes cost: co2 beside an earlier version of itself, which had none of them.

``tools/make-earlier.sh`` makes the earlier version, ``make bench`` calls it. Both run the same plugins of this
benchmark, in turn, and each round's figures are compared with each other: a slow minute meets all of them.
"""

import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bench import start
from bench.chart import bars
from bench.goals import Judged, lines, tell
from bench.medians import medians
from bench.peers.co2 import Co2, Variant
from bench.processes import ROOT
from bench.transit import complete

__all__ = ["ROUNDS", "SECONDS", "judged", "measure", "pictures", "ratios", "section", "variants", "verdict"]

SECONDS = 1.0
ROUNDS = 9
RATE = 1000

PLACE = ROOT / ".venv" / "earlier"
"""Where earlier versions are, in folders with the names of their commits."""

COMMIT = "CO2_BENCH_EARLIER"
"""Variable with the commit that is compared with; ``make bench EARLIER=COMMIT`` sets it."""

TRIPS = 600
"""Round trips of a round, without a pause."""

EARLIER, NOW = "the earlier version", "co2"

WITHIN, FLOOR = 0.03, 0.08
"""Share by which what does not use them may be slower than before: the goal, and never more."""

FIGURES = {
    "1 → 1": "1 → 1, messages/s",
    "1 → 4": "1 → 4, messages/s",
    "p50": "one way, p50, µs",
    "p99": "p99, µs",
    "trip": "there and back, p50, µs",
    "ready": "satellite ready, ms",
    "memory": "satellite, MB",
}
"""In the order of the table; start and memory only of the two versions as they are."""

RATES = ("1 → 1", "1 → 4")

UNEVEN = ("p99", "ready", "memory")
"""Figures without a floor: p99 of a second is uneven, and start and memory have their own bounds in ``start``."""

ALIKE = 0.1
"""Share by which these may be worse."""


def variants(earlier: str) -> dict[str, Co2]:
    """Return what is compared, by name.

    Args:
        earlier: the Python of the earlier version.
    """
    return {
        EARLIER: Variant(EARLIER, interpreter=earlier),
        NOW: Co2(),
        "with times": Variant("with times", receiver="bench_receiver_times"),
        "with last values": Variant("with last values", receiver="bench_receiver_last"),
        "causes off": Variant("causes off", relay_keys="causes = false\n"),
    }


def measure(seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure all in turn; every other round the other way round.

    Raises:
        RuntimeError: the earlier version is not there, or messages are missing.
    """
    commit = os.environ.get(COMMIT, "")
    python = PLACE / commit / ".venv" / "bin" / "python"
    if not commit or not python.exists():
        raise RuntimeError(
            f"no earlier version in {PLACE.relative_to(ROOT)}: make bench makes it from git's history"
        )
    all_ = variants(str(python))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in all_}
    for round_number in range(rounds):
        order = [*all_] if round_number % 2 == 0 else [*reversed(all_)]
        by_name: dict[str, dict[str, float]] = {name: {} for name in all_}
        for step in steps(seconds):
            for name in order:
                by_name[name] |= step(name, all_[name])
        for name, one in by_name.items():
            found[name].append(one)
        told = "  ".join(f"{name} {'/'.join(f'{v:,.0f}' for v in one.values())}" for name, one in by_name.items())
        print(f"  earlier and now, round {round_number + 1} of {rounds}: {told}", flush=True)
    return {
        "commit": commit,
        "rounds": rounds,
        "seconds": seconds,
        "rows": {name: medians(one) for name, one in found.items()},
        "ratios": {name: ratios(found[name], found[EARLIER]) for name in found if name != EARLIER},
        "goals": list(judged(found)),
    }


def steps(seconds: float) -> Iterator[Callable[[str, Co2], dict[str, float]]]:
    """Return what is measured; each step gives some of the figures."""

    def one_way(name: str, peer: Co2) -> dict[str, float]:
        found = complete(name, peer.latency(RATE, seconds))
        return {"p50": found.p50, "p99": found.p99}

    def starts(name: str, peer: Co2) -> dict[str, float]:
        if name not in (EARLIER, NOW):
            return {}
        found = start.once(peer.interpreter)
        return {"ready": found["satellite, s"] * 1000, "memory": found["satellite, MB"]}

    yield lambda name, peer: {"1 → 1": complete(name, peer.throughput(1, 1, seconds)).rate}
    yield lambda name, peer: {"1 → 4": complete(name, peer.throughput(1, 4, seconds)).rate}
    yield one_way
    yield lambda name, peer: {"trip": trip(peer)}
    yield starts


def trip(peer: Co2) -> float:
    """Return the median of round trips, in microseconds."""
    with peer.pair() as asks:
        asks.trips(100, 0)
        return statistics.median(asks.trips(TRIPS, 0))


def ratios(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return by figure the median of our value over theirs, round by round."""
    return {
        figure: statistics.median(one[figure] / other[figure] for one, other in zip(ours, theirs, strict=True))
        for figure in ours[0]
    }


def judged(found: Mapping[str, Sequence[Mapping[str, float]]]) -> Iterator[dict[str, Any]]:
    """Compare what does not use the new with the earlier version."""
    for figure, ratio in ratios(found[NOW], found[EARLIER]).items():
        low = figure not in RATES
        sign = 1 if low else -1
        what = f"{FIGURES[figure]}, beside the earlier version"
        if figure in UNEVEN:
            yield Judged(what, ratio, 1 + ALIKE, None, low, "×").row()
        else:
            yield Judged(what, ratio, 1 + sign * WITHIN, 1 + sign * FLOOR, low, "×").row()


def section(result: Mapping[str, Any]) -> list[str]:
    """Write the lines of the page."""
    found = [
        "## What times, last values and causes cost",
        "",
        f"The earlier version is co2 at commit `{result['commit']}`, which had none of them, in an environment of "
        f"its own, with the same plugins. {result['rounds']} rounds of {result['seconds']:g} s in turns, every "
        "other round in the opposite order; medians, and in brackets the median of the rounds' ratios to the "
        f"earlier version. One way at {RATE:,} messages/s; there and back without a pause. *co2* is the default: "
        "times are in the log, and a message that is sent in `receive` carries its cause, so what goes there and "
        "back has one. *With times*: `times = True` in the receiving class. *With last values*: `snapshot = True` "
        "there.",
        "",
        "| | " + " | ".join(FIGURES.values()) + " |",
        "|---|" + "---:|" * len(FIGURES),
    ]
    for name, row in result["rows"].items():
        beside = result["ratios"].get(name, {})
        cells = [
            (f"{row[figure]:,.0f}" if figure in row else "")
            + (f" ({beside[figure]:.3f} ×)" if figure in beside else "")
            for figure in FIGURES
        ]
        found.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*found, "", *lines(result["goals"]), "![earlier and now](bench/earlier.svg)", ""]


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Draw, by file name."""
    groups: list[tuple[str, Mapping[str, float], str]] = [
        (title, {name: row[figure] for name, row in result["rows"].items() if figure in row}, "")
        for figure, title in FIGURES.items()
    ]
    return {"earlier.svg": bars("co2 beside an earlier version", groups, "")}


def verdict(result: Mapping[str, Any]) -> bool:
    """Print which goals are reached; return False where a floor is not held."""
    return tell(result["goals"])
