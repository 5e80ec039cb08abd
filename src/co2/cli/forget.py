"""``co2 forget``: delete a satellite that will not come back."""

from collections.abc import Sequence
from typing import Any

import click

from co2.cli.arguments import json_option, timeout_option, url_option
from co2.cli.client import CommandClient
from co2.cli.failures import EXIT_FAILED
from co2.cli.only_relays import only_relays
from co2.cli.output import one_line, print_json
from co2.cli.satellites import AWAY
from co2.errors import BadParams, RemoteFault
from co2.host_name import host_label

__all__ = ["forget"]


@click.command()
@click.argument("host", metavar="HOST")
@timeout_option()
@url_option("--relay")
@json_option
def forget(host: str, timeout: float, url: str, as_json: bool) -> int:
    """Make the relay forget HOST, a satellite that is away. HOST is its name or its host_id, as co2 ps shows them,
    or enough of the beginning of one.

    The relay no longer lists the satellite, and the next satellite that comes with its name or host_id may have
    it. Use this command on the relay's machine. If the satellite comes back, the relay treats it as a new one.

    \b
    Examples:
      co2 forget foyer-pi
      co2 forget 8f3a61c29b04d7e5@192.168.1.20:2004
    """
    with CommandClient(url, timeout) as client, only_relays(client, url):
        away = _away(client)
        known = client.call("relay.forget", {"host_id": host})
    if as_json:
        print_json({"host": host, "forgotten": known})
    elif known:
        click.echo(f"forgot {_forgotten(host, away)}")
    else:
        from co2.near import nearest

        meant = nearest(host, [row.get("name") or row["host_id"] for row in away])
        click.echo(
            f"co2: the relay does not know {one_line(host)}"
            f"{f'; did you mean {one_line(meant)}?' if meant else ''}; "
            "co2 ps lists the satellites that are away",
            err=True,
        )
    return 0 if known else EXIT_FAILED


def _away(client: CommandClient) -> list[dict[str, Any]]:
    """Return the rows of absent satellites, to say which one was forgotten; none if there are too many hosts."""
    try:
        rows = client.call("relay.get_satellites", {"away": True, "names": False})
    except RemoteFault as fault:
        if fault.code != BadParams.code:
            raise
        return []
    return [row for row in rows if row["state"] in AWAY]


def _forgotten(host: str, away: Sequence[dict[str, Any]]) -> str:
    """Return the satellite that was meant, for people: it may have been given by the beginning of its name."""
    origin = host.partition("@")[0]
    for begins in (str.__eq__, str.startswith):
        found = [
            row
            for row in away
            if begins(row["host_id"].partition("@")[0], origin) or begins(row.get("name", ""), host)
        ]
        if len(found) == 1:
            return one_line(host_label(found[0].get("name", ""), found[0]["host_id"]))
    return one_line(host)
