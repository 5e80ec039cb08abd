"""Fixtures for the tests of plugins; pytest finds them by itself if co2 is installed.

``co2_net`` is a network in memory, ``co2_clock`` its clock, ``co2_network`` a real one in processes, ``co2_host``
starts single hosts. Tests that use none of them import nothing of co2.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from co2.testing.carried import Carried, Failure
    from co2.testing.clock import Clock
    from co2.testing.network import Network
    from co2.testing.processes import HostProcess, RealNetwork
    from co2.testing.relay import Relay
    from co2.testing.satellite import Satellite
    from co2.testing.waiting import assert_received, assert_sent, wait_for

__all__ = [
    "Carried",
    "Clock",
    "Failure",
    "HostProcess",
    "Network",
    "RealNetwork",
    "Relay",
    "Satellite",
    "assert_received",
    "assert_sent",
    "co2_clock",
    "co2_host",
    "co2_net",
    "co2_network",
    "wait_for",
]

_MARKER = "co2_config"

_HOMES = {
    "Carried": "carried",
    "Clock": "clock",
    "Failure": "carried",
    "HostProcess": "processes",
    "Network": "network",
    "RealNetwork": "processes",
    "Relay": "relay",
    "Satellite": "satellite",
    "assert_received": "waiting",
    "assert_sent": "waiting",
    "wait_for": "waiting",
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{home}"), name)


def pytest_configure(config: pytest.Config) -> None:
    """Register our marker with pytest."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(tables): the contents of co2.toml for the hosts of the fixtures co2_net, co2_network, …",
    )


@pytest.fixture
def co2_clock() -> "Clock":
    """The clock of the timers of plugins in ``co2_net``: ``co2_clock.advance(2.5)``."""
    from co2.testing.clock import Clock

    return Clock()


@pytest.fixture
def co2_net(
    request: pytest.FixtureRequest, co2_clock: "Clock", tmp_path_factory: pytest.TempPathFactory
) -> Iterator["Network"]:
    """A relay and any number of satellites in memory: ``co2_net.satellite(X_Mine, config={…})``, and for relay
    plugins ``co2_net.relay.load(X_Mine, config={…})``.

    At the end every ``__exit__`` is called; the test fails if a plugin has failed unexpectedly.
    """
    from co2.testing.network import Network
    from co2.testing.packages import imports_undone

    tables = _tables(request).get("plugin", {})
    with imports_undone():
        network = Network(co2_clock, tmp_path_factory.mktemp("co2"), tables)
        yield network
        network.close()


@pytest.fixture
def co2_host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., "HostProcess"]]:
    """Start a host in its own process, on a free port: ``co2_host("relay")``.

    Arguments are the role and plugins: folders of packages (a ``Path``), or names of bundled or installed ones; as
    keywords ``relay``, the URL of one, ``config``, in the form of the marker's, ``args`` and ``env``.
    """
    from co2.testing.processes import StartedHosts

    with StartedHosts(tmp_path_factory.mktemp("co2"), _tables(request)) as hosts:
        yield hosts.start
        _show(request, hosts.report())


@pytest.fixture
def co2_network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["RealNetwork"]:
    """A real relay, and satellites with ``co2_network.satellite("fader")``, each in its own process."""
    from co2.testing.processes import RealNetwork, StartedHosts

    with StartedHosts(tmp_path_factory.mktemp("co2"), _tables(request)) as hosts:
        yield RealNetwork(hosts)
        _show(request, hosts.report())


def _tables(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the merged tables of a test's markers; the marker nearest to the test takes precedence."""
    tables: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers(_MARKER))):
        if len(marker.args) != 1 or marker.kwargs or not isinstance(marker.args[0], dict):
            raise pytest.UsageError(f"@pytest.mark.{_MARKER} takes one dictionary, with the tables of co2.toml")
        tables = _merged(tables, marker.args[0])
    return tables


def _merged(older: dict[str, Any], newer: dict[str, Any]) -> dict[str, Any]:
    merged = {**older, **newer}
    for key in older.keys() & newer.keys():
        if isinstance(older[key], dict) and isinstance(newer[key], dict):
            merged[key] = _merged(older[key], newer[key])
    return merged


def _show(request: pytest.FixtureRequest, text: str) -> None:
    """Make pytest show the hosts' output if the test fails."""
    request.node.add_report_section("teardown", "co2 hosts", text)
