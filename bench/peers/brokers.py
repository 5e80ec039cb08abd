"""Start a broker on a free port with its data in a folder of its own, wait until it is there, end it."""

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.processes import environment

__all__ = ["PATIENCE", "Broker", "free_port", "program", "temporary_folder", "wait_for"]

PATIENCE = 30.0
"""Seconds within which hosts must be up."""

DISK = Path("/var/tmp")
"""For what is synced: /tmp may be memory."""


class Broker(NamedTuple):
    """A broker that runs.

    Attributes:
        address: where its clients find it.
        pid: of its process; None where clients meet without one.
    """

    address: str
    pid: int | None


def wait_for(condition: Callable[[], bool], what: str, timeout: float = PATIENCE, pause: float = 0.01) -> None:
    """Wait until something is so; fail when the deadline passes."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what}")
        time.sleep(pause)


def free_port() -> int:
    """Return a port of the loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def program(command: Sequence[str], port: int, folder: str) -> Iterator[int]:
    """Run a broker until the end of the block, which begins when it takes connections; yield its process id."""
    log = Path(folder) / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )

    def is_up() -> bool:
        if process.poll() is not None:
            raise ChildProcessError(f"{command[0]} ended: {log.read_text(errors='replace')[-1000:]}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(is_up, f"connections taken by {command[0]}")
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """A folder on a disk that goes away with whatever is still in it."""
    where = DISK if DISK.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="co2-bench-", dir=where, ignore_cleanup_errors=True) as folder:
        yield folder
