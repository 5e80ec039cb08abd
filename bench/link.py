"""Messages from plugin to plugin through a relay, beside other brokers with Python at both ends."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import chain, floor, goals, peers
from bench.chart import bars
from bench.goals import Judged
from bench.peers.base import Latency, Peer

__all__ = ["ROUNDS", "SECONDS", "measure", "pictures", "section", "verdict"]

SECONDS = 2.0
ROUNDS = 3
RATE = 1000

SHAPES = {"1 → 1": (1, 1), "1 → 4": (1, 4), "4 → 4": (4, 4)}

OURS = "co2"


@dataclass(frozen=True, slots=True)
class Goal:
    """What co2 is to reach, as a multiple of other rows.

    Attributes:
        figure: which of the figures.
        goal, floor: multiples to reach, and never to miss; a latency is to stay below.
        beside: name of the row that is meant, '' for the best that is not ours.
    """

    figure: str
    goal: float
    floor: float | None
    beside: str = ""


GOALS = (
    Goal("1 → 1", 3.0, 2.0),
    Goal("1 → 4", 2.0, 1.4),
    Goal("p50", 1.25, None),
    Goal("p50", 1.25, 1.25, "pyzmq"),
    Goal("p99", 1.25, None),
    Goal("p99", 1.25, 1.25, "pyzmq"),
    Goal("acked", 5.0, 2.0, "redis-streams"),
    Goal("acked", 10.0, 2.0, "jetstream"),
)

TITLES = {**{shape: f"{shape}, messages/s" for shape in SHAPES}, "acked": "acknowledged/s"}
TITLES |= {"p50": "p50, µs", "p99": "p99, µs"}

LOW_IS_GOOD = ("p50", "p99")

Rounds = dict[str, dict[str, list[float]]]
"""Figure → peer → one value per round; a value that could not be measured is not a number."""


def measure(names: Sequence[str] = peers.NAMES, seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure all in turn, several rounds, so that a slow minute of the machine meets every one of them."""
    limit = floor.measure()
    print(f"  without any network, one core: {limit:,.0f}/s", flush=True)
    found: Rounds = {figure: {} for figure in TITLES}
    missing: dict[str, dict[str, int]] = {}
    failed: dict[str, str] = {}
    bare: list[Latency] = []
    running: dict[str, Peer] = {}
    for name in names:
        try:
            running[name] = peers.make(name)
        except ImportError as error:
            failed[name] = str(error)
    for round_number in range(rounds):
        for what, step in steps(seconds):
            told = []
            for name, peer in running.items():
                if what == "acked" and not peer.durable:
                    continue
                try:
                    values, lost = step(peer)
                except (Exception, SystemExit) as error:
                    failed[name] = f"{what}: {error}"
                    told.append(f"{name} failed: {error}")
                    values, lost = {}, 0
                for figure in values if lost else ():
                    by_figure = missing.setdefault(name, {})
                    by_figure[figure] = max(lost, by_figure.get(figure, 0))
                for figure in values or TITLES:
                    if belongs(figure, what):
                        found[figure].setdefault(name, []).append(values.get(figure, float("nan")))
                if values:
                    told.append(f"{name} " + "/".join(f"{value:,.0f}" for value in values.values()))
            if what == "latency":
                bare.append(chain.measure(seconds, RATE))
                told.append(f"bare chain {bare[-1].p50:,.0f}/{bare[-1].p99:,.0f}")
            print(f"  {what}, round {round_number + 1} of {rounds}: {'  '.join(told)}", flush=True)
    return {
        "limit": limit,
        "bare": {figure: statistics.median(getattr(one, figure) for one in bare) for figure in LOW_IS_GOOD},
        "seconds": seconds,
        "rounds": rounds,
        "titles": {name: peer.title for name, peer in running.items()},
        "rows": {figure: {name: median(all_) for name, all_ in by.items()} for figure, by in found.items()},
        "missing": missing,
        "failed": failed,
        "goals": list(judged(found)),
    }


def steps(seconds: float) -> Iterator[tuple[str, Callable[[Peer], tuple[dict[str, float], int]]]]:
    """Give what is measured: its name, and what gives values by figure and how many messages were missing."""

    def throughput(shape: str) -> Callable[[Peer], tuple[dict[str, float], int]]:
        def step(peer: Peer) -> tuple[dict[str, float], int]:
            found = peer.throughput(*SHAPES[shape], seconds)
            return {shape: found.rate}, found.missing

        return step

    def latency(peer: Peer) -> tuple[dict[str, float], int]:
        found = peer.latency(RATE, seconds)
        return {"p50": found.p50, "p99": found.p99}, found.missing

    def acked(peer: Peer) -> tuple[dict[str, float], int]:
        return {"acked": peer.acked(seconds)}, 0

    for shape in SHAPES:
        yield shape, throughput(shape)
    yield "latency", latency
    yield "acked", acked


def belongs(figure: str, what: str) -> bool:
    return figure in LOW_IS_GOOD if what == "latency" else figure == what


def median(values: Sequence[float]) -> float | None:
    """Give the median of what could be measured."""
    good = [value for value in values if value == value]
    return statistics.median(good) if good else None


def judged(found: Rounds) -> Iterator[dict[str, Any]]:
    """Compare with the goals, round by round; leave out what was not measured."""
    for goal in GOALS:
        low = goal.figure in LOW_IS_GOOD
        ratio = against(found[goal.figure], goal.beside, low)
        if ratio is not None:
            what = f"{TITLES[goal.figure]}, beside {goal.beside or 'the best peer'}"
            yield {"figure": goal.figure, **Judged(what, ratio, goal.goal, goal.floor, low, "×").row()}


def against(rows: Mapping[str, Sequence[float]], beside: str, low: bool) -> float | None:
    """Give the median of our value over that of another, or the best of all others, in the same round."""
    ratios = []
    others = [values for name, values in rows.items() if name != OURS and beside in ("", name)]
    for i, ours in enumerate(rows.get(OURS, ())):
        theirs = [values[i] for values in others if values[i] == values[i]]
        if theirs and ours == ours:
            ratios.append(ours / (min(theirs) if low else max(theirs)))
    return statistics.median(ratios) if ratios else None


def section(result: Mapping[str, Any]) -> list[str]:
    """Write the lines of the page."""
    rows, titles = result["rows"], result["titles"]
    lines = [
        "## From plugin to plugin, beside other brokers",
        "",
        "`{'data': [i, 'shrubbery', 0.815]}` in MessagePack, encoded in the sender, decoded in every receiver, "
        "then a function is called. One process for the broker, one for every sender and every receiver; co2 has "
        "a satellite and an isolated plugin host for each. No bounds that drop; the slowest receiver counts, from "
        f"the first message sent to the last one received. {result['rounds']} rounds in turn of "
        f"{result['seconds']:g} s, medians. Latency is one way at {RATE:,} messages/s. Acknowledged: JetStream as "
        "it comes (it syncs every two minutes), Redis Streams pipelined with `appendfsync always`.",
        "",
        "| | " + " | ".join(TITLES.values()) + " |",
        "|---|" + "---:|" * len(TITLES),
    ]
    for name, title in titles.items():
        cells = [rows[figure].get(name) for figure in TITLES]
        told = [("" if cell is None else f"{cell:,.0f}") for cell in cells]
        for i, figure in enumerate(TITLES):
            if (lost := result["missing"].get(name, {}).get(figure)) and told[i]:
                told[i] += f" ({lost:,} missing)"
        lines.append(f"| {title} | " + " | ".join(told) + " |")
    lines += [
        "",
        f"Encode, join, copy, decode and call alone, in one thread without any network: {result['limit']:,.0f} "
        "messages/s.",
        "",
        "A bare chain of as many processes and sockets as co2 has between two plugins, in which nobody does "
        f"anything but read and write: p50 {result['bare']['p50']:,.0f} µs, p99 {result['bare']['p99']:,.0f} µs.",
        "",
    ]
    for name, why in result["failed"].items():
        lines += [f"{name} was not measured everywhere: {why}.", ""]
    lines += goals.lines(row(goal) for goal in result["goals"])
    lines += ["Where the time goes, and what limits it: [performance.md](performance.md).", ""]
    return [*lines, "![throughput](bench/link.svg)", "", "![latency](bench/latency.svg)", ""]


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Draw throughput and latency, by file name."""

    def groups(figures: Sequence[str]) -> list[tuple[str, Mapping[str, float], str]]:
        drawn: list[tuple[str, Mapping[str, float], str]] = []
        for figure in figures:
            good = {name: value for name, value in result["rows"][figure].items() if value is not None}
            rows = {result["titles"][name]: value for name, value in good.items()}
            note = next((f"co2 × {goal['value']:.3g}" for goal in result["goals"] if goal["figure"] == figure), "")
            if rows:
                drawn.append((TITLES[figure], rows, note))
        return drawn

    return {
        "link.svg": bars("From plugin to plugin: messages per second", groups([*SHAPES, "acked"]), "/s"),
        "latency.svg": bars(f"Latency one way at {RATE:,} messages/s", groups(LOW_IS_GOOD), "µs"),
    }


def verdict(result: Mapping[str, Any]) -> bool:
    """Tell which goals are reached; False where a floor is not held, or co2 could not be measured."""
    held = goals.tell(row(goal) for goal in result["goals"])
    return held and OURS not in result["failed"]


def row(goal: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out which figure a goal is about."""
    return {key: value for key, value in goal.items() if key != "figure"}
