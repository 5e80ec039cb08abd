"""``co2 state``: change the state folder of a host, which contains its identity."""

import os
from pathlib import Path

import click

from co2.cli.arguments import json_option
from co2.cli.output import one_line, print_json
from co2.config import load_config
from co2.errors import StateError

__all__ = ["state"]


@click.group()
def state() -> None:
    """Change the state folder of a host that is stopped.

    \b
    Examples:
      co2 state new-id
      co2 state new-id --state ~/.local/state/co2/satellite-2005
    """


def _refuse_to_choose(path: Path) -> None:
    """Raise StateError if there are several state folders: the default one might belong to another satellite."""
    folders = sorted(origin.parent for origin in path.parent.glob("satellite-*/origin"))
    if len(folders) > 1:
        names = ", ".join(str(folder) for folder in folders)
        raise StateError(f"there are several state folders of satellites; choose one with --state: {names}")


@state.command("new-id")
@click.option(
    "--state",
    "folder",
    metavar="DIR",
    help="The folder.  [default: the satellite's, from co2.toml, if there is only one]",
)
@json_option
def new_id(folder: str | None, as_json: bool) -> int:
    """Create a new identity for a copied state folder. Without it, two hosts have the same identity; this happens,
    for example, when a whole memory card is copied.

    The host must be stopped. The stores of plugins, the positions of durable plugins and the dead letters stay.
    Messages that wait for the relay are set aside, not sent: the original host has them too, and under two
    identities they would arrive twice.

    \b
    Examples:
      co2 state new-id
      co2 state new-id --state ~/.local/state/co2/satellite-2005
    """
    from co2.store.state_folder import StateFolder, default_state_path

    path = Path(folder) if folder is not None else None
    if path is None:
        config = load_config("satellite", {}, os.environ, Path.cwd())
        path = config.state or default_state_path("satellite", config.port)
        if config.state is None:
            _refuse_to_choose(path)
    if not (path / "origin").is_file():
        raise StateError(f"{path} is not a state folder: it has no file 'origin'; choose another with --state")
    with StateFolder.open(path) as opened:
        before = opened.origin
        aside = opened.renew_identity()
        after = opened.origin
    if as_json:
        print_json({"folder": str(path), "before": before, "after": after, "aside": [str(one) for one in aside]})
        return 0
    click.echo(f"{one_line(path)}: the host was {one_line(before)} and will be {after} from its next start")
    for one in aside:
        click.echo(f"messages that waited for the relay will not be sent; they are kept in {one_line(one)}")
    return 0
