"""Real hosts as processes, and waiting for conditions with a deadline."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = float(os.environ.get("CO2_TEST_PATIENCE", "20"))
"""Seconds after which something that should have happened has not."""


def wait_for(condition: Callable[[], T], what: str = "", timeout: float = PATIENCE) -> T:
    """Give the first true result of a condition; fail when the deadline passes."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}")
        time.sleep(0.01)


class HostProcess:
    """A relay or satellite in a process of its own, with a state folder of its own.

    Args:
        folder: where state and plugins are.
        role: 'relay' or 'satellite'.
        args: further command-line arguments.
        env: further environment variables.
        program: what is run in place of co2 itself.
    """

    def __init__(
        self,
        folder: Path,
        role: str,
        *args: str,
        env: dict[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "co2"),
    ) -> None:
        self.folder = folder
        self.state = folder / "state"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plugins").mkdir(exist_ok=True)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CO2_")}
        command = [*program, role, "--port", "0", "--state", str(self.state)]
        self.process = subprocess.Popen(
            [*command, *args],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**clean, **(env or {})},
        )
        self._out: list[str] = []
        self._err: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._out), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self._err), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self.ready_line = wait_for(self._first_line, f"the ready line of the {role}", max(30, PATIENCE))
        found = re.fullmatch(r"ready (relay|satellite) (\S+) (http://\S+)", self.ready_line)
        assert found, f"{self.ready_line!r}; stderr: {self.stderr}"
        self.host_id, self.url = found[2], found[3]
        self.port = int(self.url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stderr(self) -> str:
        return "".join(self._err)

    @property
    def stdout(self) -> str:
        return "".join(self._out)

    def log(self, name: str = "co2.log") -> str:
        """Give what a log file holds by now."""
        path = self.state / "logs" / name
        return path.read_text() if path.exists() else ""

    def proxy(self, timeout: float = 40) -> "Proxy":
        return Proxy(self.url, timeout)

    def stop(self) -> int:
        """End it in good order and give its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> None:
        self.process.kill()
        self._ended()

    def _ended(self) -> int:
        try:
            code = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not end within 15 s; stderr: {self.stderr}") from None
        finally:
            for reader in self._readers:
                reader.join(5)
            for pipe in (self.process.stdout, self.process.stderr):
                if pipe:
                    pipe.close()
        return code

    def _first_line(self) -> str:
        if self.process.poll() is not None and not self._out:
            raise AssertionError(f"ended with {self.process.returncode} before it was ready: {self.stderr}")
        return self._out[0].rstrip("\n") if self._out and self._out[0].endswith("\n") else ""

    @staticmethod
    def _read(pipe: Any, lines: list[str]) -> None:
        for line in pipe:
            lines.append(line)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, timeout: float) -> None:
        super().__init__(use_builtin_types=True)
        self._timeout = timeout

    def make_connection(self, host: Any) -> Any:
        connection = super().make_connection(host)
        connection.timeout = self._timeout
        return connection


class Proxy(xmlrpc.client.ServerProxy):
    """The standard library's own client; ``with`` closes it."""

    def __init__(self, url: str, timeout: float = 40) -> None:
        super().__init__(f"{url}/RPC2", transport=_Transport(timeout), allow_none=True, use_builtin_types=True)


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
