"""``co2 forget``: delete a satellite that will not come back, or the last value of a channel."""

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
@click.argument("host", required=False, metavar="[HOST]")
@click.option(
    "--channel", metavar="CHANNEL", help="Forget the last message on this channel; a pattern is several."
)
@timeout_option()
@url_option("--relay")
@json_option
def forget(host: str | None, channel: str | None, timeout: float, url: str, as_json: bool) -> int:
    """Make the relay forget HOST, a satellite that is away, or the last message on a channel. HOST is its name or
    its host_id, as co2 ps shows them, or enough of the beginning of one. Use this command on the relay's machine.

    The relay no longer lists the satellite, and the next satellite that comes with its name or host_id may have
    it. If the satellite comes back, the relay treats it as a new one.

    With --channel nobody gets the last message on CHANNEL any more: co2 last does not show it, and no plugin that
    starts gets it. The next message on the channel is its last one again. CHANNEL may be a pattern, as of co2
    last.

    \b
    Examples:
      co2 forget foyer-pi
      co2 forget 8f3a61c29b04d7e5@192.168.1.20:2004
      co2 forget --channel stage.fader1
      co2 forget --channel 'stage.>'
    """
    if (host is None) == (channel is None):
        raise click.UsageError("name one thing to forget: HOST, or --channel CHANNEL")
    if channel is not None:
        return _forget_last(channel, timeout, url, as_json)
    assert host is not None
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


def _forget_last(channel: str, timeout: float, url: str, as_json: bool) -> int:
    with CommandClient(url, timeout) as client, only_relays(client, url):
        number = client.call("relay.forget_last", {"channel": channel})
    if as_json:
        print_json({"channel": channel, "forgotten": number})
    elif number:
        click.echo(f"forgot the last message on {one_line(channel) if number == 1 else f'{number} channels'}")
    else:
        click.echo(f"co2: {one_line(channel)} has no last message; co2 last shows those that there are", err=True)
    return 0 if number else EXIT_FAILED


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
