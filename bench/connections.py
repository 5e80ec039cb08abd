"""Many satellites on one relay: how long until all are there, what each costs, how fast frames reach them all."""

import contextlib
import json
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.chart import bars
from bench.crowd import raise_file_limit
from bench.footprint import cpu_seconds, memory_kib
from bench.goals import Judged, lines, tell
from bench.medians import medians
from bench.peers.brokers import temporary_folder
from bench.peers.co2 import host
from bench.processes import line, python

__all__ = ["COUNTS", "SECONDS", "measure", "pictures", "section", "verdict"]

COUNTS = (10, 100, 1_000, 10_000)
SECONDS = 5.0
ROUNDS = 3

MOST = 1_000_000
"""Frames of one run at most."""

WINDOW = 32
"""Frames that are on their way to everybody at most, under load."""

CROWDS = 2
"""Processes that play satellites."""

CONNECTED_WITHIN = 60.0
"""Seconds in which all are to be connected."""

CONNECT_TIMEOUT = 240.0
"""Seconds after which those that are not connected yet are given up."""

DRAIN_TIMEOUT = 60.0
SPARE_FILES = 200

FLOOR = 5_000
"""Satellites that there must be room for; tried where the most cannot be reached."""

CONFIG = "[relay]\nmax_sats = 20_000\nlog_bytes = 8_589_934_592\n"

Found = dict[int, dict[int, dict[str, float]]]
"""Figures by number of satellites and round."""


class Crowd:
    """The runner's end of the processes that play satellites.

    Args:
        processes: of :mod:`bench.crowd`.
    """

    def __init__(self, processes: "Sequence[subprocess.Popen[str]]") -> None:
        self._processes = processes

    def join(self, count: int) -> float:
        """Have so many satellites; return the seconds that it took them all to be welcomed."""
        begun = time.monotonic()
        shares = [(count + i) // len(self._processes) for i in range(len(self._processes))]
        for process, share in zip(self._processes, shares, strict=True):
            ask(process, ["join", share])
        while sum(state["open"] for state in self.states()) < count:
            if time.monotonic() - begun > CONNECT_TIMEOUT:
                there = sum(state["open"] for state in self.states())
                raise TimeoutError(f"{there} of {count} satellites were welcomed within {CONNECT_TIMEOUT:g} s")
            time.sleep(0.02)
        return time.monotonic() - begun

    def states(self) -> list[dict[str, Any]]:
        """Return what each process tells; a link that has ended or was told a gap ends the measurement."""
        states = [ask(process, ["state"]) for process in self._processes]
        faults = [fault for state in states for fault in state["faults"]]
        if faults:
            raise ConnectionError(faults[0])
        return states

    def settle(self, each: int) -> int:
        """Wait until every satellite has got so many frames; return when the last one came, in nanoseconds."""
        deadline = time.monotonic() + DRAIN_TIMEOUT
        states = self.states()
        while any(state["fewest"] < each for state in states):
            if time.monotonic() > deadline:
                raise TimeoutError(f"frames did not come: {min(state['fewest'] for state in states)} of {each}")
            time.sleep(0.02)
            states = self.states()
        if any(state["most"] > each for state in states):
            raise AssertionError("a satellite got a frame twice")
        return max(int(state["last"]) for state in states)


def ask(process: "subprocess.Popen[str]", what: list[Any]) -> Any:
    """Ask a process for something; return its answer."""
    assert process.stdin
    process.stdin.write(json.dumps(what) + "\n")
    process.stdin.flush()
    return json.loads(line(process))


@contextlib.contextmanager
def crowd(address: tuple[str, str], processes: int = CROWDS) -> Iterator[Crowd]:
    """Start the processes that play satellites."""
    with contextlib.ExitStack() as stack:
        arguments = [("-m", "bench.crowd", *address, str(number)) for number in range(processes)]
        yield Crowd([stack.enter_context(python(*one)) for one in arguments])


def once(count: int, seconds: float) -> dict[str, float]:
    """Measure one relay with so many satellites."""
    with temporary_folder() as folder, host(folder, "relay", "relay", CONFIG) as relay:
        ip, _, port = line(relay).split()[-1].removeprefix("http://").partition(":")
        with contextlib.ExitStack() as stack:
            satellites = stack.enter_context(crowd((ip, port)))
            empty = memory_kib(relay.pid)
            joined = satellites.join(count)
            sender = stack.enter_context(python("-m", "bench.crowd_sender", ip, port, "1"))
            line(sender)
            ask(sender, [CONNECT_TIMEOUT, 1, 1])  # the first frame goes to everybody
            satellites.settle(1)
            full = memory_kib(relay.pid)
            busy = load(relay.pid, sender, satellites, count, 1, (seconds, WINDOW))
            alone = load(relay.pid, sender, satellites, count, 1 + int(busy["frames"]), (seconds / 2, 1))
            return {
                "joined": joined,
                "KiB each": (full - empty) / (count + 2),
                **busy,
                "µs each, alone": alone["µs each"],
                "MiB in the end": memory_kib(relay.pid) / 1024,
            }


def load(
    relay: int, sender: "subprocess.Popen[str]", satellites: Crowd, count: int, got: int, how: tuple[float, int]
) -> dict[str, float]:
    """Send for so long with so many frames on their way; each satellite has got so many before."""
    seconds, window = how
    before = cpu_seconds(relay)
    frames, begun, _ = ask(sender, [seconds, MOST, window])
    ended = satellites.settle(got + frames)
    deliveries = frames * (count + 1)  # the sender's second link gets every frame too
    return {
        "frames/s": deliveries * 1e9 / (ended - begun),
        "µs each": (cpu_seconds(relay) - before) * 1e6 / deliveries,
        "frames": frames,
    }


def measure(counts: Sequence[int] = COUNTS, seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure all counts in turn, several rounds."""
    files = raise_file_limit()
    room = (files - SPARE_FILES) if files < max(counts) + SPARE_FILES else max(counts)
    asked = max(counts)
    if room < asked:
        print(f"  this machine allows a process {files:,} files: at most {room:,} satellites", flush=True)
    counts = sorted({min(count, room) for count in counts})
    found: Found = {}
    failed: dict[str, str] = {}
    for round_number in range(rounds):
        wanted = list(counts)
        for count in wanted:
            if values := tried(count, seconds, failed):
                found.setdefault(count, {})[round_number] = values
            elif count > FLOOR and FLOOR not in wanted:
                wanted.append(FLOOR)
    return {
        "rows": {str(count): medians([*by_round.values()]) for count, by_round in sorted(found.items())},
        "failed": failed,
        "seconds": seconds,
        "rounds": rounds,
        "goals": list(judged(found, asked)),
    }


def tried(count: int, seconds: float, failed: dict[str, str]) -> dict[str, float]:
    """Measure so many satellites once; where that goes wrong, write down why and give nothing."""
    try:
        values = once(count, seconds)
    except (OSError, AssertionError, SystemExit) as error:
        failed[f"{count:,}"] = str(error)
        print(f"  {count:,} satellites: {error}", flush=True)
        return {}
    print(
        f"  {count:,} satellites: " + "  ".join(f"{name} {value:,.2f}" for name, value in values.items()),
        flush=True,
    )
    return values


def judged(found: Found, asked: int) -> Iterator[dict[str, Any]]:
    """Compare with the goals; costs against those of the fewest satellites, round by round."""
    if not found:
        return
    most, fewest = max(found), min(found)
    best = medians([*found[most].values()])
    if asked >= FLOOR:
        yield Judged("satellites connected", most, 10_000, FLOOR).row()
    yield Judged(f"until {most:,} are connected", best["joined"], CONNECTED_WITHIN, at_most=True, unit="s").row()
    yield Judged("relay's memory for each", best["KiB each"], 32, at_most=True, unit="KiB").row()
    yield Judged(f"frames delivered to {most:,}", best["frames/s"], 80_000, unit="/s").row()
    for count, goal in ((1_000, 1.5), (10_000, 3.0)):
        both = found.get(count, {}).keys() & found[fewest].keys()
        if count == fewest or not both:
            continue
        for figure, when in (("µs each", "under load"), ("µs each, alone", "one frame at a time")):
            ratio = statistics.median(found[count][i][figure] / found[fewest][i][figure] for i in both)
            what = f"cost per delivery at {count:,}, beside that at {fewest:,}, {when}"
            yield Judged(what, ratio, goal, at_most=True, unit="×").row()


def section(result: Mapping[str, Any]) -> list[str]:
    """Write the lines of the page."""
    told = [
        "## Many satellites on one relay",
        "",
        f"The links are real, but {CROWDS} light processes play the satellites: they count frames and do not "
        "decode them. The relay is a real one with its log on disk. One satellite sends frames of one message for "
        f"{result['seconds']:g} s, at most {WINDOW} of them on their way at a time. The clock runs from the first "
        "frame sent to the last frame received by the last satellite, and every satellite must get every frame. "
        f"Medians of {result['rounds']} rounds, each with a new relay. Memory is the growth of the relay's "
        "resident memory when all satellites are connected and have had a frame. Cost is the relay's processor "
        "time, including the kernel's work. Frames that come together are written together, so a delivery costs "
        "less under load than one frame at a time, when each frame waits until all satellites have had the one "
        "before.",
        "",
        "| satellites | connected after | KiB each | frames/s, in all | cost of a delivery | one at a time |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for count, row in result["rows"].items():
        told.append(
            f"| {int(count):,} | {row['joined']:.2f} s | {row['KiB each']:.1f} | {row['frames/s']:,.0f} | "
            f"{row['µs each']:.2f} µs | {row['µs each, alone']:.2f} µs |"
        )
    told.append("")
    for count, why in result["failed"].items():
        told += [f"{count} satellites could not be measured: {why}.", ""]
    return [*told, *lines(result["goals"]), "![frames per second](bench/connections.svg)", ""]


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Draw frames per second and costs, by file name."""
    rows = {f"co2, {int(count):,} satellites": row for count, row in result["rows"].items()}
    groups = [
        ("frames delivered per second, all together", {name: row["frames/s"] for name, row in rows.items()}, ""),
        ("ns of the relay's processor per delivery", {n: row["µs each"] * 1000 for n, row in rows.items()}, ""),
    ]
    return {"connections.svg": bars("Many satellites on one relay", groups, "")} if rows else {}


def verdict(result: Mapping[str, Any]) -> bool:
    """Print which goals are reached; return False where a floor is not held."""
    return tell(result["goals"])
