"""Processes by their number, on every system: what Linux has in /proc, and macOS elsewhere."""

import psutil

__all__ = ["children", "is_gone", "is_there", "open_files", "resident", "threads"]


def is_there(pid: int) -> bool:
    """Return whether there is such a process; one that has ended is, until its parent has asked how."""
    return psutil.pid_exists(pid)


def is_gone(pid: int) -> bool:
    """Return whether it has ended, whether or not its parent has asked how."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def children(pid: int) -> list[int]:
    """Return those that a process has started and that have not ended."""
    return [child.pid for child in psutil.Process(pid).children() if not is_gone(child.pid)]


def resident(pid: int) -> int:
    """Return the bytes of memory that are resident."""
    return int(psutil.Process(pid).memory_info().rss)


def open_files(pid: int) -> int:
    """Return how many files it has open, sockets included."""
    return int(psutil.Process(pid).num_fds())


def threads(pid: int) -> int:
    """Return how many threads it has."""
    return int(psutil.Process(pid).num_threads())
