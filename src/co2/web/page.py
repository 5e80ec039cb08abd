"""Request and answer of a page: plain values, so that pages do not depend on the server."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["OWN_PAGES", "PageAnswer", "PageHandler", "PageRequest", "path_pattern", "satellite_in"]

OWN_PAGES = "/pages/"
"""The path below which the owner's own pages are."""


_OF_A_SATELLITE = re.compile(r"/satellites/([A-Za-z0-9._-]{1,64})((?:/[a-z]{0,16})?)")

# At most four names, none of which begins with a dot: no hidden file, and no way up.
_OWN = re.compile(r"/pages(?:/(?:(?:[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}/){0,3}[A-Za-z0-9_-][A-Za-z0-9._-]{0,63})?)?")


def path_pattern(path: str) -> str:
    """Return the path under which the handler of a page is registered: that of a satellite's pages has a ``*``.

    So has that of the files below :data:`OWN_PAGES`.

    The path is that of a request, and is compared with the registered ones: nothing else is done with it.
    """
    if f"{path}/".startswith(OWN_PAGES):
        return f"{OWN_PAGES}*" if _OWN.fullmatch(path) else ""
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
