"""Pages of a satellite on its relay: packages, logs and dead letters, with buttons; for the relay's machine only.

The relay asks the satellite over its link and renders the pages itself: of the satellite come only values, which
are text on the page like all others.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from co2.errors import BadParams, Denied, NotLoadable, PeerError, UnknownHost
from co2.plugin.parent.status import PackageStatus
from co2.protocol.wire.plugin_frames.lifecycle import PluginInfo
from co2.protocol.wire.relay_requests import LogPart, PackageList, PackageReport
from co2.web.headers import answer
from co2.web.page import PageAnswer, PageHandler, PageRequest, satellite_in
from co2.web.text import anchor
from co2.web.trouble import worst_first
from co2.web.view import FarSatellites

__all__ = ["make_satellite_buttons", "make_satellite_pages"]

LETTERS_SHOWN = 20
"""Dead letters of one package on its page, the newest."""

LINES_TRIED = (200, 50, 10)
"""Log lines on a page: as many as fit into one answer of the satellite."""

MAX_PARTS = 4
"""Parts of the list of packages that are fetched for a page."""

MAX_NAME = 64
"""Characters of a package's name."""

MAX_ID = 2**53
"""Highest id of a dead letter that a button takes."""

TEXT = "text/plain; charset=utf-8"

Render = Callable[[PageRequest, str, Mapping[str, Any], int], Awaitable[PageAnswer]]
"""Renders a template: (request, template, values, HTTP status)."""

_STATUSES = {
    UnknownHost.code: HTTPStatus.NOT_FOUND,
    Denied.code: HTTPStatus.FORBIDDEN,
    BadParams.code: HTTPStatus.BAD_REQUEST,
    NotLoadable.code: HTTPStatus.BAD_REQUEST,
}

_logger = logging.getLogger("co2")


def make_satellite_pages(far: FarSatellites, render: Render) -> dict[str, PageHandler]:
    """Return the pages by path, see :func:`~co2.web.page.path_pattern`."""

    async def packages(request: PageRequest, host: str) -> PageAnswer:
        part = PackageList([])
        found: list[PackageStatus] = []
        for _ in range(MAX_PARTS):
            part = await far.packages(host, found[-1].name if found else "", _asker(request))
            found += [_status(report) for report in part.packages]
            if not (part.more and part.packages):
                break
        values = {
            **_common(far, host),
            "more": part.more,
            "packages": worst_first(found, sum(package.dead_letters for package in found)),
            "pressed": request.query.get("pressed", ""),
        }
        return await render(request, "satellite.html", values, HTTPStatus.OK)

    async def log(request: PageRequest, host: str) -> PageAnswer:
        package = _package(request)
        part = await _last_lines(far, host, package, _asker(request))
        values = {**_common(far, host), "package": package, "lines": part.lines, "more": part.more}
        return await render(request, "satellite_log.html", values, HTTPStatus.OK)

    async def letters(request: PageRequest, host: str) -> PageAnswer:
        package = _package(request)
        part = await far.dead_letters(host, package, 0, LETTERS_SHOWN, _asker(request), newest=True)
        values = {
            **_common(far, host),
            "package": package,
            "letters": part.letters[::-1],
            "repeated": _number(request, "repeated"),
            "dropped": _number(request, "dropped"),
        }
        return await render(request, "satellite_letters.html", values, HTTPStatus.OK)

    async def bare(request: PageRequest, host: str) -> PageAnswer:
        return answer(b"", TEXT, status=HTTPStatus.SEE_OTHER, location=f"{_base(host)}/")

    pages = {"": bare, "/": packages, "/log": log, "/letters": letters}
    return {f"/satellites/*{end}": _guarded(page, render) for end, page in pages.items()}


def make_satellite_buttons(far: FarSatellites, render: Render) -> dict[str, PageHandler]:
    """Return the handlers of the buttons on these pages by path."""

    async def reload(request: PageRequest, host: str) -> PageAnswer:
        package = _package(request)
        try:
            await far.reload(host, package, _asker(request))
        except PeerError as error:
            if error.code != NotLoadable.code:
                raise
            _logger.info("reload button of %.64s at %.64s: %s", package, host, error)
        name = quote(anchor(package))  # the page shows the outcome
        return _to(host, f"?pressed={name}#{name}")

    async def repeat(request: PageRequest, host: str) -> PageAnswer:
        letter_id = _id(request, "id")
        await far.repeat_dead_letter(host, letter_id, _asker(request))
        return _to(host, f"letters?package={quote(_package(request), safe='')}&repeated={letter_id}")

    async def drop(request: PageRequest, host: str) -> PageAnswer:
        package = _package(request)
        dropped = await far.drop_dead_letters(host, _id(request, "up_to"), package, _asker(request))
        return _to(host, f"letters?package={quote(package, safe='')}&dropped={dropped}")

    buttons = {"/reload": reload, "/repeat": repeat, "/drop": drop}
    return {f"/satellites/*{end}": _guarded(button, render) for end, button in buttons.items()}


def _guarded(page: Callable[[PageRequest, str], Awaitable[PageAnswer]], render: Render) -> PageHandler:
    """Return a page for people at this machine; an error of the satellite is shown as a page, too."""

    async def guarded(request: PageRequest) -> PageAnswer:
        if not request.is_local:
            text = b"only from the relay's own machine: at http://127.0.0.1, without a proxy\n"
            return answer(text, TEXT, status=HTTPStatus.FORBIDDEN)
        host = satellite_in(request.path)
        try:
            return await page(request, host)
        except PeerError as error:
            values = {"base": _base(host), "name": host, "error": str(error)}
            status = _STATUSES.get(error.code, HTTPStatus.BAD_GATEWAY)
            return await render(request, "satellite_error.html", values, status)

    return guarded


async def _last_lines(far: FarSatellites, host: str, package: str, asker: str) -> LogPart:
    """Return the last lines of a log that fit into one answer; a part holds the first of the lines asked for."""
    part = LogPart([])
    for count in LINES_TRIED:
        part = await far.log(host, package, 0, count, asker)
        if not part.more:
            break
    return part


def _common(far: FarSatellites, host: str) -> dict[str, Any]:
    name = far.name(host)
    return {"base": _base(name), "name": name, "satellite": far.host_id(host)}


def _base(host: str) -> str:
    return f"/satellites/{host}"  # of the path of a request, or the relay's name: both have been checked


def _to(host: str, rest: str) -> PageAnswer:
    return answer(b"", TEXT, status=HTTPStatus.SEE_OTHER, location=f"{_base(host)}/{rest}")


def _asker(request: PageRequest) -> str:
    return f"a page at {request.address}"


def _package(request: PageRequest) -> str:
    package = request.query.get("package", "")
    if not 0 < len(package) <= MAX_NAME:
        raise BadParams("no package")
    return package


def _number(request: PageRequest, key: str) -> int | None:
    """Return a number in the query, None for none; ASCII digits only."""
    text = request.query.get(key, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 16 else None


def _id(request: PageRequest, key: str) -> int:
    number = _number(request, key)
    if number is None or number > MAX_ID:
        raise BadParams(f"no {key} of a dead letter")
    return number


def _status(report: PackageReport) -> PackageStatus:
    """Return the status of a package in the form of a host's own packages."""
    facts = {name: getattr(report, name) for name in report.__struct_fields__}
    plugins = [PluginInfo(one.name, one.text, one.receives, one.help) for one in report.plugins]
    # The page looks up outcomes that may be missing.
    return PackageStatus(**{**facts, "plugins": plugins, "reloads": Counter(report.reloads)})
