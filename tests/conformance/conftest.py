"""One real network for all statements: a relay and two satellites, each a process."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness import RECORDER, HostProcess, Proxy, running, wait_for, write_plugin

PLUGINS = Path(__file__).parent / "plugins"


@dataclass
class Network:
    """``a`` carries the plugins of 2003, ``b`` a recorder."""

    relay: HostProcess
    a: HostProcess
    b: HostProcess

    def call(self, method: str, data: Any, host: HostProcess | None = None) -> Any:
        """Call a plugin's method, on satellite a unless told otherwise."""
        with (host or self.a).proxy() as proxy:
            return getattr(proxy, method)({"data": data})

    def spam(self) -> list[dict[str, Any]]:
        """What ham.spam on a has received."""
        return lines(self.a.folder / "spam.jsonl")

    def recorded(self) -> list[dict[str, Any]]:
        """What the recorder on b has received."""
        return lines(self.b.folder / "received.jsonl")


def lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines, the whole ones."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    base = tmp_path_factory.mktemp("network")
    shutil.copytree(PLUGINS, base / "a" / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    write_plugin(base / "b", "recorder", rec=RECORDER)
    with (
        running(base / "relay", "relay") as relay,
        running(base / "a", "satellite", "--relay", relay.url) as a,
        running(base / "b", "satellite", "--relay", relay.url) as b,
    ):
        with relay.proxy() as proxy:
            wait_for(lambda: len(proxy.relay.get_satellites({})) == 2, "both satellites registered")
            wait_for(lambda: all(row["plugins"] for row in proxy.relay.get_satellites()), "their plugins known")
        yield Network(relay, a, b)


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[HostProcess]:
    """A satellite without a link that takes ``notify`` from the address of its relay, which is not there."""
    shutil.copytree(PLUGINS / "ham", tmp_path / "plugins" / "ham", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "co2.toml").write_text("[satellite]\naccept_notify = true\n")
    with running(tmp_path, "satellite", "--relay", "http://127.0.0.1:9") as host:
        yield host


@pytest.fixture
def proxy(network: Network) -> Iterator[Proxy]:
    """The relay, through the standard library's client."""
    with network.relay.proxy() as proxy:
        yield proxy


Receiver = Callable[[Callable[[dict[str, Any]], bool]], dict[str, Any]]


@pytest.fixture
def at_b(network: Network) -> Receiver:
    """Wait for a message at the recorder on b."""

    def receive(wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return wait_for(lambda: next(filter(wanted, network.recorded()), {}), "a message at b")

    return receive


@pytest.fixture
def token() -> str:
    """A value that no other message has."""
    return f"token-{time.monotonic_ns()}"
