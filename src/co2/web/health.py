"""``/healthz``: this process answers. ``/readyz``: it does its work. Both return JSON and a status code."""

from co2.web.headers import json_answer
from co2.web.page import PageAnswer, PageHandler, PageRequest
from co2.web.view import HostView

__all__ = ["make_health_pages"]


def make_health_pages(view: HostView) -> dict[str, PageHandler]:
    """Return the handlers by path."""

    async def healthz(_request: PageRequest) -> PageAnswer:
        return json_answer({"status": "ok", "role": view.role, "host_id": view.host_id, "version": view.version})

    async def readyz(_request: PageRequest) -> PageAnswer:
        readiness = view.readiness()
        found = {"ready": readiness.ready, "role": view.role, "host_id": view.host_id}
        return json_answer({**found, "problems": list(readiness.problems)}, status=200 if readiness.ready else 503)

    return {"/healthz": healthz, "/readyz": readyz}
