"""Entry point of ``co2 relay``."""

from co2.config import RelayConfig
from co2.relay.host import RelayHost
from co2.server.process.run import run_host

__all__ = ["run"]


def run(config: RelayConfig) -> int:
    """Run a relay until it must stop; return the exit code.

    Raises:
        ConfigError: the address or port is not available.
        StateError: the state folder cannot be used.
    """
    return run_host(config, lambda foundation: RelayHost(config, foundation))
