"""Arguments and options of several commands: a message as JSON, a host, a URL, a timeout."""

import functools
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from co2.config import relay_url
from co2.errors import ConfigError, TooBig, ValueRefused

__all__ = [
    "ANSWER_TIMEOUT",
    "CALL_TIMEOUT",
    "HostText",
    "MessageText",
    "Seconds",
    "find_url",
    "host_option",
    "json_option",
    "timeout_option",
    "url_option",
]

_DEFAULT = "CO2_RELAY or http://127.0.0.1:2003"

CALL_TIMEOUT = 35.0
"""Seconds that a call of a plugin's method may take; the plugin's host waits 30."""

ANSWER_TIMEOUT = 10.0
"""Seconds that a host may take to answer without its plugins."""

MAX_SECONDS = 7 * 86_400
"""Seconds that a command waits at most; the operating system accepts no more than 24 days for a socket."""


class MessageText(click.ParamType[dict[str, Any]]):
    """A message: a dictionary with the key ``data``, as JSON."""

    name = "message"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse it; fail with the place of the error and an example."""
        if not isinstance(value, str):
            return value
        try:
            message = json.loads(value, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            self.fail(f"not JSON ({error}); expected for instance {_EXAMPLE}", param, ctx)
        if not isinstance(message, dict) or "data" not in message:
            self.fail(f"expected a dictionary with the key 'data', such as {_EXAMPLE}", param, ctx)
        from co2.values import pack

        try:
            pack(message)
        except (ValueRefused, TooBig) as error:
            self.fail(str(error), param, ctx)
        return message


class HostText(click.ParamType[str]):
    """A host: its name or host_id, or the beginning of one. The form is checked before any host is called."""

    name = "host"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text; fail if it has another form."""
        from co2.host_id import HostId
        from co2.host_name import is_host_word

        if is_host_word(value):
            return value
        try:
            return str(HostId.parse(value))
        except ValueError as error:
            if "@" in value:
                self.fail(str(error), param, ctx)
            self.fail(f"not a host: {value[:80]!r}; expected a name such as foyer-pi, or a host_id", param, ctx)


class Seconds(click.FloatRange):
    """A number of seconds greater than 0, up to :data:`MAX_SECONDS`."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(0, MAX_SECONDS, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; fail if it is out of range."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return number


_EXAMPLE = """'{"data": [1, "shrubbery", 0.815]}'"""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def find_url(given: str | None, flag: str) -> str:
    """Return the URL of the host that the command talks to.

    Args:
        given: as typed; None for the default, from the environment and the configuration.
        flag: the option that it was typed with, for the error.

    Raises:
        ConfigError: it is not a URL, or the configuration file is wrong.
    """
    try:
        return relay_url(given, os.environ, Path.cwd())
    except ConfigError as error:
        if error.where == "--relay":
            raise ConfigError(flag, error.problem) from None
        raise


def url_option(
    flag: str, find: Callable[[str | None, str], str] = find_url, default: str = _DEFAULT
) -> Callable[[Any], Any]:
    """Return a decorator that adds the option for the host to talk to; the command gets its URL as ``url``.

    Args:
        flag: ``--relay`` or ``--url``, the spelling that --help explains. The other spelling means the same; if
            both are typed, the last one counts, as with an option that is repeated.
        find: returns the URL, from the text that was typed (None for none) and the spelling that was typed.
        default: the default in words, for --help.
    """

    def take(context: click.Context, option: click.Parameter, given: str | None) -> None:
        # click calls this first for the options that were typed, in their order, then for the others.
        if given is not None or "url" not in context.params:
            context.params["url"] = find(given, option.opts[0])

    spelt = functools.partial(click.option, metavar="URL", callback=take, expose_value=False)
    main = spelt(flag, help=f"Host to talk to.  [default: {default}]")
    other = spelt("--url" if flag == "--relay" else "--relay", help=f"The same as {flag}.")
    return lambda command: main(other(command))


def host_option(what: str) -> Callable[[Any], Any]:
    """Return a decorator that adds the option for a satellite of the relay; the command gets it as ``host``.

    Args:
        what: the command does there, for --help.
    """
    return click.option(
        "--host",
        metavar="HOST",
        type=HostText(),
        help=f"{what} the satellite HOST, through its relay: its name or host_id, or the beginning of one. Works "
        "only on the relay's machine.",
    )


def timeout_option(default: float = ANSWER_TIMEOUT, what: str = "an answer") -> Callable[[Any], Any]:
    """Return a decorator that adds the option for the time to wait; the command gets its seconds as ``timeout``.

    Args:
        default: seconds.
        what: the command waits for, in words, for --help.
    """
    return click.option(
        "--timeout",
        type=Seconds(),
        default=default,
        metavar="S",
        help=f"Give up after S seconds without {what}.  [default: {default:g}]",
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
