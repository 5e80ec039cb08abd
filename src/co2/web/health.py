"""``/healthz``: this process answers. ``/readyz``: it does its work. Both JSON and a status code."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from co2.web.headers import json_answer
from co2.web.view import HostView

__all__ = ["make_health_pages"]

PageHandler = Callable[[web.BaseRequest], Awaitable[web.Response]]


def make_health_pages(view: HostView) -> dict[str, PageHandler]:
    """Give the handlers by path."""

    async def healthz(_request: web.BaseRequest) -> web.Response:
        return json_answer({"status": "ok", "role": view.role, "host_id": view.host_id, "version": view.version})

    async def readyz(_request: web.BaseRequest) -> web.Response:
        readiness = view.readiness()
        found = {"ready": readiness.ready, "role": view.role, "host_id": view.host_id}
        return json_answer({**found, "problems": list(readiness.problems)}, status=200 if readiness.ready else 503)

    return {"/healthz": healthz, "/readyz": readyz}
