"""The error of a command that needs a relay and got a satellite; it names the right relay."""

import contextlib
from collections.abc import Iterator

import click

from co2.cli.client import CommandClient
from co2.cli.output import one_line
from co2.errors import NoSuchMethod, RemoteFault

__all__ = ["only_relays"]


@contextlib.contextmanager
def only_relays(client: CommandClient, url: str) -> Iterator[None]:
    """Convert the error of a ``relay.…`` method that a satellite does not have; a context manager for such calls.

    Args:
        client: of the host that is called.
        url: of that host.

    Raises:
        click.UsageError: the host is a satellite.
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
            f"{url} is a satellite, and this command needs a relay: --relay {relay} is the one of this satellite "
            f"(its plugins: co2 plugin ls --url {url})"
        ) from None
