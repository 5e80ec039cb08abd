"""``co2 dead-letters``: the messages that plugins did not process."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import click

from co2.cli.arguments import CALL_TIMEOUT, host_option, json_option, timeout_option, url_option
from co2.cli.client import CommandClient
from co2.cli.failures import exit_code
from co2.cli.only_relays import only_relays
from co2.cli.output import as_text, one_line, print_json, print_table, to_json
from co2.cli.satellites import host_shown, satellites
from co2.cli.told import check_letters
from co2.errors import ParseError, RemoteFault

__all__ = ["dead_letters"]

AT_ONCE = 1_000
"""Dead letters that are fetched in one call; the satellite returns fewer if they are big."""

AT_ONCE_THROUGH_RELAY = 500
"""The same with --host."""

MAX_SHOWN = 10_000
"""Dead letters of one satellite that are shown. It keeps no more, but it might get new ones without end."""

MAX_CELL = 100
"""Characters of a reason or a message in the table; --json shows all."""

_ID = click.IntRange(min=1)


@click.command("dead-letters")
@url_option("--url")
@host_option("Only those of")
@click.option("--package", metavar="NAME", help="Only those of this plugin package.")
@click.option(
    "--repeat", type=_ID, metavar="ID", help="Pass this one to its plugin again; delete it if that works."
)
@click.option("--drop-up-to", type=_ID, metavar="ID", help="Delete this one and all older ones.")
@timeout_option(CALL_TIMEOUT)
@json_option
def dead_letters(
    url: str,
    *,
    host: str | None,
    package: str | None,
    repeat: int | None,
    drop_up_to: int | None,
    timeout: float,
    as_json: bool,
) -> int:
    """Show, repeat or drop dead letters: messages that plugins did not process. In each of them receive raised an
    exception, or the plugin's process died three times.

    A satellite shows its own dead letters, a relay those of all its satellites. To repeat or drop a dead letter,
    name its satellite: with --url on the machine that it runs on, or with --host on the relay's machine. A
    repeated message has the key 'repeat'. It is deleted when receive has returned; if it fails again, it stays.

    \b
    Examples:
      co2 dead-letters
      co2 dead-letters --url http://127.0.0.1:2004 --package ham
      co2 dead-letters --url http://127.0.0.1:2004 --repeat 17
      co2 dead-letters --url http://127.0.0.1:2004 --package ham --drop-up-to 17
      co2 dead-letters --host foyer-pi --repeat 17
      co2 dead-letters --json | jq '.[].message'
    """
    if repeat is not None and (drop_up_to is not None or package is not None):
        raise click.UsageError(
            "--repeat takes the ID of one dead letter and cannot be combined with --drop-up-to or --package"
        )
    with CommandClient(url, timeout) as client:
        properties = client.call("co2.get_properties")
        if host is not None:
            with only_relays(client, url):
                if repeat is not None:
                    return _repeat(client, repeat, as_json, host)
                if drop_up_to is not None:
                    return _drop(client, drop_up_to, package, as_json, host)
                rows, code = [{"satellite": host} | row for row in _parts(client, host, package)], 0
        elif properties["role"] == "satellite":
            if repeat is not None:
                return _repeat(client, repeat, as_json)
            if drop_up_to is not None:
                return _drop(client, drop_up_to, package, as_json)
            rows, code = _of(client, properties, package, passed_on=False), 0
        elif repeat is not None or drop_up_to is not None:
            raise click.UsageError(
                f"{url} is a relay, and satellites keep the dead letters: name the satellite with --host, or on "
                "its own machine give its address with --url, such as http://127.0.0.1:2004"
            )
        else:
            rows, code = _of_all(client, package)
    if as_json:
        print_json(rows)
    elif rows:
        _print(rows, of_many=properties["role"] == "relay")
    elif not code:
        click.echo("no dead letters")
    return code


def _repeat(client: CommandClient, letter_id: int, as_json: bool, host: str | None = None) -> int:
    if host is None:
        client.call("co2.plugin.repeat_dead_letter", {"id": letter_id})
    else:
        client.call("relay.satellite.repeat_dead_letter", {"host": host, "id": letter_id})
    if as_json:
        print_json({"repeated": letter_id})
    else:
        click.echo(f"dead letter {letter_id}: its plugin has processed it")
    return 0


def _drop(client: CommandClient, up_to: int, package: str | None, as_json: bool, host: str | None = None) -> int:
    argument = {"up_to": up_to, **({} if package is None else {"package": package})}
    if host is None:
        dropped = client.call("co2.plugin.drop_dead_letters", argument)
    else:
        dropped = client.call("relay.satellite.drop_dead_letters", {"host": host, **argument})
    if as_json:
        print_json({"dropped": dropped})
    else:
        click.echo(f"dropped {dropped} dead letter{'' if dropped == 1 else 's'}")
    return 0


def _of_all(client: CommandClient, package: str | None) -> tuple[list[dict[str, Any]], int]:
    """Return the dead letters of all satellites that answer, and the exit code, which is not 0 if one does not."""
    rows: list[dict[str, Any]] = []
    code = 0
    for satellite in satellites(client, names=False):
        if satellite["kind"] != "co2":
            continue
        try:
            rows += _of(client, satellite, package, passed_on=True)
        except (RemoteFault, ParseError) as error:
            code, text = exit_code(error)
            click.echo(f"co2: {host_shown(satellite)}: {one_line(text)}", err=True)
    return rows, code


def _of(
    client: CommandClient, host: dict[str, Any], package: str | None, *, passed_on: bool
) -> list[dict[str, Any]]:
    known = {"satellite": host["host_id"], "satellite_name": host.get("name", "")}
    rows = _pages(client, host["host_id"], package, passed_on)
    return [known | row | known for row in rows]  # the row cannot change them


def _pages(client: CommandClient, host_id: str, package: str | None, passed_on: bool) -> Iterator[dict[str, Any]]:
    after = count = 0
    only = {} if package is None else {"package": package}
    while count < MAX_SHOWN:
        argument = {"after": after, "max": AT_ONCE, **only}
        name = "co2.plugin.get_dead_letters"
        if passed_on:
            rows = check_letters(client.call("method_call", {"method_name": name, "host_id": host_id, **argument}))
        else:
            rows = client.call(name, argument)
        if not rows:
            return
        yield from rows
        after, count = rows[-1]["id"], count + len(rows)


def _parts(client: CommandClient, host: str, package: str | None) -> Iterator[dict[str, Any]]:
    """Yield the dead letters of one satellite, with whole reasons, through its relay."""
    argument: dict[str, Any] = {"host": host, "after": 0, "max": AT_ONCE_THROUGH_RELAY}
    if package is not None:
        argument["package"] = package
    count, more = 0, True
    while more and count < MAX_SHOWN:
        part = client.call("relay.satellite.get_dead_letters", argument)
        rows, more = check_letters(part["letters"]), part["more"]
        if not rows:
            return
        yield from rows
        argument["after"], count = rows[-1]["id"], count + len(rows)


def _print(rows: Sequence[dict[str, Any]], *, of_many: bool) -> None:
    headings = ("ID", "TIME", "PLUGIN", "FROM", "REASON", "MESSAGE")
    cells = [
        (
            row["id"],
            _moment(row["at"]),
            row["plugin"],
            row["host_id"],
            _shortened(as_text(row["reason"])),
            _shortened(_own_keys(row["message"])),
        )
        for row in rows
    ]
    if of_many:
        hosts = [row.get("satellite_name") or row["satellite"] for row in rows]
        headings, cells = (
            ("SATELLITE", *headings),  # type: ignore[assignment]  # one column more
            [(host, *cell) for host, cell in zip(hosts, cells, strict=True)],  # type: ignore[misc]
        )
    print_table(headings, cells)


def _moment(at: Any) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if isinstance(at, datetime) else str(at)


def _own_keys(message: Any) -> str:
    """Return a message as JSON, without the keys that have a column of their own."""
    if isinstance(message, dict):
        message = {key: value for key, value in message.items() if key not in ("host_id", "client_address")}
    return to_json(message)


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"
