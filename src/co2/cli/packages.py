"""The plugin packages of a network, for ``co2 ps``: all, or those that are in trouble with what to do."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import click

from co2.cli.asking import Told
from co2.cli.failures import exit_code
from co2.cli.output import age, as_text, coloured, one_line, print_json, print_table
from co2.cli.satellites import host_shown
from co2.errors import Co2Error

__all__ = ["in_trouble", "show_packages", "show_trouble", "state", "trouble"]

TROUBLE = ("failed", "parked")
"""States in which a package does nothing until somebody loads or reloads it."""

RECENT = 600.0
"""Seconds after which an error counts as old. An older host does not report this time; its errors count as old."""

MAX_ERROR = 300
"""Characters of a package's last error that are shown below the satellites; --plugins shows all."""


def in_trouble(told: Told) -> list[dict[str, Any]] | None:
    """Return the packages of a host that are in trouble; None if it did not answer.

    They have failed or are parked, are restarting, hang, have dead letters, run old code because the new code
    failed, or had an error a short time ago. A value that an older host does not report counts as no trouble.

    Args:
        told: the properties of the host.
    """
    if not isinstance(told, dict):
        return None
    counters = told.get("counters")
    # A package's own number only grows; dead letters that were repeated or dropped are no trouble any more.
    kept = counters.get("dead_letters_kept") if isinstance(counters, dict) else None
    rows = []
    for row in told.get("plugins", ()):
        letters = row.get("dead_letters", 0)
        found = {
            **{key: row.get(key) for key in ("name", "state", "load", "last_error")},
            "hangs": row.get("hangs", 0),
            "dead_letters": letters if kept is None else min(letters, kept),
            "refused": row.get("refused", False),
            "last_error_age": row.get("last_error_age", RECENT),
        }
        if trouble(found):
            rows.append(found)
    return rows


def trouble(row: dict[str, Any]) -> list[str]:
    """Return a few words for each trouble of a package, the worst first; an empty list if there is none."""
    from co2.protocol.wire.package_health import trouble_words  # it imports msgspec, which --help does not need

    return trouble_words(
        row["name"],
        row["state"],
        hangs=row["hangs"],
        dead_letters=row["dead_letters"],
        refused=row["refused"],
        error_age=row["last_error_age"] if row["last_error"] else None,
        duration=age,
    )


def state(row: dict[str, Any]) -> str:
    """Return the state of a package as text, with whether it hangs and whether new code was refused."""
    more = f", hangs for {age(row['hangs'])}" if row.get("hangs") else ""
    return f"{row['state']}{more}{', new code refused' if row.get('refused') else ''}"


def _letters(number: int) -> str:
    return f"{number} dead letter{'' if number == 1 else 's'}"


def show_trouble(satellites: Sequence[dict[str, Any]]) -> None:
    """Print each package that is in trouble, and what to type next."""
    for satellite in satellites:
        url = f"http://127.0.0.1:{one_line(satellite['host_id']).rpartition(':')[2]}"
        for row in satellite["trouble"] or ():
            for what, next_step in _told(row, host_shown(satellite)):
                click.echo(coloured(what, "red"))
                click.echo(f"    {next_step} --url {url}")


def _told(row: dict[str, Any], host: str) -> Iterator[tuple[str, str]]:
    """Yield, for each trouble of a package, a line that describes it, and what to type next."""
    name = one_line(row["name"])
    typed = shlex.quote(name)  # the satellite may be hostile, and a user pastes this into a shell
    who, error = f"{name} on {host}", one_line(as_text(row["last_error"]) or "unknown reason")
    for said in ("is parked", "is not loaded"):  # the printed line says this already
        error = error.removeprefix(f"plugin package {name} {said}: ")
    error = error.partition(". Fix it, then: ")[0]  # and this
    if len(error) > MAX_ERROR:
        error = f"{error[:MAX_ERROR]}…"
    if row["state"] in TROUBLE:
        do = "reload" if row["load"] else "load"
        yield f"{who} is {row['state']}: {error}", f"fix it, then on that machine: co2 plugin {do} {typed}"
        return
    logs = f"on that machine: co2 plugin logs {typed}"
    if row["state"] == "restarting":
        yield f"{who} is restarting, its methods are unavailable: {error}", f"its log, {logs}"
    if row["hangs"]:
        yield f"{who} hangs: one call into it has been running for {age(row['hangs'])}", f"its log, {logs}"
    if row["refused"]:
        yield f"{who} runs its old code: {error}", f"fix it, then on that machine: co2 plugin reload {typed}"
    if row["dead_letters"]:
        letters = _letters(row["dead_letters"])
        yield (
            f"{who} has {letters}: it failed to process them",
            (f"to see them, on that machine: co2 dead-letters --package {typed}"),
        )
    if not (row["state"] == "restarting" or row["hangs"] or row["refused"] or row["dead_letters"]):
        yield f"{who} had an error {age(row['last_error_age'])} ago: {error}", f"its log, {logs}"


def show_packages(hosts: Sequence[dict[str, Any]], told: Sequence[Told], as_json: bool) -> int:
    """Print every package; return the exit code, which is not 0 if a host does not answer.

    Args:
        hosts: rows of hosts.
        told: the properties of each.
        as_json: whether to print JSON.
    """
    rows: list[dict[str, Any]] = []
    code = 0
    for host, answer in _ours(hosts, told):
        if isinstance(answer, dict):
            known = {"host": host["host_id"], "host_name": host.get("name", "")}
            rows += [known | row | known for row in answer["plugins"]]  # whatever it says
        else:
            code, text = exit_code(answer)
            click.echo(f"co2: {host_shown(host)}: {one_line(text)}", err=True)
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
) -> Iterator[tuple[dict[str, Any], dict[str, Any] | Co2Error]]:
    for host, answer in zip(hosts, told, strict=True):
        if answer is not None:
            yield host, answer


def _cells(row: dict[str, Any]) -> Sequence[Any]:
    return (
        row["host_name"] or row["host"],
        row["name"],
        state(row),
        row["load"] or "-",
        row["code"] or "-",
        _uses(row),
        row["restarts"],
        row["dead_letters"],
        as_text(row["last_error"]) or "-",
    )


def _uses(row: dict[str, Any]) -> str:
    """Return what a package's process uses, and the limits, as text."""
    uses, limits = row.get("uses", {}), row.get("limits", {})
    told = []
    for name, limit, unit in (
        ("memory", "", "MiB"),
        ("address_space", "memory", "MiB of address space"),
        ("open_files", "open_files", "files"),
        ("cpu_seconds", "cpu_seconds", "s"),
    ):
        used, most = uses.get(name), limits.get(limit)
        if used is not None and (most or name != "address_space"):
            told.append(f"{used:.0f}{f' of {most}' if most else ''} {unit}")
    return ", ".join(told) or "-"
