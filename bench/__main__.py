"""``make bench``: measure, compare with the goals, write docs/bench.md and its pictures.

``python -m bench link`` measures one part and leaves the other parts of the page as they are. With ``--peers``
only some peers are measured, and the page goes to bench/results instead. Ends with 1 where a floor is not held.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import calls, fanout, link, peers
from bench.chart import bars

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ELSEWHERE = ROOT / "bench" / "results"

PARTS = ("calls", "fanout", "link")


def main() -> int:
    """Measure what is asked for; give the exit code."""
    wanted = arguments()
    names = wanted.peers.split(",") if wanted.peers else list(peers.NAMES)
    place = ELSEWHERE if wanted.peers else DOCS
    results: dict[str, Any] = {} if wanted.part == "all" else earlier(place)
    results["machine"] = machine()
    if wanted.part in ("all", "calls"):
        print("bench: XML-RPC calls under wrk …", flush=True)
        results["calls"] = calls.measure()
    if wanted.part in ("all", "fanout"):
        print("bench: relay fan-out …", flush=True)
        results |= fanout.measure()
    if wanted.part in ("all", "link"):
        print("bench: from plugin to plugin, beside other brokers …", flush=True)
        results["link"] = link.measure(names, wanted.seconds, wanted.rounds)
        print("\n".join(line for line in link.section(results["link"]) if line.startswith("|")))
    write(results, place)
    return verdict(results, place)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure co2 beside its peers.")
    parser.add_argument("part", nargs="?", choices=("all", *PARTS), default="all")
    parser.add_argument("--peers", help=f"of the part link, with commas between: {','.join(peers.NAMES)}")
    parser.add_argument("--seconds", type=float, default=link.SECONDS, help="of sending in the part link")
    parser.add_argument("--rounds", type=int, default=link.ROUNDS, help="of the part link")
    wanted = parser.parse_args()
    unknown = set((wanted.peers or peers.NAMES[0]).split(",")) - set(peers.NAMES)
    if unknown:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(peers.NAMES)}")
    return wanted


def machine() -> dict[str, Any]:
    return {
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def earlier(place: Path) -> dict[str, Any]:
    """Give the figures of the run before, so that a part can be measured anew."""
    file = place / "bench" / "results.json"
    return dict(json.loads(file.read_text())) if file.exists() else {}


def write(results: Mapping[str, Any], place: Path) -> None:
    """Write the figures as JSON, a page and pictures."""
    folder = place / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    for name, picture in pictures(results).items():
        (folder / name).write_text(picture)
    (place / "bench.md").write_text(page(results))


def pictures(results: Mapping[str, Any]) -> dict[str, str]:
    """Draw what is measured, by file name."""
    drawn: dict[str, str] = {}
    if found := results.get("calls"):
        groups = [("wrk, 8 connections", found["rows"], f"co2 × {found['ratio']:.2f} the faster peer")]
        drawn["calls.svg"] = bars("XML-RPC calls per second", groups, "/s")
    if throughput := results.get("throughput"):
        groups = [
            (f"to {count} satellite{'s' if count != '1' else ''}", row["rows"], f"co2 × {row['ratio']:.2f}")
            for count, row in throughput.items()
        ]
        drawn["fanout.svg"] = bars("Relay fan-out over XML-RPC: deliveries per second", groups, "/s")
    return drawn | (link.pictures(results["link"]) if "link" in results else {})


def page(results: Mapping[str, Any]) -> str:
    """Write the page with the tables."""
    told = results["machine"]
    lines = [
        "# Measured",
        "",
        f"By `make bench`, everything in one run on one machine ({told['processors']} processors, Python "
        f"{told['python']}, {told['system']}). The machine is shared and "
        "noisy: medians of several rounds in turn, and ratios round by round; compare ratios, not numbers.",
        "",
    ]
    if "calls" in results:
        lines += calls_section(results["calls"])
    if "throughput" in results:
        lines += fanout_section(results)
    if "link" in results:
        lines += link.section(results["link"])
    return "\n".join(lines)


def calls_section(found: Mapping[str, Any]) -> list[str]:
    return [
        "## XML-RPC calls per second",
        "",
        "`wrk` with 8 connections calls `test` with `{'data': [1, 'shrubbery', 0.815]}`; the peers are the two "
        "forms of `xmlrpc.server` as they come, without access log; co2 with its gate, limits and access log on.",
        "",
        "| server | calls/s |",
        "|---|---:|",
        *(f"| {name} | {rate:,.0f} |" for name, rate in found["rows"].items()),
        "",
        f"**{found['ratio']:.2f} ×** the faster peer (goal {found['goal']} ×, floor {found['floor']} ×).",
        "",
        "![calls per second](bench/calls.svg)",
        "",
    ]


def fanout_section(results: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Relay fan-out over XML-RPC",
        "",
        "One sender, n foreign satellites whose `notify` the relay calls; beside it the same relay written with "
        "`xmlrpc.server`, a thread and a queue per satellite. Same sender, same receivers. "
        "co2 passes a message on, and answers its sender, once it is on disk (fsync); the peer keeps it in memory "
        "only: with few satellites that wait is what is measured.",
        "",
        "| satellites | co2 deliveries/s | xmlrpc.server deliveries/s | ratio |",
        "|---:|---:|---:|---:|",
    ]
    for count, row in results["throughput"].items():
        ours, theirs = row["rows"].values()
        lines.append(f"| {count} | {ours:,.0f} | {theirs:,.0f} | {row['ratio']:.2f} × |")
    hang = results["hanging"]
    alone, with_one = hang["rows"].values()
    return [
        *lines,
        "",
        "![fan-out](bench/fanout.svg)",
        "",
        "## One satellite hangs",
        "",
        "Ten satellites at 200 messages/s, in turn without and with an eleventh that takes connections and "
        "never answers.",
        "",
        "| | p99 |",
        "|---|---:|",
        f"| without | {alone / 1000:.2f} ms |",
        f"| with it | {with_one / 1000:.2f} ms |",
        "",
        f"Ratio **{hang['ratio']:.2f}** (at most {hang['ceiling']}).",
        "",
    ]


def verdict(results: Mapping[str, Any], place: Path) -> int:
    """Tell which goals are reached; 1 where a floor is not held."""
    held = True
    if found := results.get("calls"):
        held = held and found["ratio"] >= found["floor"]
        print(f"calls: {found['ratio']:.2f} × the faster peer, goal {found['goal']} ×")
    if hang := results.get("hanging"):
        held = held and hang["ratio"] <= hang["ceiling"]
        print(f"hanging satellite: p99 × {hang['ratio']:.2f}, at most {hang['ceiling']} ×")
    if "link" in results:
        held = link.verdict(results["link"]) and held
    written = f"written: {(place / 'bench.md').relative_to(ROOT)}"
    print(written if held else f"{written}; A FLOOR IS NOT HELD")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
