"""``make bench``: measure, compare with the goals, write docs/bench.md and its pictures.

Ends with 1 where a floor is not held.
"""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from bench import calls, fanout
from bench.chart import bars

DOCS = Path(__file__).parent.parent / "docs"


def main() -> int:
    """Run everything; give the exit code."""
    print("bench: XML-RPC calls under wrk …", flush=True)
    results: dict[str, Any] = {"machine": machine(), "calls": calls.measure()}
    print("bench: relay fan-out …", flush=True)
    results |= fanout.measure()
    write(results)
    return verdict(results)


def machine() -> dict[str, Any]:
    return {
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def write(results: dict[str, Any]) -> None:
    """Write the figures as JSON, a page and pictures."""
    (DOCS / "bench").mkdir(parents=True, exist_ok=True)
    (DOCS / "bench" / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    found = results["calls"]
    groups = [("wrk, 8 connections", found["rows"], f"co2 × {found['ratio']:.2f} the faster peer")]
    (DOCS / "bench" / "calls.svg").write_text(bars("XML-RPC calls per second", groups, "/s"))
    groups = [
        (f"to {count} satellite{'s' if count != '1' else ''}", row["rows"], f"co2 × {row['ratio']:.2f}")
        for count, row in results["throughput"].items()
    ]
    (DOCS / "bench" / "fanout.svg").write_text(
        bars("Relay fan-out over XML-RPC: deliveries per second", groups, "/s")
    )
    (DOCS / "bench.md").write_text(page(results))


def page(results: dict[str, Any]) -> str:
    """Write the page with the tables."""
    told = results["machine"]
    found = results["calls"]
    lines = [
        "# Measured",
        "",
        f"By `make bench`, everything in one run on one machine ({told['processors']} processors, Python "
        f"{told['python']}, {told['system']}). The machine is shared and "
        "noisy: medians of several rounds in turn, and ratios round by round; compare ratios, not numbers.",
        "",
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
        "## Relay fan-out over XML-RPC",
        "",
        "One sender, n foreign satellites whose `notify` the relay calls; beside it the same relay written with "
        "`xmlrpc.server`, a thread and a queue per satellite. Same sender, same receivers.",
        "",
        "| satellites | co2 deliveries/s | xmlrpc.server deliveries/s | ratio |",
        "|---:|---:|---:|---:|",
    ]
    for count, row in results["throughput"].items():
        ours, theirs = row["rows"].values()
        lines.append(f"| {count} | {ours:,.0f} | {theirs:,.0f} | {row['ratio']:.2f} × |")
    hang = results["hanging"]
    alone, with_one = hang["rows"].values()
    lines += [
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
    return "\n".join(lines)


def verdict(results: dict[str, Any]) -> int:
    """Tell which goals are reached; 1 where a floor is not held."""
    found, hang = results["calls"], results["hanging"]
    held = found["ratio"] >= found["floor"] and hang["ratio"] <= hang["ceiling"]
    print(f"calls: {found['ratio']:.2f} × the faster peer, goal {found['goal']} ×")
    print(f"hanging satellite: p99 × {hang['ratio']:.2f}, at most {hang['ceiling']} ×")
    print("written: docs/bench.md" if held else "written: docs/bench.md; A FLOOR IS NOT HELD")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
