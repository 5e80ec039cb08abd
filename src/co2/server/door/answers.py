"""Request and answer of a route of the JSON door: plain values, so that handlers do not depend on the server."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from co2.exact_json.writer import write
from co2.server.door.routes import Route
from co2.xmlrpc.registry import Caller

__all__ = ["JSON", "LINES", "DoorAnswer", "DoorHandler", "DoorRequest", "json_answer"]

JSON = "application/json"
LINES = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class DoorRequest:
    """A request for a route.

    Attributes:
        route: of the table.
        rest: the path behind that of a route whose end is an argument, decoded.
        query: the first value of each name in it.
        body: as received.
        is_lines: whether the body is JSON Lines.
        caller: the sender of the request.
    """

    route: Route
    rest: str
    query: Mapping[str, str]
    body: bytes
    is_lines: bool
    caller: Caller


@dataclass(frozen=True, slots=True)
class DoorAnswer:
    """The answer of a route.

    Attributes:
        body: as sent, if there are no ``pieces``.
        status: of HTTP.
        content_type: without the charset, which is UTF-8.
        pieces: of a body whose length is not known yet, each written when the other side has read those before;
            the handler has taken the first one, so that they are closed in any case.
        is_endless: whether the pieces end only when the other side hangs up, or the host stops.
        code: fault code of an error; 0 for none.
    """

    body: bytes = b""
    status: int = 200
    content_type: str = JSON
    pieces: AsyncGenerator[bytes, None] | None = None
    is_endless: bool = False
    code: int = field(default=0, kw_only=True)


DoorHandler = Callable[[DoorRequest], Awaitable[DoorAnswer]]


def json_answer(value: object, status: int = 200, *, code: int = 0) -> DoorAnswer:
    """Return an answer with a short value."""
    return DoorAnswer(write(value) + b"\n", status, code=code)
