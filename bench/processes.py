"""Start what is measured, each in a process of its own, and end it by its process id."""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent

PATIENCE = 120.0
"""Seconds within which a program says what it is asked for."""


def environment() -> dict[str, str]:
    """Where what is started finds this package and co2, in any folder; with bytecode, as for users."""
    given = [str(Path(part).absolute()) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    left_out = ("CO2_", "PYTHONDONTWRITEBYTECODE")  # what begins with CO2_ would configure hosts
    ours = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
    return {**ours, "PYTHONPATH": os.pathsep.join([*given, str(ROOT)])}


@contextlib.contextmanager
def python(
    *args: str, errors: IO[str] | None = None, interpreter: str = sys.executable
) -> Iterator[subprocess.Popen[str]]:
    """Run this Python, or another one, with arguments; end it at the end.

    What it says on stderr goes to ours, or to a file.
    """
    process = subprocess.Popen(
        [interpreter, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=environment(),
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def line(process: "subprocess.Popen[str]") -> str:
    """Read the one line that a process prints next."""
    assert process.stdout
    if not select.select([process.stdout], [], [], PATIENCE)[0]:
        raise SystemExit(f"bench: a program that is measured said nothing for {PATIENCE:g} s")
    text = process.stdout.readline().strip()
    if not text:
        raise SystemExit("bench: a program that is measured did not start, or has ended")
    return text


@contextlib.contextmanager
def relay(config: str = "") -> Iterator[str]:
    """A real ``co2 relay``, as its users start it; gives its URL."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "co2.toml"
        path.write_text(config)
        path.chmod(0o600)
        arguments = ("--port", "0", "--state", f"{folder}/state", "--config", str(path))
        with python("-m", "co2", "relay", *arguments) as process:
            yield line(process).split()[-1]


@contextlib.contextmanager
def peer(*args: str) -> Iterator[str]:
    """One of the peers; gives its URL."""
    with python("-m", "bench.xmlrpc_server_peer", *args) as process:
        yield f"http://127.0.0.1:{line(process)}"


class Sink:
    """Many foreign satellites in one process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.ports: list[int] = json.loads(line(process))
        self.latencies: list[list[int]] = [[] for _ in self.ports]

    def collect(self) -> int:
        """Fetch what has come since; return the smallest count of any satellite."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        for mine, new in zip(self.latencies, json.loads(line(self._process)), strict=True):
            mine.extend(new)
        return min(map(len, self.latencies))


@contextlib.contextmanager
def sink(count: int) -> Iterator[Sink]:
    """A sink with so many satellites."""
    with python("-m", "bench.sink", str(count)) as process:
        yield Sink(process)


def proxy(url: str) -> xmlrpc.client.ServerProxy:
    """The standard library's client: the same sender for every relay."""
    return xmlrpc.client.ServerProxy(f"{url}/RPC2", allow_none=True)
