"""The satellites of a relay, fetched page by page."""

from collections.abc import Iterator, Mapping
from typing import Any

from co2.cli.client import CommandClient
from co2.cli.output import one_line

__all__ = ["AWAY", "PAGE", "host_shown", "satellites"]

AWAY = ("away", "stopped")
"""States of satellites without a link."""

PAGE = 500
"""Satellites in one page."""


def host_shown(row: Mapping[str, Any]) -> str:
    """Return the name of a host in a relay's row, or its host_id if the relay is older than names."""
    return one_line(row.get("name") or row["host_id"])


def satellites(client: CommandClient, *, names: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of all satellites, as ``relay.get_satellites`` returns them.

    Args:
        client: of the relay.
        names: whether the rows have the names of all methods and plugins.
    """
    known: set[str] = set()
    after: dict[str, str] = {}
    while True:
        page = client.call("relay.get_satellites", {"max": PAGE, "names": names, **after})
        new = [row for row in page if row["host_id"] not in known]
        if not new:  # the end; an old relay without pages returns all rows again
            return
        yield from new
        known.update(row["host_id"] for row in new)
        after = {"after": page[-1]["host_id"]}
