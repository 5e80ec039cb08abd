"""Assemble a configuration: defaults < co2.toml < CO2_… variables < flags."""

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from co2.config.private import check_private, trust_of
from co2.config.schema import ENTRIES, KEYS, LIMITS, PLUGIN_NAME, HostConfig, RelayConfig, SatelliteConfig, keys_of
from co2.errors import ConfigError
from co2.host_name import default_host_name
from co2.near import nearest

__all__ = ["CONFIG_FILE", "MAX_SIZE", "load_config", "plugin_tables", "relay_url"]

CONFIG_FILE = "co2.toml"
MAX_SIZE = 1024 * 1024
"""Bytes of the largest configuration file that is read."""

_TABLES = ("relay", "satellite", "plugin", "limits", ENTRIES)
_VARIABLES = frozenset(f"CO2_{key.name.upper()}" for key in KEYS) | {"CO2_CONFIG", "CO2_DEBUG"}
_IGNORED_PREFIX = "CO2_TEST_"


def load_config(
    role: str, flags: Mapping[str, Any], environ: Mapping[str, str], cwd: Path
) -> RelayConfig | SatelliteConfig:
    """Return the checked configuration of a host.

    Args:
        role: ``relay`` or ``satellite``.
        flags: of the command line, by key; None for a flag that was not given. ``config`` names the file.
        environ: the process's environment.
        cwd: folder of relative paths and of ./co2.toml.

    Raises:
        ConfigError: an unknown key or variable, a value of the wrong type or out of range, a file that cannot be
            read or that others may write. The text says where, and what was wanted.
    """
    path, tables = _read_file(flags, environ, cwd)
    given = _from_file(role, path, tables) | _from_environment(role, environ) | _from_flags(role, flags)
    values: dict[str, Any] = {}
    for name, key in keys_of(role).items():
        default = key.default[role] if isinstance(key.default, dict) else key.default
        values[name] = given.get(name, default)
    values["name"] = values["name"] or default_host_name(role, socket.gethostname())
    values["plugin_dir"] = cwd / values["plugin_dir"]
    for where in ("state", "pages"):
        if values.get(where) is not None:
            values[where] = cwd / values[where]
    make: type[HostConfig] = RelayConfig if role == "relay" else SatelliteConfig
    config = make(
        role=role,
        port_given="port" in given,
        plugin_dir_from=_place_of("plugin_dir", role, flags, environ, path) if "plugin_dir" in given else "",
        plugin_config=_plugin_config(role, path, tables),
        plugin_limits=_limits(path, tables),
        config_file=path,
        **{name: value for name, value in values.items() if name != "role"},
    )
    assert isinstance(config, RelayConfig | SatelliteConfig)
    return config


def relay_url(given: str | None, environ: Mapping[str, str], cwd: Path) -> str:
    """Return the URL for the short commands: the flag, CO2_RELAY, co2.toml's, or the default.

    Raises:
        ConfigError: not a URL; or the file cannot be read.
    """
    config = load_config("satellite", {"relay": given}, environ, cwd)
    assert isinstance(config, SatelliteConfig)
    return config.relay


def plugin_tables(
    role: str, path: Path | None
) -> tuple[Mapping[str, Mapping[str, Any]], Mapping[str, Mapping[str, Any]]]:
    """Read ``plugin_config`` and ``plugin_limits`` again; empty if no file was read before.

    Args:
        role: ``relay`` or ``satellite``.
        path: the ``config_file`` of a configuration.

    Raises:
        ConfigError: as :func:`load_config`.
    """
    if path is None:
        return {}, {}
    found = _read_file({"config": str(path)}, os.environ, path.parent)
    return _plugin_config(role, *found), _limits(*found)


def _read_file(
    flags: Mapping[str, Any], environ: Mapping[str, str], cwd: Path
) -> tuple[Path | None, Mapping[str, Any]]:
    if flags.get("config") == "":
        raise ConfigError("--config", "expected the path of a file")
    named = flags.get("config") or environ.get("CO2_CONFIG")
    path = cwd / (named or CONFIG_FILE)
    try:
        exists = path.exists()
    except OSError as error:  # such as a folder that we may not look into
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    if not named and not exists:
        return None, {}
    if exists and path.samefile(os.devnull):
        return path, {}  # the null device: an empty file
    check_private(path, trust_of(environ))
    from tomllib import loads  # imported late: many hosts and most commands have no file

    try:
        source = path.read_bytes()
        if len(source) > MAX_SIZE:
            raise ConfigError(str(path), f"larger than {MAX_SIZE} bytes")
        tables = loads(source.decode())
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # a number of too many digits is a plain ValueError
        raise ConfigError(str(path), f"not TOML: {error}") from None
    for table, content in tables.items():
        if table not in _TABLES:
            raise ConfigError(str(path), f"unknown table or key {table!r}{_nearest(table, _TABLES)}")
        if table == ENTRIES:
            _check_entries(path, content)
        elif not isinstance(content, dict):
            raise ConfigError(f"{path}: {table}", f"expected a table [{table}], found {_shown(content)}")
        if table in ("relay", "satellite"):
            _check_table(path, table, content)
    return path, tables


def _check_entries(path: Path, content: Any) -> None:
    """Check that a key holds tables; what is in them is checked by the plugin."""
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise ConfigError(f"{path}: {ENTRIES}", f"expected tables [[{ENTRIES}]], found {_shown(content)}")


def _check_table(path: Path, table: str, content: Mapping[str, Any]) -> None:
    """Check a whole table, also that of the other role: one file serves both, and mistakes are reported early."""
    known = keys_of(table)
    for name, found in content.items():
        if name not in known:
            raise ConfigError(f"{path}: [{table}]", f"unknown key {name!r}{_nearest(name, known)}")
        _checked(f"{path}: [{table}] {name}", known[name].check, found)


def _from_file(role: str, path: Path | None, tables: Mapping[str, Any]) -> dict[str, Any]:
    known = keys_of(role)
    return {
        name: _checked(f"{path}: [{role}] {name}", known[name].check, found)
        for name, found in tables.get(role, {}).items()
    }


def _from_environment(role: str, environ: Mapping[str, str]) -> dict[str, Any]:
    known = keys_of(role)
    given: dict[str, Any] = {}
    for variable, found in environ.items():
        if not variable.startswith("CO2_") or variable.startswith(_IGNORED_PREFIX):
            continue
        if variable not in _VARIABLES:
            raise ConfigError(variable, f"unknown variable{_nearest(variable, _VARIABLES)}")
        name = variable[4:].lower()
        if name in known:
            given[name] = _checked(variable, known[name].check, known[name].read(found))
    return given


def _from_flags(role: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    known = keys_of(role)
    return {
        name: _checked(
            f"--{_flag(name)}", known[name].check, known[name].read(found) if isinstance(found, str) else found
        )
        for name, found in flags.items()
        if name in known and found is not None
    }


def _place_of(
    name: str, role: str, flags: Mapping[str, Any], environ: Mapping[str, str], path: Path | None
) -> str:
    """Return where a given value comes from, as errors name it."""
    if flags.get(name) is not None:
        return f"--{_flag(name)}"
    variable = f"CO2_{name.upper()}"
    return variable if variable in environ else f"{path}: [{role}] {name}"


def _flag(name: str) -> str:
    return "plugin" if name == "plugin_list" else name.replace("_", "-")


def _plugin_config(role: str, path: Path | None, tables: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the tables of plugins: ``[plugin.NAME]``, and ``[[map]]``, which is for satellites."""
    found = _package_tables(path, tables, "plugin")
    entries = tables.get(ENTRIES)
    if role == "satellite" and entries:
        if ENTRIES in found:
            raise ConfigError(
                f"{path}: [plugin.{ENTRIES}]", f"the file has [[{ENTRIES}]], too: remove one of them"
            )
        for number, entry in enumerate(entries, 1):
            _check_integers(f"{path}: [[{ENTRIES}]] entry {number}", entry)
        found[ENTRIES] = {ENTRIES: entries}
    return found


def _package_tables(path: Path | None, tables: Mapping[str, Any], table: str) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for name, content in tables.get(table, {}).items():
        if not PLUGIN_NAME.fullmatch(name):
            raise ConfigError(f"{path}: [{table}.{name!r:.80}]", "package names consist of letters, digits and _")
        if not isinstance(content, dict):
            raise ConfigError(
                f"{path}: {table}.{name}", f"expected a table [{table}.{name}], found {_shown(content)}"
            )
        _check_integers(f"{path}: [{table}.{name}]", content)
        found[name] = content
    return found


def _check_integers(where: str, found: Any) -> None:
    """Refuse integers that cannot be sent to the package's process."""
    if isinstance(found, dict):
        for name, item in found.items():
            _check_integers(f"{where} {name}", item)
    elif isinstance(found, list):
        for item in found:
            _check_integers(where, item)
    elif isinstance(found, int) and not -(2**63) <= found < 2**64:
        raise ConfigError(where, f"found {_shown(found)}, expected an integer of at most 64 bits")


def _limits(path: Path | None, tables: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    limits: dict[str, Mapping[str, Any]] = {}
    for package, content in _package_tables(path, tables, "limits").items():
        where = f"{path}: [limits.{package}]"
        for name in content:
            if name not in LIMITS:
                raise ConfigError(where, f"unknown key {name!r}{_nearest(name, LIMITS)}")
        limits[package] = {
            name: _checked(f"{where} {name}", LIMITS[name].check, found) for name, found in content.items()
        }
    return limits


def _checked(where: str, check: Callable[[Any], Any], found: Any) -> Any:
    try:
        return check(found)
    except ValueError as error:
        raise ConfigError(where, f"found {_shown(found)}, expected {error}") from None


def _shown(found: Any) -> str:
    try:
        return f"{found!r:.80}"
    except ValueError:
        return "a number with too many digits to show"  # Python refuses to write such a number


def _nearest(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else f"; known: {', '.join(known)}"
