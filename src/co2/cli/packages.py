"""The plugin packages of a network, for ``co2 ps``: all of them, or those that are in trouble and what to do."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from co2.cli.asking import Told
from co2.cli.failures import exit_code
from co2.cli.output import as_text, coloured, one_line, print_json, print_table
from co2.errors import Co2Error

__all__ = ["in_trouble", "show_packages", "show_trouble"]

TROUBLE = ("failed", "parked")
"""States in which a package does nothing until somebody asks for another try."""

MAX_ERROR = 300
"""Characters of a package's last error that are shown below the satellites; --plugins has all of it."""


def in_trouble(told: Told) -> list[dict[str, Any]] | None:
    """Give the packages of a satellite that do not run and will not by themselves; None where it did not tell."""
    if not isinstance(told, dict):
        return None
    return [
        {key: row.get(key) for key in ("name", "state", "load", "last_error")}
        for row in told.get("plugins", ())
        if row["state"] in TROUBLE
    ]


def show_trouble(satellites: Sequence[dict[str, Any]]) -> None:
    """Tell each package that is in trouble, and what to type next. Nothing where there is none."""
    for satellite in satellites:
        host_id = one_line(satellite["host_id"])
        for row in satellite["trouble"] or ():
            name, what = one_line(row["name"]), "reload" if row["load"] else "load"
            error = one_line(as_text(row["last_error"]) or "no reason is known")
            if len(error) > MAX_ERROR:
                error = f"{error[:MAX_ERROR]}…"
            url = f"http://127.0.0.1:{host_id.rpartition(':')[2]}"
            click.echo(coloured(f"{name} on {host_id} is {row['state']}: {error}", "red"))
            click.echo(f"    mend it, then on that machine: co2 plugin {what} {name} --url {url}")


def show_packages(hosts: Sequence[dict[str, Any]], told: Sequence[Told], as_json: bool) -> int:
    """Show every package; give the exit code, for a host that does not answer."""
    rows: list[dict[str, Any]] = []
    code = 0
    for host_id, answer in _ours(hosts, told):
        if isinstance(answer, dict):
            rows += [{"host": host_id, **row} for row in answer["plugins"]]
        else:
            code, text = exit_code(answer)
            click.echo(f"co2: {one_line(host_id)}: {one_line(text)}", err=True)
    if as_json:
        print_json(rows)
    elif rows:
        headings = (
            "HOST",
            "PACKAGE",
            "STATE",
            "LOAD",
            "CODE",
            "USES",
            "RESTARTS",
            "DEAD LETTERS",
            "LAST ERROR",
        )
        print_table(headings, [_cells(row) for row in rows])
    elif not code:
        click.echo("no plugins")
    return code


def _ours(
    hosts: Sequence[dict[str, Any]], told: Sequence[Told]
) -> Iterator[tuple[str, dict[str, Any] | Co2Error]]:
    for host, answer in zip(hosts, told, strict=True):
        if answer is not None:
            yield host["host_id"], answer


def _cells(row: dict[str, Any]) -> Sequence[Any]:
    return (
        row["host"],
        row["name"],
        row["state"],
        row["load"] or "-",
        row["code"] or "-",
        _uses(row),
        row["restarts"],
        row["dead_letters"],
        as_text(row["last_error"]) or "-",
    )


def _uses(row: dict[str, Any]) -> str:
    """Write what a package's process uses, and of how much where that is limited."""
    told = []
    for name, unit in (("memory", "MiB"), ("open_files", "files"), ("cpu_seconds", "s")):
        used, most = row.get("uses", {}).get(name), row.get("limits", {}).get(name)
        if used is not None:
            told.append(f"{used:.0f}{f' of {most}' if most else ''} {unit}")
    return ", ".join(told) or "-"
