"""Configuration: defaults < co2.toml < CO2_… variables < flags; and the ``config.py`` of 2003, read with ast."""

from co2.config.load import CONFIG_FILE, load_config, plugin_tables, relay_url
from co2.config.plugin_list_2003 import read_plugin_list_2003
from co2.config.schema import HostConfig, RelayConfig, SatelliteConfig

__all__ = [
    "CONFIG_FILE",
    "HostConfig",
    "RelayConfig",
    "SatelliteConfig",
    "load_config",
    "plugin_tables",
    "read_plugin_list_2003",
    "relay_url",
]
