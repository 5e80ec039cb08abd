"""Parts of pages and metrics that are the same for both roles."""

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
    """Return every method of a registry."""
    entries = ((name, registry.entry(name)) for name in registry.names())
    return [MethodRow(name, entry.help, entry.signatures) for name, entry in entries]


def http_numbers(server: HttpServer) -> HttpNumbers:
    """Return the counters of a server."""
    return {
        "calls": dict(server.calls),
        "faults": dict(server.faults),
        "requests": dict(server.requests),
        "connections": server.connections,
    }


def package_problem(row: PackageStatus) -> str:
    """Return in one line what is wrong with a package that does not run; anybody may read it."""
    error = brief(row.last_error)
    if error.startswith("plugin package "):
        return error  # the error names the package itself
    return f"plugin package {row.name} is {row.state}{f': {error}' if error else ''}"


def package_rows(packages: Iterable[PackageStatus]) -> list[PackageStatus]:
    """Return the status of each plugin package, with the current usage of its plugin host."""
    return [msgspec.structs.replace(row, uses=usage_of(row.pid)) for row in packages]
