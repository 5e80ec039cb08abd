"""``co2 ps`` and ``co2 methods``: show the hosts and the methods of the network."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from co2.cli.arguments import HostText, json_option, timeout_option, url_option
from co2.cli.asking import Told, ask_satellites
from co2.cli.client import CommandClient
from co2.cli.only_relays import only_relays
from co2.cli.output import age, as_text, coloured, one_line, print_json, print_table, to_json
from co2.cli.packages import in_trouble, show_packages, show_trouble, trouble
from co2.cli.satellites import AWAY, host_shown
from co2.cli.satellites import satellites as all_satellites
from co2.errors import Ambiguous, BadParams, NoSuchMethod, RemoteFault
from co2.host_name import host_label

__all__ = ["methods", "ps"]

TELL_TIMEOUT = 3.0
"""Seconds in which satellites must report their packages, without --plugins and --counters."""

MAX_AWAY = 20
"""Satellites that are away and shown; --json shows all."""

MAX_PROBLEMS = 8
MAX_PROBLEM = 500
"""Problems of one satellite that are shown, and the characters of each."""

_HEADINGS = (
    *("NAME", "STATE", "KIND", "AGE", "LAG", "LINK", "METHODS", "PLUGINS", "TROUBLE", "LAST ERROR"),
    "HOST_ID",
)

_HERE = {"host_id": None, "host_name": None}
"""Keys in the row of a method of the host that was asked."""

MAX_PLUGINS = 20
"""Plugins of one satellite that are named."""

MAX_NAMED = 8
"""Satellites that are named if several have a method."""

BATCH = 32
"""Methods in one system.multicall, which accepts 64 calls: each method needs two."""


@click.command()
@url_option("--relay")
@click.option("--plugins", is_flag=True, help="Show the plugin packages of all hosts, and which code runs.")
@json_option
@click.option("--counters", is_flag=True, help="Ask every satellite for its counters too.")
@timeout_option()
def ps(url: str, plugins: bool, as_json: bool, counters: bool, timeout: float) -> int:
    """Show the relay and its satellites, with their state, their plugins and how far each is behind.

    LINK shows what a satellite is behind with: bytes that it has not read yet, 'full' if the relay waits for it,
    and the number of plugin packages that are behind or replaying old messages. TROUBLE names the plugin packages
    that have failed or are parked, are restarting, hang, have dead letters, run old code because the new code
    failed, or had an error within ten minutes; '?' stands for a satellite that did not answer in time. Below the
    table is what to do, for the relay's packages too.

    \b
    Examples:
      co2 ps
      co2 ps --plugins
      co2 ps --counters
      co2 ps --json | jq '.satellites[].trouble'
    """
    with CommandClient(url, timeout) as client:
        relay = client.call("co2.get_properties")
        with only_relays(client, url):
            found = _satellites(client)
    satellites = [row for row in found if row["state"] not in AWAY]
    away = [row for row in found if row["state"] in AWAY]
    told = ask_satellites(url, satellites, timeout if plugins or counters else min(TELL_TIMEOUT, timeout))
    if plugins:
        return show_packages([relay, *satellites], [relay, *told], as_json)
    relay["trouble"] = in_trouble(relay)
    for row, answer in zip(satellites, told, strict=True):
        packages = in_trouble(answer)
        row["trouble"] = row.get("trouble") if packages is None else packages  # the relay's row may have it too
        row["problems"] = _problems(answer)
        if counters:
            row["counters"] = _counters(answer)
    if as_json:
        print_json({"relay": relay, "satellites": satellites, "away": away})
        return 0
    click.echo(
        f"relay {_host(relay)}, co2 {one_line(relay['version'])}, up {age(relay['uptime'])}, "
        f"{len(satellites)} satellite{'' if len(satellites) == 1 else 's'}"
        f"{f', {len(away)} away' if away else ''} (as of {time.strftime('%H:%M:%S')})"
    )
    for problem in relay.get("problems", ()):
        click.secho(f"PROBLEM: {one_line(problem)}", fg="red", bold=True)
    for row in satellites:
        for problem in row["problems"]:
            click.secho(f"PROBLEM: {host_shown(row)}: {one_line(problem)}", fg="red", bold=True)
    if satellites:
        print_table(_HEADINGS, [_satellite(row) for row in satellites])
    _show_away(away)
    show_trouble([relay, *satellites])
    if counters:
        click.echo()
        print_table(("NAME", "COUNTERS"), [(host_shown(row), _shown(row)) for row in (relay, *satellites)])
    return 0


def _show_away(rows: Sequence[dict[str, Any]]) -> None:
    """Print the satellites that are away, the last that left first."""
    for row in rows[:MAX_AWAY]:
        before_start = row.get("before_start") is True  # an older relay has no such key
        form = "%H:%M:%S" if row["silent"] < 43_200 and not before_start else "%Y-%m-%d %H:%M:%S"
        seen = row["last_seen"].astimezone().strftime(form)
        what = f"{row['state']} for {age(row['silent'])}, last seen {seen}"
        if before_start:
            what = f"{row['state']} since before the relay's start, last seen {seen} by the clock at that time"
        click.echo(coloured(f"{_host(row)}  {one_line(what)}", "dim"))
    if len(rows) > MAX_AWAY:
        click.echo(f"and {len(rows) - MAX_AWAY} more that are away; co2 forget HOST removes one from the list")


def _host(row: dict[str, Any]) -> str:
    """Return the name of a host with its host_id."""
    return one_line(host_label(as_text(row.get("name")), row["host_id"]))


def _satellites(client: CommandClient) -> list[dict[str, Any]]:
    """Return the rows of all satellites, including those that are away; with names if all fit into one answer."""
    try:
        rows: list[dict[str, Any]] = client.call("relay.get_satellites", {"away": True})
    except RemoteFault as fault:
        if fault.code != BadParams.code:
            raise
        rows = [*all_satellites(client, names=False)]  # there are too many for one answer
    return rows


def _problems(told: Told) -> list[str]:
    """Return the problems that a satellite has reported; none if it did not answer."""
    problems = told.get("problems", []) if isinstance(told, dict) else []
    return [as_text(problem)[:MAX_PROBLEM] for problem in problems[:MAX_PROBLEMS]]


def _counters(told: Told) -> dict[str, Any] | None:
    """Return the counters of a satellite; None if it did not answer."""
    counters = told.get("counters") if isinstance(told, dict) else None
    return counters if isinstance(counters, dict) else None


def _shown(row: dict[str, Any]) -> str:
    """Return the counters of a host as text, without those that are 0."""
    if not isinstance(row.get("counters"), dict):
        return "-"
    return ", ".join(f"{name} {value}" for name, value in row["counters"].items() if value) or "all 0"


def _link(link: dict[str, Any] | None) -> str:
    if link is None:
        return "-"
    told = [f"{link['bytes']} bytes"] if link["bytes"] else []
    told += ["full"] if link["full"] else []
    told += [f"{link[key]} {key}" for key in ("behind", "replaying") if link[key]]
    return ", ".join(told) or "ok"


def _trouble(row: dict[str, Any]) -> str:
    if row["trouble"] is None:
        return "?" if row["kind"] == "co2" else "-"
    return ", ".join(what for package in row["trouble"] for what in trouble(package)) or "-"


def _names(row: dict[str, Any]) -> tuple[int | str, str]:
    """Return the number of methods of a satellite and the names of its plugins, for the table."""
    if row.get("left_out"):
        return "?", f"{row['left_out']} names omitted"
    shown = row["plugins"][:MAX_PLUGINS]
    more = [f"and {len(row['plugins']) - len(shown)} more"] if len(row["plugins"]) > len(shown) else []
    return len(row["methods"]), ", ".join([*shown, *more]) or "-"


def _satellite(row: dict[str, Any]) -> Sequence[Any]:
    return (
        host_shown(row),
        row["state"],
        row["kind"],
        age(row["age"]),
        row["lag"],
        _link(row.get("link")),
        *_names(row),
        _trouble(row),
        as_text(row["last_error"]) or "-",
        row["host_id"],
    )


@click.command()
@click.option("--schema", metavar="METHOD", help="Print the JSON Schema of METHOD instead.")
@click.option(
    "--host",
    metavar="HOST",
    type=HostText(),
    help="With --schema: the host that has the method, by name or host_id.",
)
@timeout_option()
@url_option("--url")
@json_option
def methods(schema: str | None, *, host: str | None, timeout: float, url: str, as_json: bool) -> int:
    """Show the methods of a host with their signatures and help; for a relay also the methods of its satellites.

    With --schema it prints what co2.get_method_schema returns for one method: its help, the JSON Schema of its
    parameters and of its result, and how dangerous a call is. If the relay does not have the method itself, it
    asks the one satellite that has it.

    \b
    Examples:
      co2 methods
      co2 methods --url http://127.0.0.1:2004
      co2 methods --json | jq -r '.[].name'
      co2 methods --schema ham.spam.call_me
      co2 methods --schema ham.spam.call_me --host 8f3a…@127.0.0.1:2004
    """
    if host is not None and schema is None:
        raise click.UsageError("--host needs --schema METHOD")
    with CommandClient(url, timeout) as client:
        if schema is not None:
            described = _schema(client, schema, host)
            if as_json or not sys.stdout.isatty():
                print_json(described)
            else:
                click.echo(to_json(described, indent=2))
            return 0
        rows = _described(client, client.call("system.listMethods"))
        rows += _of_satellites(client)
    if as_json:
        print_json(rows)
        return 0
    print_table(
        ("METHOD", "SIGNATURE", "HELP"),
        [(row["name"], _signature(row["signatures"]), _first_line(row)) for row in rows],
    )
    return 0


def _schema(client: CommandClient, name: str, host: str | None) -> Any:
    if host is None:
        try:
            return client.call("co2.get_method_schema", {"data": name})
        except RemoteFault as fault:
            if fault.code != NoSuchMethod.code:
                raise
            rows = [row for row in _of_satellites(client) if row["name"] == name]
            having = [row["host_name"] or row["host_id"] for row in rows]
            if not having:
                raise
        if len(having) > 1:
            raise Ambiguous(
                f"several hosts have {name}: {', '.join(sorted(having)[:MAX_NAMED])}; choose one with --host"
            )
        host = having[0]
    return client.call("method_call", {"method_name": "co2.get_method_schema", "data": name, "host_id": host})


def _described(client: CommandClient, names: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for start in range(0, len(names), BATCH):
        batch = names[start : start + BATCH]
        questions = [
            {"methodName": question, "params": [name]}
            for name in batch
            for question in ("system.methodHelp", "system.methodSignature")
        ]
        answers = iter(client.call("system.multicall", questions))
        for name in batch:
            help_text, signatures = (_answer(next(answers)) for _ in range(2))
            rows.append({"name": name, "help": as_text(help_text), "signatures": signatures or [], **_HERE})
    return rows


def _answer(found: Any) -> Any:
    return found[0] if isinstance(found, list) and found else None


def _of_satellites(client: CommandClient) -> list[dict[str, Any]]:
    try:
        satellites = [*all_satellites(client, names=True)]
    except RemoteFault:
        return []  # the host is a satellite, which has no satellites
    return [
        {"name": name, "help": "", "signatures": [], "host_id": row["host_id"], "host_name": row.get("name", "")}
        for row in satellites
        for name in row["methods"]
    ]


def _signature(signatures: Any) -> str:
    if not isinstance(signatures, list):
        return str(signatures)
    return " | ".join(f"({', '.join(found[1:])}) → {found[0]}" for found in signatures if found)


def _first_line(row: dict[str, Any]) -> str:
    if row["host_id"]:
        return f"on {row['host_name'] or row['host_id']}"
    lines = str(row["help"]).strip().splitlines()
    return lines[0] if lines else ""
