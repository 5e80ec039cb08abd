"""Hosts that are attacked: each that a test starts here is looked at after the attack."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from co2.testing.processes import HostProcess
from tests.attacks.raw import call

__all__ = ["Attacked", "Guard", "guard", "running"]

MAX_GROWTH = 64 * 2**20
"""Bytes that an attack may leave a host bigger by, where the test does not say that it fills a limit that has a
name (``@pytest.mark.may_grow``)."""

IN_TIME = 1.0
"""Seconds in which a host answers that has just been attacked."""


class Attacked:
    """One host under attack.

    Args:
        name: for the failure.
        port: its port.
        pid: of its process.
    """

    def __init__(self, name: str, port: int, pid: int) -> None:
        self.name = name
        self.port = port
        self.process = psutil.Process(pid)
        self.begin()

    def begin(self) -> None:
        """What it has now is what it had before the attack."""
        self._before = self.process.memory_info().rss

    def check(self, may_grow: int) -> None:
        """Fail unless it answers in time and has grown by no more than that many bytes."""
        start = time.monotonic()
        assert call(self.port, "ping") is True
        took = time.monotonic() - start
        if took >= IN_TIME:  # another process had the processor, or the host is not well: then it is slow again
            start = time.monotonic()
            assert call(self.port, "ping") is True
            again = time.monotonic() - start
            assert again < IN_TIME, f"{self.name} took {took:.1f} s and {again:.1f} s for a ping after the attack"
        growth = self.process.memory_info().rss - self._before
        assert growth <= may_grow, (
            f"{self.name} grew by {growth / 2**20:.0f} MiB; the bound is {may_grow / 2**20:.0f} MiB"
        )


class Guard:
    """All hosts that are attacked now.

    Attributes:
        may_grow: bytes that each of them may have grown by after the test that is running.
        checks: how often one of them was looked at.
    """

    def __init__(self) -> None:
        self.may_grow = MAX_GROWTH
        self.checks = 0
        self._hosts: list[Attacked] = []

    def begin(self, may_grow: int) -> None:
        """A test begins: what grows from now on is its doing."""
        self.may_grow = may_grow
        for host in self._hosts:
            host.begin()

    def check(self) -> None:
        """Fail unless all of them are well."""
        for host in self._hosts:
            self.look_at(host)

    def look_at(self, host: Attacked) -> None:
        """Fail unless this one is well."""
        self.checks += 1
        host.check(self.may_grow)

    @contextlib.contextmanager
    def watching(self, host: Attacked) -> Iterator[None]:
        """Look at a host after each test while the ``with`` lasts."""
        self._hosts.append(host)
        try:
            yield
        finally:
            self._hosts.remove(host)


guard = Guard()
"""Of the tests of this process."""


class _Host(HostProcess):
    """One that knows whether the test has ended it: else it should be there still."""

    is_ended = False

    def stop(self) -> int:
        self.is_ended = True
        return super().stop()

    def kill(self) -> None:
        self.is_ended = True
        super().kill()


@contextlib.contextmanager
def running(folder: Path, role: str, *args: str, **kwargs: Any) -> Iterator[HostProcess]:
    """A host that is attacked: it is there, and well, after each test and before it is stopped in good order."""
    host = _Host(folder, role, *args, **kwargs)
    attacked = Attacked(f"the {role}", host.port, host.pid)
    try:
        with guard.watching(attacked):
            yield host
            if not host.is_ended:
                code = host.process.poll()
                assert code is None, f"{host!r} has ended with {_said(code)} under attack: {host.stderr}"
                guard.look_at(attacked)
    finally:
        if host.process.poll() is None:
            assert host.stop() == 0, host.stderr
        elif not host.is_ended:
            host.stop()  # its pipes and threads


def _said(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else str(code)
