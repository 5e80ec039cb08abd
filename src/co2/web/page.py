"""Request and answer of a page: plain values, so that pages do not depend on the server."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["PageAnswer", "PageHandler", "PageRequest"]


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request for a page.

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
    """The answer of a page.

    Attributes:
        body: as sent; for HEAD only its length is used.
        status: of HTTP.
        headers: all but those that concern the connection.
    """

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


PageHandler = Callable[[PageRequest], Awaitable[PageAnswer]]
