"""The pages for people, as handlers by exact path.

All values on them may come from a plugin or from another host, and are treated as text: templates escape all of
them, and the security policy allows no script and no inline style.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from co2.plugin.parent.status import PackageStatus
from co2.thread_priority import short_turns
from co2.web import text
from co2.web.buttons import RELOAD_PATH
from co2.web.headers import answer
from co2.web.health import make_health_pages
from co2.web.metrics import make_metrics_page
from co2.web.page import PageAnswer, PageHandler, PageRequest
from co2.web.rates import Rates
from co2.web.trouble import MAX_TROUBLE, mood, network_trouble, tone_of, worst_first
from co2.web.view import HostView, MethodRow, SatelliteRow

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["Renderer", "make_pages"]

HTML = "text/html; charset=utf-8"
STATIC_MAX_AGE = 300
"""Seconds that a browser keeps the style sheet and the logo."""

LETTERS_SHOWN = 20
"""Dead letters of one package on the page of plugins."""

AWAY_SHOWN = 100
"""Satellites that are away on the page of satellites; further ones are only counted."""

MAIN_COUNTERS = (
    "relayed",
    "delivered",
    "received",
    "sent",
    "waiting",
    "gaps",
    "refused",
    "lost",
    "dead_letters",
    "log_bytes",
)
"""Counters that are always shown, if present; the others are behind a line to open."""

_HERE = Path(__file__).parent
_STATIC = {
    "/static/style.css": ("style.css", "text/css; charset=utf-8"),
    "/static/co2.svg": ("co2.svg", "image/svg+xml"),
    "/static/co2-live.js": ("co2-live.js", "text/javascript; charset=utf-8"),
    "/favicon.ico": ("co2.svg", "image/svg+xml"),
}
_SECTIONS = ("counters", "software", "hardware", "limits")
_OUR_GROUPS = ("relay", "", "co2", "co2.plugin", "system", "web")
_IN_HEAD = frozenset(("role", "name", "host_id", "version", "uptime", "plugins", "network", "satellites"))


class Renderer:
    """Renders pages one at a time: several would only take turns, and hold thousands of rows each meanwhile.

    The thread is their own, so that no other work waits for it.

    Args:
        view: of the host.
    """

    def __init__(self, view: HostView) -> None:
        self._view = view
        self._pool = ThreadPoolExecutor(1, "co2-pages")
        self._one = asyncio.Lock()

    def page(
        self, template: str, values: Callable[[PageRequest], dict[str, Any] | Awaitable[dict[str, Any]]]
    ) -> PageHandler:
        """Return the handler of a page whose values are collected when it is its turn."""

        async def page(request: PageRequest) -> PageAnswer:
            async with self._one:
                found = values(request)
                return await self._rendered(request, template, found if isinstance(found, dict) else await found)

        return page

    async def render(
        self, request: PageRequest, template: str, values: Mapping[str, Any], status: int
    ) -> PageAnswer:
        """Render a page whose values have been collected, from a host that may have taken its time."""
        async with self._one:
            return await self._rendered(request, template, values, status)

    async def _rendered(
        self, request: PageRequest, template: str, values: Mapping[str, Any], status: int = 200
    ) -> PageAnswer:
        view = self._view
        given = {
            "role": view.role,
            "own_name": view.name,
            "host_id": view.host_id,
            "version": view.version,
            "path": request.path,
            "here": request.is_local,
            "reach": functools.partial(text.reach, relay_host_id=view.host_id),
            "now": text.moment(time.time()),
            **values,
        }
        # The values are a snapshot; a thread renders hundreds of rows, not the event loop.
        html = await asyncio.get_running_loop().run_in_executor(self._pool, _render, template, given)
        return answer(html.encode("utf-8", "replace"), HTML, status=status)


def make_pages(view: HostView, renderer: Renderer | None = None) -> dict[str, PageHandler]:
    """Return every page of a host by its path; all answer GET and HEAD.

    Args:
        view: of the role; read anew for each request.
        renderer: of the host's pages, for a host with further ones; None for a new one.
    """
    page = (renderer or Renderer(view)).page
    pages: dict[str, PageHandler] = {
        "/": page("overview.html", functools.partial(_overview, view, Rates())),
        "/methods": page("methods.html", lambda _request: {"groups": _grouped(view.methods())}),
        "/plugins": page("plugins.html", functools.partial(_plugins, view)),
    }
    if view.role == "relay":
        pages["/satellites"] = page("satellites.html", functools.partial(_satellites, view))
    for path, (name, content_type) in _STATIC.items():
        pages[path] = _static((_HERE / "static" / name).read_bytes(), content_type)
    pages |= make_health_pages(view)
    pages["/metrics"] = make_metrics_page(view)
    return pages


def _static(body: bytes, content_type: str) -> PageHandler:
    async def static(_request: PageRequest) -> PageAnswer:
        return answer(body, content_type, max_age=STATIC_MAX_AGE)

    return static


def _render(template: str, values: dict[str, Any]) -> str:
    with short_turns():
        return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> "Environment":
    # Imported at the first page: hosts that nobody looks at start faster and stay smaller.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        words=text.words,
        amount=text.amount,
        duration=text.duration,
        moment=text.moment,
        shorten=text.shorten,
        anchor=text.anchor,
        brief=text.brief,
        paragraphs=text.paragraphs,
        rate=text.rate,
        as_text=text.as_text,
        in_shell=text.in_shell,
        troubled_first=_troubled_first,
    )
    environment.globals.update(mood=mood, tone_of=tone_of, trouble_of=network_trouble)
    environment.globals["max_trouble"] = MAX_TROUBLE
    environment.globals["main_counters"] = MAIN_COUNTERS
    environment.globals["reload_path"] = RELOAD_PATH
    return environment


async def _plugins(view: HostView, request: PageRequest) -> dict[str, Any]:
    packages = _own_packages(view)
    letters = {name: await view.dead_letters(name, LETTERS_SHOWN) for name in packages}
    return {"packages": packages, "letters": letters, "pressed": request.query.get("pressed", "")}


def _own_packages(view: HostView) -> Mapping[str, tuple[PackageStatus, str, str]]:
    packages = view.plugins()
    has_letters = any(package.dead_letters for package in packages)
    return worst_first(packages, int(view.numbers().queues.get("dead_letters", 0)) if has_letters else 0)


async def _satellites(view: HostView, request: PageRequest) -> dict[str, Any]:
    away = view.away(AWAY_SHOWN)
    return {
        "rows": await view.satellites(here=request.is_local),
        "away": away,
        "more_away": max(0, sum(view.away_states().values()) - len(away)),
    }


async def _overview(view: HostView, rates: Rates, request: PageRequest) -> dict[str, Any]:
    rows = await view.satellites(here=request.is_local)
    properties = view.properties()
    about = {
        key: value
        for key, value in properties.items()
        if key not in _IN_HEAD and key not in _SECTIONS and not isinstance(value, dict | list | tuple)
    }
    return {
        "uptime": properties.get("uptime"),
        "readiness": view.readiness(),
        "about": about,
        "sections": [(name, properties[name]) for name in _SECTIONS if properties.get(name)],
        "rates": rates.look(properties.get("counters") or {}),
        "packages": _own_packages(view),
        "rows": rows,
        "away": sum(view.away_states().values()),
    }


def _troubled_first(rows: Iterable[SatelliteRow]) -> list[SatelliteRow]:
    return sorted(rows, key=lambda row: mood(row)[1] not in ("bad", "wait"))


def _grouped(methods: Sequence[MethodRow]) -> list[tuple[str, list[MethodRow]]]:
    groups: dict[str, list[MethodRow]] = {}
    for method in sorted(methods, key=lambda method: method.name):
        groups.setdefault(method.name.rpartition(".")[0], []).append(method)
    # Methods of plugins come first: people look for them. Those that every host has come last.
    return sorted(groups.items(), key=lambda group: _OUR_GROUPS.index(group[0]) if group[0] in _OUR_GROUPS else -1)
