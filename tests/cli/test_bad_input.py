"""Bad input: exit code 2, one error that says what is wrong and where, and nothing is started."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from co2.cli.main import COMMANDS, main

NOBODY = "http://127.0.0.1:9"
HOSTS = ("relay", "satellite")
ASKING = ("send", "watch", "ps", "call", "methods", "dead-letters", "plugin")
"""Commands that ask a host; which one, they are told as ``--relay`` or ``--url``."""

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command that must fail; gives what it says."""
    for name in [name for name in os.environ if name.startswith("CO2_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    for module in ("co2.relay.main.run", "co2.satellite.main.run", "co2.xmlrpc.simple_client.SimpleClient.call"):
        monkeypatch.setattr(module, started)

    def fails(*args: str, stdin: str = "") -> str:
        before = set(tmp_path.rglob("*"))
        code = main(args)
        found = capsys.readouterr()
        assert code == 2, found
        assert found.out == ""
        check_error(found.err)
        assert set(tmp_path.rglob("*")) == before, "no state folder, no log"
        return found.err

    yield fails


def started(*_: Any, **__: Any) -> None:
    raise AssertionError("something was started, or somebody was asked")


def check_error(text: str) -> None:
    """One error, which may have the usage before it, and no traceback."""
    lines = [line for line in text.splitlines() if line]
    errors = [line for line in lines if line.startswith(("co2: ", "Error: "))]
    assert len(errors) == 1, text
    assert errors[0] is lines[-1] and len(errors[0]) > 20, text
    assert all(re.match("Usage: co2|Try 'co2", line) for line in lines[:-1]), text
    assert "Traceback" not in text and 'File "' not in text


# ---- every command -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option(command: str, run: Run) -> None:
    assert "--prot" in run(command, "--prot", "1")


@pytest.mark.parametrize("command", ["relay", "satellite", "watch", "ps", "methods"])
def test_an_argument_that_nobody_takes(command: str, run: Run) -> None:
    assert "surplus" in run(command, "surplus")


@pytest.mark.parametrize("args", [["send"], ["call"]])
def test_an_argument_that_is_missing(args: Sequence[str], run: Run) -> None:
    assert "Missing argument" in run(*args)


def test_an_unknown_command_names_the_nearest(run: Run) -> None:
    assert "Did you mean 'relay'?" in run("rellay")
    assert "Commands: relay, satellite" in run("xyzzy")
    assert "--relay" in run("--relay", NOBODY, "ps")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[relay]\nport = 'x'\n", r"co2\.toml: \[relay\] port: found 'x', expected an integer from 0 to 65535"),
        ("[satellite]\nrelais = 1\n", r"co2\.toml: \[satellite\]: unknown key 'relais'; did you mean 'relay'"),
        ("[relay\n", r"co2\.toml: not TOML"),
    ],
    ids=["value", "key", "syntax"],
)
def test_a_bad_file_in_the_folder(command: str, content: str, said: str, run: Run) -> None:
    Path("co2.toml").write_text(content)
    assert re.search(said, run(*complete(command)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bad_variable(command: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CO2_PROT", "1")
    assert "CO2_PROT: unknown variable; did you mean 'CO2_PORT'?" in run(*complete(command))
    monkeypatch.delenv("CO2_PROT")
    monkeypatch.setenv("CO2_BIND", "nonsense")
    assert "CO2_BIND: found 'nonsense', expected an IP address" in run(*complete(command))


def complete(command: str) -> list[str]:
    """A command with the arguments that it must have."""
    more = {"send": ['{"data": 1}'], "call": ["ping"], "plugin": ["ls"], "forget": ["nobody"], "state": ["new-id"]}
    return [command, *more.get(command, [])]


# ---- every flag ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", HOSTS)
@pytest.mark.parametrize(
    ("flag", "value", "wanted"),
    [
        ("--bind", "nonsense", "an IP address"),
        ("--bind", "127.0.0.1:2003", "an IP address"),
        ("--port", "many", "an integer from 0 to 65535"),
        ("--port", "-1", "an integer from 0 to 65535"),
        ("--port", "65536", "an integer from 0 to 65535"),
        ("--state", "", "the path of a folder"),
        ("--plugin-dir", "", "the path of a folder"),
        ("--config", "", "the path of a file"),
    ],
)
def test_a_bad_value_of_a_hosts_flag(command: str, flag: str, value: str, wanted: str, run: Run) -> None:
    text = run(command, flag, value)
    assert f"co2: {flag}: " in text
    assert wanted in text


@pytest.mark.parametrize("command", HOSTS)
def test_a_file_that_is_not_there(command: str, run: Run) -> None:
    assert "none.toml: cannot be read: No such file" in run(command, "--config", "none.toml")


@pytest.mark.parametrize("url", ["", "127.0.0.1:2003", "https://127.0.0.1", "http://a b", "http://127.0.0.1:x"])
@pytest.mark.parametrize(
    ("command", "flag"),
    [("satellite", "--relay"), *((command, flag) for command in ASKING for flag in ("--relay", "--url"))],
)
def test_a_bad_url(command: str, flag: str, url: str, run: Run) -> None:
    text = run(*complete(command), flag, url)
    assert f"co2: {flag}: found {url!r}, expected a URL such as http://127.0.0.1:2003" in text


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_a_bad_count(value: str, run: Run) -> None:
    assert "'--count'" in run("watch", "--count", value)


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "1s", "inf", "1e10"])
@pytest.mark.parametrize("command", ["watch", "ps"])
def test_a_bad_timeout(command: str, value: str, run: Run) -> None:
    assert "'--timeout'" in run(command, "--timeout", value)


@pytest.mark.parametrize("value", ["", "the stage", "a.b"])
def test_a_bad_name(value: str, run: Run) -> None:
    text = run("call", "ping", "--host", value)
    assert "'--host'" in text
    assert "expected a name such as foyer-pi, or a host_id" in text


@pytest.mark.parametrize("value", ["a@localhost:1", "a@127.0.0.1", "@127.0.0.1:1", "a@127.0.0.1:70000"])
def test_a_bad_host_id(value: str, run: Run) -> None:
    text = run("call", "ping", "--host", value)
    assert "'--host'" in text
    assert "not a host_id" in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sysinof", "did you mean 'sysinfo'"),
        ("no_such", r"there is no package 'no_such' in .*, bundled with co2 \(example, map, osc,"),
        ("has-dash", "expected a list of package names"),
        ("../ham", "expected a list of package names"),
        ("relay", "reserved"),
    ],
)
def test_a_bad_plugin(name: str, said: str, run: Run) -> None:
    text = run("satellite", "--plugin", "example", "--plugin", name)
    assert "--plugin" in text
    assert re.search(said, text)


def test_a_list_of_2003_that_cannot_be_read(run: Run) -> None:
    Path("plugins").mkdir()
    Path("plugins/config.py").write_text("import os\nplugin_list = os.listdir('.')\n")
    text = run("satellite")
    assert "plugins/config.py:2: plugin_list must be written as a list of plain strings" in text


# ---- messages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["send"], ["call", "ham.spam.call_me"]], ids=["send", "call"])
@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("", "not JSON"),
        ("{data: 1}", "not JSON"),
        ('{"data": NaN}', "not JSON"),
        ('{"data": -Infinity}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1", "expected a dictionary with the key 'data'"),
        ('["data"]', "expected a dictionary with the key 'data'"),
        ("{}", "expected a dictionary with the key 'data'"),
        ('{"date": 1}', "expected a dictionary with the key 'data'"),
        ('{"data": 99999999999999999999999}', "cannot be sent: can't serialize ints"),
        ('{"data": "\\ud800"}', "cannot be sent: text that is not valid Unicode"),
        (f'{{"data": "{"x" * 720 * 1024}"}}', "720|737"),
    ],
)
def test_a_bad_message(args: Sequence[str], message: str, said: str, run: Run) -> None:
    text = run(*args, message)
    assert re.search(said, text)
    assert "MESSAGE" in text or "[ARGUMENT]" in text


# ---- as real processes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "stdin", "said"),
    [
        (["relay", "--port", "many"], "", "--port: found 'many', expected an integer from 0 to 65535"),
        (["satellite", "--plugin", "no_such"], "", "there is no package 'no_such'"),
        (["send", "-"], '\n{"data": 1\n', "standard input, line 2"),
        (["call", "ping", "[]"], "", "expected a dictionary with the key 'data'"),
        (["satellite", "--state", "x"], "", "unknown key 'prot'"),
    ],
    ids=["relay", "satellite", "send", "call", "file"],
)
def test_a_real_process(args: Sequence[str], stdin: str, said: str, tmp_path: Path) -> None:
    if "unknown key" in said:
        (tmp_path / "co2.toml").write_text("[relay]\nprot = 1\n")
    before = set(tmp_path.rglob("*"))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CO2_")}
    done = subprocess.run(
        [sys.executable, "-m", "co2", *args],
        cwd=tmp_path,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        env={**environ, "XDG_STATE_HOME": str(tmp_path / "xdg")},
    )
    assert (done.returncode, done.stdout) == (2, "")
    check_error(done.stderr)
    assert said in done.stderr
    assert set(tmp_path.rglob("*")) == before
