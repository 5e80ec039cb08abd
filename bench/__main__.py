"""``make bench``: measure, compare with the goals, write docs/reports/bench.md and its pictures.

The figures of the last three whole runs are kept, each with its date, and the page has their medians; ``--anew``
forgets those before. ``python -m bench link`` measures one part and leaves the other parts of the page as they
are, ``python -m bench page`` writes the page anew from the figures that are kept. With ``--peers``,
``--satellites``, ``--seconds`` or ``--rounds`` not everything is measured as it should be, and the page goes to
bench/results instead. Ends with 1 where a floor is not held, or a part or what a floor compares could not be
measured: a peer that is missing is no pass. Of peers that ``--peers`` leaves out nothing is asked.
"""

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench import (
    calls,
    connections,
    disk,
    earlier,
    fanout,
    link,
    memory,
    peers,
    roles,
    roundtrip,
    runs,
    start,
    stream,
    transit,
)

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "reports"
ELSEWHERE = ROOT / "bench" / "results"
README = ROOT / "README.md"

CLAIMED = "p50, µs, beside pyzmq"
"""What the first page must have measured."""

CLAIM, CLAIM_END = "<!-- written by make bench -->", "<!-- up to here -->"
"""Between them the first page says how long a message takes."""

ABOUT = 0.15
"""Difference from 1 up to which the first page says of a ratio: about as long."""


class Module(Protocol):
    """What a part brings besides its way to measure."""

    def section(self, result: Mapping[str, Any]) -> list[str]:
        """Write the lines of the page."""

    def pictures(self, result: Mapping[str, Any]) -> dict[str, str]:
        """Draw, by file name."""

    def verdict(self, result: Mapping[str, Any]) -> bool:
        """Print which goals are reached; return False where a floor is not held."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the page.

    Attributes:
        title: said when it begins.
        module: brings the rest.
        measure: gives the figures; takes what of ``--peers``, ``--satellites``, ``--seconds``, ``--rounds`` is in
            ``options``.
    """

    title: str
    module: Module
    measure: Callable[..., dict[str, Any]]
    options: tuple[str, ...] = ("seconds", "rounds")


PARTS = {
    "calls": Part("XML-RPC calls under wrk", calls, calls.measure),
    "fanout": Part("relay fan-out over XML-RPC", fanout, fanout.measure, ("rounds",)),
    "link": Part("plugin to plugin, beside other brokers", link, link.measure, ("names", "seconds", "rounds")),
    "roles": Part("processor time by role", roles, roles.measure, ("names", "seconds", "rounds")),
    "roundtrip": Part(
        "round trips, beside other brokers", roundtrip, roundtrip.measure, ("names", "seconds", "rounds")
    ),
    "connections": Part(
        "many satellites on one relay", connections, connections.measure, ("counts", "seconds", "rounds")
    ),
    "memory": Part("one receiver is stopped", memory, memory.measure),
    "transit": Part("a relay plugin", transit, transit.measure),
    "earlier": Part("co2 beside an earlier version of itself", earlier, earlier.measure),
    "stream": Part("a reader of the whole log", stream, stream.measure),
    "disk": Part("bytes written to disk", disk, disk.measure),
    "start": Part("start and memory", start, start.measure, ("rounds",)),
}
"""In the order of the page."""


def main() -> int:
    """Measure what is asked for; return the exit code."""
    wanted, anew, options = arguments()
    place = ELSEWHERE if options else DOCS
    kept, begun = runs.kept_of(results_in(place)), time.monotonic()
    parts = [name for name in PARTS if wanted in ("all", "page", name)]
    failed: list[str] = []
    if wanted != "page":
        run = runs.begin(kept, machine(), anew=anew) if wanted == "all" else {}
        for name in parts:
            result = None
            try:
                result = run[name] = measure(name, options)
            except (Exception, SystemExit) as error:
                traceback.print_exc()
                failed.append(f"{name}: {error}")
            if wanted != "all":
                runs.measured_apart(kept, name, result, machine())
            write(kept, place)  # so that nothing is lost where a later part fails
        run["whole"] = not failed and not any(run[name].get("unmeasured") for name in parts if name in run)
    write(kept, place)
    print()
    results = runs.combined(kept) if kept["runs"] or kept["apart"] else {}
    held = [PARTS[name].module.verdict(results[name]) for name in parts if name in results]
    print(
        f"written: {(place / 'bench.md').relative_to(ROOT)}, after {(time.monotonic() - begun) / 60:.0f} minutes"
    )
    for why in failed:
        print(f"NOT MEASURED: {why}")
    if not all(held):
        print("A FLOOR IS NOT HELD, OR WAS NOT MEASURED")
    return 0 if all(held) and not failed else 1


def measure(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Measure one part."""
    part = PARTS[name]
    print(f"bench: {part.title} …", flush=True)
    result = part.measure(**{key: value for key, value in options.items() if key in part.options})
    print("\n".join(line for line in part.module.section(result) if line.startswith("|")), flush=True)
    return result


def arguments() -> tuple[str, bool, dict[str, Any]]:
    """Return the part that is wanted, whether earlier runs are forgotten, and what was given besides."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure co2 beside its peers.")
    parser.add_argument("part", nargs="?", choices=("all", *PARTS, "page"), default="all")
    parser.add_argument("--anew", action="store_true", help="forget the runs before: what is measured has changed")
    parser.add_argument("--peers", dest="names", type=names, help=f"with commas between: {','.join(peers.NAMES)}")
    parser.add_argument("--satellites", dest="counts", type=numbers, help="how many, with commas between")
    parser.add_argument("--seconds", type=float, help="of sending; each part has its own default")
    parser.add_argument("--rounds", type=int, help="each part has its own default")
    wanted = vars(parser.parse_args())
    part, anew = wanted.pop("part"), wanted.pop("anew")
    return part, anew, {key: value for key, value in wanted.items() if value is not None}


def names(text: str) -> list[str]:
    """Read the names of peers."""
    wanted = text.split(",")
    if unknown := set(wanted) - set(peers.NAMES):
        raise argparse.ArgumentTypeError(
            f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(peers.NAMES)}"
        )
    return wanted


def numbers(text: str) -> list[int]:
    """Read numbers of satellites."""
    return [int(number) for number in text.split(",")]


def machine() -> dict[str, Any]:
    return {
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def results_in(place: Path) -> dict[str, Any]:
    """Return what is kept of the runs before."""
    file = place / "bench" / "results.json"
    return dict(json.loads(file.read_text())) if file.exists() else {}


def write(kept: Mapping[str, Any], place: Path) -> None:
    """Write the figures as JSON, a page and pictures, and what the first page says of latency."""
    folder = place / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(kept, indent=1) + "\n")
    if not kept["runs"] and not kept["apart"]:
        return  # the first part of all has failed
    results = runs.combined(dict(kept))
    for name, part in PARTS.items():
        if name in results:
            for file, picture in part.module.pictures(results[name]).items():
                (folder / file).write_text(picture)
    (place / "bench.md").write_text(page(kept))
    if place == DOCS and CLAIMED in [row["what"] for row in results.get("link", {}).get("goals", ())]:
        README.write_text(with_claim(README.read_text(), results))


def with_claim(readme: str, results: Mapping[str, Any]) -> str:
    """Return the first page with what was measured between its two marks."""
    before, begin, rest = readme.partition(CLAIM)
    _, end, behind = rest.partition(CLAIM_END)
    return f"{before}{begin}{claim(results)}{end}{behind}" if end else readme


def claim(results: Mapping[str, Any]) -> str:
    """Return a sentence about how long one message takes, beside ZeroMQ through its proxy."""
    (ratio,) = [row["value"] for row in results["link"]["goals"] if row["what"] == CLAIMED]
    milliseconds = results["link"]["rows"]["p50"]["co2"] / 1000
    told = "about" if abs(ratio - 1) <= ABOUT else f"{ratio:.2g} times"
    return f"A single message takes {told} as long as through that proxy ({milliseconds:.2f} ms)."


def page(kept: Mapping[str, Any]) -> str:
    """Write the page with the tables."""
    results = runs.combined(runs.kept_of(kept))
    told, dates = results["machine"], [date for date in results["dates"] if date]
    how = "everything in one run on one machine"
    if len(dates) > 1:
        how = f"the medians of the last {len(dates)} whole runs on one machine"
    lines = [
        "# Benchmarks",
        "",
        f"`make bench` measured this page: {how} ({told['processors']} processors, Python "
        f"{told['python']}, {told['system']}). The machine is shared and noisy. So the programs are measured in "
        "turns, in several rounds; figures are medians of the rounds, and ratios are taken within each round. "
        "Compare ratios, not numbers.",
        "",
    ]
    if len(dates) > 1:
        between = "brackets behind a figure with a goal show the smallest and the largest figure of these runs"
        lines += [f"The runs were on {', '.join(dates)}; {between}.", ""]
    elif dates:
        lines += [f"The run was on {dates[0]}.", ""]
    if again := [PARTS[name].title for name in results["apart"]]:
        lines += [f"Measured again on its own after these runs: {', '.join(again)}.", ""]
    for name, part in PARTS.items():
        if name in results:
            lines += part.module.section(results[name])
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
