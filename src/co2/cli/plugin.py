"""``co2 plugin``: show, load, unload and reload the plugin packages of a running satellite or relay."""

import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from co2.cli.arguments import find_url, host_option, json_option, timeout_option, url_option
from co2.cli.client import CommandClient
from co2.cli.only_relays import only_relays
from co2.cli.output import as_text, one_line, print_json, print_table
from co2.cli.packages import state
from co2.cli.plugin_check import check
from co2.cli.plugin_new import new
from co2.config import load_config

__all__ = ["plugin"]

RELOAD_TIMEOUT = 60.0
"""Seconds for a load or a reload: import, every ``__init__``, and the old code's ``__exit__``."""

MAX_PACKAGES = 1_000
"""Packages of a satellite that are shown; it carries no more."""

FOLLOW_INTERVAL = 0.5
"""Seconds between two fetches of a log that is followed."""


def _find_url(given: str | None, flag: str) -> str:
    """Return the typed URL or, without one, that of this machine's satellite: its port is in co2.toml, or 2004."""
    if given is not None:
        return find_url(given, flag)
    config = load_config("satellite", {}, os.environ, Path.cwd())
    return f"http://127.0.0.1:{config.port or 2004}"


def _typed_url(given: str | None, flag: str) -> str:
    """Return the typed URL, '' without one: the default depends on another option, see :func:`_url_for`."""
    return "" if given is None else find_url(given, flag)


def _url_for(host: str | None, typed: str) -> str:
    """Return the URL of the host to talk to: of a relay if a satellite is named."""
    if typed:
        return typed
    return _find_url(None, "--url") if host is None else find_url(None, "--url")


_url = url_option("--url", _find_url, "the satellite at 127.0.0.1, its port in co2.toml, or 2004")
_url_or_relay = url_option("--url", _typed_url, "the satellite at 127.0.0.1; with --host the relay")
_name = click.argument("name", metavar="NAME")


@click.group()
def plugin() -> None:
    """Show which plugin code runs in a host; load, unload and reload it while the host runs; write and check it.

    \b
    Examples:
      co2 plugin new ham
      co2 plugin ls
      co2 plugin reload ham
      co2 plugin logs ham --follow
      co2 plugin reload ham --host foyer-pi
    """


@plugin.command("ls")
@host_option("Show the packages of")
@_url_or_relay
@timeout_option()
@json_option
def list_packages(url: str, *, host: str | None, as_json: bool, timeout: float) -> int:
    """Show every plugin package with its state, the number of its load and the hash of the code that runs.

    \b
    Examples:
      co2 plugin ls
      co2 plugin ls --json | jq '.[] | {name, load, code}'
      co2 plugin ls --host foyer-pi
    """
    with CommandClient(url := _url_for(host, url), timeout) as client:
        if host is None:
            rows = client.call("co2.get_properties")["plugins"]
        else:
            with only_relays(client, url):
                rows = _packages(client, host)
    if as_json:
        print_json(rows)
    elif rows:
        headings = ("NAME", "STATE", "LOAD", "CODE", "PID", "RESTARTS", "PLUGINS", "LAST ERROR")
        print_table(headings, [_cells(row) for row in rows])
    else:
        click.echo("no plugins")
    return 0


def _packages(client: CommandClient, host: str) -> list[dict[str, Any]]:
    """Return the packages of a satellite of a relay, which come in parts."""
    rows: list[dict[str, Any]] = []
    argument = {"host": host}
    while True:
        part = client.call("relay.satellite.get_packages", argument)
        rows += part["packages"]
        # A hostile satellite may claim that there are more without end.
        if not part["more"] or not part["packages"] or len(rows) >= MAX_PACKAGES:
            return rows
        argument["after"] = part["packages"][-1]["name"]


@plugin.command("load")
@_name
@_url
@timeout_option(RELOAD_TIMEOUT, "an answer; loading continues regardless")
@json_option
def load(name: str, url: str, as_json: bool, timeout: float) -> int:
    """Load a package from the host's plugin folder, or a bundled one. This also tries a failed package again.

    \b
    Example:
      co2 plugin load osc
    """
    return _change("load", "loaded", {"package": name}, url, host=None, timeout=timeout, as_json=as_json)


@plugin.command("reload")
@_name
@host_option("Reload it in")
@_url_or_relay
@click.option("--fresh", is_flag=True, help="Hand nothing over from the old code to the new code.")
@timeout_option(RELOAD_TIMEOUT, "an answer; loading continues regardless")
@json_option
def reload(name: str, url: str, *, host: str | None, fresh: bool, as_json: bool, timeout: float) -> int:
    """Replace the running code of a package by the code that is in its folder now. No message is lost. If the new
    code cannot be loaded, the old code continues. This also starts a package again that has failed or is parked.

    \b
    Example:
      co2 plugin reload ham
      co2 plugin reload ham --host foyer-pi
    """
    argument = {"package": name, "fresh": fresh}
    return _change("reload", "reloaded", argument, url, host=host, timeout=timeout, as_json=as_json)


@plugin.command("unload")
@_name
@_url
@timeout_option(RELOAD_TIMEOUT, "an answer; unloading continues regardless")
@json_option
def unload(name: str, url: str, as_json: bool, timeout: float) -> int:
    """End a package: __exit__ of its plugins is called, and its methods are removed. It is loaded again by the
    command load, or at the next start of the host.

    \b
    Example:
      co2 plugin unload osc
    """
    with CommandClient(url, timeout) as client:
        client.call("co2.plugin.unload", {"package": name})
    if as_json:
        print_json({"unloaded": name})
    else:
        click.echo(f"{name}: unloaded")
    return 0


@plugin.command("logs")
@_name
@host_option("Show the log of the package in")
@_url_or_relay
@click.option(
    "--lines", type=click.IntRange(1, 500), default=100, metavar="N", help="Number of lines.  [default: 100]"
)
@click.option("--follow", "-f", is_flag=True, help="Also show new lines, until Ctrl-C.")
@timeout_option()
@json_option
def logs(name: str, url: str, *, host: str | None, lines: int, follow: bool, timeout: float, as_json: bool) -> int:
    """Show the last lines of a package in the log: its log(), print() and tracebacks, and its loads and failures.

    \b
    Examples:
      co2 plugin logs ham
      co2 plugin logs ham --follow
      co2 plugin logs ham --json | jq .text
      co2 plugin logs ham --host foyer-pi
    """
    with CommandClient(url := _url_for(host, url), timeout) as client:
        after, left = 0, lines
        while True:
            rows, more = _log_part(client, url, host, {"package": name, "after": after, "max": left})
            for row in rows:
                _print_line(row, as_json)
                after = row["number"]
            if more and rows:  # a satellite gives its log to its relay in parts
                left = max(1, left - len(rows))
                continue
            if not follow:
                return 0
            left = lines
            time.sleep(FOLLOW_INTERVAL)


def _log_part(
    client: CommandClient, url: str, host: str | None, argument: dict[str, Any]
) -> tuple[list[dict[str, Any]], bool]:
    """Return lines of a log, and whether others that were wanted did not fit."""
    if host is None:
        return client.call("co2.plugin.get_log", argument), False
    with only_relays(client, url):
        part = client.call("relay.satellite.get_log", {"host": host, **argument})
    return part["lines"], part["more"]


def _change(
    method: str, done: str, argument: dict[str, Any], url: str, *, host: str | None, timeout: float, as_json: bool
) -> int:
    with CommandClient(url := _url_for(host, url), timeout) as client:
        if host is None:
            row = client.call(f"co2.plugin.{method}", argument)
        else:
            with only_relays(client, url):
                row = client.call(f"relay.satellite.{method}", {"host": host, **argument})
    if as_json:
        print_json(row)
    else:
        plugins = ", ".join(row["plugins"])
        click.echo(one_line(f"{row['name']}: {done}, load {row['load']}, code {row['code']}: {plugins}"))
    return 0


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row["name"],
        state(row),
        row["load"] or "-",
        row["code"] or "-",
        row["pid"] or "-",
        row["restarts"],
        ", ".join(row["plugins"]) or "-",
        as_text(row["last_error"]) or "-",
    )


def _print_line(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    at = datetime.fromtimestamp(row["at"]).astimezone().strftime("%H:%M:%S")
    for line in as_text(row["text"]).splitlines() or [""]:
        click.echo(f"{at} {row['level']:<7} {one_line(row['source'])}: {one_line(line)}")


plugin.add_command(new)
plugin.add_command(check)
