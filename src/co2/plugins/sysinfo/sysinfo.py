"""The plugin: a thread that takes readings and sends them.

Configuration, all keys optional::

    [plugin.sysinfo]
    interval = 1.0            # seconds between two readings
    channel  = "sysinfo.pi"   # default sysinfo.<name of the machine>
    disk     = "/"            # a path on the disk whose space is reported

A message::

    {'channel': 'sysinfo.pi',
     'data': {'cpu': {'percent': 12.5, 'count': 4},              # percent of all cores
              'load': {'1m': 0.4, '5m': 0.3, '15m': 0.2},
              'memory': {'percent': 31.0, 'used': 1280000000, 'total': 4100000000},    # bytes
              'disk': {'percent': 55.1, 'used': …, 'total': …},                        # bytes
              'rates': {'net_received': 1200, 'net_sent': 800, 'disk_read': 0, 'disk_written': 4096},  # per s
              'temperatures': {'cpu_thermal.0': 48.3},           # °C, where there are sensors
              'uptime': 86400,                                   # seconds since the machine started
              'time': 1893456000.0}}                             # seconds since 1970, by its clock
"""

import socket
import threading
from typing import Any

from co2 import plugin

from .readings import Meter

__all__ = ["X_Sysinfo"]

KNOWN_KEYS = ("interval", "channel", "disk")
MIN_INTERVAL = 0.05
MAX_INTERVAL = 86_400.0
"""Seconds between two readings, at least and at most."""


class X_Sysinfo(plugin.Co2Plugin):
    """Sends readings of this machine."""

    def __init__(self, var_dict: dict[str, Any]) -> None:
        super().__init__(var_dict)
        unknown = sorted(set(self.config) - set(KNOWN_KEYS))
        if unknown:
            raise ValueError(f"unknown key {unknown[0]!r}; the keys are {', '.join(KNOWN_KEYS)}")
        interval = self.config.get("interval", 1.0)
        is_number = isinstance(interval, int | float) and not isinstance(interval, bool)
        if not is_number or not MIN_INTERVAL <= interval <= MAX_INTERVAL:
            bounds = f"from {MIN_INTERVAL:g} to {MAX_INTERVAL:g}"
            raise ValueError(f"interval: {interval!r} is not a number of seconds {bounds}")
        self.interval = float(interval)
        self.channel = self.config.get("channel") or f"sysinfo.{machine_name()}"
        if not isinstance(self.channel, str):
            raise ValueError(f"channel: {self.channel!r} is not text")
        self._meter = Meter(str(self.config.get("disk", "/")))
        self._last: dict[str, Any] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sysinfo", daemon=True)
        self._thread.start()

    def x_read(self, data_dict: dict[str, Any]) -> dict[str, Any]:
        """Return the last reading, without waiting for the next one."""
        return self._last

    def _run(self) -> None:
        while not self._stopped.wait(self.interval):
            try:
                self._last = self._meter.read()
                self.send({"channel": self.channel, "data": self._last})
            except Exception as error:  # such as a removed sensor or a full outbox; the next reading may succeed
                self.log("no reading: %s: %s", type(error).__name__, error)

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=1.0)


def machine_name() -> str:
    """Return the name of this machine as one token of a channel."""
    return socket.gethostname().partition(".")[0].replace(" ", "_") or "unnamed"
