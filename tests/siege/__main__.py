"""``python -m tests.siege``: all attacks at once on one relay, for some minutes; what was promised is checked."""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path

from tests.siege.attackers import ATTACKS
from tests.siege.siege import NICE, Siege
from tests.siege.verdict import LATENCY_FACTOR, Measured, verdict


def main() -> int:
    """Return the exit code: 0, or 1 where something was not as promised."""
    parser = argparse.ArgumentParser(prog="python -m tests.siege", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="that the attack lasts (default 15)")
    parser.add_argument(
        "--calm", type=float, default=10.0, help="seconds before it that are measured (default 10)"
    )
    parser.add_argument(
        "--only", nargs="*", default=[], choices=[*ATTACKS], metavar="ATTACK", help=" ".join(ATTACKS)
    )
    parser.add_argument(
        "--nice",
        type=int,
        default=NICE,
        choices=range(20),
        metavar="0..19",
        help=f"priority of the attackers for a processor, 19 is the lowest (default {NICE})",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="co2-siege-"))
    siege = Siege(
        folder,
        calm=given.calm,
        seconds=given.minutes * 60,
        attacks=given.only,
        nice=given.nice,
        say=lambda text: sys.stderr.write(f"{text}\n"),
    )
    measured = asyncio.run(siege.run())
    print(json.dumps(measured.as_dict(), indent=2) if given.json else table(measured))
    found = verdict(measured)
    for text in found:
        sys.stderr.write(f"BROKEN: {text}\n")
    if found:
        sys.stderr.write(f"the relay's logs are kept in {folder}\n")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def table(measured: Measured) -> str:
    """Return the figures for a person."""
    mib = 2**20
    rows = {
        "messages sent, received": f"{measured.sent}, {measured.received}",
        "lost, wrong": f"{measured.missing}, {len(measured.wrong)}",
        "honest links that have ended": measured.links_lost,
        "latency p50, calm and under attack": f"{measured.calm_p50 * 1000:.2f} ms, {measured.p50 * 1000:.2f} ms",
        "latency p99, calm and under attack": f"{measured.calm_p99 * 1000:.2f} ms, {measured.p99 * 1000:.2f} ms",
        f"times the calm p99 (goal: at most {LATENCY_FACTOR})": f"{measured.p99 / measured.calm_p99:.1f}",
        "a process with nothing to do: p99, worst": f"{measured.idle_p99 * 1000:.2f} ms, "
        f"{measured.idle_slowest * 1000:.2f} ms",
        "pings on new connections, refused": f"{measured.pings}, {measured.refused_pings}",
        "slowest ping": f"{measured.slowest_ping:.2f} s",
        "memory calm, largest, after": f"{measured.calm_rss / mib:.0f}, {measured.largest_rss / mib:.0f}, "
        f"{measured.rss_after / mib:.0f} MiB",
        "calm again after": f"{measured.calm_after:.1f} s",
        "logs": f"{measured.log_bytes / mib:.1f} MiB",
        **{f"processors of {name}": str(share) for name, share in measured.shares.items()},
        "processors of everything else": f"{measured.others:.2f} busy",
        **{f"  {name}": times for name, times in measured.attacks.items()},
    }
    return "\n".join(f"{name:40} {value!s:>24}" for name, value in rows.items())


if __name__ == "__main__":
    sys.exit(main())
