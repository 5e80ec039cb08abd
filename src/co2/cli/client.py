"""The XML-RPC client of the commands. It prints which host it waits for if the answer takes long."""

import threading
from typing import Any

import click

from co2.errors import CallTimeout
from co2.xmlrpc.simple_client import SimpleClient

__all__ = ["TELL_AFTER", "CommandClient"]

TELL_AFTER = 2.0
"""Seconds without an answer after which the command prints which host it waits for."""


class CommandClient(SimpleClient):
    """A client of one host, for a person at a terminal.

    Args:
        url: of the host.
        timeout: seconds that one call may take.
    """

    def __init__(self, url: str, timeout: float) -> None:
        super().__init__(url, timeout)
        self._told = False

    def call(self, method: str, *params: Any, timeout: float | None = None, tell_after: float = TELL_AFTER) -> Any:
        """Call a method and return its result; at the first long wait of this client, print a line to stderr.

        Args:
            method: its name.
            params: its parameters.
            timeout: seconds that this call may take; None for the client's timeout.
            tell_after: seconds without an answer until the line is printed.

        Raises:
            CallTimeout: there was no answer in time; the text names the host.
            PeerError: see :meth:`SimpleClient.call`.
        """
        timer = threading.Timer(tell_after, self._tell)
        timer.daemon = True
        timer.start()
        try:
            return super().call(method, *params, timeout=timeout)
        except CallTimeout as error:
            raise CallTimeout(f"{method} at {self.url}", error.timeout) from None
        finally:
            timer.cancel()

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            click.echo(f"co2: waiting for {self.url} (Ctrl-C ends)", err=True)
