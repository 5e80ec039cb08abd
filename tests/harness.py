"""Real hosts as processes, and waiting for conditions with a deadline: those of ``co2.testing``."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from co2.testing.processes import HostProcess, Proxy
from co2.testing.waiting import PATIENCE, wait_for

__all__ = ["PATIENCE", "RECORDER", "HostProcess", "Proxy", "running", "wait_for", "write_plugin"]


def write_plugin(folder: Path, package: str, **modules: str) -> None:
    """Write a plugin package with these modules into <folder>/plugins; ``init`` is its __init__.py."""
    place = folder / "plugins" / package
    place.mkdir(parents=True, exist_ok=True)
    (place / "__init__.py").write_text(modules.pop("init", ""))
    for name, code in modules.items():
        (place / f"{name}.py").write_text(code)


RECORDER = '''
import json, pathlib
from co2 import plugin

class X_Recorder(plugin.Co2Plugin):
    """Writes down what it receives, sends what it is told to."""

    def receive(self, data_dict):
        with open("received.jsonl", "a") as file:
            file.write(json.dumps(data_dict, default=repr) + "\\n")

    def x_send(self, data_dict):
        """Send the given data to the network."""
        self.send(data_dict["data"])
        return True
'''
"""A plugin that records what it receives and sends what x_send is given."""


@contextlib.contextmanager
def running(folder: Path, role: str, *args: str, **kwargs: Any) -> Iterator[HostProcess]:
    """A host that is stopped at the end, in good order."""
    host = HostProcess(folder, role, *args, **kwargs)
    try:
        yield host
    finally:
        if host.process.poll() is None:
            assert host.stop() == 0, host.stderr
