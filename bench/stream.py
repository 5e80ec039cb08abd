"""What a reader of the whole log, ``GET /api/log``, does to messages on their way: latency with it and without.

And beside a process that has nothing to do with co2 and computes for about as long as the relay does for the
reader, with the lowest priority: on few processors any work delays the slowest messages.
"""

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.goals import Judged, lines, tell
from bench.peers.base import WARM_UP, Fleet
from bench.peers.brokers import temporary_folder
from bench.peers.co2 import RELAY, ReceiverPlugin, SenderPlugin, host, satellite
from bench.processes import line

__all__ = ["CASES", "MESSAGES", "ROUNDS", "SECONDS", "judged", "measure", "pictures", "section", "verdict"]

SECONDS = 4.0
ROUNDS = 9
RATE = 1000
"""Messages a second on their way meanwhile."""

MESSAGES = 1_000_000
"""Messages of the log that are read, again and again."""

GOAL = 1.1
"""Times p99 without a reader that it may be with one."""

WITHOUT, WITH, STRANGER = "nobody reads the log", "somebody reads it", "a stranger computes for as long"

CASES = (WITHOUT, WITH, STRANGER)

COMPUTES = """
import os, time
if hasattr(os, "SCHED_IDLE"):
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
else:
    os.nice(19)
while True:
    end = time.perf_counter() + 0.003
    while time.perf_counter() < end:
        pass
    time.sleep(0.057)
"""
"""The stranger: 3 ms of work, which a piece of the log takes, and a rest of 19 times as much, as the relay has."""

Rounds = Mapping[str, Sequence[Mapping[str, float]]]
"""Case → figures by name, for each round."""


class Reader:
    """A program that reads the first messages of the log again and again, as fast as they come, and drops them.

    Args:
        url: of the relay.
        messages: how many.

    Attributes:
        bytes: read so far, heads of answers not counted.
    """

    def __init__(self, url: str, messages: int) -> None:
        self.bytes = 0
        address, _, port = url.removeprefix("http://").rpartition(":")
        self._address = address, int(port)
        self._asked = f"GET /api/log?from=0&max={messages} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        buffer = bytearray(2**20)
        while not self._over.is_set():
            with socket.create_connection(self._address, timeout=10) as sock:
                sock.sendall(self._asked)
                while not self._over.is_set() and (size := sock.recv_into(buffer)):
                    self.bytes += size


def measure(seconds: float = SECONDS, rounds: int = ROUNDS, messages: int = MESSAGES) -> dict[str, Any]:
    """Measure both in turn, on one network, each first in every other round.

    Raises:
        RuntimeError: messages are missing, or nothing of the log was read.
    """
    found: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
    with network(messages) as (url, fleet):
        (receiver,) = fleet.receivers
        size = line_size(url)
        fleet.measured("pace", WARM_UP, RATE)
        for round_number in range(rounds):
            for case in CASES if round_number % 2 else CASES[::-1]:
                with contextlib.ExitStack() as stack:
                    reader = stack.enter_context(Reader(url, messages)) if case == WITH else None
                    if case == STRANGER:
                        stack.enter_context(stranger())
                    begun = time.monotonic()
                    missing = fleet.measured("pace", seconds, RATE).missing
                    took = time.monotonic() - begun
                    read = reader.bytes / size / took if reader is not None else 0.0
                if missing or (reader is not None and not read):
                    raise RuntimeError(
                        f"{case}: {missing} messages are missing, {read:,.0f}/s of the log were read"
                    )
                cuts = statistics.quantiles(receiver.microseconds(), n=100)
                found[case].append({"p50": cuts[49], "p99": cuts[98], "read": read})
            told = "  ".join(
                f"{case} {'/'.join(f'{figure:,.0f}' for figure in all_[-1].values())}"
                for case, all_ in found.items()
            )
            print(f"  a reader of the log, round {round_number + 1} of {rounds}: {told}", flush=True)
    return {
        "rows": {
            case: {name: statistics.median(one[name] for one in all_) for name in ("p50", "p99", "read")}
            for case, all_ in found.items()
        },
        "messages": messages,
        "seconds": seconds,
        "rounds": rounds,
        "goals": list(judged(found)),
    }


@contextlib.contextmanager
def stranger() -> Iterator[None]:
    """Run :data:`COMPUTES` in a session of its own, as the peers are."""
    process = subprocess.Popen([sys.executable, "-c", COMPUTES], start_new_session=True)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def network(messages: int) -> Iterator[tuple[str, Fleet]]:
    """A relay with so many messages in its log, a sender and a receiver; give the relay's URL, and the two."""
    with temporary_folder() as folder, contextlib.ExitStack() as stack:
        relay = stack.enter_context(host(folder, "relay", "relay", RELAY))
        url = line(relay).split()[-1]
        sending = stack.enter_context(satellite(folder, "sender", url, "bench_sender", {"number": 0}))
        sender = SenderPlugin(line(sending).split()[-1])
        stack.callback(sender.close)
        while position(url) <= messages:
            sender.begin("run", 0.2)
            sender.finish()
        receiving = stack.enter_context(satellite(folder, "receiver", url, "bench_receiver", {"stamped": True}))
        receiver = ReceiverPlugin(line(receiving).split()[-1])
        stack.callback(receiver.close)
        fleet = Fleet([sender], [receiver])
        fleet.meet()
        yield url, fleet


def position(url: str) -> int:
    """Return the position of the newest message of a relay that is on its disk."""
    with urllib.request.urlopen(f"{url}/api/status", timeout=10) as answer:
        return int(json.load(answer)["counters"]["on_disk"])


def line_size(url: str) -> float:
    """Return the bytes of a line of the log, on average of some."""
    with urllib.request.urlopen(f"{url}/api/log?from=0&max=10000", timeout=10) as answer:
        return len(answer.read()) / 10_000


def judged(found: Rounds) -> Iterator[dict[str, Any]]:
    """Compare p99 with a reader to that of the other cases, round by round."""
    for other, compared in ((WITHOUT, "without"), (STRANGER, "beside a stranger")):
        ratios = [one["p99"] / two["p99"] for one, two in zip(found[WITH], found[other], strict=True)]
        what = f"p99 while {WITH}, compared to that {compared}"
        yield Judged(what, statistics.median(ratios), GOAL, None, True, "×", min(ratios), max(ratios)).row()


def section(result: Mapping[str, Any]) -> list[str]:
    """Write the lines of the page."""
    return [
        "## A reader of the whole log",
        "",
        f"One sender, one receiver, {RATE:,} messages/s. Meanwhile a program reads the first "
        f"{result['messages']:,} messages of the log over `GET /api/log`, as fast as they come and again and "
        "again, or nobody does, or a process that has nothing to do with co2 computes for 3 ms in 60, as the "
        f"relay does for the reader, with the lowest priority. Medians of {result['rounds']} rounds of "
        f"{result['seconds']:g} s, in turns on one network; brackets show the "
        "smallest and the largest ratio of a round.",
        "",
        "| | p50, µs | p99, µs | messages of the log/s |",
        "|---|---:|---:|---:|",
        *(
            f"| {case} | {row['p50']:,.0f} | {row['p99']:,.0f} | "
            + (f"{row['read']:,.0f} |" if row["read"] else "|")
            for case, row in result["rows"].items()
        ),
        "",
        *lines(result["goals"]),
    ]


def pictures(_result: Mapping[str, Any]) -> dict[str, str]:
    """Draw nothing: two numbers."""
    return {}


def verdict(result: Mapping[str, Any]) -> bool:
    """Print which goals are reached; return False where a floor is not held."""
    return tell(result["goals"])
