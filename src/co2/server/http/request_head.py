"""A strict parser of the head of an HTTP/1.1 request. Sans I/O: bytes in; a RequestHead, or a refusal, out.

It is stricter than RFC 9112 requires, because request smuggling needs lenient parsers. Status 400, and the end of
the connection, is the answer to a bare CR or LF, a folded line, a space before a colon, a repeated header that
must be single, a length with anything but digits, and a length together with a transfer coding.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from co2.server.http.limits import Limits
from co2.server.http.refused import Refused

__all__ = ["RequestHead", "check_lines", "parse_head"]

_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)")
_BROKEN = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\x00")
_LENGTH = re.compile(r"[0-9]{1,19}")

_REPEATABLE = frozenset(
    ("accept", "accept-encoding", "accept-language", "cache-control", "connection", "cookie", "pragma", "via")
)
"""Headers that may come several times, because their values are lists; so may all that begin with ``x-``."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The parsed head of a request.

    Attributes:
        method: in capitals.
        path: without the query.
        target: as received, with the query.
        minor: the x of HTTP/1.x, 0 or 1.
        headers: values by name in small letters.
        length: bytes of the body; None if there is no Content-Length.
        chunked: whether the body is chunked.
        keep: whether the connection stays open after the answer.
        expects: whether the caller waits for ``100 Continue`` before it sends the body.
    """

    method: str
    path: str
    target: str
    minor: int
    headers: Mapping[str, str]
    length: int | None
    chunked: bool
    keep: bool
    expects: bool


def check_lines(data: bytes | bytearray, start: int, limits: Limits) -> int:
    """Check the length of the lines of a head, and that they have no forbidden bytes.

    The first fault counts, so the result does not depend on how much has come behind it.

    Args:
        data: the received part of a head.
        start: index of the first line that is not checked yet.
        limits: the server's.

    Returns:
        The index of the first incomplete line.

    Raises:
        Refused: a line is wrong; it has the HTTP status.
    """
    while True:
        last = min(start + limits.max_line, limits.max_head)  # where this line may end
        end = data.find(b"\r\n", start, last + 2)
        if _BROKEN.search(data, start, end + 1 if end >= 0 else last + 2) is not None:
            raise Refused(400, "bare CR, bare LF or NUL in the head")
        if end >= 0:
            start = end + 2
            continue
        if len(data) < max(start, last) + 2:
            return start
        if last == limits.max_head:
            raise Refused(431, f"head larger than {limits.max_head} bytes")
        if not start:
            raise Refused(414, f"request line longer than {limits.max_line} bytes")
        raise Refused(431, f"header line longer than {limits.max_line} bytes")


def parse_head(data: bytes, limits: Limits) -> RequestHead:
    """Parse a head.

    Args:
        data: the whole head, without the empty line at its end.
        limits: the server's.

    Raises:
        Refused: the head is malformed, or over a limit; it has the HTTP status.
    """
    check_lines(data + b"\r\n", 0, limits)
    first, *lines = data.split(b"\r\n")
    if len(lines) > limits.max_headers:
        raise Refused(431, f"more than {limits.max_headers} header lines")
    method, target, minor = _request_line(first)
    headers = _headers(lines)
    length, chunked = _framing(headers, minor)
    options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
    expects = headers.get("expect", "").lower()
    if expects not in ("", "100-continue"):
        raise Refused(417, "unsupported Expect header: only 100-continue is supported")
    return RequestHead(
        method=method,
        path=target.partition("?")[0],
        target=target,
        minor=minor,
        headers=headers,
        length=length,
        chunked=chunked,
        keep="close" not in options and (minor > 0 or "keep-alive" in options),
        expects=bool(expects) and minor > 0,
    )


def _request_line(line: bytes) -> tuple[str, str, int]:
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise Refused(400, "malformed request line")
    method, target, major, minor = (part.decode("ascii") for part in found.groups())
    if major != "1" or minor not in "01":
        raise Refused(505, "unsupported HTTP version: only HTTP/1.1 and HTTP/1.0 are supported")
    if not target.startswith("/") and target != "*" and method != "CONNECT":
        raise Refused(400, "invalid request target: it must be a path")
    return method, target, int(minor)


def _headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise Refused(400, "malformed header line")
        name = found[1].decode("ascii").lower()
        value = found[2].decode("latin-1").strip(" \t")
        if name in headers:
            if name not in _REPEATABLE and not name.startswith("x-"):
                raise Refused(400, f"duplicate header {name[:40]}")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def _framing(headers: Mapping[str, str], minor: int) -> tuple[int | None, bool]:
    length = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            raise Refused(400, "both Content-Length and Transfer-Encoding")
        if coding.lower() != "chunked" or not minor:
            raise Refused(400, "unsupported Transfer-Encoding: only chunked is supported, in HTTP/1.1")
        return None, True
    if length is None:
        return None, False
    if _LENGTH.fullmatch(length) is None:
        raise Refused(400, "invalid Content-Length")
    return int(length), False
