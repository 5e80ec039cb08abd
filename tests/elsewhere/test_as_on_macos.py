"""A part of ``make elsewhere`` that every run has: real hosts, and the tests of what differs most."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.harness import HostProcess, Proxy, running, wait_for, write_plugin

resource = pytest.importorskip("resource")

MACOS = Path(__file__).with_name("macos")
ROOT = Path(__file__).parents[2]
ENV = {"PYTHONPATH": str(MACOS)}

pytestmark = pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="Linux stands for macOS here")

STILL = 4.0
"""Seconds that a satellite stands still, eight times what its plugins wait for room."""

FILES_WANTED = 4096 + 256
"""A satellite's connections, and files beside them."""

FILES = (
    "tests/plugin/child/test_writer.py",
    "tests/plugin/parent/test_bookkeeping.py",
    "tests/plugin/parent/test_limits.py",
    "tests/server/process/test_fd_limit.py",
    "tests/server/process/test_local_address.py",
    "tests/store/test_state_folder.py",
    "tests/store/test_cursors.py",
)

FLOODS = '''
import os, sys, threading, time
from co2 import plugin

class X_Ham(plugin.Co2Plugin):
    def x_flood(self, data_dict):
        """Send without a pause for a while, and say how long one took, and how often there was no room."""
        threading.Thread(target=self.flood, daemon=True).start()
        return sys.platform

    def flood(self):
        while not os.path.exists("stands-still"):
            time.sleep(0.01)
        full, longest, until = 0, 0.0, time.monotonic() + 5
        while (began := time.monotonic()) < until:
            try:
                self.send({"data": "x" * 100})
            except TimeoutError:
                full += 1
            longest = max(longest, time.monotonic() - began)
        self.log("%d times full, %.1f s at most.", full, longest)
'''


def run_pytest(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    env = {**os.environ, **ENV}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=110, check=False)


def test_names_are_gone_and_meanings_are_changed() -> None:
    code = """
import concurrent.futures, errno, os, resource, select, socket, sys
concurrent.futures.ThreadPoolExecutor().submit(abs, -1).result()
assert sys.platform == "darwin" and not hasattr(os, "memfd_create") and not hasattr(select, "epoll")
assert not os.path.exists("/proc/self") and resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256
for refused in (
    lambda: resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40)),
    lambda: os.listdir("/proc"),
    lambda: socket.socket().bind(("127.0.0.2", 0)),
    lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(bytes(9217), ("127.0.0.1", 9)),
    lambda: os.killpg(2**22 - 1, 0),
):
    try:
        refused()
    except (OSError, ValueError) as error:
        print(type(error).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **ENV}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["ValueError", "FileNotFoundError", "OSError", "OSError", "PermissionError"]


def test_a_plugin_whose_satellite_stands_still_is_told_in_time_and_its_line_gets_through(tmp_path: Path) -> None:
    write_plugin(tmp_path, "ham", spam=FLOODS)
    args = ("--plugin", "ham", "--relay", "http://127.0.0.1:9")
    satellite = HostProcess(tmp_path, "satellite", *args, env={**ENV, "CO2_SEND_TIMEOUT": "0.5"})
    try:
        with Proxy(satellite.url) as proxy:
            assert proxy.ham.spam.flood({"data": None}) == "darwin"
        os.kill(satellite.pid, signal.SIGSTOP)
        (tmp_path / "stands-still").touch()
        try:
            time.sleep(STILL)  # what is tested: it reads nothing for so long
        finally:
            os.kill(satellite.pid, signal.SIGCONT)
        told = wait_for(
            lambda: re.search(r"(\d+) times full, (.+) s at most", satellite.log()), "the plugin's line"
        )
        assert int(told[1]) > 0
        assert float(told[2]) < STILL / 2, "a sender waits for its own time, not for the satellite"
    finally:
        assert satellite.stop() == 0


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="nobody tells the limits of others here")
def test_a_satellite_may_open_as_many_files_as_it_can_have_connections(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < FILES_WANTED:
        pytest.skip("this machine allows fewer files")
    with running(tmp_path, "satellite", "--relay", "http://127.0.0.1:9", env=ENV) as satellite:
        assert psutil.Process(satellite.pid).rlimit(resource.RLIMIT_NOFILE)[0] >= FILES_WANTED


def test_every_test_can_be_collected() -> None:
    """One that cannot stops the whole suite."""
    done = run_pytest("--collect-only", "--assert=plain", "tests")
    assert done.returncode == 0, done.stdout[-8000:]


def test_the_rooms_that_differ_most_pass_as_on_macos() -> None:
    done = run_pytest(*FILES)
    assert done.returncode == 0, done.stdout[-8000:]
