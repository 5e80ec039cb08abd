"""Runs many seeds in a few processes, and says what was done."""

import argparse
import json
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.bugs import BUGS, planted
from tests.simulation.faults import FAULTS
from tests.simulation.world import Outcome, run_seed

__all__ = ["SOMETIMES", "Figures", "main", "search"]

SHOWN = 60
"""Lines of the trace that are shown of a failure."""

SOMETIMES = (
    "a frame was foreseen at a satellite",
    "a frame was foreseen at the relay",
    "a frame was foreseen in an outbox",
    "a message came again, marked",
    "a new life heard again what an earlier one had",
    "a run begins with what an earlier one left",
    "a send waits for room in the outbox",
    "another log than before",
    "dead letter: given up",
    "dead letter: receive raised",
    "died in the middle of a batch",
    "ended within a commit",
    "frames that were known come again",
    "gap in the log: retention",
    "gap told: dropped here",
    "gap told: log replaced",
    "gap told: retention",
    "gap told: the relay lost what it had acknowledged",
    "goodbye of the relay: cloned",
    "goodbye of the relay: identity",
    "goodbye of the relay: stopping",
    "goodbye of the relay: taken-over",
    "hostile: braked",
    "hostile: claim numbers",
    "hostile: claim positions",
    "hostile: flood",
    "hostile: say hello often",
    "hostile: take an origin",
    "link waits for the disk",
    "live message dropped at its satellite",
    "log replaced: it was rolled back",
    "log's disk full",
    "no Welcome in time",
    "outbox full",
    "outbox read back from disk",
    "outbox spills to disk",
    "package falls behind",
    "plugin: die",
    "plugin: hang",
    "read from disk",
    "relay ended by its disk",
    "relay.fetch told a gap",
    "relay.relay refused for want of room",
    "relay.relay repeated",
    "silent link given up",
    "told to wait for room on disk",
    "transport full",
    "wall clock jumps while the relay is down",
)
"""What a run of a thousand seeds must have seen each of: branches that are rarely taken."""


@dataclass(slots=True)
class Figures:
    """The sum over seeds."""

    seeds: int = 0
    simulated: float = 0.0
    events: int = 0
    messages: int = 0
    heard: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one in."""
        self.seeds += 1
        self.simulated += outcome.seconds
        self.events += outcome.events
        self.messages += outcome.messages
        self.heard += outcome.heard
        self.counts.update(outcome.counts)
        self.faults.update(outcome.faults)
        if outcome.oracle:
            self.failed.append(outcome)

    def as_dict(self, wall: float, cpu: float) -> dict[str, Any]:
        """Give everything as plain values."""
        return {
            "seeds": self.seeds,
            "failed": [outcome.seed for outcome in self.failed],
            "simulated_hours": round(self.simulated / 3600, 2),
            "events": self.events,
            "messages_sent": self.messages,
            "messages_heard": self.heard,
            "wall_seconds": round(wall, 1),
            "cpu_seconds": round(cpu, 1),
            "faults": {name: self.faults[name] for name in sorted(FAULTS)},
            "sometimes": dict(sorted({**dict.fromkeys(SOMETIMES, 0), **self.counts}.items())),
        }


def search(name: str, seeds: Iterable[int]) -> Outcome | None:
    """Give the first seed that finds a planted bug, None for none."""
    with planted(name):
        for seed in seeds:
            outcome = run_seed(seed)
            if outcome.oracle:
                return outcome
    return None


def _quiet() -> None:
    logging.disable(logging.CRITICAL)


def _run(seed: int) -> Outcome:
    return run_seed(seed)


def _found(given: tuple[str, int, int]) -> tuple[str, int, str]:
    name, first, seeds = given
    outcome = search(name, range(first, first + seeds))
    return (name, outcome.seed - first + 1, outcome.oracle) if outcome is not None else (name, 0, "")


def main() -> int:
    """Give the exit code: 0, or 1 when an oracle has fired or a bug was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--seed", type=int, default=None, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happens")
    parser.add_argument("--bug", default="", choices=["", *BUGS], help="with this bug planted")
    parser.add_argument("--bugs", action="store_true", help="search for every planted bug, in so many seeds each")
    parser.add_argument("--only", default="", help="with --bugs: for these, with commas between")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    _quiet()
    if given.bugs:
        names = given.only.split(",") if given.only else list(BUGS)
        return _all_bugs(names, given.first, given.seeds, given.jobs, as_json=given.json)
    with planted(given.bug):
        if given.seed is not None:
            return _one(given.seed, trace=given.trace)
        return _many(given.first, given.seeds, given.jobs, as_json=given.json)


def _one(seed: int, *, trace: bool) -> int:
    outcome = run_seed(seed, keep_all=trace)
    print("\n".join(outcome.lines if trace else outcome.lines[-SHOWN:]))
    print(f"seed {seed}: {outcome.text or 'nothing is broken'}; trace {outcome.digest}")
    return 1 if outcome.oracle else 0


def _mapped(jobs: int, function: Callable[[Any], Any], work: list[Any]) -> Iterable[Any]:
    if jobs <= 1:
        yield from map(function, work)
        return
    with multiprocessing.get_context("fork").Pool(jobs, _quiet) as pool:
        yield from pool.imap_unordered(function, work)


def _many(first: int, seeds: int, jobs: int, *, as_json: bool) -> int:
    began, figures = time.monotonic(), Figures()
    for outcome in _mapped(jobs, _run, list(range(first, first + seeds))):
        figures.add(outcome)
        if outcome.oracle:
            show_failure(outcome)
        if figures.seeds % 100 == 0:
            sys.stderr.write(f"{time.monotonic() - began:7.0f} s  {figures.seeds:6} seeds\n")
    times = os.times()
    cpu = times.user + times.system + times.children_user + times.children_system
    show(figures.as_dict(time.monotonic() - began, cpu), as_json=as_json)
    return 1 if figures.failed else 0


def _all_bugs(names: list[str], first: int, seeds: int, jobs: int, *, as_json: bool) -> int:
    found = {}
    for name, took, oracle in _mapped(jobs, _found, [(name, first, seeds) for name in names]):
        found[name] = {"seeds": took, "oracle": oracle}
        sys.stderr.write(f"{name:45} {took or 'not found':>9}  {oracle}\n")
    if as_json:
        print(json.dumps(dict(sorted(found.items())), indent=2))
    return 0 if all(row["seeds"] for row in found.values()) else 1


def show_failure(outcome: Outcome) -> None:
    """Print what is needed to look into it."""
    lines = "\n".join(outcome.lines[-SHOWN:])
    sys.stderr.write(
        f"{lines}\n\nseed {outcome.seed}: {outcome.text}\n"
        f"again: python -m tests.simulation --seed {outcome.seed} --trace\n\n"
    )


def show(figures: dict[str, Any], *, as_json: bool) -> None:
    """Print the table."""
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        if isinstance(value, dict):
            print(f"\n{name}")
            for what, count in value.items():
                print(f"  {what:60} {count:>10,}")
        else:
            print(f"{name:62} {value if isinstance(value, list) else format(value, ',')!s:>10}")
