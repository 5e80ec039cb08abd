"""What a relay writes to its disk for messages that come one at a time: what an SD card lives on.

A satellite's link sends at a steady rate, one message a frame; the system counts what the relay writes
(``write_bytes`` of /proc/PID/io, whole pages), with what goes from the WAL into the database in that time.
"""

import secrets
import select
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench.chart import bars
from bench.crowd_sender import PLUGIN, Talker
from bench.goals import Judged, lines, tell
from bench.peers.brokers import temporary_folder
from bench.peers.co2 import host
from bench.processes import line
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.link_frames import Ack, Publish, encode_link_frame

__all__ = ["RATES", "SECONDS", "measure", "pictures", "section", "verdict"]

RATES = (1, 4, 50, 2000)
"""Messages per second: a thermometer, a sensor, a hand on a fader, everything at once."""

SECONDS = 40.0

MODES = {"as it comes": "", 'durability = "1s"': '[relay]\ndurability = "1s"\n'}

BEFORE: Mapping[int, float] = {1: 70_861, 4: 70_502, 50: 69_809, 2000: 3_972}
"""Bytes per message of co2 0.9 before it had the journal, by this very program."""

LONE, LONE_FLOOR = 4096, 8192
"""Bytes for a message that comes alone: one page of the disk; two."""

HOUR_FLOOR = 200e6
"""Bytes an hour at 50 messages a second, with a window of a second."""


class Sender:
    """One link that sends at a rate."""

    def __init__(self, url: str) -> None:
        address, _, port = url.removeprefix("http://").rpartition(":")
        self._epoch = secrets.randbits(62)
        self._talker = Talker((address, int(port)), "127.0.0.2", self._epoch, False)
        self.sent = self.acked = 0

    def run(self, rate: int, seconds: float) -> None:
        """Send; wait until all of it is acknowledged."""
        begun = time.monotonic()
        first = self.sent
        while (passed := time.monotonic() - begun) < seconds:
            while self.sent - first < passed * rate:
                self._publish()
            self._read(min(1 / rate, 0.005))
        while self.acked < self.sent:
            self._read(5.0)

    def _publish(self) -> None:
        batch = make_batch([msgspec.msgpack.encode({"data": [self.sent, "shrubbery", 0.815]})])
        self.sent += 1
        self._talker.send(
            encode_link_frame(Publish(self._epoch, self.sent, "crowd", PLUGIN, [""], zlib.crc32(batch), batch))
        )

    def _read(self, timeout: float) -> None:
        if select.select([self._talker.socket], [], [], timeout)[0]:
            self._talker.fill()
            for frame in self._talker.frames():
                if isinstance(frame, Ack):
                    self.acked = frame.seq


def written(pid: int) -> int:
    """Return the bytes that a process has written to disks."""
    rows = dict(row.split(": ") for row in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(rows["write_bytes"])


def once(rate: int, config: str, seconds: float) -> float:
    """Return the bytes that a relay writes per message, after some that do not count."""
    with temporary_folder() as folder, host(folder, "relay", "relay", config) as process:
        sender = Sender(line(process).split()[-1])
        sender.run(max(rate, 20), 2.0)
        before, first = written(process.pid), sender.sent
        sender.run(rate, seconds)
        found = written(process.pid) - before
        if not found:
            raise SystemExit(f"bench: {folder} is on no disk: set TMPDIR to a folder that is")
        return found / (sender.sent - first)


def measure(seconds: float = SECONDS, rounds: int = 1) -> dict[str, Any]:
    """Measure each rate, as it comes and with a window."""
    rows: dict[str, dict[str, float]] = {}
    for mode, config in MODES.items():
        for rate in RATES:
            found = [once(rate, config, seconds) for _ in range(rounds)]
            rows.setdefault(mode, {})[str(rate)] = sorted(found)[len(found) // 2]
            print(f"  {mode}, {rate:,}/s: {rows[mode][str(rate)]:,.0f} bytes a message", flush=True)
    return {"rows": rows, "seconds": seconds, "goals": list(judged(rows))}


def judged(rows: Mapping[str, Mapping[str, float]]) -> Iterator[dict[str, Any]]:
    """Compare with the goals."""
    alone, together = (rows[mode] for mode in MODES)
    for rate in ("4", "50"):
        yield Judged(
            f"a message that comes alone, {rate} a second",
            alone[rate],
            LONE,
            LONE_FLOOR,
            at_most=True,
            unit="bytes",
        ).row()
    hour = together["50"] * 50 * 3600 / 1e6
    yield Judged(
        "an hour of 50 a second, in windows of a second", hour, HOUR_FLOOR / 2e6, HOUR_FLOOR / 1e6, at_most=True,
        unit="MB",
    ).row()  # fmt: skip


def section(result: Mapping[str, Any]) -> list[str]:
    """Write the lines of the page."""
    rows = result["rows"]
    return [
        "## What a relay writes to its disk",
        "",
        "Bytes per message, with one message in a frame, acknowledged when it is on disk. The system counts them "
        "for the relay's process, in whole pages of 4 KiB, including all work of the log in "
        f"{result['seconds']:g} s. Before: SQLite's commits without a journal. The last column is for a day, for "
        "these three cases.",
        "",
        "| messages/s | before | "
        + " | ".join(f"`{mode}`" if "=" in mode else mode for mode in MODES)
        + " | a day of it |",
        "|---:|---:|" + "---:|" * len(MODES) + "---|",
        *(_row(rate, rows) for rate in RATES),
        "",
        *lines(result["goals"]),
        "![bytes written](bench/disk.svg)",
        "",
    ]


def _row(rate: int, rows: Mapping[str, Mapping[str, float]]) -> str:
    found = [rows[mode][str(rate)] for mode in MODES]
    day = " / ".join(f"{each * rate * 86_400 / 1e9:,.3g}" for each in (BEFORE.get(rate, 0), *found))
    cells = " | ".join(f"{each:,.0f}" for each in found)
    return f"| {rate:,} | {BEFORE.get(rate, 0):,.0f} | {cells} | {day} GB |"


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Draw the bytes of a message by rate, by file name."""
    rows = result["rows"]
    groups = [
        (f"{rate:,}/s", {"before": BEFORE.get(rate, 0.0), **{mode: rows[mode][str(rate)] for mode in MODES}}, "")
        for rate in RATES
    ]
    return {"disk.svg": bars("Bytes written per message", groups, "")}


def verdict(result: Mapping[str, Any]) -> bool:
    """Print which goals are reached; return False where a floor is not held."""
    return tell(result["goals"])
