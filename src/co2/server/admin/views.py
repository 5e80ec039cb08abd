"""What both roles show the same way on their pages and in their metrics."""

from collections.abc import Iterable, Sequence
from typing import TypedDict

from co2.plugin.parent.resource_usage import usage_of
from co2.plugin.parent.status import PackageStatus
from co2.server.http.server import HttpServer
from co2.web.text import brief
from co2.web.view import MethodRow, PackageRow, PluginRow
from co2.xmlrpc.registry import Registry

__all__ = ["HttpNumbers", "http_numbers", "method_rows", "package_problem", "package_rows"]


class HttpNumbers(TypedDict):
    """The server's share of :class:`~co2.web.view.Numbers`."""

    calls: dict[str, int]
    faults: dict[int, int]
    requests: dict[int, int]
    connections: int


def method_rows(registry: Registry) -> Sequence[MethodRow]:
    """Give every method of a registry."""
    rows = []
    for name in registry.names():
        entry = registry.entry(name)
        rows.append(MethodRow(name, entry.help, entry.signatures))
    return rows


def http_numbers(server: HttpServer) -> HttpNumbers:
    """Give what a server has counted."""
    return {
        "calls": dict(server.calls),
        "faults": dict(server.faults),
        "requests": dict(server.requests),
        "connections": server.connections,
    }


def package_problem(row: PackageRow) -> str:
    """Say in one line what is wrong with a package that does not run; anybody may read it."""
    error = brief(row.last_error)
    if error.startswith("plugin package "):
        return error  # it says so itself
    return f"plugin package {row.name} is {row.state}{f': {error}' if error else ''}"


def package_rows(packages: Iterable[PackageStatus]) -> list[PackageRow]:
    """Give how each plugin package is."""
    return [
        PackageRow(
            name=row.name,
            state=row.state,
            pid=row.pid,
            plugins=[PluginRow(p.name, p.text, p.receives, p.help, p.relays) for p in row.plugins],
            restarts=row.restarts,
            last_error=row.last_error,
            last_error_age=row.last_error_age,
            received=row.received,
            sent=row.sent,
            failed=row.failed,
            dropped=row.dropped,
            dead_letters=row.dead_letters,
            send_waits=row.send_waits,
            waiting=row.waiting,
            slowest=row.slowest,
            load=row.load,
            code=row.code,
            reloads=row.reloads,
            refused=row.refused,
            limits=row.limits,
            uses=usage_of(row.pid),
            transit=row.transit,
        )
        for row in packages
    ]
