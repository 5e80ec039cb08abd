"""The gate: which requests get as far as a parser, a handler or a page. Decided from the head alone.

A browser can be made to send requests here by any web page. What keeps it out: a Host that is ours (DNS
rebinding), no foreign Origin, and a content type that no HTML form can send (cross-site requests). The buttons on
our own pages are forms without a body; for them the browser must say that the page is ours.
"""

import ipaddress
import re
import socket
import subprocess
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from co2.errors import BadRequest, WrongEncoding
from co2.server.http.limits import Limits
from co2.server.http.refused import Refused
from co2.server.http.request_head import RequestHead, parse_head
from co2.xmlrpc.answers import RELAYED_HEADER
from co2.xmlrpc.encodings import charset_of

__all__ = ["RPC_PATHS", "Gate", "Request", "own_names"]

RPC_PATHS = ("/", "/RPC2")
"""Where XML-RPC is served."""

_LOCAL_HOST_NAME = ("/usr/sbin/scutil", "--get", "LocalHostName")
"""How macOS tells the name that Bonjour gives it, which its owner sets beside the host name."""

_PAGE_METHODS = ("GET", "HEAD")
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{0,5})?")
_XML_TYPES = ("text/xml", "application/xml")  # neither can be sent by a form, nor by a script without our consent
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
"""Headers by which proxies tell for whom they ask (RFC 7239; RFC 9110, 7.6.3; and what was there before)."""

_REMEMBERED_HEADS = 256
_LONGEST_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Request:
    """A head that has passed.

    Attributes:
        head: as it was read.
        is_page: whether a page is asked for; else it is an XML-RPC call.
        relayed: whether a host of co2 says that it passes the request on.
        proxied: whether a proxy says so, or a name that is not of the loopback interface was used over it.
        charset: codec of the body that the Content-Type names, '' for none.
    """

    head: RequestHead
    is_page: bool
    relayed: bool = False
    proxied: bool = False
    charset: str = ""


def own_names() -> set[str]:
    """Give the names by which this machine may be addressed."""
    name = socket.gethostname().lower().rstrip(".")
    names = {"localhost", name, *_bonjour_names()}
    for known in (name.removesuffix(".local"), name.partition(".")[0]):
        names |= {known, f"{known}.local"}
    return names - {"", ".local"}


def _tells_a_proxy(name: str) -> bool:
    return name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIXES)


def _is_old_call(head: RequestHead) -> bool:
    """Return whether this is a call in HTTP/1.0 without anything that only a browser sends."""
    from_browser = "origin" in head.headers or "sec-fetch-site" in head.headers
    return head.minor == 0 and head.method == "POST" and head.path in RPC_PATHS and not from_browser


def _address(name: str) -> "ipaddress.IPv4Address | ipaddress.IPv6Address | None":
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _bonjour_names() -> set[str]:
    """Return what other machines call this one in their ``.local``, where that may differ from its own name."""
    if sys.platform != "darwin":
        return set()
    try:
        found = subprocess.run(_LOCAL_HOST_NAME, capture_output=True, text=True, timeout=2, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError, ValueError):
        return set()
    name = found.stdout.strip().lower()
    return {name, f"{name}.local"} if name else set()


class Gate:
    """Checks heads.

    Args:
        pages: paths of the pages.
        allowed_hosts: names that are accepted as Host besides our own and any IP literal.
        limits: the server's.
        link: path of the link, '' for none.
        buttons: paths to which a button on one of our pages posts.
    """

    def __init__(
        self,
        pages: Collection[str],
        allowed_hosts: Iterable[str],
        limits: Limits,
        link: str = "",
        *,
        buttons: Collection[str] = (),
    ) -> None:
        self._pages = frozenset(pages)
        self._buttons = frozenset(buttons)
        self._link = link
        self._allowed = {host.lower().rstrip(".") for host in allowed_hosts}
        self._own = own_names()
        self._limits = limits
        # What a head means depends on the interface that it came over.
        self._remembered: tuple[dict[bytes, Request], dict[bytes, Request]] = ({}, {})

    def admit(self, raw: bytes, over_loopback: bool) -> Request:
        """Read a head and check it.

        A program sends the same head again and again. What has passed is remembered by its bytes, which decide
        everything here.

        Args:
            raw: the head's bytes, without the empty line at its end.
            over_loopback: whether the connection's own end is a loopback address.

        Raises:
            Refused: with the status for what is wrong.
        """
        remembered = self._remembered[over_loopback]
        known = remembered.get(raw)
        if known is not None:
            return known
        head = parse_head(raw, self._limits)
        name = self._check_host(head)
        self._check_origin(head)
        is_page = self._check_path(head)
        is_program = "origin" not in head.headers and (not is_page or head.path == self._link)
        proxied = any(map(_tells_a_proxy, head.headers))
        if over_loopback and not is_program:
            proxied |= self._check_loopback(name)
        charset = self._check_body(head, is_page)
        request = Request(head, is_page, RELAYED_HEADER in head.headers, proxied, charset)
        if len(raw) <= _LONGEST_REMEMBERED:
            if len(remembered) >= _REMEMBERED_HEADS:
                remembered.clear()
            remembered[raw] = request
        return request

    def _check_host(self, head: RequestHead) -> str:
        """Return the name, or the address, by which this host was asked, '' where a program does not say it.

        HTTP/1.0 has no Host (RFC 1945), and some libraries for XML-RPC send none. A browser always sends one.
        """
        host = head.headers.get("host")
        if host is None and _is_old_call(head):
            return ""
        if host is None:
            raise Refused(400, "no Host")
        found = _HOST.fullmatch(host)
        if found is None:
            raise Refused(400, "a Host that is none")
        name = (found[1] or found[2]).lower().rstrip(".")
        if name in self._own or name in self._allowed or _address(name) is not None:
            return name
        raise Refused(421, "this host is not called that; allowed_hosts can add the name")

    def _check_loopback(self, name: str) -> bool:
        """Check the name that a browser has used over the loopback interface; return whether it is another's.

        The network may answer for this machine's name, and bend it to 127.0.0.1 once its page has been loaded. A
        program is not led astray by that: a browser says Origin with every call and link.
        """
        address = _address(name)
        if name == "localhost" or (address is not None and address.is_loopback):
            return False
        if name in self._allowed:
            return True
        raise Refused(421, "over loopback pages are at localhost or 127.0.0.1; allowed_hosts can add a name")

    def _check_origin(self, head: RequestHead) -> None:
        origin = head.headers.get("origin")
        if origin is not None and origin.lower() != f"http://{head.headers['host'].lower()}":
            raise Refused(403, "a request of another origin")
        site = head.headers.get("sec-fetch-site", "none")
        if origin is None and head.method == "POST" and head.path in self._buttons:
            raise Refused(403, "a button is pressed on one of our pages, and a browser says so with Origin")
        if head.method not in _PAGE_METHODS and site.lower() not in ("same-origin", "none"):
            raise Refused(403, "a request of another site")

    def _check_path(self, head: RequestHead) -> bool:
        """Tell whether a page is asked for."""
        allowed = [*(_PAGE_METHODS if head.path in self._pages else ()), *(["POST"] * (head.path in RPC_PATHS))]
        if head.path in self._buttons:
            allowed = ["POST"]
        if head.path == self._link:
            allowed = ["GET"]
        if not allowed:
            if head.method == "CONNECT" or head.path == "*":
                raise Refused(405, "not a proxy", ["Allow: GET, HEAD, POST"])
            raise Refused(404, "nothing here")
        if head.method not in allowed:
            raise Refused(405, "not with this method", [f"Allow: {', '.join(allowed)}"])
        return head.method != "POST" or head.path in self._buttons

    def _check_body(self, head: RequestHead, is_page: bool) -> str:
        """Return the codec of the body's charset, '' for none."""
        if is_page:
            if head.chunked or head.length:
                raise Refused(400, "no body is expected with this method")
            return ""
        content_type = head.headers.get("content-type", "")
        media_type = content_type.partition(";")[0]
        if media_type.strip().lower() not in _XML_TYPES:
            shown = repr(media_type.strip()[:80]) if media_type.strip() else "nothing"
            raise Refused(415, f"the Content-Type of a call is text/xml, not {shown}", fault=BadRequest)
        if head.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "a compressed body; none is read", fault=BadRequest)
        if head.length is None and not head.chunked:
            raise Refused(411, "no Content-Length", fault=BadRequest)
        if (head.length or 0) > self._limits.max_body:
            raise Refused(413, f"a body of more than {self._limits.max_body} bytes", fault=BadRequest)
        try:
            return charset_of(content_type)
        except WrongEncoding as error:
            raise Refused(415, str(error), fault=WrongEncoding) from None
