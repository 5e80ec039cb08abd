"""What both roles show the same way on their pages and in their metrics."""

from collections.abc import Iterable, Sequence
from typing import TypedDict

import msgspec

from co2.plugin.parent.resource_usage import usage_of
from co2.plugin.parent.status import PackageStatus
from co2.server.http.server import HttpServer
from co2.web.text import brief
from co2.web.view import MethodRow
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


def package_problem(row: PackageStatus) -> str:
    """Say in one line what is wrong with a package that does not run; anybody may read it."""
    error = brief(row.last_error)
    if error.startswith("plugin package "):
        return error  # it says so itself
    return f"plugin package {row.name} is {row.state}{f': {error}' if error else ''}"


def package_rows(packages: Iterable[PackageStatus]) -> list[PackageStatus]:
    """Return how each plugin package is, with what its plugin host uses now."""
    return [msgspec.structs.replace(row, uses=usage_of(row.pid)) for row in packages]
