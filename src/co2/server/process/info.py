"""Software and hardware of a host, as its properties show them."""

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
    """Return the names of the software with their versions."""
    return dict(_software())


@functools.cache  # without the cache, each call would read the files of all packages
def _software() -> tuple[tuple[str, str], ...]:
    from importlib import metadata  # it imports half of the standard library, and most hosts are never asked

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
    """Return the machine's name, architecture, processors and memory in MiB."""
    told: dict[str, Any] = {
        "name": socket.gethostname(),
        "machine": platform.machine(),
        "processors": os.cpu_count() or 1,
        "byte_order": sys.byteorder,
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        told["memory"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    return told
