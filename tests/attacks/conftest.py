"""The target of the attacks, and that it is well after each of them."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from co2.server.limits import Limits
from tests.attacks.raw import ping_within
from tests.harness import RECORDER, running, write_plugin

MAX_GROWTH = 64 * 2**20
"""Bytes that an attack may leave the target bigger by."""


@dataclass(frozen=True)
class Target:
    """A host under attack.

    Attributes:
        host: its address.
        port: its port.
        pid: of its process.
        limits: its limits.
        log: gives what is in one of its log files by now.
    """

    host: str
    port: int
    pid: int
    limits: Limits
    log: Callable[[str], str]


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder: Path = tmp_path_factory.mktemp("attacks")
    with subprocess.Popen(
        [sys.executable, "-m", "tests.attacks.serve", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        limits = Limits(**started["limits"])
        yield Target("127.0.0.1", started["port"], process.pid, limits, lambda name: (folder / name).read_text())
        _, _ = process.communicate(timeout=10)
        assert process.returncode == 0


@pytest.fixture(scope="session")
def real_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    """A relay and a satellite as their users start them, with a plugin that takes part."""
    base: Path = tmp_path_factory.mktemp("attacked")
    write_plugin(base / "satellite", "recorder", rec=RECORDER)
    with (
        running(base / "relay", "relay") as relay,
        running(base / "satellite", "satellite", "--relay", relay.url) as satellite,
    ):
        yield {
            role: Target("127.0.0.1", host.port, host.pid, Limits(), host.log)
            for role, host in (("relay", relay), ("satellite", satellite))
        }


@pytest.fixture(autouse=True)
def stays_well(target: Target) -> Iterator[None]:
    """After each attack the target answers within a second and has not grown by more than 64 MiB."""
    process = psutil.Process(target.pid)
    before = process.memory_info().rss
    yield
    ping_within(target.port, 1)
    growth = process.memory_info().rss - before
    assert growth <= MAX_GROWTH, f"the target grew by {growth / 2**20:.0f} MiB"
