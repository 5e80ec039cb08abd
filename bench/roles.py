"""What a message takes of the processors, process by process, at full speed, beside others and references."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bench import floor, peers, references
from bench.chart import bars
from bench.goals import Judged, lines, tell
from bench.medians import medians
from bench.peers.base import Peer, Role

__all__ = ["NAMES", "ROUNDS", "SECONDS", "judged", "measure", "pictures", "section", "unmeasured", "verdict"]

SECONDS = 2.0
ROUNDS = 3

OURS = "co2"

NAMES = (OURS, "pyzmq", "zenoh")

FLOOR = "floor program"

GOAL = 1.25
"""Times the processor time of the floor program that a message may take, over all five processes."""

DRAWN = {
    "all processes": tuple(Role),
    "sending program": (Role.SENDER,),
    "all between the two": (Role.SENDING_SATELLITE, Role.BROKER, Role.RECEIVING_SATELLITE),
    "receiving program": (Role.RECEIVER,),
}

BETWEEN = DRAWN["all between the two"]

FRAMED = "pyzmq-framed"
"""The reference that has a hub and, as co2 has, many messages in a frame, and neither satellites nor a log."""

HUB, ISOLATED, DURABLE = "hub", "isolation", "durability"

HAS = {OURS: (HUB, ISOLATED, DURABLE), "pyzmq": (HUB,), FRAMED: (HUB,)}
"""What a row of the table of references has of the three; the rows that are not here have none of them."""

Costs = Mapping[str, Sequence[Mapping[Role, float]]]
"""Peer, or the floor program → nanoseconds for a message by role, for each round in which it was measured."""


def measure(names: Sequence[str] = NAMES, seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure all in turn, several rounds.

    Args:
        names: of peers; those whose roles are not compared are left out. The references are measured beside any.
        seconds: of sending.
        rounds: how many.
    """
    wanted = [name for name in NAMES if name in names]
    failed: dict[str, str] = {}
    compared = made(wanted, peers.make, failed)
    beside = made(references.NAMES, references.make, failed)
    running = {**compared, **beside}
    costs: dict[str, list[Mapping[Role, float]]] = {FLOOR: [], **{name: [] for name in running}}
    rates: dict[str, list[float]] = {name: [] for name in running}
    for round_number in range(rounds):
        costs[FLOOR].append(floor.costs())
        for name, peer in running.items():
            try:
                found = peer.throughput(1, 1, seconds)
                if found.missing:
                    raise RuntimeError(f"{found.missing} messages are missing")
            except (Exception, SystemExit) as error:
                failed[name] = str(error)
            else:
                costs[name].append(found.cost)
                rates[name].append(found.rate)
        told = "  ".join(f"{name} {sum(all_[-1].values()):,.0f}" for name, all_ in costs.items() if all_)
        print(f"  ns of the processors for a message, round {round_number + 1} of {rounds}: {told}", flush=True)
    return {
        "seconds": seconds,
        "rounds": rounds,
        "titles": {name: peer.title for name, peer in compared.items()},
        "references": {name: reference.title for name, reference in beside.items()},
        "rates": {name: statistics.median(all_) for name, all_ in rates.items() if all_},
        "rows": {name: medians(all_) for name, all_ in costs.items() if all_},
        "failed": failed,
        "goals": list(judged(costs)),
        "unmeasured": list(unmeasured(wanted, failed)),
    }


def made(names: Sequence[str], make: Callable[[str], Peer], failed: dict[str, str]) -> dict[str, Peer]:
    """Return those whose libraries are here; write down in ``failed`` why another one is not."""
    found = {}
    for name in names:
        try:
            found[name] = make(name)
        except ImportError as error:
            failed[name] = str(error)
    return found


def judged(costs: Costs) -> Iterator[dict[str, Any]]:
    """Compare what all our processes take with the floor program, where both were measured."""
    if ours := costs.get(OURS):
        total, limit = (statistics.median(sum(one.values()) for one in all_) for all_ in (ours, costs[FLOOR]))
        what = "processor time of a message, all five processes, beside the floor program"
        yield Judged(what, total / limit, GOAL, at_most=True, unit="×").row()


def unmeasured(wanted: Sequence[str], failed: Mapping[str, str]) -> Iterator[str]:
    """Return what was asked for and is not known, or only of some of the rounds."""
    yield from (f"processor time by role, {name}" for name in wanted if name in failed)


def section(result: Mapping[str, Any]) -> list[str]:
    """Write the lines of the page."""
    rows, rates = result["rows"], result["rates"]
    columns = {name: title for name, title in result["titles"].items() if name in rows}
    limit = rows[FLOOR]
    found = [
        "## What a message takes of the processors",
        "",
        "One sender, one receiver, full speed; the message, the processes and what is done with it are those of "
        "the table above. Processor time of each process, the kernel's work included, from the first message "
        "until the last one has come. The programs of co2 are plugins in plugin hosts. The floor program does the "
        "least that all of them must do, in one thread without any network: encode and join; copy once; decode, "
        f"and call a function with every message. Medians of {result['rounds']} rounds of "
        f"{result['seconds']:g} s, in turn.",
        "",
        "| ns per message | " + " | ".join([*columns.values(), FLOOR]) + " |",
        "|---|" + "---:|" * (len(columns) + 1),
    ]
    for role in Role:
        cells = [rows[name].get(role) for name in (*columns, FLOOR)]
        found.append(f"| {role} | " + " | ".join("" if cell is None else f"{cell:,.0f}" for cell in cells) + " |")
    totals = [sum(rows[name].values()) for name in (*columns, FLOOR)]
    found += [
        "| all | " + " | ".join(f"{total:,.0f}" for total in totals) + " |",
        "| beside the floor program | "
        + " | ".join(f"{total / sum(limit.values()):.2f} ×" for total in totals[:-1])
        + " | |",
        "| messages/s in this run | " + " | ".join(f"{rates[name]:,.0f}" for name in columns) + " | |",
        "",
    ]
    for name, why in result["failed"].items():
        found += [f"{name} was not measured everywhere: {why}.", ""]
    found += [*lines(result["goals"]), "![processor time](bench/roles.svg)", ""]
    return [*found, *beside_references(result)] if result.get("references") else found


def beside_references(result: Mapping[str, Any]) -> list[str]:
    """Write what a hub, isolation and durability cost: the table of what has all, some and none of them."""
    rows, rates = result["rows"], result["rates"]
    titles = {name: title for name, title in result["titles"].items() if name in HAS}
    titles |= {name: f"reference: {title}" for name, title in result["references"].items()}
    found = [
        "### What a hub, isolation and durability cost",
        "",
        "The references are not peers: each leaves out something that co2 does, and no ratio, goal or floor takes "
        "them in. They send the same messages, each encoded by itself, in the same rounds. Isolation is a "
        "satellite between each program and the network, durability the relay's log on disk. co2 puts many "
        "messages into a frame without the program's doing. iceoryx2 notifies its receiver after each 500 "
        "messages.",
        "",
        f"| ns per message | {HUB} | {ISOLATED} | {DURABLE} | messages/s | sending program | between the two | "
        "receiving program | all |",
        "|---|---|---|---|" + "---:|" * 5,
    ]
    for name, title in titles.items():
        if cost := rows.get(name):
            has = ["yes" if what in HAS.get(name, ()) else "" for what in (HUB, ISOLATED, DURABLE)]
            between = f"{between_the_two(cost):,.0f}" if any(role in cost for role in BETWEEN) else ""
            ends = [f"{cost[role]:,.0f}" for role in (Role.SENDER, Role.RECEIVER)]
            cells = [*has, f"{rates[name]:,.0f}", ends[0], between, ends[1], f"{sum(cost.values()):,.0f}"]
            found.append(f"| {title} | {' | '.join(cells)} |")
    least = sum(rows[FLOOR].values())
    found += [f"| {FLOOR} | | | | | | | | {least:,.0f} |", ""]
    if OURS in rows and FRAMED in rows:
        ours, hub = between_the_two(rows[OURS]), between_the_two(rows[FRAMED])
        found += [
            f"Where messages share frames, a hub alone costs {hub:,.0f} ns a message. co2's relay, which writes "
            f"the log, and the two satellites that isolate the programs cost {ours:,.0f} ns: {ours - hub:,.0f} ns "
            f"are what isolation and durability cost. The floor program does only what all must do, so at most "
            f"{sum(rows[OURS].values()) - least:,.0f} ns are left to gain.",
            "",
        ]
    return found


def between_the_two(cost: Mapping[str, float]) -> float:
    """Return what all processes between the two programs take."""
    return sum(cost.get(role, 0.0) for role in BETWEEN)


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Draw, by file name."""
    titles = {**result["titles"], FLOOR: FLOOR}
    groups = []
    for heading, roles in DRAWN.items():
        drawn = {
            titles[name]: sum(cost.get(role, 0.0) for role in roles)
            for name, cost in ((name, result["rows"][name]) for name in titles if name in result["rows"])
        }
        groups.append((heading, drawn, ""))
    return {"roles.svg": bars("What a message takes of the processors", groups, "ns")}


def verdict(result: Mapping[str, Any]) -> bool:
    """Print which goals are reached; return False where somebody was not measured."""
    return tell(result["goals"], result["unmeasured"])
