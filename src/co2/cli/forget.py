"""``co2 forget``: delete a satellite that will not come back."""

import click

from co2.cli.arguments import json_option, timeout_option, url_option
from co2.cli.client import CommandClient
from co2.cli.failures import EXIT_FAILED
from co2.cli.only_relays import only_relays
from co2.cli.output import one_line, print_json

__all__ = ["forget"]


@click.command()
@click.argument("host", metavar="HOST")
@timeout_option()
@url_option("--relay")
@json_option
def forget(host: str, timeout: float, url: str, as_json: bool) -> int:
    """Make the relay forget HOST, a satellite that is away. HOST is its host_id, as co2 ps shows it, or the part
    of it before @.

    The relay no longer lists the satellite, and the next satellite that comes with this host_id may have it. Use
    this command on the relay's machine. If the satellite comes back, the relay treats it as a new one.

    \b
    Examples:
      co2 forget 8f3a61c29b04d7e5
      co2 forget 8f3a61c29b04d7e5@192.168.1.20:2004
    """
    with CommandClient(url, timeout) as client, only_relays(client, url):
        known = client.call("relay.forget", {"host_id": host})
    if as_json:
        print_json({"host": host, "forgotten": known})
    elif known:
        click.echo(f"forgot {one_line(host)}")
    else:
        click.echo(
            f"co2: the relay does not know {one_line(host)}; co2 ps lists the satellites that are away", err=True
        )
    return 0 if known else EXIT_FAILED
