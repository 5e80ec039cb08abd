"""Arguments that several commands take: a message as JSON, a URL."""

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
    "HostIdText",
    "MessageText",
    "Seconds",
    "find_url",
    "json_option",
    "timeout_option",
    "url_option",
]

_DEFAULT = "CO2_RELAY or http://127.0.0.1:2003"

CALL_TIMEOUT = 35.0
"""Seconds that a call may take; a host gives a plugin 30."""

ANSWER_TIMEOUT = 10.0
"""Seconds that a host may take to answer what it knows itself."""


class MessageText(click.ParamType[dict[str, Any]]):
    """A dictionary with the key ``data``, written as JSON."""

    name = "message"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it; say where it is wrong and what is wanted."""
        if not isinstance(value, str):
            return value
        try:
            message = json.loads(value, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            self.fail(f"not JSON ({error}); wanted is {_EXAMPLE}", param, ctx)
        if not isinstance(message, dict) or "data" not in message:
            self.fail(f"a dictionary with the key 'data' is wanted, such as {_EXAMPLE}", param, ctx)
        from co2.values import pack

        try:
            pack(message)
        except (ValueRefused, TooBig) as error:
            self.fail(str(error), param, ctx)
        return message


class HostIdText(click.ParamType[str]):
    """A host_id, seen to be one before anybody is asked."""

    name = "host_id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check its form."""
        from co2.host_id import HostId

        try:
            return str(HostId.parse(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Seconds(click.FloatRange):
    """Seconds, more than none; nan is no number of them."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check it."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is no number of seconds", param, ctx)
        return number


_EXAMPLE = """'{"data": [1, "shrubbery", 0.815]}'"""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def find_url(given: str | None, flag: str) -> str:
    """Give the URL to talk to.

    Raises:
        ConfigError: it is no URL, or the configuration file is wrong.
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
    """Make the option that says which host is talked to; the command gets its URL as ``url``.

    Args:
        flag: ``--relay`` or ``--url``, the spelling that --help explains. The other one means the same; of both
            the last counts, as of one that is repeated.
        find: gives the URL, from what was given (None for nothing) and the spelling it was given with.
        default: who is talked to where nothing is given, in words.
    """

    def take(context: click.Context, option: click.Parameter, given: str | None) -> None:
        # What was given is looked at first, in its order; then what was not.
        if given is not None or "url" not in context.params:
            context.params["url"] = find(given, option.opts[0])

    spelt = functools.partial(click.option, metavar="URL", callback=take, expose_value=False)
    main = spelt(flag, help=f"Host to talk to.  [default: {default}]")
    other = spelt("--url" if flag == "--relay" else "--relay", help=f"The same as {flag}.")
    return lambda command: main(other(command))


def timeout_option(default: float = ANSWER_TIMEOUT, what: str = "an answer") -> Callable[[Any], Any]:
    """Make the option that says how long a command waits; it gets its seconds as ``timeout``.

    Args:
        default: seconds.
        what: is waited for, in words.
    """
    return click.option(
        "--timeout",
        type=Seconds(),
        default=default,
        metavar="S",
        help=f"Give up after S seconds without {what}.  [default: {default:g}]",
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
