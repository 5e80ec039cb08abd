"""Finds the process that uses a UDP port (on Linux), so that an error can name the program to stop."""

import contextlib
import re
from pathlib import Path

__all__ = ["holder_of"]

MAX_PROCESSES = 4096
"""Processes that are searched."""

_SOCKETS = ("/proc/net/udp", "/proc/net/udp6")
_NUMBER = re.compile("[0-9]+")


def holder_of(port: int) -> str:
    """Return the process that uses a UDP port, such as ``process 1234 (pd)``; '' if it cannot be found."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port)}
    if not wanted:
        return ""
    for process in _processes()[:MAX_PROCESSES]:
        with contextlib.suppress(OSError):  # a process of another user, or one that has just ended
            links = (str(entry.readlink()) for entry in (process / "fd").iterdir())
            if any(link in wanted for link in links):
                name = (process / "comm").read_text("utf-8", errors="replace").strip()
                return f"process {process.name} ({name})" if name else f"process {process.name}"
    return ""


def _inodes(port: int) -> set[str]:
    found = set()
    for table in _SOCKETS:
        with contextlib.suppress(OSError):
            for line in Path(table).read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def _processes() -> list[Path]:
    with contextlib.suppress(OSError):
        return [entry for entry in Path("/proc").iterdir() if _NUMBER.fullmatch(entry.name)]
    return []
