"""A satellite with the package ham, whose code tests change; and what can be seen of it from outside."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.harness import HostProcess, Proxy, running, write_plugin

__all__ = ["SPAM", "command", "edit", "ham", "package", "say"]

SPAM = """
from co2 import plugin
from .helper import WORD

class X_Spam(plugin.Co2Plugin):
    def x_say(self, data_dict):
        return WORD

    def x_config(self, data_dict):
        return self.config

    def x_print(self, data_dict):
        print(data_dict["data"], "\x1b[2J")

    def receive(self, data_dict):
        self.send({"data": [WORD, data_dict["data"]]})
"""


@contextlib.contextmanager
def ham(
    folder: Path, *args: str, relay: str = "http://127.0.0.1:1", **kwargs: Any
) -> Iterator[tuple[HostProcess, Proxy]]:
    """The satellite, without a relay unless one is named, and a proxy of it."""
    write_plugin(folder, "ham", spam=SPAM, helper="WORD = 'nih'")
    with (
        running(folder, "satellite", "--relay", relay, *args, **kwargs) as satellite,
        satellite.proxy() as proxy,
    ):
        yield satellite, proxy


def say(proxy: Proxy) -> Any:
    return proxy.ham.spam.say({"data": None})


def package(proxy: Proxy, name: str = "ham") -> Any:
    return next((row for row in proxy.co2.get_properties()["plugins"] if row["name"] == name), None)


def edit(folder: Path, word: str) -> None:
    (folder / "plugins" / "ham" / "helper.py").write_text(f"WORD = '{word}'")


def command(satellite: HostProcess, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "co2", "plugin", *args, "--url", satellite.url],
        cwd=satellite.folder,
        capture_output=True,
        text=True,
        timeout=60,
        env={key: value for key, value in os.environ.items() if not key.startswith("CO2_")},
    )
