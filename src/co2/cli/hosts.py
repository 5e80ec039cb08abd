"""``co2 relay`` and ``co2 satellite``: run a host in the foreground."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from co2.config import RelayConfig, SatelliteConfig, load_config

__all__ = ["relay", "satellite"]

_COMMON: tuple[Callable[[Any], Any], ...] = (
    click.option("--name", metavar="NAME", help="Name of this host, such as foyer-pi.  [default: the machine's]"),
    click.option("--bind", metavar="ADDR", help="IP address to listen on.  [default: 127.0.0.1]"),
    click.option("--state", metavar="DIR", help="Folder for identity and logs."),
    click.option("--plugin-dir", metavar="DIR", help="Folder that holds plugin packages.  [default: ./plugins]"),
    click.option("--config", metavar="FILE", help="Configuration file.  [default: ./co2.toml if it exists]"),
    click.option(
        "--plugin", "plugin_list", metavar="NAME", multiple=True, help="Package to load; may be repeated."
    ),
    click.option("--watch", is_flag=True, default=None, help="Reload a package when its code changes."),
)


def _common(command: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(_COMMON):
        command = option(command)
    return command


@click.command()
@_common
@click.option("--port", metavar="PORT", help="Port to listen on, 0 for any.  [default: 2003 or the next free one]")
@click.option("--pages", metavar="DIR", help="Folder with web pages of your own, served at /pages/.")
def relay(**flags: Any) -> int:
    """Run a relay until Ctrl-C.

    When it is ready it prints one line: ready relay HOST_ID URL. The URL is also its page for a browser. It runs
    the relay plugins that you name, and messages pass them in that order. These come with co2: throttle, udp.

    \b
    Examples:
      co2 relay
      co2 relay --bind 0.0.0.0            so that other machines reach it
      co2 relay --port 0 --state ./state
      co2 relay --bind 0.0.0.0 --pages ./pages      for phones: http://ADDRESS:2003/pages/
      co2 relay --plugin throttle
    """
    config = _checked(load_config("relay", _flags(flags), os.environ, Path.cwd()), flags)
    assert isinstance(config, RelayConfig)
    from co2.relay.main import run

    return run(config)


@click.command()
@click.option("--relay", metavar="URL", help="The relay.  [default: http://127.0.0.1:2003]")
@_common
@click.option("--port", metavar="PORT", help="Port to listen on, 0 for any.  [default: 2004 or the next free one]")
def satellite(**flags: Any) -> int:
    """Run a satellite until Ctrl-C. It runs the plugins in ./plugins, or those that you name.

    A package is searched in the plugin folder, then among those that come with co2: example, map, osc, sysinfo.
    The relay need not run yet: the satellite connects when it does.

    \b
    Examples:
      co2 satellite                       every package in ./plugins
      co2 satellite --plugin sysinfo --plugin osc
      co2 satellite --relay http://192.168.1.20:2003
      co2 satellite --watch               while you write a plugin
    """
    config = _checked(load_config("satellite", _flags(flags), os.environ, Path.cwd()), flags)
    assert isinstance(config, SatelliteConfig)
    from co2.satellite.main import run

    return run(config)


def _flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {**flags, "plugin_list": flags["plugin_list"] or None}


def _checked(config: RelayConfig | SatelliteConfig, flags: Mapping[str, Any]) -> RelayConfig | SatelliteConfig:
    """Fail if a package that was typed cannot be found.

    For a package that only co2.toml names this is no error: the other packages run, and it can be repaired later.
    """
    if config.role == "satellite" or flags["plugin_list"]:
        from co2.plugin.packages.discovery import find_packages

        _, problems = find_packages(config)
        for name, problem in problems:
            if name in flags["plugin_list"]:
                raise click.BadParameter(problem, param_hint="'--plugin'")
    return config
