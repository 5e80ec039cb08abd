"""Encodes the heads of answers: to XML-RPC calls, to refused requests, and of pages."""

import time
from email.utils import formatdate
from http import HTTPStatus

from co2.web.page import PageAnswer

__all__ = ["CONTINUE", "ResponseHeads", "page_head"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_END = "\r\n"

_SAFETY = (
    "X-Content-Type-Options: nosniff\r\n"
    "X-Frame-Options: DENY\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "Cache-Control: no-store\r\n"
    "Server: co2\r\n"
)


class ResponseHeads:
    """Encoder of heads. It caches them for a second, because they contain the date."""

    def __init__(self) -> None:
        self._second = 0
        self._made: dict[tuple[int, bool, str, tuple[str, ...]], bytes] = {}

    def head(
        self, status: int, size: int, keep: bool, content_type: str = "text/xml", more: tuple[str, ...] = ()
    ) -> bytes:
        """Return a head, with the empty line at its end.

        Args:
            status: HTTP status.
            size: bytes of the body.
            keep: whether the connection stays open after the answer.
            content_type: without the charset, which is UTF-8.
            more: further header lines; from a fixed set, because heads are cached by them.
        """
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._made.clear()
        key = (status, keep, content_type, more)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._make(status, keep, content_type, more)
        return b"%b%d\r\n\r\n" % (made, size)

    def streamed(self, keep: bool, content_type: str) -> bytes:
        """Return the head of an answer whose length is not known, with the empty line at its end.

        Args:
            keep: whether the body is chunked, and the connection stays open behind it; else its end is that of the
                connection.
            content_type: without the charset, which is UTF-8.
        """
        more = ("Transfer-Encoding: chunked",) if keep else ()
        return self._make(200, keep, content_type, more).removesuffix(b"Content-Length: ") + _END.encode()

    def _make(self, status: int, keep: bool, content_type: str, more: tuple[str, ...]) -> bytes:
        return (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"Content-Type: {content_type}; charset=utf-8\r\n"
            f"{_SAFETY}"
            f"Date: {formatdate(self._second, usegmt=True)}\r\n"
            f"{''.join(f'{line}{_END}' for line in more)}"
            f"Connection: {'keep-alive' if keep else 'close'}\r\n"
            "Content-Length: "
        ).encode("ascii")


def page_head(page: PageAnswer, keep: bool) -> bytes:
    """Return the head of a page, with the empty line at its end.

    Args:
        page: the answer; its own headers come first.
        keep: whether the connection stays open after the answer.
    """
    lines = (
        f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}",
        *(f"{name}: {value}" for name, value in page.headers.items()),
        "Server: co2",
        f"Date: {formatdate(usegmt=True)}",
        f"Connection: {'keep-alive' if keep else 'close'}",
        f"Content-Length: {len(page.body)}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
