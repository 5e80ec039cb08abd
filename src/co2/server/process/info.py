"""What a host tells of its software and hardware."""

import functools
import os
import platform
import socket
import sys
from typing import Any

from co2 import __version__

__all__ = ["hardware", "software"]

_TOLD = ("aiohttp", "msgspec", "uvloop")


def software() -> dict[str, str]:
    """Name the software and its versions."""
    return dict(_software())


@functools.cache  # whoever asks often would have the files of all packages read each time
def _software() -> tuple[tuple[str, str], ...]:
    from importlib import metadata  # it brings half of the standard library along, and most hosts are never asked

    found = {
        "co2": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
    }
    for name in _TOLD:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return tuple(found.items())


def hardware() -> dict[str, Any]:
    """Name the machine: its name, architecture, processors and memory in MiB."""
    told: dict[str, Any] = {
        "name": socket.gethostname(),
        "machine": platform.machine(),
        "processors": os.cpu_count() or 1,
        "byte_order": sys.byteorder,
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        told["memory"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    return told
