"""A second network namespace, as another machine: this process and the other one see each other over a cable.

To be used by a program that runs in a network of its own already (``unshare -rn``), so that no other process of
the machine notices.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from tests.needs import raise_loopback

__all__ = ["HERE", "OTHER", "OtherNetwork", "other_network"]

HERE = "10.77.0.1"
"""Address of this end of the cable."""

OTHER = "10.77.0.2"
"""Address of the other end."""


class OtherNetwork:
    """The other machine.

    Attributes:
        enter: the beginning of a command that runs there.
    """

    def __init__(self, pid: int) -> None:
        self.enter = ("nsenter", "-t", str(pid), "-n")

    @property
    def co2(self) -> tuple[str, ...]:
        """The command co2, run there."""
        return (*self.enter, sys.executable, "-m", "co2")


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)


@contextlib.contextmanager
def other_network() -> Iterator[OtherNetwork]:
    """Make the other machine, and end it."""
    raise_loopback(())
    read_end, write_end = os.pipe()
    # It holds the namespace until its input ends, and says when it is in it.
    with subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "echo there; cat"], stdin=read_end, stdout=subprocess.PIPE, text=True
    ) as holder:
        os.close(read_end)
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "there\n"
            there = OtherNetwork(holder.pid)
            _do("ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", str(holder.pid))
            _do("ip", "address", "add", f"{HERE}/24", "dev", "here")
            _do("ip", "link", "set", "here", "up")
            _do(*there.enter, "ip", "address", "add", f"{OTHER}/24", "dev", "there")
            _do(*there.enter, "ip", "link", "set", "lo", "up")
            _do(*there.enter, "ip", "link", "set", "there", "up")
            yield there
        finally:
            os.close(write_end)
