"""Round trips: plugin to plugin and back, with a pause before each, on a quiet machine and beside a busy core."""

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

from bench import chain, peers
from bench.busy import LOADS
from bench.chart import bars
from bench.goals import Judged, lines, tell
from bench.link import OURS, against, median
from bench.peers.base import PairedPeer

__all__ = ["NAMES", "ROUNDS", "TRIPS", "judged", "measure", "pictures", "section", "verdict"]

ROUNDS = 3

TRIPS = {0.0: 1500, 0.001: 500, 0.02: 75, 0.1: 30}
"""Round trips of a round, by the pause before each, in seconds: some seconds together."""

WARM_UP = 100

CHAIN = "bare chain"

BESIDE = "pyzmq"

NAMES = (OURS, BESIDE, "zenoh", "nats", "mosquitto")

GOALS = {"quiet": (1.0, 1.25), "busy": (1.25, 2.0)}
"""Goal and floor for p50, beside pyzmq, by what else the machine does."""

Times = dict[str, dict[str, dict[str, list[list[float]]]]]
"""Load → pause → peer → one list of microseconds for each round, empty where it could not be measured."""


class Asks(Protocol):
    """What makes round trips."""

    def trips(self, count: int, pause: float) -> list[float]: ...


def told(pause: float) -> str:
    """Return a pause as text."""
    return f"{pause * 1000:g} ms" if pause else "none"


def measure(names: Sequence[str] = NAMES, seconds: float | None = None, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure all in turn, several rounds.

    Args:
        names: of peers; those that have no round trips here are left out.
        seconds: how long a round is for each peer and load; where it is given, with fewer or more trips.
        rounds: how many.
    """
    share = 1.0 if seconds is None else seconds / sum(count * pause for pause, count in TRIPS.items())
    trips = {pause: max(10, round(count * share)) for pause, count in TRIPS.items()}
    pairs: dict[str, Callable[[], contextlib.AbstractContextManager[Asks]]] = {}
    failed: dict[str, str] = {}
    titles: dict[str, str] = {}
    for name in names:
        if name in NAMES:
            try:
                peer = peers.make(name)
            except ImportError as error:
                failed[name] = str(error)
            else:
                pairs[name], titles[name] = cast(PairedPeer, peer).pair, peer.title
    pairs[CHAIN], titles[CHAIN] = chain.pair, "bare chain of five processes"
    times: Times = {load: {told(pause): {name: [] for name in pairs} for pause in trips} for load in LOADS}
    for round_number in range(rounds):
        for name, pair in pairs.items():
            try:
                with pair() as asks:
                    found = once(asks, trips)
            except (Exception, SystemExit) as error:
                failed[name] = str(error)
                found = {}
            for load, by_pause in times.items():
                for pause, by_peer in by_pause.items():
                    by_peer[name].append(found.get((load, pause), []))
        said = "  ".join(
            f"{load}, pause {pause}: " + "/".join(f"{name} {p50(all_[-1]):,.0f}" for name, all_ in by.items())
            for load, by_pause in times.items()
            for pause, by in by_pause.items()
        )
        print(f"  round trips, round {round_number + 1} of {rounds}, p50: {said}", flush=True)
    return {
        "rounds": rounds,
        "trips": {told(pause): count for pause, count in trips.items()},
        "titles": titles,
        "rows": {
            load: {
                pause: {name: row(all_) for name, all_ in by_peer.items()} for pause, by_peer in by_pause.items()
            }
            for load, by_pause in times.items()
        },
        "failed": failed,
        "goals": list(judged(times)),
        "unmeasured": list(unmeasured(times, names)),
    }


def once(asks: Asks, trips: Mapping[float, int]) -> dict[tuple[str, str], list[float]]:
    """Measure one pair on the quiet machine and beside a busy core."""
    found = {}
    asks.trips(WARM_UP, 0)
    for load, begin in LOADS.items():
        with begin():
            for pause, count in trips.items():
                found[load, told(pause)] = asks.trips(count, pause)
    return found


def p50(times: Sequence[float]) -> float:
    """Return the median; not a number where there is none."""
    return statistics.median(times) if times else float("nan")


def row(rounds: Sequence[Sequence[float]]) -> dict[str, float | None]:
    """Return p50, the median of the rounds, and p99 of all rounds together: one round has too few trips for it."""
    together = [time for times in rounds for time in times]
    p99 = statistics.quantiles(together, n=100)[98] if len(together) > 1 else None
    return {"p50": median([p50(times) for times in rounds]), "p99": p99}


def judged(times: Times) -> Iterator[dict[str, Any]]:
    """Compare with the goals, round by round; leave out what was not measured."""
    for load, by_pause in times.items():
        goal, floor = GOALS[load]
        for pause, by_peer in by_pause.items():
            rows = {name: [p50(one) for one in all_] for name, all_ in by_peer.items()}
            ratio = against(rows, BESIDE, low=True)
            if ratio is not None:
                yield Judged(judged_as(load, pause), ratio, goal, floor, True, "×").row()


def unmeasured(times: Times, names: Sequence[str]) -> Iterator[str]:
    """Return the floors of which nobody knows whether they are held, though both sides were asked for.

    Args:
        times: what was measured.
        names: of the peers that were asked for.
    """
    if OURS in names and BESIDE in names:
        known = {row["what"] for row in judged(times)}
        for load, by_pause in times.items():
            yield from (what for what in (judged_as(load, pause) for pause in by_pause) if what not in known)


def judged_as(load: str, pause: str) -> str:
    """Return the text about a goal."""
    beside = ", beside a busy core" if load == "busy" else ""
    return f"p50, pause {pause}{beside}, beside {BESIDE}"


def section(result: Mapping[str, Any]) -> list[str]:
    """Write the lines of the page."""
    counts = ", ".join(f"{count:,} with {pause}" for pause, count in result["trips"].items())
    found = [
        "## There and back",
        "",
        "A sends, B answers in its `receive`, and A's `receive` ends the round trip. Message and processes are "
        "the same as above. The time runs from before the first encoding until after the second decoding, by A's "
        "clock. Before each trip there is a pause; without a pause, `receive` of A starts the next trip at once. "
        f"{result['rounds']} rounds in turns. Round trips in each round: {counts}. p50 is the median over the "
        "rounds, p99 that of all their trips. The bare chain and the busy core are those of the section above.",
        "",
    ]
    for load, title in (("quiet", "Microseconds, p50 / p99"), ("busy", "The same beside a busy core")):
        rows = result["rows"][load]
        found += [
            f"| {title} | "
            + " | ".join(f"pause {pause}" if pause != "none" else "no pause" for pause in rows)
            + " |",
            "|---|" + "---:|" * len(rows),
        ]
        for name, peer in result["titles"].items():
            cells = [cell(by_peer.get(name, {})) for by_peer in rows.values()]
            found.append(f"| {peer} | " + " | ".join(cells) + " |")
        found.append("")
    for name, why in result["failed"].items():
        found += [f"{name} was not measured everywhere: {why}.", ""]
    return [*found, *lines(result["goals"]), "![round trips](bench/roundtrip.svg)", ""]


def cell(one: Mapping[str, float | None]) -> str:
    return " / ".join(f"{value:,.0f}" for value in one.values() if value is not None)


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Draw p50, by file name."""
    drawn: list[tuple[str, Mapping[str, float], str]] = []
    for load, by_pause in result["rows"].items():
        for pause, by_peer in by_pause.items():
            rows = {result["titles"][name]: one["p50"] for name, one in by_peer.items() if one["p50"] is not None}
            beside = "beside a busy core, " if load == "busy" else ""
            if rows:
                drawn.append((f"{beside}pause {pause}", rows, ""))
    return {"roundtrip.svg": bars("There and back, p50", drawn, "µs")}


def verdict(result: Mapping[str, Any]) -> bool:
    """Print which goals are reached; return False where a floor is not held or not measured, or co2 was not."""
    return tell(result["goals"], result.get("unmeasured", ())) and OURS not in result["failed"]
