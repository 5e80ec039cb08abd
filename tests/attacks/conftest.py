"""The targets of the attacks, and that they are well after each of them."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from co2.server.http.limits import Limits
from tests.attacks.hosts import MAX_GROWTH, Attacked, guard, running
from tests.harness import RECORDER, write_plugin


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
        with guard.watching(Attacked("the target", started["port"], process.pid)):
            yield Target(
                "127.0.0.1", started["port"], process.pid, limits, lambda name: (folder / name).read_text()
            )
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
def stays_well(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each attack all hosts that are attacked answer within a second, and none has grown by much.

    A host that the test itself has started is gone by then: :func:`tests.attacks.hosts.running` has looked at it.
    """
    mark = request.node.get_closest_marker("may_grow")
    guard.begin(mark.args[0] * 2**20 if mark else MAX_GROWTH)
    yield
    guard.check()
