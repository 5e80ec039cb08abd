"""What a test needs of the machine: where it is not there the test skips, and in CI it fails.

CI (``.ci/run``) installs every peer, so one that is missing there is a mistake, and a green run that skipped it
would say what nobody has tried. ``make test`` is as strict where it installs the peers itself. What no package
brings, namespaces of one's own and a network, must be there in CI only. Being root is no peer: what only root can
do skips for everybody else, in CI too.
"""

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from co2.server.process.local_address import local_ip

__all__ = ["IN_CI", "ROOT_ONLY", "STRICT", "needs", "other_address", "raise_loopback", "skip_or_fail"]

IN_CI = bool(os.environ.get("CI")) and sys.platform == "linux"
"""Elsewhere, and where Linux stands for macOS, not everything can be had."""

STRICT = IN_CI or (bool(os.environ.get("CO2_TEST_STRICT")) and sys.platform == "linux")
"""Whether every peer has been installed that can be."""

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do that: give files away, to begin with")
"""Marks a test of what nobody else can do; CI may run as root or not."""


def skip_or_fail(why: str, *, strict: bool = STRICT) -> NoReturn:
    """Skip the test that runs; in CI, and wherever else peers are installed, fail.

    Args:
        why: what is missing, and where it comes from.
        strict: whether to fail.
    """
    if strict:
        pytest.fail(f"{why}: it must be there, so that this test runs", pytrace=False)
    pytest.skip(why)


def needs(there: object, why: str) -> pytest.MarkDecorator:
    """Mark a test, or a module by ``pytestmark``, that needs something; tests/conftest.py looks at it.

    Args:
        there: true where it is there.
        why: said where it is not.
    """
    return pytest.mark.needs(bool(there), why)


_TOWARDS = "192.0.2.1"
"""Towards it hosts look for the address by which others see them; where it is ours they find it."""

_SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFFLAGS, _IFF_UP = 0x8916, 0x891C, 0x8914, 1
"""Set address, mask and flags of an interface: netdevice(7). A name with a colon is one more address of it."""


def raise_loopback(addresses: Iterable[str]) -> None:
    """Bring the loopback interface of a network that has just been made up, with further addresses.

    Raises:
        OSError: this process may not.
    """
    _set_interface("lo", _SIOCSIFFLAGS, struct.pack("h", _IFF_UP))
    for number, address in enumerate(addresses):
        _add_address(f"lo:{number}", address)


def _add_address(name: str, address: str) -> None:
    _set_interface(name, _SIOCSIFADDR, struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address)))
    _set_interface(name, _SIOCSIFNETMASK, struct.pack("HH4s8x", socket.AF_INET, 0, b"\xff" * 4))


def _set_interface(name: str, what: int, value: bytes) -> None:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control.fileno(), what, struct.pack("16s24s", name.encode(), value))


@contextlib.contextmanager
def other_address() -> Iterator[str]:
    """Give an IPv4 address of this machine that is not loopback, as somebody on another machine has it.

    Where there is none, as in a container without a network, root gives one to the loopback interface meanwhile.
    """
    found = local_ip("0.0.0.0", _TOWARDS)
    if found != _TOWARDS and not found.startswith("127."):  # or another test has just given it
        yield found
        return
    try:
        import fcntl
    except ImportError:
        skip_or_fail("this machine has no address but loopback")
    with Path(__file__).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side, and each takes it away again
        try:
            _add_address("lo:co2", _TOWARDS)
        except OSError as error:  # a container that has no network and may make none
            skip_or_fail(
                f"this machine has no address but loopback, and none may be added ({error})", strict=IN_CI
            )
        try:
            yield _TOWARDS
        finally:
            _set_interface("lo:co2", _SIOCSIFFLAGS, struct.pack("h", 0))
