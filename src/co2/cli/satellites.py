"""Who is at a relay, page by page."""

from collections.abc import Iterator
from typing import Any

from co2.cli.client import CommandClient

__all__ = ["PAGE", "satellites"]

PAGE = 500
"""Satellites that are asked for at once."""


def satellites(client: CommandClient, *, names: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of all satellites, as relay.get_satellites tells them.

    Args:
        client: of the relay.
        names: whether their methods and plugins are wanted, all of them.
    """
    known: set[str] = set()
    after: dict[str, str] = {}
    while True:
        page = client.call("relay.get_satellites", {"max": PAGE, "names": names, **after})
        new = [row for row in page if row["host_id"] not in known]
        if not new:  # the end; a relay that knows no pages gives all of them again
            return
        yield from new
        known.update(row["host_id"] for row in new)
        after = {"after": page[-1]["host_id"]}
