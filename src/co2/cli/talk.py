"""``co2 send`` and ``co2 call``: send a message, call a method."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import click

from co2.cli.arguments import CALL_TIMEOUT, HostText, MessageText, json_option, timeout_option, url_option
from co2.cli.client import CommandClient
from co2.cli.only_relays import only_relays
from co2.cli.output import print_json, to_json
from co2.cli.own_name import own_name
from co2.errors import Co2Error, NoSuchMethod, RemoteFault

__all__ = ["call", "send"]

GOODBYE_TIMEOUT = 1.0
"""Seconds to unregister after an error or Ctrl-C."""


@click.command()
@click.argument("message", metavar="MESSAGE")
@timeout_option()
@url_option("--relay")
@json_option
def send(message: str, timeout: float, url: str, as_json: bool) -> int:
    """Send MESSAGE, a JSON dictionary with the key 'data', to every plugin on the network.

    The command returns when the relay has the message, and prints its position in the relay's log. If MESSAGE is
    -, it reads one message per line from standard input.

    \b
    Examples:
      co2 send '{"data": 2}'
      co2 send '{"channel": "stage.fader1", "data": 0.815}' --relay http://192.168.1.20:2003
      jq -c . messages.json | co2 send -
    """
    messages = _lines() if message == "-" else iter([_converted(message, "MESSAGE")])
    first = next(messages, None)
    if first is None:
        return 0
    with CommandClient(url, timeout) as client:
        with only_relays(client, url):
            host_id = client.call("relay.register", {"name": own_name("send")})["host_id"]
        try:
            while first is not None:
                position = client.call("relay.relay", _wire(first, host_id))
                if as_json:
                    print_json({"position": position, "host_id": host_id})
                else:
                    click.echo(f"sent, position {position}")
                first = next(messages, None)
        except BaseException:
            with contextlib.suppress(Co2Error):
                client.call("relay.unregister", {"host_id": host_id}, timeout=GOODBYE_TIMEOUT)
            raise
        client.call("relay.unregister", {"host_id": host_id})
    return 0


def _wire(message: dict[str, Any], host_id: str) -> dict[str, Any]:
    """Return a message as ``relay.relay`` expects it: keys with a meaning in the protocol go under ``keys``."""
    from co2.xmlrpc.forms import PROTOCOL_KEYS

    hidden = {key: value for key, value in message.items() if key in PROTOCOL_KEYS}
    plain = {key: value for key, value in message.items() if key not in PROTOCOL_KEYS}
    return {**plain, **({"keys": hidden} if hidden else {}), "host_id": host_id}


def _converted(text: str, where: str) -> dict[str, Any]:
    try:
        message: dict[str, Any] = MessageText().convert(text, None, None)
    except click.BadParameter as error:
        raise click.BadParameter(error.message, param_hint=where) from None
    return message


def _lines() -> Iterator[dict[str, Any]]:
    for number, line in enumerate(sys.stdin, 1):
        if line.strip():
            yield _converted(line, f"standard input, line {number}")


@click.command()
@click.argument("method")
@click.argument("argument", metavar="[ARGUMENT]", type=MessageText(), required=False)
@click.option(
    "--host",
    metavar="HOST",
    type=HostText(),
    help="The host that has the method: its name or host_id, or enough of the beginning of one.",
)
@timeout_option(CALL_TIMEOUT, "an answer; hosts give up after 30")
@url_option("--url")
@json_option
def call(
    method: str, argument: dict[str, Any] | None, *, host: str | None, timeout: float, url: str, as_json: bool
) -> int:
    """Call METHOD and print what it returns, as JSON.

    ARGUMENT is a JSON dictionary with the key 'data'; without ARGUMENT it is {"data": null}. A method of a plugin
    has the name package.module.method. If the relay does not have the method itself, it calls the one satellite
    that has it. If several have it, choose one with --host.

    \b
    Examples:
      co2 call co2.get_properties
      co2 call ham.spam.call_me '{"data": 2}'
      co2 call ping --host foyer-pi --timeout 3
      co2 call example.example.count '{"data": 1}' --url http://127.0.0.1:2004
    """
    with CommandClient(url, timeout) as client:
        # Methods without an argument ignore it; methods of plugins need the key.
        result = _call(client, method, argument or {"data": None}, host)
    if as_json or not sys.stdout.isatty():
        print_json(result)
    else:
        click.echo(to_json(result, indent=2))
    return 0


def _call(client: CommandClient, method: str, argument: dict[str, Any], host: str | None) -> Any:
    if host is None:
        try:
            return client.call(method, argument)
        except RemoteFault as fault:
            if fault.code != NoSuchMethod.code:
                raise
    passed_on: dict[str, Any] = {**argument, "method_name": method}
    if host is not None:
        passed_on["host_id"] = host
    return client.call("method_call", passed_on)
