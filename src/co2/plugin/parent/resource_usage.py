"""Resources that a plugin host uses, as the system reports them."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["usage_of"]

_MIB = 1024 * 1024
_TIMES = slice(11, 13)
"""User and system time in /proc/<pid>/stat, counted from after the program's name."""


def usage_of(pid: int | None) -> Mapping[str, float]:
    """Return the resources that a process uses now.

    Args:
        pid: of the process; None for none.

    Returns:
        ``memory`` (MiB that are resident), ``address_space`` (MiB; what the limit counts), ``open_files``,
        ``cpu_seconds``; empty if the process is gone, or if neither ``/proc`` nor psutil is available.
    """
    if pid is None:
        return {}
    if sys.platform != "linux":
        return _usage_by_psutil(pid)
    place = Path("/proc", str(pid))
    try:
        all_pages, resident_pages = map(int, (place / "statm").read_bytes().split()[:2])
        times = (place / "stat").read_bytes().rpartition(b")")[2].split()[_TIMES]
        open_files = sum(1 for _ in (place / "fd").iterdir())
    except (OSError, ValueError):
        return {}
    page = os.sysconf("SC_PAGE_SIZE")
    return {
        "memory": resident_pages * page // _MIB,
        "address_space": all_pages * page // _MIB,
        "open_files": open_files,
        "cpu_seconds": round(sum(map(int, times)) / os.sysconf("SC_CLK_TCK"), 2),
    }


def _usage_by_psutil(pid: int) -> Mapping[str, float]:
    try:
        import psutil
    except ImportError:
        return {}
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            memory, times = process.memory_info(), process.cpu_times()
            return {
                "memory": memory.rss // _MIB,
                "address_space": memory.vms // _MIB,
                "open_files": process.num_fds(),
                "cpu_seconds": round(times.user + times.system, 2),
            }
    except psutil.Error:
        return {}
