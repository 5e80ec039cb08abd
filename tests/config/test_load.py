"""The configuration: every key from each of its places, and what is said of what is wrong."""

import errno
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from co2.config import RelayConfig, SatelliteConfig, load_config, plugin_tables
from co2.config.load import MAX_SIZE
from co2.config.schema import KEYS, Key
from co2.errors import ConfigError
from co2.host_name import default_host_name

BAD: dict[str, tuple[str, str, str]] = {
    # key: a bad value in TOML, one in a variable or flag, what must be said to be wanted
    "name": ('"-pi"', "Foyer Pi", "a name of 1 to 32 of the characters a-z, 0-9 and -"),
    "bind": ("2003", "nonsense", "an IP address such as 127.0.0.1"),
    "port": ('"2003"', "65536", "an integer from 0 to 65535"),
    "state": ("false", "", "the path of a folder"),
    "plugin_dir": ("[]", "", "the path of a folder"),
    "pages": ("[]", "", "the path of a folder"),
    "plugin_list": ('["has-dash"]', "ham,../spam", "a list of package names"),
    "allowed_hosts": ("[1]", "co2.example:2003", "a list of host names without port"),
    "trusted_users": ("[1.5]", "no-such-user", "a list of users of this machine by name or number"),
    "trusted_groups": ("[true]", "no-such-group", "a list of groups of this machine by name or number"),
    "max_sats": ("0", "many", "an integer from 1 to 100000"),
    "check_interval": ("true", "0", "seconds, a number from 0.05 to 3600"),
    "drop_after": ("nan", "nan", "seconds, a number from 0.1 to 86400"),
    "fetch_timeout": ("-1", "-1", "seconds, a number from 0.1 to 86400"),
    "notify_timeout": ("inf", "inf", "seconds, a number from 0.05 to 300"),
    "reconnect_max": ("0", "0.01", "0.1 to 3600"),
    "log_age": ("1" + "0" * 400, "1" + "0" * 400, "seconds, a number from 1 to"),
    "log_bytes": ("1", "64M", "an integer from 1048576 to"),
    "durability": ('"2s"', "1 hour", 'a duration such as "50ms" or "1s", or seconds, from 0 to 1 s'),
    "relay": ('"127.0.0.1:2003"', "https://127.0.0.1", "a URL such as http://127.0.0.1:2003"),
    "isolation": ('"none"', "fork", "'process' or 'thread'"),
    "receive_warning": ("-1", "soon", "seconds, a number from"),
    "receive_deadline": ("1979-05-27", "", "seconds, a number from"),
    "load_timeout": ("{}", "0", "seconds, a number from 0.1 to 300"),
    "exit_timeout": ("3.1", "3.1", "seconds, a number from 0.1 to 3"),
    "send_timeout": ('"5"', "5s", "seconds, a number from 0 to 3600"),
    "plugin_memory": ("0x" + "f" * 5000, "-1", "an integer from 0 to"),
    "plugin_open_files": ("true", "many", "an integer from 0 to"),
    "plugin_cpu_seconds": ("1.5", "-1", "an integer from 0 to"),
    "plugin_deaths": ("0", "0", "an integer from 1 to"),
    "plugin_env": ('["has-dash"]', "A B", 'a list of environment variables, such as "API_KEY"'),
    "watch": ("2", "perhaps", "true or false"),
    "express": ("2", "perhaps", "true or false"),
    "outbox_max": ("[33554432]", "1e9", "an integer from 1048576 to"),
    "accept_notify": ("2", "perhaps", "true or false"),
    "causes": ("2", "perhaps", "true or false"),
    "managed": ("2", "write", 'true, "read" or false'),
}

GOOD: dict[str, tuple[str, str, str]] = {
    # key: three good values as text, none of them the default
    "name": ("foyer-pi", "stage", "pi-2"),
    "bind": ("0.0.0.0", "127.0.0.2", "::1"),
    "port": ("0", "3000", "65535"),
    "state": ("one", "two", "/three"),
    "plugin_dir": ("one", "two", "/three"),
    "pages": ("one", "two", "/three"),
    "plugin_list": ("ham", "ham,eggs", "eggs"),
    "allowed_hosts": ("a.example", "b.example,c", "d"),
    "trusted_users": ("root", "1000", "0,1001"),
    "trusted_groups": ("root", "1000", "0,1001"),
    "relay": ("http://10.0.0.1:2003", "http://[::1]:1", "http://co2.example:65535"),
    "isolation": ("thread", "process", "thread"),
    "plugin_memory": ("0", "1", "100"),
    "plugin_open_files": ("1", "64", "100"),
    "plugin_cpu_seconds": ("1", "60", "100"),
    "plugin_deaths": ("1", "2", "3"),
    "plugin_env": ("API_KEY", "A,MQTT_*", "*"),
    "watch": ("true", "no", "yes"),
    "express": ("false", "yes", "no"),
    "log_bytes": ("1048576", "2097152", "3145728"),
    "durability": ("0.5", "0.25", "1"),
    "outbox_max": ("1048576", "2097152", "3145728"),
    "accept_notify": ("true", "no", "yes"),
    "causes": ("false", "yes", "no"),
    "managed": ("false", "read", "no"),
    "max_sats": ("1", "2", "3"),
}
SECONDS = ("1.25", "2", "2.5")


def denied(path: Path, *_: object) -> bytes:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


each_key = pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)


def write(folder: Path, text: str) -> Path:
    path = folder / "co2.toml"
    path.write_text(text)
    return path


def wrong(role: str, folder: Path, flags: dict[str, Any] | None = None, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        load_config(role, flags or {}, environ, folder)
    assert str(error.value) == f"{error.value.where}: {error.value.problem}"
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 600
    return error.value


# ---- every key -----------------------------------------------------------------------------------------


@each_key
def test_a_bad_value_in_a_file(key: Key, tmp_path: Path) -> None:
    for table in key.roles:
        path = write(tmp_path, f"[{table}]\n{key.name} = {BAD[key.name][0]}\n")
        for role in ("relay", "satellite"):  # also that of the other role: the file serves both
            error = wrong(role, tmp_path)
            assert error.where == f"{path}: [{table}] {key.name}"
            assert BAD[key.name][2] in error.problem


@each_key
def test_a_bad_value_in_a_variable(key: Key, tmp_path: Path) -> None:
    variable = f"CO2_{key.name.upper()}"
    for role in key.roles:
        error = wrong(role, tmp_path, None, **{variable: BAD[key.name][1]})
        assert error.where == variable
        assert BAD[key.name][2] in error.problem


@each_key
def test_a_bad_value_as_a_flag(key: Key, tmp_path: Path) -> None:
    flag = "--plugin" if key.name == "plugin_list" else f"--{key.name.replace('_', '-')}"
    for role in key.roles:
        error = wrong(role, tmp_path, {key.name: BAD[key.name][1]})
        assert error.where == flag
        assert BAD[key.name][2] in error.problem


@each_key
def test_each_place_overrides_those_before_it(key: Key, tmp_path: Path) -> None:
    texts = GOOD.get(key.name, SECONDS)
    quoted = texts[0] if re.fullmatch(r"[\d.]+", texts[0]) and key.name != "bind" else f'"{texts[0]}"'
    for role in key.roles:
        default = key.default[role] if isinstance(key.default, dict) else key.default
        default = default_host_name(role, socket.gethostname()) if key.name == "name" else default

        def got(flags: dict[str, Any], environ: dict[str, str], role: str = role, file: Path | None = None) -> Any:
            return getattr(load_config(role, {"config": file, **flags}, environ, tmp_path), key.name)

        file = write(tmp_path, f"[{role}]\n{key.name} = {quoted}\n")
        file = file.rename(tmp_path / "mine.toml")
        environ, flags = {f"CO2_{key.name.upper()}": texts[1]}, {key.name: texts[2]}
        assert got({}, {}) == (tmp_path / default if key.name == "plugin_dir" else default)
        expected = [as_value(key, text, tmp_path) for text in texts]
        assert got({}, {}, file=file) == expected[0]
        assert got({}, environ, file=file) == expected[1]
        assert got(flags, environ, file=file) == expected[2]


def as_value(key: Key, text: str, folder: Path) -> Any:
    if key.name in ("state", "plugin_dir", "pages"):
        return folder / text
    if key.name in ("plugin_list", "allowed_hosts", "plugin_env"):
        return tuple(text.split(","))
    if key.name in ("trusted_users", "trusted_groups"):
        return tuple(0 if one == "root" else int(one) for one in text.split(","))
    if key.name in ("watch", "express", "accept_notify", "causes"):
        return text not in ("no", "false")
    if key.name == "managed":
        return text if text == "read" else False
    return float(text) if re.fullmatch(r"[\d.]+", text) and key.name != "bind" and text.count(".") < 2 else text


@each_key
def test_the_documentation_has_it(key: Key) -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "configuration.md").read_text()
    assert re.search(rf"^\| `{key.name}` \|", text, re.MULTILINE)


# ---- names nobody knows --------------------------------------------------------------------------------


def test_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, '[satellite]\nrelais = "http://127.0.0.1:2003"\n')
    error = wrong("satellite", tmp_path)
    assert error.where == f"{path}: [satellite]"
    assert error.problem == "unknown key 'relais'; did you mean 'relay'?"


def test_a_key_of_the_other_role_is_unknown(tmp_path: Path) -> None:
    write(tmp_path, "[relay]\noutbox_max = 2_000_000\n")
    assert "unknown key 'outbox_max'" in wrong("satellite", tmp_path).problem


def test_a_key_like_no_other_names_all(tmp_path: Path) -> None:
    write(tmp_path, "[relay]\nzzz = 5\n")
    problem = wrong("relay", tmp_path).problem
    assert all(key.name in problem for key in KEYS if "relay" in key.roles)


def test_an_unknown_table_names_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "[satelite]\nport = 1\n")
    error = wrong("relay", tmp_path)
    assert (error.where, error.problem) == (
        str(path),
        "unknown table or key 'satelite'; did you mean 'satellite'?",
    )


def test_a_key_outside_of_a_table(tmp_path: Path) -> None:
    write(tmp_path, "port = 2003\n")
    assert "unknown table or key 'port'" in wrong("relay", tmp_path).problem
    write(tmp_path, "relay = 'http://127.0.0.1:2003'\n")
    assert "expected a table [relay]" in wrong("relay", tmp_path).problem
    write(tmp_path, "plugin = 1\n")
    assert "expected a table [plugin]" in wrong("relay", tmp_path).problem


def test_an_unknown_variable_names_the_nearest(tmp_path: Path) -> None:
    error = wrong("relay", tmp_path, CO2_PROT="2003")
    assert (error.where, error.problem) == ("CO2_PROT", "unknown variable; did you mean 'CO2_PORT'?")


def test_variables_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    environ = {"PORT": "x", "CO2": "x", "co2_port": "x", "CO2_TEST_PATIENCE": "x", "CO2_DEBUG": "1"}
    assert load_config("relay", {}, environ, tmp_path).port == 2003


def test_a_plugins_table_goes_to_the_plugin_unchecked(tmp_path: Path) -> None:
    write(tmp_path, "[plugin.ham]\nanything = [1, {a = 2}]\n[plugin.eggs]\n")
    config = load_config("satellite", {}, {}, tmp_path)
    assert config.plugin_config == {"ham": {"anything": [1, {"a": 2}]}, "eggs": {}}


def test_maps_go_to_the_plugin_of_a_satellite_unchecked_and_not_to_a_relay(tmp_path: Path) -> None:
    path = write(tmp_path, '[[map]]\nfrom = "a"\nanything = 1\n[[map]]\n[plugin.ham]\na = 1\n')
    entries = {"ham": {"a": 1}, "map": {"map": [{"from": "a", "anything": 1}, {}]}}
    assert load_config("satellite", {}, {}, tmp_path).plugin_config == entries
    assert plugin_tables("satellite", path) == (entries, {})
    assert load_config("relay", {}, {}, tmp_path).plugin_config == {"ham": {"a": 1}}
    assert plugin_tables("relay", path) == ({"ham": {"a": 1}}, {})


@pytest.mark.parametrize(
    ("content", "where", "problem"),
    [
        ('[map]\nfrom = "a"\n', "map", "expected tables [[map]], found {'from': 'a'}"),
        ("map = [1]\n", "map", "expected tables [[map]], found [1]"),
        ("[[map]]\n[plugin.map]\n", "[plugin.map]", "the file has [[map]], too: remove one of them"),
        (
            "[[map]]\n[[map]]\nout = [0, 18446744073709551616]\n",
            "[[map]] entry 2 out",
            "found 18446744073709551616",
        ),
        ("[[maps]]\n", "", "unknown table or key 'maps'; did you mean 'map'?"),
    ],
)
def test_maps_are_tables_with_numbers_that_can_be_sent(
    content: str, where: str, problem: str, tmp_path: Path
) -> None:
    path = write(tmp_path, content)
    error = wrong("satellite", tmp_path)
    assert error.where == f"{path}: {where}".removesuffix(": ") and error.problem.startswith(problem)


@pytest.mark.parametrize("name", ["has-dash", "../ham", "a b", "\\u001b[2J", ""])
def test_a_plugins_table_has_a_name(name: str, tmp_path: Path) -> None:
    write(tmp_path, f'[plugin."{name}"]\na = 1\n')
    assert "package names consist of letters, digits and _" in wrong("satellite", tmp_path).problem


def test_a_plugins_table_is_a_table(tmp_path: Path) -> None:
    path = write(tmp_path, "[plugin]\nosc = 9000\n")
    error = wrong("satellite", tmp_path)
    assert (error.where, error.problem) == (f"{path}: plugin.osc", "expected a table [plugin.osc], found 9000")


@pytest.mark.parametrize("value", ["18446744073709551616", "[1, {b = -9223372036854775809}]", "9" * 5000])
def test_an_integer_of_a_plugins_table_has_64_bits(value: str, tmp_path: Path) -> None:
    write(tmp_path, f"[plugin.ham]\nlevels = {value}\n")
    assert re.search("integer of at most 64 bits|not TOML", wrong("satellite", tmp_path).problem)
    write(tmp_path, "[plugin.ham]\nlevels = [-9223372036854775808, 18446744073709551615]\n")
    assert load_config("relay", {}, {}, tmp_path).plugin_config["ham"]["levels"] == [-(2**63), 2**64 - 1]


def test_a_package_may_have_limits_of_its_own(tmp_path: Path) -> None:
    path = write(
        tmp_path, "[limits.ham]\nmemory = 512\ndeaths = 1\nenv = ['A']\n[limits.eggs]\n[plugin.ham]\na = 1\n"
    )
    config = load_config("satellite", {}, {}, tmp_path)
    assert config.plugin_limits == {"ham": {"memory": 512, "deaths": 1, "env": ("A",)}, "eggs": {}}
    assert plugin_tables("satellite", path) == ({"ham": {"a": 1}}, config.plugin_limits)
    assert plugin_tables("satellite", None) == ({}, {})


@pytest.mark.parametrize(
    ("content", "where", "problem"),
    [
        ("[limits.ham]\nmemroy = 1\n", "[limits.ham]", "unknown key 'memroy'; did you mean 'memory'?"),
        ("[limits.ham]\nmemory = -1\n", "[limits.ham] memory", "found -1, expected an integer from 0 to"),
        ("[limits]\nham = 1\n", "limits.ham", "expected a table [limits.ham], found 1"),
        ('[limits."a b"]\nmemory = 1\n', "[limits.'a b']", "package names consist of letters, digits and _"),
    ],
)
def test_bad_limits(content: str, where: str, problem: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    error = wrong("satellite", tmp_path)
    assert error.where == f"{path}: {where}"
    assert error.problem.startswith(problem)


# ---- the file ------------------------------------------------------------------------------------------


def test_one_file_serves_both_roles(tmp_path: Path) -> None:
    path = write(tmp_path, '[relay]\nport = 1\nmax_sats = 3\n[satellite]\nport = 2\nplugin_list = ["ham"]\n')
    relay, satellite = (load_config(role, {}, {}, tmp_path) for role in ("relay", "satellite"))
    assert isinstance(relay, RelayConfig)
    assert isinstance(satellite, SatelliteConfig)
    assert (relay.port, relay.max_sats, relay.plugin_list, relay.config_file) == (1, 3, None, path)
    assert (satellite.port, satellite.plugin_list, satellite.port_given) == (2, ("ham",), True)


def test_without_a_file_everything_has_a_default(tmp_path: Path) -> None:
    config = load_config("satellite", {}, {}, tmp_path)
    assert (config.port, config.port_given, config.config_file) == (2004, False, None)


def test_the_flag_or_the_variable_names_the_file(tmp_path: Path) -> None:
    write(tmp_path, "[relay]\nport = 1\n")
    for name, port in (("one.toml", 2), ("two.toml", 3)):
        (tmp_path / name).write_text(f"[relay]\nport = {port}\n")
    environ = {"CO2_CONFIG": "one.toml"}
    assert load_config("relay", {}, environ, tmp_path).port == 2
    assert load_config("relay", {"config": "two.toml"}, environ, tmp_path).port == 3


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    assert wrong("relay", tmp_path, {"config": "none.toml"}).where == str(tmp_path / "none.toml")
    assert "cannot be read" in wrong("relay", tmp_path, CO2_CONFIG="none.toml").problem
    assert wrong("relay", tmp_path, {"config": ""}).where == "--config"


def test_a_file_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "[relay]\nport = 1\n")
    path.chmod(0o666)
    error = wrong("relay", tmp_path)
    assert error.where == str(path)
    assert f"chmod o-w {path}" in error.problem
    path.chmod(0o664)
    assert load_config("relay", {}, {}, tmp_path).port == 1


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"[relay\n", "not TOML: .*line 1"),
        (b"[relay]\nport = 1\nport = 2\n", "not TOML: .*line 3"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff", "not TOML"),
        ("[relay]\nbind = '127.0.0.1'\n".encode("utf-16"), "not TOML"),
        (b"a = " + b"[" * 100_000, "not TOML"),
        (b"[relay]\nport = " + b"1" * 5000, "not TOML"),
        (b"#" * (MAX_SIZE + 1), f"larger than {MAX_SIZE} bytes"),
    ],
    ids=["syntax", "twice", "binary", "utf-16", "deep", "digits", "too large"],
)
def test_a_file_that_is_no_configuration(content: bytes, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "co2.toml").write_bytes(content)
    error = wrong("relay", tmp_path)
    assert error.where == str(tmp_path / "co2.toml")
    assert re.search(wanted, error.problem)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "co2.toml").mkdir()
    assert wrong("relay", tmp_path).problem == "cannot be read: Is a directory"
    (tmp_path / "co2.toml").rmdir()
    (tmp_path / "co2.toml").symlink_to(tmp_path / "co2.toml")
    assert "cannot be read" in wrong("relay", tmp_path, {"config": "co2.toml"}).problem


def test_a_file_that_there_cannot_be(tmp_path: Path) -> None:
    assert "cannot be read" in wrong("relay", tmp_path, {"config": "x" * 300}).problem
    assert "cannot be read" in wrong("relay", tmp_path / ("x" * 300)).problem


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "co2.toml")
    assert "not a regular file" in wrong("relay", tmp_path).problem


def test_a_file_that_we_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "")
    monkeypatch.setattr(Path, "read_bytes", denied)  # file modes do not keep root out
    assert "cannot be read: Permission denied" in wrong("relay", tmp_path).problem


def test_a_device_of_nothing_is_a_configuration_with_nothing_in_it(tmp_path: Path) -> None:
    assert load_config("relay", {"config": os.devnull}, {}, tmp_path).port == 2003
    write(tmp_path, "[relay]\nport = 1\n")
    assert load_config("relay", {}, {"CO2_CONFIG": os.devnull}, tmp_path).port == 2003


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/tty", "pipe"])
def test_another_device_is_refused_without_advice_that_breaks_the_machine(tmp_path: Path, device: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    problem = str(wrong("relay", tmp_path, {"config": device}))
    assert "not a regular file" in problem
    assert "chmod" not in problem
