"""What both roles show the same way on their pages and in their metrics."""

from collections.abc import Sequence
from typing import TypedDict

from co2.server.app import HttpServer
from co2.web.view import MethodRow
from co2.xmlrpc.registry import Registry

__all__ = ["HttpNumbers", "http_numbers", "method_rows"]


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
