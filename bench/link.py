"""Messages from plugin to plugin through a relay, beside other brokers with Python at both ends."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import chain, floor, goals, peers
from bench.chart import bars
from bench.goals import Judged
from bench.peers.base import Peer

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
    Goal("busy p50", 1.25, 2.0, "pyzmq"),
    Goal("busy p99", 1.25, 2.0, "pyzmq"),
    Goal("acked", 5.0, 2.0, "redis-streams"),
    Goal("acked", 10.0, 2.0, "jetstream"),
)

TITLES = {**{shape: f"{shape}, messages/s" for shape in SHAPES}, "acked": "acknowledged/s"}
TITLES |= {"p50": "p50, µs", "p99": "p99, µs", "busy p50": "beside a busy core: p50, µs", "busy p99": "p99, µs"}

LATENCIES = {"latency": ("p50", "p99"), "latency beside a busy core": ("busy p50", "busy p99")}
"""Figures of the steps that measure latency."""

LOW_IS_GOOD = tuple(figure for figures in LATENCIES.values() for figure in figures)

Rounds = dict[str, dict[str, list[float]]]
"""Figure → peer → one value per round; a value that could not be measured is not a number."""


def measure(names: Sequence[str] = peers.NAMES, seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure all in turn, several rounds, so that a slow minute of the machine meets every one of them."""
    limit = floor.measure()
    print(f"  without any network, one core: {limit:,.0f}/s", flush=True)
    found: Rounds = {figure: {} for figure in TITLES}
    missing: dict[str, dict[str, int]] = {}
    failed: dict[str, str] = {}
    bare: dict[str, list[float]] = {figure: [] for figure in LOW_IS_GOOD}
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
            if figures := LATENCIES.get(what):
                found_bare = chain.measure(seconds, RATE, load_of(what))
                for figure, value in zip(figures, (found_bare.p50, found_bare.p99), strict=True):
                    bare[figure].append(value)
                told.append(f"bare chain {found_bare.p50:,.0f}/{found_bare.p99:,.0f}")
            print(f"  {what}, round {round_number + 1} of {rounds}: {'  '.join(told)}", flush=True)
    return {
        "limit": limit,
        "bare": {figure: statistics.median(values) for figure, values in bare.items()},
        "seconds": seconds,
        "rounds": rounds,
        "titles": {name: peer.title for name, peer in running.items()},
        "rows": {figure: {name: median(all_) for name, all_ in by.items()} for figure, by in found.items()},
        "missing": missing,
        "failed": failed,
        "goals": list(judged(found)),
        "unmeasured": list(unmeasured(found, names)),
    }


Step = Callable[[Peer], tuple[dict[str, float], int]]
"""Gives values by figure, and how many messages were missing."""


def steps(seconds: float) -> Iterator[tuple[str, Step]]:
    """Return what is measured, by name."""

    def throughput(shape: str) -> Step:
        def step(peer: Peer) -> tuple[dict[str, float], int]:
            found = peer.throughput(*SHAPES[shape], seconds)
            return {shape: found.rate}, found.missing

        return step

    def latency(what: str) -> Step:
        def step(peer: Peer) -> tuple[dict[str, float], int]:
            found = peer.latency(RATE, seconds, load_of(what))
            p50, p99 = LATENCIES[what]
            return {p50: found.p50, p99: found.p99}, found.missing

        return step

    def acked(peer: Peer) -> tuple[dict[str, float], int]:
        return {"acked": peer.acked(seconds)}, 0

    for shape in SHAPES:
        yield shape, throughput(shape)
    for what in LATENCIES:
        yield what, latency(what)
    yield "acked", acked


def load_of(what: str) -> str:
    """Return the name of what else the machine does in a step."""
    return "quiet" if what == "latency" else "busy"


def belongs(figure: str, what: str) -> bool:
    return figure in LATENCIES.get(what, (what,))


def median(values: Sequence[float]) -> float | None:
    """Return the median of what could be measured."""
    good = [value for value in values if value == value]
    return statistics.median(good) if good else None


def judged(found: Rounds) -> Iterator[dict[str, Any]]:
    """Compare with the goals, round by round; leave out what was not measured."""
    for goal in GOALS:
        low = goal.figure in LOW_IS_GOOD
        ratio = against(found[goal.figure], goal.beside, low)
        if ratio is not None:
            yield {"figure": goal.figure, **Judged(judged_as(goal), ratio, goal.goal, goal.floor, low, "×").row()}


def unmeasured(found: Rounds, names: Sequence[str]) -> Iterator[str]:
    """Return the floors of which nobody knows whether they are held, though all that they compare was asked for.

    Args:
        found: what was measured.
        names: of the peers that were asked for; a goal beside another one is left out on purpose.
    """
    for goal in GOALS:
        asked = goal.beside in names if goal.beside else len(names) > 1
        low = goal.figure in LOW_IS_GOOD
        if goal.floor and OURS in names and asked and against(found[goal.figure], goal.beside, low) is None:
            yield judged_as(goal)


def judged_as(goal: Goal) -> str:
    """Return the text about a goal."""
    title = TITLES[goal.figure] if goal.figure != "busy p99" else "beside a busy core: p99, µs"
    return f"{title}, beside {goal.beside or 'the best peer'}"


def against(rows: Mapping[str, Sequence[float]], beside: str, low: bool) -> float | None:
    """Return the median of our value over that of another, or the best of all others, in the same round."""
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
        "The message is `{'data': [i, 'shrubbery', 0.815]}` in MessagePack. The sender encodes it; every receiver "
        "decodes it and calls a function. There is one process for the broker, and one for each sender and "
        "receiver; co2 has a satellite and an isolated plugin host for each of these. No limit drops messages. "
        "The slowest receiver counts, from the first message sent to the last one received. "
        f"{result['rounds']} rounds in turns of {result['seconds']:g} s each, medians. Latency is one way at "
        f"{RATE:,} messages/s, on a machine that does nothing else, and beside a process that computes all the "
        "time in its own session (the busy core). Acknowledged messages: JetStream with its defaults (it syncs "
        "every two minutes), Redis Streams pipelined with `appendfsync always`.",
        "",
        "| | " + " | ".join(TITLES.values()) + " |",
        "|---|" + "---:|" * len(TITLES),
    ]
    for name, title in titles.items():
        cells = [rows.get(figure, {}).get(name) for figure in TITLES]
        told = [("" if cell is None else f"{cell:,.0f}") for cell in cells]
        for i, figure in enumerate(TITLES):
            if (lost := result["missing"].get(name, {}).get(figure)) and told[i]:
                told[i] += f" ({lost:,} missing)"
        lines.append(f"| {title} | " + " | ".join(told) + " |")
    lines += [
        "",
        "The floor program only encodes, joins, copies and decodes messages and calls the function, in one thread "
        f"without any network: {result['limit']:,.0f} messages/s.",
        "",
        "A bare chain of as many processes and sockets as co2 has between two plugins, which only read and "
        f"write: {bare_chain(result['bare'])}.",
        "",
    ]
    for name, why in result["failed"].items():
        lines += [f"{name} was not measured everywhere: {why}.", ""]
    lines += goals.lines(row(goal) for goal in result["goals"])
    lines += ["[performance.md](performance.md) explains where the time goes, and what limits it.", ""]
    return [*lines, "![throughput](bench/link.svg)", "", "![latency](bench/latency.svg)", ""]


def bare_chain(bare: Mapping[str, float]) -> str:
    """Return the latency of the bare chain, as text."""
    told = f"p50 {bare['p50']:,.0f} µs, p99 {bare['p99']:,.0f} µs"
    if "busy p50" in bare:
        told += f"; beside a busy core {bare['busy p50']:,.0f} and {bare['busy p99']:,.0f} µs"
    return told


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Draw throughput and latency, by file name."""

    def groups(figures: Sequence[str]) -> list[tuple[str, Mapping[str, float], str]]:
        drawn: list[tuple[str, Mapping[str, float], str]] = []
        for figure in figures:
            good = {name: value for name, value in result["rows"].get(figure, {}).items() if value is not None}
            rows = {result["titles"][name]: value for name, value in good.items()}
            note = next((f"co2 × {goal['value']:.3g}" for goal in result["goals"] if goal["figure"] == figure), "")
            if rows:
                drawn.append(
                    (TITLES[figure] if figure != "busy p99" else "beside a busy core: p99, µs", rows, note)
                )
        return drawn

    return {
        "link.svg": bars("From plugin to plugin: messages per second", groups([*SHAPES, "acked"]), "/s"),
        "latency.svg": bars(f"Latency one way at {RATE:,} messages/s", groups(LOW_IS_GOOD), "µs"),
    }


def verdict(result: Mapping[str, Any]) -> bool:
    """Print which goals are reached; return False where a floor is not held or not measured, or co2 was not."""
    held = goals.tell((row(goal) for goal in result["goals"]), result.get("unmeasured", ()))
    return held and OURS not in result["failed"]


def row(goal: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out which figure a goal is about."""
    return {key: value for key, value in goal.items() if key != "figure"}
