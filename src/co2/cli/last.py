"""``co2 last``: the last message on each channel."""

from collections.abc import Sequence
from typing import Any

import click

from co2.cli.arguments import json_option, timeout_option, url_option
from co2.cli.client import CommandClient
from co2.cli.only_relays import only_relays
from co2.cli.output import age, as_text, one_line, print_json, print_table, to_json

__all__ = ["last"]

MAX_CELL = 100
"""Characters of a value in the table; --json shows all."""

_ENVELOPE = ("host_id", "client_address", "position", "at")


@click.command()
@click.argument("channels", nargs=-1, metavar="[CHANNEL]...")
@url_option("--relay")
@timeout_option()
@json_option
def last(channels: Sequence[str], url: str, timeout: float, as_json: bool) -> int:
    """Show the last message on each CHANNEL, how old it is and who sent it. CHANNEL may be a pattern: * stands for
    one token, > at the end for one or more. Without CHANNEL it shows all channels.

    Messages on live channels, and messages that the relay's log no longer has, are not shown.

    \b
    Examples:
      co2 last
      co2 last 'stage.>'
      co2 last stage.fader1 --json | jq '.values[0].message.data'
    """
    with CommandClient(url, timeout) as client, only_relays(client, url):
        found = client.call("relay.last", {"channels": list(channels)} if channels else {})
    if as_json:
        print_json(found)
    else:
        _print(found["values"])
        if found["left_out"]:
            click.echo(f"co2: {found['left_out']} more did not fit; name fewer channels", err=True)
    return 0


def _print(rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        click.echo("no last values")
        return
    cells = [
        (
            as_text(row["channel"]),
            _value(row["message"]),
            "" if row["age"] is None else age(row["age"]),
            row["message"].get("host_id", ""),
        )
        for row in rows
    ]
    print_table(("CHANNEL", "VALUE", "AGE", "SENDER"), cells)


def _value(message: dict[str, Any]) -> str:
    """Return what a message holds: its data, and its other keys if there are any."""
    own = {key: value for key, value in message.items() if key not in (*_ENVELOPE, "channel")}
    text = one_line(to_json(own["data"] if own.keys() == {"data"} else own))
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"
