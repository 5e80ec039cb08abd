"""XML-RPC calls per second under wrk with 8 connections."""

import contextlib
import re
import statistics
import subprocess
import tempfile
import xmlrpc.client
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.chart import bars
from bench.goals import Judged, lines, tell
from bench.processes import peer, relay

__all__ = ["measure", "pictures", "section", "verdict"]

CONNECTIONS = 8
SECONDS = 3.0
ROUNDS = 5

PAYLOAD = {"data": [1, "shrubbery", 0.815]}

SERVERS: dict[str, Callable[[], contextlib.AbstractContextManager[str]]] = {
    "co2 relay": relay,
    "SimpleXMLRPCServer": lambda: peer("serve", "simple"),
    "… threading": lambda: peer("serve", "threading"),
}


def script() -> str:
    body = xmlrpc.client.dumps((PAYLOAD,), "test").replace("\n", "\\n").replace("'", "\\'")
    return f"wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'text/xml'\nwrk.body = '{body}'\n"


def wrk(url: str, lua: str, seconds: float) -> float:
    """Return answers per second; fail on any that is not 2xx."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}", "-s", lua, f"{url}/RPC2"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "Non-2xx" not in out, out
    found = re.search(r"Requests/sec: +([0-9.]+)", out)
    assert found, out
    return float(found[1])


def measure(seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure all in turn, several rounds, so that a slow minute of the machine meets every one of them."""
    rates: dict[str, list[float]] = {name: [] for name in SERVERS}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        lua = Path(folder) / "call.lua"
        lua.write_text(script())
        urls = {name: stack.enter_context(start()) for name, start in SERVERS.items()}
        for round_number in range(rounds):
            for name, url in urls.items():
                rates[name].append(wrk(url, str(lua), seconds))
            print(
                f"  calls, round {round_number + 1} of {rounds}: "
                + "  ".join(f"{n} {r[-1]:,.0f}/s" for n, r in rates.items()),
                flush=True,
            )
    peers = [name for name in SERVERS if name != "co2 relay"]
    ratios = [ours / max(rates[name][i] for name in peers) for i, ours in enumerate(rates["co2 relay"])]
    beside = Judged("XML-RPC calls/s, beside the faster peer", statistics.median(ratios), 2.0, 1.5, unit="×")
    return {
        "rows": {name: statistics.median(found) for name, found in rates.items()},
        "goals": [beside.row()],
    }


def section(result: Mapping[str, Any]) -> list[str]:
    """Write the lines of the page."""
    return [
        "## XML-RPC calls per second",
        "",
        "`wrk` with 8 connections calls `test` with `{'data': [1, 'shrubbery', 0.815]}`. The peers are the two "
        "forms of `xmlrpc.server` with their defaults, without access log. co2 has its gate, limits and access "
        "log on.",
        "",
        "| server | calls/s |",
        "|---|---:|",
        *(f"| {name} | {rate:,.0f} |" for name, rate in result["rows"].items()),
        "",
        *lines(result["goals"]),
        "![calls per second](bench/calls.svg)",
        "",
    ]


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Draw the rates, by file name."""
    note = f"co2 × {result['goals'][0]['value']:.2f} the faster peer"
    return {"calls.svg": bars("XML-RPC calls per second", [("wrk, 8 connections", result["rows"], note)], "/s")}


def verdict(result: Mapping[str, Any]) -> bool:
    """Print which goals are reached; return False where a floor is not held."""
    return tell(result["goals"])
