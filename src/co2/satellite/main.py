"""Entry point of ``co2 satellite``."""

from co2.config import SatelliteConfig
from co2.satellite.host import SatelliteHost
from co2.server.process.run import run_host

__all__ = ["run"]


def run(config: SatelliteConfig) -> int:
    """Run a satellite until it is told to stop; give the exit code.

    Raises:
        ConfigError: the address or port cannot be had.
        StateError: the state folder cannot be used.
    """
    return run_host(config, lambda foundation: SatelliteHost(config, foundation))
