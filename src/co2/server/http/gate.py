"""The gate: it decides from the head alone which requests reach the XML parser, a handler or a page.

Any web page can make a browser send requests to this server. The gate therefore requires a Host header with one of
this machine's names (against DNS rebinding), no foreign Origin, and for calls a content type that no HTML form can
send (against cross-site requests). The buttons on the server's own pages are forms without a body; for them the
browser must send an Origin, which shows that the page is the server's.
"""

import ipaddress
import re
import socket
import subprocess
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from co2.errors import BadRequest, WrongEncoding
from co2.server.door.routes import API, Route, Routes
from co2.server.http.limits import Limits
from co2.server.http.refused import Refused
from co2.server.http.request_head import RequestHead, parse_head
from co2.web.page import path_pattern
from co2.xmlrpc.answers import RELAYED_HEADER
from co2.xmlrpc.encodings import UTF_8, charset_of

__all__ = ["RPC_PATHS", "Gate", "Request", "own_names"]

RPC_PATHS = ("/", "/RPC2")
"""Paths at which XML-RPC is served."""

_LOCAL_HOST_NAME = ("/usr/sbin/scutil", "--get", "LocalHostName")
"""The command that prints the Bonjour name of a Mac; its owner sets that independently of the host name."""

_PAGE_METHODS = ("GET", "HEAD")
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{0,5})?")
_XML_TYPES = ("text/xml", "application/xml")  # neither can be sent by a form, nor by a script without our consent
_JSON_TYPES = ("application/json",)  # likewise
_LINES_TYPES = ("application/x-ndjson", "application/jsonl")
_JSON_CHARSETS = ("", UTF_8)
_PROXY_PREFIXES = ("x-forwarded-", "cf-")
_PROXY_HEADERS = frozenset(
    (
        "client-ip",
        "fastly-client-ip",
        "forwarded",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-forwarded",
        "x-original-forwarded-for",
        "x-real-ip",
    )
)
"""Headers with which a proxy names its client (RFC 7239; RFC 9110, 7.6.3; and older ones without a standard)."""

_REMEMBERED_HEADS = 256
_LONGEST_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose head has passed the gate.

    Attributes:
        head: the parsed head.
        is_page: whether it is for a page, a button of a page or a WebSocket; otherwise it is an XML-RPC call.
        relayed: whether a header says that a host of co2 passes the request on.
        proxied: whether a header says that a proxy passes it on, or whether it came over the loopback interface
            under a name that ``allowed_hosts`` lists, or from a script in a browser.
        charset: the codec of the body, from the Content-Type; '' if it names none.
        route: of the JSON door; None for any other request.
        is_lines: whether the body is JSON Lines.
    """

    head: RequestHead
    is_page: bool
    relayed: bool = False
    proxied: bool = False
    charset: str = ""
    route: Route | None = None
    is_lines: bool = False


def own_names() -> set[str]:
    """Return the names under which this machine may be addressed, in small letters."""
    name = socket.gethostname().lower().rstrip(".")
    names = {"localhost", name, *_bonjour_names()}
    for known in (name.removesuffix(".local"), name.partition(".")[0]):
        names |= {known, f"{known}.local"}
    return names - {"", ".local"}


def _media_type(head: RequestHead) -> str:
    return head.headers.get("content-type", "").partition(";")[0].strip().lower()


def _tells_a_proxy(name: str) -> bool:
    return name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIXES)


def _is_old_call(head: RequestHead) -> bool:
    """Return whether this is an HTTP/1.0 call without any header that only browsers send."""
    from_browser = "origin" in head.headers or "sec-fetch-site" in head.headers
    return head.minor == 0 and head.method == "POST" and head.path in RPC_PATHS and not from_browser


def _address(name: str) -> "ipaddress.IPv4Address | ipaddress.IPv6Address | None":
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _bonjour_names() -> set[str]:
    """Return the machine's Bonjour name, with and without ``.local``, where it may differ from the host name."""
    if sys.platform != "darwin":
        return set()
    try:
        found = subprocess.run(_LOCAL_HOST_NAME, capture_output=True, text=True, timeout=2, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError, ValueError):
        return set()
    name = found.stdout.strip().lower()
    return {name, f"{name}.local"} if name else set()


class Gate:
    """The checks of request heads.

    Args:
        pages: paths of the pages, as :func:`~co2.web.page.path_pattern` returns them.
        allowed_hosts: names that a Host header may have, besides this machine's own names and any IP address.
        limits: the server's.
        websockets: paths at which connections become WebSockets.
        buttons: paths to which the buttons on the server's pages post.
        routes: of the JSON door.
    """

    def __init__(
        self,
        pages: Collection[str],
        allowed_hosts: Iterable[str],
        limits: Limits,
        websockets: Collection[str] = (),
        *,
        buttons: Collection[str] = (),
        routes: Sequence[Route] = (),
    ) -> None:
        self._routes = Routes(routes)
        self._pages = frozenset(pages)
        self._buttons = frozenset(buttons)
        self._websockets = frozenset(websockets)
        self._allowed = {host.lower().rstrip(".") for host in allowed_hosts}
        self._own = own_names()
        self._limits = limits
        # One table for each value of over_loopback, because the checks depend on it.
        self._remembered: tuple[dict[bytes, Request], dict[bytes, Request]] = ({}, {})

    def admit(self, raw: bytes, over_loopback: bool) -> Request:
        """Parse and check a head.

        A program sends the same head many times, and the result depends on nothing but the bytes of the head and
        the interface; so results are cached by these bytes.

        Args:
            raw: the bytes of the head, without the empty line at its end.
            over_loopback: whether the server's end of the connection is a loopback address.

        Raises:
            Refused: the request is malformed or not allowed; it has the HTTP status.
        """
        remembered = self._remembered[over_loopback]
        known = remembered.get(raw)
        if known is not None:
            return known
        head = parse_head(raw, self._limits)
        try:
            request = self._admit(head, over_loopback)
        except Refused as refused:
            refused.as_json = head.path.startswith(API)
            raise
        if len(raw) <= _LONGEST_REMEMBERED:
            if len(remembered) >= _REMEMBERED_HEADS:
                remembered.clear()
            remembered[raw] = request
        return request

    def _admit(self, head: RequestHead, over_loopback: bool) -> Request:
        name = self._check_host(head)
        self._check_origin(head, name)
        route = self._routes.find(head.path)
        if route is not None:
            if head.method != route.method:
                raise Refused(405, f"{route.path} takes {route.method} only", [f"Allow: {route.method}"])
            is_page = route.method == "GET"
        else:
            is_page = self._check_path(head)
        is_program = "origin" not in head.headers and (not is_page or head.path in self._websockets)
        # A browser's script is no person at this machine, wherever it runs. What it gets or presses like a person
        # cannot be told apart: a page, a button.
        is_script = "origin" in head.headers and (not is_page or head.path in self._websockets)
        proxied = is_script or any(map(_tells_a_proxy, head.headers))
        if over_loopback and not is_program:
            proxied |= self._check_loopback(name)
        charset = self._check_body(head, is_page, route)
        is_lines = route is not None and _media_type(head) in _LINES_TYPES
        return Request(head, is_page, RELAYED_HEADER in head.headers, proxied, charset, route, is_lines)

    def _check_host(self, head: RequestHead) -> str:
        """Return the name or address in the Host header; '' for an HTTP/1.0 call without the header.

        HTTP/1.0 has no Host header (RFC 1945), and some XML-RPC libraries send none. A browser always sends one.
        """
        host = head.headers.get("host")
        if host is None and _is_old_call(head):
            return ""
        if host is None:
            raise Refused(400, "missing Host header")
        found = _HOST.fullmatch(host)
        if found is None:
            raise Refused(400, "invalid Host header")
        name = (found[1] or found[2]).lower().rstrip(".")
        if name in self._own or name in self._allowed or _address(name) is not None:
            return name
        raise Refused(421, "this host does not have that name; add it to allowed_hosts to accept it")

    def _check_loopback(self, name: str) -> bool:
        """Check the Host of a browser's request over loopback; return whether ``allowed_hosts`` lists the name.

        An attacker who answers DNS queries may resolve this machine's name to his own address, and to 127.0.0.1
        once the browser has loaded his page. Programs need no such check. A browser is known by its Origin, which
        it sends with every call and link.
        """
        address = _address(name)
        if name == "localhost" or (address is not None and address.is_loopback):
            return False
        if name in self._allowed:
            return True
        raise Refused(
            421,
            f"over loopback, pages are served only as localhost or 127.0.0.1, not as {name[:80]}; a proxy's "
            f'name or address belongs into co2.toml: allowed_hosts = ["{name[:80]}"]',
        )

    def _check_origin(self, head: RequestHead, name: str) -> None:
        origin = head.headers.get("origin")
        if origin is not None:
            scheme, _, host = origin.lower().partition("://")
            if scheme not in ("http", "https") or host != head.headers["host"].lower():
                raise Refused(403, "cross-origin request")
            # This server speaks http only: the page came from a proxy, and whoever runs the host names it.
            if scheme == "https" and name not in self._allowed:
                raise Refused(403, "cross-origin request: for pages over https add the name to allowed_hosts")
        site = head.headers.get("sec-fetch-site", "none")
        if origin is None and head.method == "POST" and path_pattern(head.path) in self._buttons:
            raise Refused(403, "missing Origin header: a form is accepted only from a page of this host")
        # Pages are for links from anywhere; what the JSON door shows is not, and may be long.
        is_for_all = head.method in _PAGE_METHODS and not head.path.startswith(API)
        if not is_for_all and site.lower() not in ("same-origin", "none"):
            raise Refused(403, "cross-site request")

    def _check_path(self, head: RequestHead) -> bool:
        """Check path and method; return whether the request is for a page or a button."""
        path = path_pattern(head.path)
        allowed = [*(_PAGE_METHODS if path in self._pages else ()), *(["POST"] * (path in RPC_PATHS))]
        if path in self._buttons:
            allowed = ["POST"]
        if head.path in self._websockets:
            allowed = ["GET"]
        if not allowed:
            if head.method == "CONNECT" or head.path == "*":
                raise Refused(405, "this server is not a proxy", ["Allow: GET, HEAD, POST"])
            if head.path.startswith(API):
                known = ", ".join(f"{route.method} {route.path}" for route in self._routes)
                raise Refused(404, f"no such path; there are {known}")
            raise Refused(404, "no such page")
        if head.method not in allowed:
            raise Refused(405, "method not allowed", [f"Allow: {', '.join(allowed)}"])
        return head.method != "POST" or path in self._buttons

    def _check_body(self, head: RequestHead, is_page: bool, route: Route | None) -> str:
        """Check the headers of the body; return the codec of its charset, '' if the Content-Type names none."""
        if is_page:
            if head.chunked or head.length:
                raise Refused(400, "this method cannot have a body")
            return ""
        content_type = head.headers.get("content-type", "")
        media_type = _media_type(head)
        types = _XML_TYPES if route is None else (*_JSON_TYPES, *(_LINES_TYPES if route.takes_lines else ()))
        if media_type not in types:
            shown = repr(media_type[:80]) if media_type else "nothing"
            wanted = "of a call must be text/xml" if route is None else f"must be {' or '.join(types)}"
            raise Refused(415, f"the Content-Type {wanted}, not {shown}", fault=BadRequest)
        if head.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "compressed bodies are not supported", fault=BadRequest)
        if head.length is None and not head.chunked:
            raise Refused(411, "missing Content-Length", fault=BadRequest)
        if (head.length or 0) > self._limits.max_body:
            raise Refused(413, f"body larger than {self._limits.max_body} bytes", fault=BadRequest)
        try:
            charset = charset_of(content_type)
        except WrongEncoding as error:
            raise Refused(415, str(error), fault=WrongEncoding) from None
        if route is not None and charset not in _JSON_CHARSETS:
            raise Refused(415, "JSON must be in UTF-8", fault=WrongEncoding)
        return charset
