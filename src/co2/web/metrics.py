"""``/metrics`` for Prometheus: the host's plain counters, read at each scrape.

Labels are few and bounded: never a channel, a data key or a name chosen by a caller; except the host_ids of the
satellites that are furthest behind.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence

from co2.web.headers import answer
from co2.web.page import PageAnswer, PageHandler, PageRequest
from co2.web.view import HostView, SatelliteRow

__all__ = ["LAGS_TOLD", "make_metrics_page"]

Family = tuple[str, str, str | tuple[str, ...], Mapping[object, float]]
"""Name, help, label or labels, and values by label; by a tuple of labels if there are several."""

LAGS_TOLD = 50
"""Satellites whose lag is listed one by one, those that are furthest behind; hundreds of rows help nobody."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def make_metrics_page(view: HostView) -> PageHandler:
    """Return the handler. prometheus_client is imported at the first scrape: most hosts are never scraped."""
    scrape: Callable[[Sequence[SatelliteRow]], bytes] | None = None

    async def metrics(_request: PageRequest) -> PageAnswer:
        nonlocal scrape
        if scrape is None:
            scrape = _make_scrape(view)
        return answer(scrape(await view.satellites()), CONTENT_TYPE)

    return metrics


def _make_scrape(view: HostView) -> Callable[[Sequence[SatelliteRow]], bytes]:
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector

    class HostCollector(Collector):
        """Reads the view.

        Attributes:
            rows: of the satellites.
        """

        rows: Sequence[SatelliteRow] = ()

        def collect(self) -> Iterator[Metric]:
            info = GaugeMetricFamily(
                "co2_build_info", "Always 1; the labels name version and role", labels=("version", "role")
            )
            info.add_metric((view.version, view.role), 1)
            yield info
            for name, text, label, values in _counters(view):
                labels = (label,) if isinstance(label, str) else label
                counter = CounterMetricFamily(name, text, labels=labels)
                for value, number in values.items():
                    counter.add_metric(_texts(value), number)
                yield counter
            for name, text, label, values in _gauges(view, self.rows):
                labels = (label,) if isinstance(label, str) and label else tuple(label)
                gauge = GaugeMetricFamily(name, text, labels=labels)
                for value, number in values.items():
                    gauge.add_metric(_texts(value) if labels else (), number)
                yield gauge

    registry = CollectorRegistry(auto_describe=False)
    collector = HostCollector()
    registry.register(collector)
    ProcessCollector(registry=registry)

    def scrape(rows: Sequence[SatelliteRow]) -> bytes:
        collector.rows = rows
        try:
            return generate_latest(registry)
        finally:
            collector.rows = ()

    return scrape


def _counters(view: HostView) -> Iterator[Family]:
    numbers = view.numbers()
    packages = view.plugins()
    yield "co2_messages", "Messages since the start", "direction", _loose(numbers.messages)
    yield "co2_messages_dropped", "Messages that did not arrive", "reason", _loose(numbers.dropped)
    yield "co2_events", "Events in the transport of messages", "kind", _loose(numbers.events)
    yield "co2_calls", "XML-RPC calls answered", "outcome", _loose(numbers.calls)
    yield "co2_faults", "XML-RPC faults returned to callers", "code", _loose(numbers.faults)
    yield "co2_http_requests", "HTTP requests answered", "status", _loose(numbers.requests)
    yield "co2_disk_written_bytes", "Bytes written to disk, in whole pages", "what", _loose(numbers.written)
    for attribute, text in (
        ("restarts", "Starts of a plugin host after its first"),
        ("received", "Messages that a package's plugins received"),
        ("sent", "Messages that a package's plugins sent"),
        ("failed", "Calls of receive and gap that raised"),
        ("dropped", "Messages for a package that were dropped"),
        (
            "dead_letters",
            "Messages that a plugin failed on: receive raised, or its plugin host died repeatedly",
        ),
        ("send_waits", "Calls of send that had to wait for room"),
    ):
        values = {package.name: float(getattr(package, attribute)) for package in packages}
        yield f"co2_plugin_{attribute}", text, "plugin", _loose(values)
    yield (
        "co2_plugin_reloads",
        "Changes of a package's code",
        ("plugin", "outcome"),
        {(package.name, outcome): count for package in packages for outcome, count in package.reloads.items()},
    )
    yield (
        "co2_plugin_transit",
        "Messages that went through relay plugins, by outcome",
        ("plugin", "outcome"),
        {(package.name, outcome): count for package in packages for outcome, count in package.transit.items()},
    )


def _gauges(view: HostView, rows: Sequence[SatelliteRow]) -> Iterator[Family]:
    numbers = view.numbers()
    packages = view.plugins()
    yield "co2_ready", "1 when the host is ready", "", {"": float(view.readiness().ready)}
    yield "co2_http_connections", "Open HTTP connections", "", {"": numbers.connections}
    yield "co2_queue_depth", "Messages waiting", "queue", _loose(numbers.queues)
    yield "co2_bytes", "Bytes stored or waiting", "place", _loose(numbers.bytes)
    yield "co2_lagging", "Receivers that do not keep up", "kind", _loose(numbers.lagging)
    yield "co2_peer_up", "1 when the peer answers", "peer", _loose(numbers.peers)
    yield (
        "co2_plugin_up",
        "1 when the package runs",
        "plugin",
        {package.name: float(package.state == "running") for package in packages},
    )
    yield (
        "co2_plugin_state",
        "1 for the current state of the package",
        ("plugin", "state"),
        {(package.name, package.state): 1 for package in packages},
    )
    yield (
        "co2_plugin_uses",
        "Resources that the plugin host of a package uses",
        ("plugin", "resource"),
        {key: used for package in packages for key, used in _resources(package.name, package.uses)},
    )
    yield (
        "co2_plugin_limit",
        "Resource limits of a package; absent without a limit",
        ("plugin", "resource"),
        {
            key: most
            for package in packages
            for key, most in _resources(package.name, _limits(package.limits))
            if most
        },
    )
    yield (
        "co2_plugin_waiting",
        "Messages queued for the package",
        "plugin",
        {package.name: package.waiting for package in packages},
    )
    yield (
        "co2_plugin_load",
        "Number of the running load",
        "plugin",
        {package.name: package.load for package in packages},
    )
    yield (
        "co2_plugin_slowest_receive_seconds",
        "Longest receive since the start",
        "plugin",
        {package.name: package.slowest for package in packages},
    )
    if view.role == "relay":
        states: dict[object, float] = {}
        for row in rows:
            states[row.state] = states.get(row.state, 0) + 1
        for state, count in view.away_states().items():
            states[state] = states.get(state, 0) + count
        yield "co2_satellites", "Registered satellites", "state", states
        furthest = heapq.nlargest(LAGS_TOLD, (row for row in rows if row.lag), key=lambda row: row.lag)
        yield (
            "co2_satellite_lag",
            f"Messages in the log that a satellite has not received yet; the {LAGS_TOLD} that are furthest behind",
            "satellite",
            {row.host_id: row.lag for row in furthest},
        )


def _resources(package: str, numbers: Mapping[str, float]) -> Iterator[tuple[tuple[str, str], float]]:
    """Return amounts by package and resource, memory and address space in bytes."""
    for name, number in numbers.items():
        in_mib = name in ("memory", "address_space")
        yield (package, f"{name}_bytes" if in_mib else name), number * (2**20 if in_mib else 1)


def _limits(limits: Mapping[str, float]) -> Mapping[str, float]:
    """Return limits under the names of the resources that they limit: ``memory`` limits the address space."""
    return {"address_space" if name == "memory" else name: most for name, most in limits.items()}


def _texts(labels: object) -> list[str]:
    return [str(one) for one in (labels if isinstance(labels, tuple) else (labels,))]


def _loose(values: Mapping[str, float] | Mapping[int, float]) -> Mapping[object, float]:
    return {key: float(value) for key, value in values.items()}
