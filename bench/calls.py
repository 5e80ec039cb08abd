"""XML-RPC calls per second under wrk with 8 connections."""

import contextlib
import re
import statistics
import subprocess
import tempfile
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.processes import peer, relay

CONNECTIONS = 8
SECONDS = 3
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


def wrk(url: str, lua: str) -> float:
    """Give answers per second; fail on any that is not 2xx."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}", "-s", lua, f"{url}/RPC2"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "Non-2xx" not in out, out
    found = re.search(r"Requests/sec: +([0-9.]+)", out)
    assert found, out
    return float(found[1])


def measure() -> dict[str, Any]:
    """Measure all in turn, several rounds, so that a slow minute of the machine meets every one of them."""
    rates: dict[str, list[float]] = {name: [] for name in SERVERS}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        lua = Path(folder) / "call.lua"
        lua.write_text(script())
        urls = {name: stack.enter_context(start()) for name, start in SERVERS.items()}
        for round_number in range(ROUNDS):
            for name, url in urls.items():
                rates[name].append(wrk(url, str(lua)))
            print(
                f"  calls, round {round_number + 1} of {ROUNDS}: "
                + "  ".join(f"{n} {r[-1]:,.0f}/s" for n, r in rates.items()),
                flush=True,
            )
    peers = [name for name in SERVERS if name != "co2 relay"]
    ratios = [ours / max(rates[name][i] for name in peers) for i, ours in enumerate(rates["co2 relay"])]
    return {
        "rows": {name: statistics.median(found) for name, found in rates.items()},
        "ratio": statistics.median(ratios),
        "goal": 2.0,
        "floor": 1.5,
    }
