"""Pages: from a head that has passed the gate to an answer; 500 for whatever goes wrong on the way."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from co2.server.http.request_head import RequestHead
from co2.web.headers import answer
from co2.web.page import PageAnswer, PageHandler, PageRequest
from co2.xmlrpc.faults import as_fault
from co2.xmlrpc.registry import Caller

__all__ = ["PageServer"]


class PageServer:
    """Asks the handlers of pages.

    Args:
        pages: handlers by exact path.
    """

    def __init__(self, pages: Mapping[str, PageHandler]) -> None:
        self._pages = dict(pages)

    async def answer(self, head: RequestHead, caller: Caller) -> PageAnswer:
        """Give what a page answers.

        Args:
            head: of the request; its path is one of a page.
            caller: who asks.
        """
        try:
            found = await self._pages[head.path](
                PageRequest(head.path, _query(head), caller.address, caller.is_local)
            )
            _check_headers(found)
        except Exception as error:
            told = as_fault(error, f"{head.method} {head.path}")
            return answer(f"{told}\n".encode(), "text/plain; charset=utf-8", status=500)
        return found


def _query(head: RequestHead) -> dict[str, str]:
    pairs = parse_qsl(head.target.partition("?")[2], keep_blank_values=True)
    return dict(reversed(pairs))  # the first of a name counts


def _check_headers(answer: PageAnswer) -> None:
    """Refuse what would split an answer in two."""
    for name, value in answer.headers.items():
        line = f"{name}{value}"
        if not (line.isascii() and line.isprintable()):
            raise ValueError(f"header {name!r} with a value that no header can have")
