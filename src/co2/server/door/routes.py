"""The one table of routes of the JSON door, each with its verb: what a caller must be allowed to do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["API", "CALL", "FRAMES", "ROUTES", "Route", "Routes"]

API = "/api/"
"""Beginning of the paths whose refusals are JSON, too."""

CALL = "call"


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Attributes:
        method: of HTTP; with POST it has a body of JSON.
        path: exact, or everything below it if it ends with ``/``.
        verb: ``send``, ``call`` or ``see``.
        does: one line for people.
        of_relay: whether only a relay has it.
        takes_lines: whether the body may be JSON Lines, too.
        is_socket: whether it is a WebSocket, each frame of which has a verb of its own (:data:`FRAMES`).
    """

    method: str
    path: str
    verb: str
    does: str
    of_relay: bool = False
    takes_lines: bool = False
    is_socket: bool = False

    @property
    def is_prefix(self) -> bool:
        """Whether the end of the path is an argument."""
        return self.path.endswith("/")


ROUTES = (
    Route("POST", "/api/send", "send", "send a message, or several", of_relay=True, takes_lines=True),
    Route("POST", "/api/call/", CALL, "call the method whose name follows, with the body as data"),
    Route("GET", "/api/hosts", "see", "the hosts of the network"),
    Route("GET", "/api/methods", "see", "the methods that can be called"),
    Route("GET", "/api/status", "see", "this host: version, counters, limits, problems"),
    Route("GET", "/api/last", "see", "the last message on each channel", of_relay=True),
    Route("GET", "/api/why", "see", "which message made a message happen", of_relay=True),
    Route("GET", "/api/log", "see", "messages of the log as JSON Lines", of_relay=True),
    Route("GET", "/live", "see", "messages as they come, over a WebSocket", of_relay=True, is_socket=True),
)
"""All routes. A role that lacks one says so, and which host has it."""


FRAMES = {"want": "see", "send": "send", "call": CALL}
"""Verb of each frame that a client sends over ``/live``, by its key."""


class Routes:
    """Look-up of routes by path.

    Args:
        routes: each path once; those of WebSockets are left out.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        routes = [route for route in routes if not route.is_socket]
        self._exact = {route.path: route for route in routes if not route.is_prefix}
        self._prefixes = [route for route in routes if route.is_prefix]

    def __iter__(self) -> Iterator[Route]:
        yield from self._exact.values()
        yield from self._prefixes

    def find(self, path: str) -> Route | None:
        """Return the route of a path, None if there is none."""
        found = self._exact.get(path)
        if found is None:
            found = next((one for one in self._prefixes if path.startswith(one.path) and path != one.path), None)
        return found
