"""Every key of the configuration: type, bounds, default and meaning. One table for files, variables and flags."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from co2.config.checks import (
    address,
    count,
    duration,
    folder,
    group_ids,
    host_name,
    host_names,
    managed,
    names,
    one_of,
    port,
    seconds,
    switch,
    url,
    user_ids,
    variables,
)

__all__ = ["ENTRIES", "KEYS", "LIMITS", "HostConfig", "Key", "RelayConfig", "SatelliteConfig", "keys_of"]

PLUGIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")

ENTRIES = "map"
"""Name of the array of tables ``[[map]]``, of the bundled package that gets it, and of the key in its table."""

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        name: as in the file; the variable is ``CO2_<NAME>``, the flag ``--<name>``.
        check: converts the given value; raises a ValueError that describes valid values.
        default: used where no other is given.
        roles: that have the key.
        help: one line for people.
    """

    name: str
    check: Callable[[Any], Any]
    default: Any
    roles: tuple[str, ...]
    help: str

    def read(self, text: str) -> Any:
        """Parse the text of a variable or flag, as a file would hold it: numbers as numbers."""
        if isinstance(self.default, dict | int | float):
            for number in (int, float):
                try:
                    return number(text)
                except ValueError:
                    continue
        return text


_BOTH = ("relay", "satellite")
_RELAY = ("relay",)
_SATELLITE = ("satellite",)

KEYS: tuple[Key, ...] = (
    Key("bind", address, "127.0.0.1", _BOTH, "IP address to listen on"),
    Key("port", port, {"relay": 2003, "satellite": 2004}, _BOTH, "port to listen on, 0 for any free one"),
    Key("name", host_name, None, _BOTH, "name of the host, for people; the machine's by default"),
    Key("state", folder, None, _BOTH, "folder for identity and logs"),
    Key("plugin_dir", folder, Path("plugins"), _BOTH, "folder that holds plugin packages"),
    Key(
        "plugin_list",
        names(PLUGIN_NAME),
        None,
        _BOTH,
        "packages to load; without it all in plugin_dir, a relay none",
    ),
    Key("allowed_hosts", host_names, (), _BOTH, "additional host names accepted in requests"),
    Key(
        "trusted_users",
        user_ids,
        (),
        _BOTH,
        "users whose plugins and co2.toml are used, besides this user's and root's",
    ),
    Key("trusted_groups", group_ids, (), _BOTH, "groups whose members may write plugins and co2.toml"),
    Key("max_sats", count(1, 100_000), 512, _RELAY, "satellites that may be registered"),
    Key("check_interval", seconds(0.05, 3600), 10.0, _RELAY, "seconds between checks for silent satellites"),
    Key("drop_after", seconds(0.1, 86_400), 25.0, _RELAY, "seconds of silence after which a satellite is dropped"),
    Key(
        "fetch_timeout",
        seconds(0.1, 86_400),
        60.0,
        _RELAY,
        "seconds of silence after which a client that fetches is dropped",
    ),
    Key("notify_timeout", seconds(0.05, 300), 5.0, _RELAY, "seconds that one notify may take"),
    Key("log_age", seconds(1, 10 * 365 * 86_400), 86_400.0, _RELAY, "seconds that the log keeps a message"),
    Key("log_bytes", count(MIB, 2**40), 1024 * MIB, _RELAY, "bytes that the log keeps"),
    Key(
        "durability",
        duration(0, 1),
        0.0,
        _RELAY,
        "how long a message may wait, before it is acknowledged, to be written to disk with others",
    ),
    Key("pages", folder, None, _RELAY, "folder with web pages of your own, served at /pages/"),
    Key("causes", switch, True, _RELAY, "what plugins send while they receive a message says which one"),
    Key("relay", url, "http://127.0.0.1:2003", _SATELLITE, "the relay's URL"),
    Key(
        "reconnect_max",
        seconds(0.1, 3600),
        2.0,
        _SATELLITE,
        "longest pause between two attempts to reach the relay",
    ),
    Key("isolation", one_of("process", "thread"), "process", _BOTH, "where plugin packages live"),
    Key("receive_warning", seconds(0.01, 3600), 1.0, _BOTH, "seconds of receive after which a warning is logged"),
    Key(
        "receive_deadline",
        seconds(0.05, 3600),
        30.0,
        _BOTH,
        "seconds of receive before the plugin host is killed",
    ),
    Key("load_timeout", seconds(0.1, 300), 10.0, _BOTH, "seconds in which a package must be loaded"),
    Key("exit_timeout", seconds(0.1, 3), 3.0, _BOTH, "seconds that __exit__ may take"),
    Key("send_timeout", seconds(0, 3600), 5.0, _BOTH, "seconds that send waits for room in the outbox"),
    Key("plugin_memory", count(0, 2**30), 2048, _BOTH, "MiB of address space per plugin host, 0 for no limit"),
    Key(
        "plugin_open_files",
        count(0, 2**20),
        0,
        _BOTH,
        "open files per plugin host, 0 for what the system has",
    ),
    Key("plugin_cpu_seconds", count(0, 2**31 - 1), 0, _BOTH, "CPU seconds per plugin host, 0 for no limit"),
    Key("plugin_deaths", count(1, 1000), 5, _BOTH, "deaths of a plugin host within 60 s that park its package"),
    Key("plugin_env", variables, (), _BOTH, "environment variables that plugins get besides the usual ones"),
    Key("watch", switch, False, _BOTH, "reload a package when its code changes"),
    Key("express", switch, True, _BOTH, "pass small frames on before they are fully processed"),
    Key("outbox_max", count(MIB, 2**40), 1024 * MIB, _SATELLITE, "bytes that may wait for the relay"),
    Key(
        "managed",
        managed,
        True,
        _SATELLITE,
        "what a person at the relay's machine may do here: true, read or false",
    ),
    Key("accept_notify", switch, False, _SATELLITE, "accept messages by notify while there is no link"),
)


LIMITS = {
    name: next(key for key in KEYS if key.name == f"plugin_{name}")
    for name in ("memory", "open_files", "cpu_seconds", "deaths", "env")
}
"""Keys of a table ``[limits.<package>]``: they replace the host's limits for this package."""


def keys_of(role: str) -> dict[str, Key]:
    """Return the keys of a role by name."""
    return {key.name: key for key in KEYS if role in key.roles}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """The keys of both roles; the table :data:`KEYS` describes each of them.

    Attributes:
        role: ``relay`` or ``satellite``.
        port_given: False allows the next free port if this one is in use.
        plugin_dir_from: where ``plugin_dir`` was given, '' for the default, which need not exist.
        plugin_config: the tables ``[plugin.NAME]`` by name; for a satellite also ``[[map]]``, as the key ``map``
            of the table of that package.
        plugin_limits: the tables ``[limits.NAME]`` by name, checked.
        config_file: the file that was read, None for none.
    """

    role: str
    name: str = ""
    bind: str = "127.0.0.1"
    port: int = 0
    port_given: bool = False
    state: Path | None = None
    plugin_dir: Path = Path("plugins")
    plugin_dir_from: str = ""
    plugin_list: tuple[str, ...] | None = None
    plugin_config: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    plugin_limits: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    allowed_hosts: tuple[str, ...] = ()
    trusted_users: tuple[int, ...] = ()
    trusted_groups: tuple[int, ...] = ()
    isolation: str = "process"
    receive_warning: float = 1.0
    receive_deadline: float = 30.0
    load_timeout: float = 10.0
    exit_timeout: float = 3.0
    send_timeout: float = 5.0
    plugin_memory: int = 2048
    plugin_open_files: int = 0
    plugin_cpu_seconds: int = 0
    plugin_deaths: int = 5
    plugin_env: tuple[str, ...] = ()
    watch: bool = False
    express: bool = True
    config_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig(HostConfig):
    """A relay's configuration."""

    role: str = "relay"
    max_sats: int = 512
    check_interval: float = 10.0
    drop_after: float = 25.0
    fetch_timeout: float = 60.0
    notify_timeout: float = 5.0
    log_age: float = 86_400.0
    log_bytes: int = 1024 * MIB
    durability: float = 0.0
    pages: Path | None = None
    causes: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SatelliteConfig(HostConfig):
    """A satellite's configuration."""

    role: str = "satellite"
    relay: str = "http://127.0.0.1:2003"
    reconnect_max: float = 2.0
    outbox_max: int = 1024 * MIB
    accept_notify: bool = False
    managed: bool | str = True
