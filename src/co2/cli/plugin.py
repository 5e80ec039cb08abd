"""``co2 plugin``: what plugin authors need."""

import click

from co2.cli.plugin_check import check
from co2.cli.plugin_new import new

__all__ = ["plugin"]


@click.group()
def plugin() -> None:
    """Write and check plugins.

    \b
    Examples:
      co2 plugin new ham
      co2 plugin check plugins
    """


plugin.add_command(new)
plugin.add_command(check)
