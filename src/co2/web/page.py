"""Request and answer of a page: plain values, so that pages do not depend on the server."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["PageAnswer", "PageHandler", "PageRequest", "path_pattern", "satellite_in"]

_OF_A_SATELLITE = re.compile(r"/satellites/([A-Za-z0-9._-]{1,64})((?:/[a-z]{0,16})?)")


def path_pattern(path: str) -> str:
    """Return the path under which the handler of a page is registered: that of a satellite's pages has a ``*``.

    The path is that of a request, and is compared with the registered ones: nothing else is done with it.
    """
    if not path.startswith("/satellites/"):
        return path
    found = _OF_A_SATELLITE.fullmatch(path)
    return "" if found is None else f"/satellites/*{found[2]}"


def satellite_in(path: str) -> str:
    """Return the name of the satellite that the path of one of its pages contains."""
    found = _OF_A_SATELLITE.fullmatch(path)
    return "" if found is None else found[1]


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
