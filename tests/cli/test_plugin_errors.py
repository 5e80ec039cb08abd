"""What people see of errors in a plugin: whoever called it, and whoever reads the satellite's terminal."""

import json
from pathlib import Path
from typing import Any

from tests.cli.network import Network, co2
from tests.harness import running, wait_for, write_plugin

FULL = """
from co2 import plugin
from co2.errors import OutboxFull

class X_Full(plugin.Co2Plugin):
    def x_fill(self, data_dict):
        \"\"\"Fails, with advice.\"\"\"
        relay = "the relay at http://192.168.111.222:2003 has been away since 12:34:56 (connection refused)"
        why = f"the messages that wait at the satellite have reached outbox_max, 1073741824 bytes; {relay}"
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
    assert "co2.toml set the limits (log id " in done.stderr


def test_a_timer_that_fails_at_every_tick_leaves_the_terminal_readable(tmp_path: Path) -> None:
    write_plugin(tmp_path, "clock", clock=TICKING)
    with running(tmp_path, "satellite") as satellite:
        wait_for(lambda: " times in 1 s; its traceback is in co2.log)" in satellite.stderr, "it is told how often")
    ticks = [line for line in satellite.stderr.splitlines() if "ValueError: tick" in line]
    assert satellite.stderr.count("Traceback") == satellite.log().count("Traceback") == 1
    assert ticks[0].startswith("  | ValueError: tick 1 of")
    place = (
        f"{tmp_path / 'plugins' / 'clock' / 'clock.py'}:12: tick(), called every 0.01 s, failed - ValueError: tick"
    )
    assert place in ticks[1]
    assert len(ticks) == satellite.log().count("ValueError: tick") == 2


SYNTH = """
from co2 import plugin

class X_Synth(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.now = self.begun = 0
        self.every(1 / 30, self.tick)

    def tick(self):
        self.begun += 1
        self.now += 1

    def x_begun(self) -> int:
        return self.begun

    def receive(self, data_dict):
        raise KeyError(data_dict["data"])

    def x_go(self, data_dict):
        raise LookupError("no way")

    async def x_later(self, data_dict):
        raise OSError("too late")

    def joined(self, host):
        raise RuntimeError("not you")
"""


def test_where_it_failed_is_told_everywhere_and_each_error_once(tmp_path: Path) -> None:
    write_plugin(tmp_path / "satellite", "synth", synth=SYNTH.replace("self.now += 1", "self.now += 1 + None"))
    file = tmp_path / "satellite" / "plugins" / "synth" / "synth.py"
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "satellite", "satellite", "--relay", relay.url) as satellite,
        running(tmp_path / "other", "satellite", "--relay", relay.url),
    ):
        net = Network(relay, satellite, tmp_path)

        def line_of(code: str) -> str:
            return f"{file}:{file.read_text().splitlines().index(code) + 1}: "

        tick = f"{line_of('        self.now += 1 + None')}tick(), called every 0.0333 s, failed"
        wait_for(lambda: f"{tick} - TypeError" in satellite.stderr, "it is told again after a second")
        error = f"{tick} - TypeError: unsupported operand"
        [row] = json.loads(co2(net, "plugin", "ls", "--json", "--url", satellite.url).stdout)
        assert error in row["last_error"]
        # Whoever asks from elsewhere is not told where on the machine that is.
        [row] = json.loads(co2(net, "ps", "--plugins", "--json").stdout)
        assert error.removeprefix(f"{file.parent}/") in row["last_error"]
        for number in range(6):
            co2(net, "send", json.dumps({"data": number}))
        for method in ("synth.synth.go", "synth.synth.later"):
            assert co2(net, "call", method, '{"data": null}', "--url", satellite.url).returncode == 1
        for what in (
            f"{line_of('        raise KeyError(data_dict[' + chr(34) + 'data' + chr(34) + '])')}receive failed",
            f"{line_of('        raise LookupError(' + chr(34) + 'no way' + chr(34) + ')')}synth.synth.go failed",
            f"{line_of('        raise OSError(' + chr(34) + 'too late' + chr(34) + ')')}synth.synth.later failed",
            f"{line_of('        raise RuntimeError(' + chr(34) + 'not you' + chr(34) + ')')}joined failed",
        ):
            wait_for(lambda what=what: what in satellite.stderr, what)
        for number in range(6):
            wait_for(lambda number=number: f"{{'data': {number}}}" in satellite.log(), "each is in the file")
        said = satellite.stderr
    assert said.count("Traceback") == 5
    assert said.count("receive failed") < 6, "at once, and then with a count"


def test_new_code_whose_timer_fails_at_once_is_taken_back(tmp_path: Path) -> None:
    write_plugin(tmp_path, "synth", synth=SYNTH)
    file = tmp_path / "plugins" / "synth" / "synth.py"
    with running(tmp_path, "satellite") as satellite, satellite.proxy() as proxy:
        file.write_text(SYNTH.replace("self.now += 1", "self.now += 1 + None"))
        proxy.co2.plugin.reload("synth")

        def row() -> dict[str, Any]:
            return dict(proxy.co2.get_properties()["plugins"][0])

        wait_for(lambda: row()["reloads"]["reverted"] == 1, "the old code is back")
        assert (row()["load"], row()["state"], row()["refused"]) == (1, "running", True)
        line = SYNTH.splitlines().index("        self.now += 1") + 1
        assert "(load 2, code " in row()["last_error"]
        assert (
            f"tick(), called every 0.0333 s, failed at its first call: {file}:{line}: TypeError"
            in row()["last_error"]
        )


def test_where_the_old_code_failed_too_the_new_one_stays(tmp_path: Path) -> None:
    broken = SYNTH.replace("self.now += 1", "self.now += 1 + None")
    write_plugin(tmp_path, "synth", synth=broken)
    file = tmp_path / "plugins" / "synth" / "synth.py"
    with running(tmp_path, "satellite") as satellite, satellite.proxy() as proxy:
        wait_for(lambda: "tick(), called every 0.0333 s, failed" in satellite.stderr, "it fails from the start")
        file.write_text(f"{broken}# more\n")
        assert proxy.co2.plugin.reload("synth")["load"] == 2
        begun = lambda: proxy.synth.synth.begun({"data": None})  # noqa: E731
        wait_for(lambda: begun() > 2, "its timer is called again and again")
        row = proxy.co2.get_properties()["plugins"][0]
        assert (row["load"], row["reloads"]["reverted"], row["refused"]) == (2, 0, False)
