"""``co2 why``: which message made a message happen."""

import time
from collections.abc import Sequence
from typing import Any

import click

from co2.cli.arguments import json_option, timeout_option, url_option
from co2.cli.client import CommandClient
from co2.cli.failures import EXIT_FAILED
from co2.cli.only_relays import only_relays
from co2.cli.output import as_text, coloured, one_line, print_json, to_json

__all__ = ["why"]

MAX_VALUE = 100
"""Characters of a value; --json shows all."""

MAX_TIME = 253_402_214_399.0
"""Seconds since 1970 of the last time that has a date everywhere: the day before the end of the year 9999."""


@click.command()
@click.argument("position", required=False, type=click.IntRange(2, 2**63 - 1), metavar="[POSITION]")
@click.option("--last", "channel", metavar="CHANNEL", help="Explain the last message on this channel.")
@url_option("--relay")
@timeout_option()
@json_option
def why(position: int | None, channel: str | None, url: str, timeout: float, as_json: bool) -> int:
    """Show which message made the message at POSITION happen, which one made that happen, and so on.

    POSITION is the message's place in the relay's log, which co2 watch --json and co2 last --json show. What a
    plugin sends while it receives a message has that message as its cause, without a line of code. The cause of a
    message is what its sender says, as all in it.

    The chain ends at a message that was sent for another reason, such as a button or a timer, or whose cause the
    log no longer has.

    \b
    Examples:
      co2 why 48213
      co2 why --last stage.left.dim
      co2 why --last stage.left.dim --json | jq '.chain[-1].message'
    """
    if (position is None) == (channel is None):
        raise click.UsageError("name one message: its POSITION, or --last CHANNEL")
    with CommandClient(url, timeout) as client, only_relays(client, url):
        if channel is not None:
            position = _last(client, channel)
            if position is None:
                return EXIT_FAILED
        found = client.call("relay.why", {"position": position})
    if as_json:
        print_json(found)
    else:
        _print(found["chain"], found["end"])
    return 0


def _last(client: CommandClient, channel: str) -> int | None:
    """Return the position of the last message on a channel; None, after an error, if there is none."""
    values: Sequence[dict[str, Any]] = client.call("relay.last", {"channels": [channel]})["values"]
    if len(values) > 1:
        raise click.UsageError(f"{one_line(channel)} means {len(values)} channels; co2 last shows them")
    if not values:
        click.echo(f"co2: {one_line(channel)} has no last message; co2 last shows those that there are", err=True)
        return None
    return int(values[0]["message"]["position"])


def _print(chain: Sequence[dict[str, Any]], end: dict[str, Any]) -> None:
    for place, row in enumerate(chain):
        message = row["message"]
        told = "" if not place else "because "
        shown = coloured(_value(row), "bold")
        click.echo(f"{told}{message['position']}  {_clock(message.get('at'))}  {shown}  from {_sender(row)}")
    if end["kind"] == "no cause":
        click.echo("which has no cause" if len(chain) > 1 else "it has no cause")
    else:
        click.echo(f"and no further: {one_line(as_text(end['text']))}")


def _value(row: dict[str, Any]) -> str:
    """Return the channel and the data of a message."""
    message = row["message"]
    channel = one_line(as_text(message.get("channel", "-")))
    if row.get("size"):
        return f"{channel} ({row['size']} bytes)"
    text = one_line(to_json(message.get("data")))
    return f"{channel} {text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + '…'}"


def _sender(row: dict[str, Any]) -> str:
    host = one_line(as_text(row["name"] or row["message"]["host_id"]))
    return f"{one_line(as_text(row['plugin']))} on {host}" if row["plugin"] else host


def _clock(at: Any) -> str:
    """Return the time of day with milliseconds, with the date if it was on another day."""
    if not isinstance(at, float) or not 0 <= at <= MAX_TIME:
        return "--:--:--.---"
    then, today = time.localtime(at), time.localtime()
    date = "" if then[:3] == today[:3] else time.strftime("%Y-%m-%d ", then)
    return f"{date}{time.strftime('%H:%M:%S', then)}.{int(at * 1000) % 1000:03}"
