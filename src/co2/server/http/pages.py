"""Calls the handler of a page; an exception of the handler becomes an answer with status 500."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from co2.server.http.request_head import RequestHead
from co2.web.headers import answer
from co2.web.page import PageAnswer, PageHandler, PageRequest, path_pattern
from co2.xmlrpc.faults import fault_of
from co2.xmlrpc.registry import Caller

__all__ = ["PageServer"]


class PageServer:
    """The pages of a server.

    Args:
        pages: handlers by path, see :func:`~co2.web.page.path_pattern`.
    """

    def __init__(self, pages: Mapping[str, PageHandler]) -> None:
        self._pages = dict(pages)

    async def answer(self, head: RequestHead, caller: Caller) -> PageAnswer:
        """Return the answer of a page; status 500 if its handler raises an exception.

        Args:
            head: of the request; its path must be that of a page.
            caller: the sender of the request.
        """
        try:
            found = await self._pages[path_pattern(head.path)](
                PageRequest(head.path, _query(head), caller.address, caller.is_local)
            )
            _check_headers(found)
        except Exception as error:
            _, text = fault_of(error, f"{head.method} {head.path}")
            return answer(f"{text}\n".encode(), "text/plain; charset=utf-8", status=500)
        return found


def _query(head: RequestHead) -> dict[str, str]:
    pairs = parse_qsl(head.target.partition("?")[2], keep_blank_values=True)
    return dict(reversed(pairs))  # the first of a name counts


def _check_headers(answer: PageAnswer) -> None:
    """Raise ValueError for a line break in a header: it would let a value add headers, or a second answer."""
    for name, value in answer.headers.items():
        line = f"{name}{value}"
        if not (line.isascii() and line.isprintable()):
            raise ValueError(f"invalid value for the header {name!r}")
