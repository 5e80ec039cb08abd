"""What a page is asked with and what it answers: plain values, so that nothing here knows the server."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["PageAnswer", "PageHandler", "PageRequest"]


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Who asks for what.

    Attributes:
        path: without the query.
        query: the first value of each name in it.
        address: IP of the other end.
        is_local: whether the browser is on the host's own machine.
    """

    path: str
    query: Mapping[str, str]
    address: str
    is_local: bool = False


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """What goes out.

    Attributes:
        body: as it goes out; for HEAD only its length does.
        status: of HTTP.
        headers: all but those that concern the connection.
    """

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


PageHandler = Callable[[PageRequest], Awaitable[PageAnswer]]
