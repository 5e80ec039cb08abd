"""The buttons on the pages, for a person at the host's own machine.

A button is a form without fields, posted to its own path; its subject is in the query. The gate accepts it only
with the Origin of our own pages, so that no other web page can press it.
"""

import logging
from typing import Protocol
from urllib.parse import quote

from co2.errors import NotLoadable
from co2.web.headers import answer
from co2.web.page import PageAnswer, PageHandler, PageRequest
from co2.web.text import anchor

__all__ = ["RELOAD_PATH", "Controls", "make_buttons"]

RELOAD_PATH = "/plugins/reload"

_TEXT = "text/plain; charset=utf-8"
_MAX_NAME = 64
"""Characters of a package's name."""

_logger = logging.getLogger("co2")


class Controls(Protocol):
    """The actions of the buttons."""

    async def reload(self, package: str) -> None:
        """Make a package run the code that is in its folder now; load it if it is not loaded.

        Raises:
            NotLoadable: that failed; the page of plugins shows why.
        """


def make_buttons(controls: Controls) -> dict[str, PageHandler]:
    """Return the handler of every button by its path."""

    async def reload(request: PageRequest) -> PageAnswer:
        if not request.is_local:
            return answer(
                b"only from the host's own machine: at http://127.0.0.1, without a proxy\n", _TEXT, status=403
            )
        package = request.query.get("package", "")
        if not 0 < len(package) <= _MAX_NAME:
            return answer(b"no package\n", _TEXT, status=400)
        try:
            await controls.reload(package)
        except NotLoadable as error:
            _logger.info("reload button of %.64s: %s", package, error)
        name = quote(anchor(package))  # the page shows the outcome
        return answer(b"", _TEXT, status=303, location=f"/plugins?pressed={name}#{name}")

    return {RELOAD_PATH: reload}
