"""One receiver among fifty is stopped under full load: what the relay keeps for it, and what the others notice."""

import contextlib
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import Any

from bench.chart import bars
from bench.connections import CONFIG, WINDOW, Crowd, ask, crowd
from bench.footprint import memory_kib
from bench.goals import Judged, lines, tell
from bench.medians import medians
from bench.peers.base import Fleet
from bench.peers.brokers import temporary_folder
from bench.peers.co2 import ReceiverPlugin, SenderPlugin, host, satellite
from bench.processes import line, python

__all__ = ["RECEIVERS", "ROUNDS", "SECONDS", "measure", "pictures", "section", "verdict"]

SECONDS = 60.0
ROUNDS = 1

RECEIVERS = 50

MESSAGES = 50
"""Messages in a frame of the load."""

RATE = 200
"""Messages a second whose latency is measured."""

LOOK = 0.1
"""Seconds between two looks at the relay's memory."""

PLENTY = 100_000_000


class Watch:
    """Looks at a process's memory all the time, until it is told to end.

    Attributes:
        most: KiB.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.most = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.most = max(self.most, memory_kib(self._pid))
            if self._end.wait(LOOK):
                return


def phase(
    relay: "subprocess.Popen[str]", load: "subprocess.Popen[str]", fleet: Fleet, seconds: float
) -> dict[str, float]:
    """Load the relay for so long; return its memory, how fast frames went and the latency of what is paced."""
    (receiver,) = fleet.receivers
    receiver.reset()
    with Watch(relay.pid) as watch:
        for sender in fleet.senders:
            sender.begin("pace", seconds, RATE)
        frames, begun, ended = ask(load, [seconds, PLENTY, WINDOW])
        wanted = sum(sender.finish().count for sender in fleet.senders)
    deadline = time.monotonic() + 30
    while receiver.state()["count"] < wanted:
        if time.monotonic() > deadline:
            raise TimeoutError("what was paced did not come")
        time.sleep(0.05)
    return {
        "MiB": watch.most / 1024,
        "frames/s": frames * 1e9 / (ended - begun),
        "p99": statistics.quantiles(receiver.microseconds(), n=100)[98],
    }


def once(seconds: float, receivers: int) -> dict[str, dict[str, float]]:
    """Measure one relay, first with all of them running, then with one stopped."""
    with temporary_folder() as folder, contextlib.ExitStack() as stack:
        relay = stack.enter_context(host(folder, "relay", "relay", CONFIG))
        url = line(relay).split()[-1]
        ip, _, port = url.removeprefix("http://").partition(":")

        def start(name: str, package: str, settings: dict[str, Any]) -> "subprocess.Popen[str]":
            return stack.enter_context(satellite(folder, name, url, package, settings))

        hosts = [
            start("sender", "bench_sender", {"number": 0, "channel": "paced"}),
            start("receiver", "bench_paced", {}),
        ]
        sending, receiving = (line(one).split()[-1] for one in hosts)
        sender, receiver = SenderPlugin(sending), ReceiverPlugin(receiving, "bench_paced")
        stack.callback(sender.close)
        stack.callback(receiver.close)
        fleet = Fleet([sender], [receiver])
        fleet.meet()
        stack.enter_context(crowd((ip, port), 1)).join(receivers - 2)
        # Light, so that the others gain nothing from what it does not do any more.
        stopped = stack.enter_context(python("-m", "bench.crowd", ip, port, "1"))
        Crowd([stopped]).join(1)
        load = stack.enter_context(python("-m", "bench.crowd_sender", ip, port, str(MESSAGES)))
        line(load)
        phase(relay, load, fleet, min(seconds, 5.0))  # to warm up: the log's part in memory fills
        before = phase(relay, load, fleet, seconds)
        stopped.send_signal(signal.SIGSTOP)
        try:
            return {"all run": before, "one is stopped": phase(relay, load, fleet, seconds)}
        finally:
            stopped.send_signal(signal.SIGCONT)


def measure(seconds: float = SECONDS, rounds: int = ROUNDS, receivers: int = RECEIVERS) -> dict[str, Any]:
    """Measure some rounds."""
    found: list[dict[str, dict[str, float]]] = []
    for round_number in range(rounds):
        found.append(once(seconds, receivers))
        print(f"  a stopped receiver, round {round_number + 1} of {rounds}: {found[-1]}", flush=True)
    before, after = ([one[case] for one in found] for case in ("all run", "one is stopped"))
    growth = [b["MiB"] - a["MiB"] for a, b in zip(before, after, strict=True)]
    slower = [b["p99"] / a["p99"] for a, b in zip(before, after, strict=True)]
    return {
        "rows": {"all run": medians(before), "one is stopped": medians(after)},
        "seconds": seconds,
        "rounds": rounds,
        "receivers": receivers,
        "goals": [
            Judged("the relay's memory grows by", statistics.median(growth), 64, 64, True, "MiB").row(),
            Judged("p99 of the others, beside before", statistics.median(slower), 1.5, 1.5, True, "×").row(),
        ],
    }


def section(result: Mapping[str, Any]) -> list[str]:
    """Write the lines of the page."""
    return [
        "## One receiver is stopped",
        "",
        f"{result['receivers']} receivers under full load get frames of {MESSAGES} messages, as fast as the "
        f"slowest receiver takes them, for {result['seconds']:g} s. Then one receiver is stopped with SIGSTOP, "
        f"and the load continues for the same time. The latency is that of another {RATE} messages/s, from plugin "
        "to plugin through two other satellites.",
        "",
        "| | the relay's memory, at most | frames/s to each | p99 |",
        "|---|---:|---:|---:|",
        *(
            f"| {case} | {row['MiB']:.0f} MiB | {row['frames/s']:,.0f} | {row['p99'] / 1000:.2f} ms |"
            for case, row in result["rows"].items()
        ),
        "",
        *lines(result["goals"]),
        "![one receiver is stopped](bench/memory.svg)",
        "",
    ]


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Draw memory and latency, by file name."""
    growth, slower = (goal["value"] for goal in result["goals"])
    groups = [
        (title, {f"co2, {case}": row[figure] for case, row in result["rows"].items()}, note)
        for title, figure, note in (
            ("the relay's memory, MiB", "MiB", f"{growth:+.0f} MiB"),
            ("p99 of the others, µs", "p99", f"× {slower:.2f}"),
        )
    ]
    return {"memory.svg": bars("One receiver of many is stopped", groups, "")}


def verdict(result: Mapping[str, Any]) -> bool:
    """Print which goals are reached; return False where a floor is not held."""
    return tell(result["goals"])
