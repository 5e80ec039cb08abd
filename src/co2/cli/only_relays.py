"""Commands that only a relay can answer: who asks a satellite is told so, and whom to ask."""

import contextlib
from collections.abc import Iterator

import click

from co2.cli.client import CommandClient
from co2.cli.output import one_line
from co2.errors import NoSuchMethod, RemoteFault

__all__ = ["only_relays"]


@contextlib.contextmanager
def only_relays(client: CommandClient, url: str) -> Iterator[None]:
    """Call ``relay.…`` methods within this.

    Args:
        client: over which they are called.
        url: of the host.

    Raises:
        click.UsageError: it lacks the method because it is a satellite.
    """
    try:
        yield
    except RemoteFault as fault:
        if fault.code != NoSuchMethod.code:
            raise
        properties = client.call("co2.get_properties")
        if properties.get("role") != "satellite":
            raise
        relay = one_line(properties.get("relay", "http://127.0.0.1:2003"))
        raise click.UsageError(
            f"{url} is a satellite, and this is asked of a relay; its own one is: --relay {relay} "
            f"(what the satellite carries: co2 plugin ls --url {url})"
        ) from None
