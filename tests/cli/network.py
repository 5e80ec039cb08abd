"""A relay and a satellite to run commands against, and the ways to run them: in pipes, at a terminal, live."""

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from co2.xmlrpc.simple_client import SimpleClient
from tests.harness import PATIENCE, HostProcess, wait_for

NASTY = '''
import time
from co2 import plugin

class X_Nasty(plugin.Co2Plugin):
    """Says what a terminal must not obey."""

    def x_say(self, data_dict):
        """Help \\x1b[2J\\x07 with \\x9b31m control characters."""
        return "\\x7f\\x9b31m"

    def x_fail(self, data_dict):
        """Fails."""
        raise ValueError("\\x1b[2J\\x07\\x9b31m")

    def x_sleep(self, data_dict):
        """Takes long."""
        time.sleep(1)
'''


@dataclass
class Network:
    relay: HostProcess
    satellite: HostProcess
    folder: Path


def environ(relay: str = "", **more: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CO2_") and k not in ("NO_COLOR", "TERM")}
    return {**clean, "TERM": "xterm", "COLUMNS": "200", **({"CO2_RELAY": relay} if relay else {}), **more}


def co2(net: Network, *args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the network's relay, its output in pipes."""
    return subprocess.run(
        [sys.executable, "-m", "co2", *args],
        cwd=net.folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env=environ(net.relay.url, **env),
    )


def at_terminal(net: Network, *args: str, **env: str) -> tuple[int, str]:
    """Run a command at a terminal; give its exit code and what the terminal was sent."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "co2", *args],
            cwd=net.folder,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            env=environ(net.relay.url, **env),
        ) as process:
            os.close(theirs)
            sent = b""
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline and select.select([ours], [], [], PATIENCE)[0]:
                try:
                    sent += os.read(ours, 65536)
                except OSError:  # EIO: the other end has gone
                    break
            return process.wait(10), sent.decode().replace("\r\n", "\n")
    finally:
        os.close(ours)


@contextlib.contextmanager
def watching(net: Network) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``co2 watch`` until somebody ends it, at the latest when this is over; what it writes goes nowhere."""
    command = [sys.executable, "-m", "co2", "watch"]
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(
        command, cwd=net.folder, stdout=nowhere, stderr=nowhere, env=environ(net.relay.url)
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def watch(
    net: Network, *args: str, message: str = '{"data": [1, "shrubbery"], "channel": "stage"}'
) -> tuple[int, str]:
    """Run ``co2 watch``, send a message again and again until it ends; give its exit code and what it wrote."""
    command = [sys.executable, "-m", "co2", "watch", *args]
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(command, cwd=net.folder, stdout=out, stderr=out, env=environ(net.relay.url)) as process,
        SimpleClient(net.relay.url, PATIENCE) as client,
    ):
        known = {"host_id": client.call("relay.register", {})["host_id"]}

        def ended() -> bool:
            client.call("relay.relay", {**json.loads(message), **known})
            return process.poll() is not None

        try:
            wait_for(ended, "watch has what it wants")
        finally:
            process.kill()
            client.call("relay.unregister", known)
        out.seek(0)
        return process.wait(), out.read()
