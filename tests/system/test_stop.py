"""A host ends in time, also where a call of the system does not return."""

import sys
import time
from pathlib import Path

from co2.server.process.run import STOP_TIMEOUT
from tests.harness import running, wait_for

SLOW_NAMES = """
import pathlib, socket, sys, time

if "--without-uvloop" in sys.argv:
    sys.argv.remove("--without-uvloop")
    sys.modules["uvloop"] = None
found = socket.getaddrinfo

def slow(host, *rest, **more):
    if str(host).endswith(".invalid"):
        pathlib.Path("looked-up").touch()
        time.sleep(40)
    return found(host, *rest, **more)

socket.getaddrinfo = slow
from co2.cli.main import main
sys.exit(main())
"""
"""co2, on a machine whose resolver does not answer. (uvloop asks the system itself: here it is left out.)"""


def test_a_satellite_that_looks_up_its_relay_ends_in_time(tmp_path: Path) -> None:
    program = tmp_path / "slow_names.py"
    program.write_text(SLOW_NAMES)
    relay = ("--without-uvloop", "--relay", "http://relay.invalid:2003")
    with running(tmp_path / "sat", "satellite", *relay, program=(sys.executable, str(program))) as satellite:
        wait_for(lambda: (tmp_path / "sat" / "looked-up").exists())
        began = time.monotonic()
        assert satellite.stop() == 0
        assert time.monotonic() - began < STOP_TIMEOUT + 2.0
        assert "delays the end of the process" in satellite.log()
