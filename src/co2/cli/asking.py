"""Gets the properties of satellites through their relay: several at a time, within a limited time."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from co2.cli.satellites import host_shown
from co2.cli.told import check_properties
from co2.errors import CallTimeout, Co2Error
from co2.xmlrpc.simple_client import SimpleClient

__all__ = ["AT_ONCE", "MAX_ASKED", "Told", "ask_satellites"]

AT_ONCE = 8
"""Satellites that are asked at the same time; a relay accepts 32 connections of one address without requests."""

MAX_ASKED = 1_000
"""Satellites that are asked."""

Told = dict[str, Any] | Co2Error | None
"""The properties of a satellite, or the error in their place; None for a satellite that was not asked."""


def ask_satellites(url: str, satellites: Sequence[dict[str, Any]], timeout: float) -> list[Told]:
    """Call ``co2.get_properties`` of satellites; return the answer of each, in their order.

    Args:
        url: of the relay.
        satellites: rows of ``relay.get_satellites``; clients that are not co2 are not asked.
        timeout: seconds for all satellites together.
    """
    told: list[Told] = [None] * len(satellites)
    ours = [at for at, row in enumerate(satellites) if row["kind"] == "co2"]
    waiting = deque(ours[:MAX_ASKED])
    deadline = time.monotonic() + timeout

    def work() -> None:
        with SimpleClient(url, timeout) as client:
            while True:
                try:
                    at = waiting.popleft()
                except IndexError:
                    return
                told[at] = _ask(client, satellites[at], deadline - time.monotonic(), timeout)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(AT_ONCE, len(waiting)) - 1)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    return told


def _ask(client: SimpleClient, row: dict[str, Any], left: float, timeout: float) -> Told:
    if left <= 0:
        return CallTimeout(host_shown(row), timeout)
    argument = {"method_name": "co2.get_properties", "host_id": row["host_id"], "data": None}
    try:
        return check_properties(client.call("method_call", argument, timeout=left))
    except CallTimeout:
        return CallTimeout(host_shown(row), timeout)
    except Co2Error as error:
        return error
