"""What people see of errors in a plugin: whoever called it, and whoever reads the satellite's terminal."""

from pathlib import Path

from tests.cli.network import Network, co2
from tests.harness import running, wait_for, write_plugin

FULL = """
from co2 import plugin
from co2.errors import OutboxFull

class X_Full(plugin.Co2Plugin):
    def x_fill(self, data_dict):
        \"\"\"Fails, with advice.\"\"\"
        relay = "the relay at http://192.168.111.222:2003 has been away since 12:34:56 (connection refused)"
        why = f"outbox_max, 1073741824 bytes, is reached by what waits at the satellite; {relay}"
        raise OutboxFull(5.0, why)
"""

TICKING = """
from co2 import plugin

class X_Ticking(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.ticks = 0
        self.every(0.01, self.tick)

    def tick(self):
        self.ticks += 1
        raise ValueError(f"tick {self.ticks} of a broken clock")
"""


def test_a_caller_is_told_what_helps(tmp_path: Path) -> None:
    write_plugin(tmp_path / "satellite", "full", full=FULL)
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "satellite", "satellite", "--relay", relay.url) as satellite,
    ):
        done = co2(Network(relay, satellite, tmp_path), "call", "full.full.fill", "--url", satellite.url)
    assert done.returncode == 1
    assert "has been away since 12:34:56 (connection refused). Drop it or send it later; outbox_max" in done.stderr
    assert "co2.toml say how much waits and how long (log id " in done.stderr


def test_a_timer_that_fails_at_every_tick_leaves_the_terminal_readable(tmp_path: Path) -> None:
    write_plugin(tmp_path, "clock", clock=TICKING)
    with running(tmp_path, "satellite") as satellite:
        wait_for(lambda: "(again: 20 times in " in satellite.stderr, "it has failed twenty times")
    ticks = [line for line in satellite.stderr.splitlines() if "ValueError: tick" in line]
    assert satellite.stderr.count("Traceback") == 1
    assert ticks[0].startswith("  | ValueError: tick 1 of")
    assert "failed - ValueError: tick 2 of a broken clock (again: 2 times in 0 s; its traceback is in" in ticks[1]
    assert satellite.log().count("Traceback") == satellite.log().count("\n  | ValueError: tick ") >= 20
