"""`make demo`: the main job, on real input."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import wait_for

# All demos want UDP port 9000, and take another only where it is taken before they look.
pytestmark = pytest.mark.xdist_group("demo")

ROOT = Path(__file__).parents[2]


class Demo:
    """The demo, and what it has printed."""

    def __init__(self, seconds: str = "") -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith("CO2_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "co2.cli.demo"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**env, "DEMO_SECONDS": seconds, "PYTHONUNBUFFERED": "1"},
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def found(self, pattern: str) -> re.Match[str]:
        """Wait for a line."""

        def search() -> re.Match[str] | None:
            return next((m for row in self.lines if (m := re.search(pattern, row))), None)

        wait_for(lambda: search() or self.process.poll() is not None, f"a line that matches {pattern!r}", 40)
        match = search()
        assert match, "".join(self.lines)
        return match

    def ended(self) -> int:
        code = self.process.wait(30)
        self._reader.join(10)
        assert self.process.stdout
        self.process.stdout.close()
        return code


@pytest.fixture
def demo() -> Iterator[Demo]:
    running = Demo()
    yield running
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGINT)
        running.ended()


def test_it_shows_what_runs_where_and_live_traffic_until_ctrl_c(demo: Demo) -> None:
    for name in ("relay", "readings", "osc-in", "osc-out"):
        assert demo.found(rf"^ +{name} +http://127\.0\.0\.1:\d+")
    demo.found(r"Look at it: +http://127\.0\.0\.1:\d+/")
    demo.found("sysinfo")
    demo.found(r"OSC came out of osc-out: /stage/hello \[1, 'shrubbery', 0\.81")
    demo.process.send_signal(signal.SIGINT)
    assert demo.ended() == 0
    assert not any("port 2004 is taken" in line for line in demo.lines), "nothing that looks like an error"
    assert "all processes have ended" in demo.lines[-1]


def test_the_line_to_paste_sends_osc_through_the_network(demo: Demo) -> None:
    line = demo.found(r"Send it OSC: +(.+)")[1]
    demo.found("/stage/hello")
    subprocess.run(line, shell=True, check=True, timeout=20)
    demo.found(r"OSC came out of osc-out: /stage/fader1 \[0\.81")


def somebody_listens() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", 2003)) == 0


def test_it_has_a_network_of_its_own_beside_a_relay_that_runs(tmp_path: Path) -> None:
    """Whether the port that people know is ours here or somebody else's."""
    there = subprocess.Popen(
        [sys.executable, "-m", "co2", "relay", "--port", "2003", "--state", str(tmp_path / "state")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(somebody_listens, "a relay at the port people know")
        demo = Demo("1")
        assert demo.ended() == 0, demo.lines
        assert "http://127.0.0.1:2003/ " not in demo.found(r"Look at it: +(.+)")[1]
    finally:
        there.terminate()
        there.wait(20)


def test_it_ends_by_itself_after_demo_seconds_and_leaves_nothing_behind() -> None:
    demo = Demo("3")
    pages = demo.found(r"Look at it: +http://127\.0\.0\.1:(\d+)/")
    assert demo.ended() == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(pages[1])), 2)


def test_make_demo_is_this_program() -> None:
    assert "-m co2.cli.demo" in (ROOT / "Makefile").read_text()
