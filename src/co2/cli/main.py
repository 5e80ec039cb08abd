"""The root of the command line: the table of commands, and the output of their errors."""

import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from co2 import __version__
from co2.cli.failures import EXIT_INTERRUPTED, EXIT_USAGE, exit_code

__all__ = ["COMMANDS", "SETTINGS", "main"]

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Settings of click for every command."""

COMMANDS = {
    "relay": "co2.cli.hosts",
    "satellite": "co2.cli.hosts",
    "send": "co2.cli.talk",
    "watch": "co2.cli.watch",
    "last": "co2.cli.last",
    "why": "co2.cli.why",
    "call": "co2.cli.talk",
    "ps": "co2.cli.show",
    "methods": "co2.cli.show",
    "forget": "co2.cli.forget",
    "dead-letters": "co2.cli.dead_letters",
    "plugin": "co2.cli.plugin",
    "state": "co2.cli.state",
}
"""The module of each command."""

_SHORT = {
    "relay": "Run a relay: the hub that passes messages on.",
    "satellite": "Run a satellite: it runs your plugins.",
    "send": "Send a message to everybody.",
    "watch": "Show messages as they arrive.",
    "last": "Show the last message on each channel.",
    "why": "Show which message made a message happen.",
    "call": "Call a method of a host or of a plugin.",
    "ps": "Show who is on the network.",
    "methods": "Show the methods that can be called.",
    "forget": "Forget a satellite that will not come back, or a channel's last message.",
    "dead-letters": "Show, repeat or drop messages that plugins did not process.",
    "plugin": "Show which plugin code runs; load, unload and reload it; write and check it.",
    "state": "Create a new identity for a copied state folder.",
}


class _Commands(click.Group):
    """Imports a command only when it is used, so that the short commands start quickly."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        module = COMMANDS.get(name)
        if module is None:
            return None
        command = getattr(importlib.import_module(module), name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            from co2.near import nearest

            near = nearest(args[0], COMMANDS)
            hint = f" Did you mean '{near}'?" if near else f" Commands: {', '.join(COMMANDS)}."
            ctx.fail(f"No such command '{args[0][:80]}'.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_SHORT.items()))


@click.command(
    cls=_Commands,
    context_settings=SETTINGS,
    no_args_is_help=True,
)
@click.version_option(__version__, "--version", message="co2 %(version)s")
@click.option("--debug", is_flag=True, envvar="CO2_DEBUG", help="Show the traceback of an error.")
def _root(debug: bool) -> None:
    """A many-to-many network for control data.

    A message that a plugin on one machine sends is received by the plugins on all others. A relay passes the
    messages on; satellites run the plugins.

    \b
    Two terminals, one network:
      co2 relay
      co2 satellite --plugin sysinfo

    \b
    A third to watch it:
      co2 watch
      co2 ps

    Each command has its own --help. Exit codes: 0 ok, 1 failed, 2 usage, 3 not reachable, 4 denied, 5 timeout.
    """


def _speak_utf_8() -> None:
    """Use UTF-8 for standard input and output, as JSON requires (RFC 8259, 8.1).

    On Windows a pipe has the encoding of the machine, such as cp1252, which has no arrow: a command that prints
    one would fail.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(encoding="utf-8")


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        args: as typed, without the program's name; None for the arguments of this process.
    """
    given = list(sys.argv[1:] if args is None else args)
    _speak_utf_8()
    try:
        result = _root.main(given, prog_name="co2", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return EXIT_USAGE
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except click.exceptions.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, click.exceptions.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has closed the pipe. Python would flush into it at exit, and print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--debug" in given or os.environ.get("CO2_DEBUG"):
            raise
        code, text = exit_code(error)
        from co2.cli.output import one_line

        click.echo(f"co2: {one_line(text)}", err=True)
        return code
