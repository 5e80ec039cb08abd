"""``python -m tests.soak``: kill, cut and stop until so many kills are done; see each time that all is there."""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.soak.network import FAULTS, Broken, Network

FAULTS_PER_CYCLE = 20


def main() -> int:
    """Give the exit code: 0, or 1 when the promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="end after so many (default 1000)")
    parser.add_argument("--minutes", type=float, default=1e9, help="or after so many minutes")
    parser.add_argument("--seed", type=int, default=None, help="of what is done when")
    parser.add_argument("--folder", type=Path, default=None, help="for state and plugins; kept")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    seed = random.randrange(2**32) if given.seed is None else given.seed
    folder = given.folder or Path(tempfile.mkdtemp(prefix="co2-soak-"))
    sys.stderr.write(f"seed {seed}, folder {folder}\n")
    began = time.monotonic()
    network = Network(folder, random.Random(seed))
    broken = ""
    cycles = 0
    try:
        while network.kills < given.kills and time.monotonic() - began < given.minutes * 60:
            if network.dice.random() < 0.3:
                network.keep_copy()
            network.cycle(FAULTS_PER_CYCLE)
            cycles += 1
            sys.stderr.write(
                f"{time.monotonic() - began:7.0f} s  {network.kills:5} kills  {cycles:4} times all was there\n"
            )
    except Broken as error:
        broken = str(error)
    except BaseException as error:
        broken = f"{type(error).__name__}: {error}"
        if not isinstance(error, Exception):
            raise
    finally:
        network.close()
    figures = figures_of(network, cycles, time.monotonic() - began, seed)
    show(figures, as_json=given.json)
    if broken:
        sys.stderr.write("\n".join(network.history) + f"\n\nBROKEN: {broken}\neverything is kept in {folder}\n")
        return 1
    if given.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def figures_of(network: Network, cycles: int, seconds: float, seed: int) -> dict[str, Any]:
    receivers = network.receivers.values()
    return {
        "seed": seed,
        "seconds": round(seconds),
        "kills": network.kills,
        "faults": {kind: network.done[kind] for kind in FAULTS},
        "checks": cycles,
        "slowest_check": round(network.slowest, 1),
        "received": sum(receiver.got for receiver in receivers),
        "allowed_repeats": sum(receiver.repeats for receiver in receivers),
        "gaps_told": sum(receiver.gaps for receiver in receivers),
        "violations": sum(len(receiver.violations) for receiver in receivers),
    }


def show(figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    rows = {**figures, **{f"  {kind}": count for kind, count in figures["faults"].items()}}
    del rows["faults"]
    for name, value in rows.items():
        print(f"{name:40} {value:>12}")


if __name__ == "__main__":
    sys.exit(main())
