"""How long hosts take until they are ready, and how much memory they take then."""

import contextlib
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from bench.chart import bars
from bench.footprint import children, cpu_seconds, memory_kib
from bench.goals import Judged, lines, tell
from bench.medians import medians
from bench.peers.brokers import temporary_folder, wait_for
from bench.peers.co2 import host
from bench.processes import line

__all__ = ["ROUNDS", "measure", "pictures", "section", "verdict"]

ROUNDS = 9

READY = 0.5
"""Seconds."""

HOST_MB = 60
PLUGIN_HOST_MB = 25

PLUGIN = "example"
"""The bundled package that the satellite carries."""

MEGABYTE = 1e6


def once(interpreter: str = sys.executable) -> dict[str, float]:
    """Start a relay and a satellite with one plugin host, one after the other, with this Python or another."""
    with temporary_folder() as folder, contextlib.ExitStack() as stack:
        found: dict[str, float] = {}

        def start(role: str, config: str, *arguments: str) -> tuple[int, str]:
            begun = time.monotonic()
            process = stack.enter_context(host(folder, role, role, config, *arguments, interpreter=interpreter))
            url = line(process).split()[-1]
            found[f"{role}, s"] = time.monotonic() - begun
            found[f"{role}, CPU s"] = cpu_seconds(process.pid)
            return process.pid, url

        relay, url = start("relay", "")
        given = ("--plugin", PLUGIN, "--plugin-dir", folder)
        satellite, satellite_url = start("satellite", f'[satellite]\nrelay = "{url}"\n', *given)
        wait_for(lambda: is_ready(satellite_url), "a satellite that is linked")
        found |= {
            "relay, MB": megabytes(relay),
            "satellite, MB": megabytes(satellite),
            "plugin host, MB": max(map(megabytes, children(satellite))),
        }
        return found


def megabytes(pid: int) -> float:
    return memory_kib(pid) * 1024 / MEGABYTE


def is_ready(url: str) -> bool:
    """Return whether a host says that all is well with it."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure some rounds, after one that does not count: it compiles, and fills the system's cache."""
    once()
    found = [once() for _ in range(rounds)]
    rows = medians(found)
    print("  " + "  ".join(f"{name} {value:.3g}" for name, value in rows.items()), flush=True)
    return {"rows": rows, "rounds": rounds, "goals": list(judged(rows))}


def judged(rows: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Compare with the goals."""
    for role in ("relay", "satellite"):
        yield Judged(f"{role}: until ready", rows[f"{role}, s"], READY, at_most=True, unit="s").row()
    for kind, most in (("relay", HOST_MB), ("satellite", HOST_MB), ("plugin host", PLUGIN_HOST_MB)):
        yield Judged(f"{kind}: memory", rows[f"{kind}, MB"], most, at_most=True, unit="MB").row()


def section(result: Mapping[str, Any]) -> list[str]:
    """Write the lines of the page."""
    rows = result["rows"]
    return [
        "## Start and memory",
        "",
        "Time from the start of the process to its ready line, and resident memory once the satellite is linked "
        f"(shared libraries count in each process). The satellite runs the bundled package `{PLUGIN}` in a plugin "
        f"host, which must be loaded before the satellite is ready. Medians of {result['rounds']} starts.",
        "",
        "| | ready after | processor time of it | memory |",
        "|---|---:|---:|---:|",
        *(
            f"| {one} | {rows[f'{one}, s']:.2f} s | {rows[f'{one}, CPU s']:.2f} s | {rows[f'{one}, MB']:.0f} MB |"
            for one in ("relay", "satellite")
        ),
        f"| plugin host | | | {rows['plugin host, MB']:.0f} MB |",
        "",
        *lines(result["goals"]),
        "![start and memory](bench/start.svg)",
        "",
    ]


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Draw times and memory, by file name."""
    rows = result["rows"]
    ready = {f"co2 {role}": rows[f"{role}, s"] * 1000 for role in ("relay", "satellite")}
    memory = {f"co2 {kind}": rows[f"{kind}, MB"] for kind in ("relay", "satellite", "plugin host")}
    groups = [
        ("until ready, ms", ready, f"goal {READY * 1000:.0f}"),
        ("memory, MB", memory, f"goal {HOST_MB}, plugin host {PLUGIN_HOST_MB}"),
    ]
    return {"start.svg": bars("Start and memory", groups, "")}


def verdict(result: Mapping[str, Any]) -> bool:
    """Print which goals are reached; return False where a floor is not held."""
    return tell(result["goals"])
