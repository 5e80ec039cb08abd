"""The readings of this machine that psutil provides, as one dictionary of plain values."""

import os
import time
from typing import Any

try:
    import psutil
except ImportError as error:  # say how to install it
    raise ImportError("the plugin 'sysinfo' needs psutil: pip install '.[all]' in co2's checkout") from error

__all__ = ["Meter"]


class Meter:
    """The source of readings. Rates are averages over the time since the previous reading.

    Args:
        disk: a path on the disk whose space is reported.
    """

    def __init__(self, disk: str) -> None:
        self._disk = disk
        self._last_time = time.monotonic()
        self._last_totals = _totals()
        psutil.cpu_percent()  # the first call starts the measurement; its result means nothing

    def read(self) -> dict[str, Any]:
        """Return a new reading, without the values that this machine does not provide."""
        now = time.monotonic()
        totals = _totals()
        seconds = max(now - self._last_time, 1e-3)
        rates = {
            key: round((total - self._last_totals.get(key, total)) / seconds) for key, total in totals.items()
        }
        self._last_time, self._last_totals = now, totals
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(self._disk)
        reading: dict[str, Any] = {
            "cpu": {"percent": psutil.cpu_percent(), "count": os.cpu_count() or 1},
            "load": dict(zip(("1m", "5m", "15m"), psutil.getloadavg(), strict=True)),
            "memory": {"percent": memory.percent, "used": memory.used, "total": memory.total},
            "disk": {"percent": disk.percent, "used": disk.used, "total": disk.total},
            "rates": rates,
            "uptime": round(time.time() - psutil.boot_time()),
            "time": time.time(),
        }
        temperatures = _temperatures()
        if temperatures:
            reading["temperatures"] = temperatures
        return reading


def _totals() -> dict[str, int]:
    totals: dict[str, int] = {}
    net = psutil.net_io_counters()
    if net is not None:
        totals |= {"net_received": net.bytes_recv, "net_sent": net.bytes_sent}
    disk = psutil.disk_io_counters()
    if disk is not None:
        totals |= {"disk_read": disk.read_bytes, "disk_written": disk.write_bytes}
    return totals


def _temperatures() -> dict[str, float]:
    if not hasattr(psutil, "sensors_temperatures"):
        return {}  # macOS and Windows
    found: dict[str, float] = {}
    for chip, sensors in psutil.sensors_temperatures().items():
        for number, sensor in enumerate(sensors):
            found[f"{chip}.{sensor.label or number}".replace(" ", "_")] = sensor.current
    return found
