"""``co2 plugin check``: everything that the loader would refuse, with its place, before it is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from co2.cli import main
from co2.plugin.packages import check as checking
from co2.plugin.packages.discovery import BUNDLED_FOLDER
from tests.plugin.support import write_package

GOOD = """
class X_Ham(plugin.Co2Plugin):
    channels = ("stage.*",)
    def receive(self, data_dict): ...
    def x_call_me(self, data_dict): ...
"""

TWINS = """class X_A(plugin.Co2Plugin):
    def x_f(self, data_dict): ...
class X_B(plugin.Co2Plugin):
    def x_f(self, data_dict): ...
"""
TYPED = """
import msgspec
class X_Ham(plugin.Co2Plugin):
    class Config(msgspec.Struct):
        port: int = 1
    def receive(self, data_dict): ...
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def check(tmp_path: Path, capsys: Any) -> Any:
    def checked(path: str = "ham", code: int = 1) -> list[dict[str, Any]]:
        assert main(["plugin", "check", path, "--json"]) == code
        rows = json.loads(capsys.readouterr().out)
        findings: list[dict[str, Any]] = [finding for row in rows for finding in row["findings"]]
        return findings

    return checked


def test_a_good_one_is_told_with_what_it_has(tmp_path: Path, capsys: Any) -> None:
    write_package(tmp_path, "ham", spam=GOOD)
    assert main(["plugin", "check", "ham"]) == 0
    assert capsys.readouterr().out == "ham: no problems: ham.spam.X_Ham, ham.spam.call_me\n"


def test_the_bundled_ones_are_good(check: Any) -> None:
    for name in ("example", "map", "osc", "sysinfo", "throttle", "udp"):
        assert check(str(BUNDLED_FOLDER / name), 0) == []


@pytest.mark.parametrize(
    ("code", "problem", "line"),
    [
        ("class X_Ham(plugin.Co2Plugin)\n    pass", "SyntaxError: expected ':'", 2),
        ("class Ham(plugin.Co2Plugin): ...", "it has no class X_", 0),
        ("import nope", "No module named 'nope'", 2),
        ("1 / 0", "ZeroDivisionError", 2),
        ("import os; os._exit(3)", "Python ended with exit status 3 during the import", 0),
        (TWINS, "X_A and X_B both have x_f", 5),
        ("class X_Ham(plugin.Co2Plugin):\n    def receive(self): ...", "expected receive(self, data_dict)", 3),
        ("class X_Ham(plugin.Co2Plugin):\n    def x_f(self, a: int, b): ...", "'b' has no annotation", 3),
        ("class X_Ham(plugin.Co2Plugin):\n    def left(self): ...", "expected left(self, host)", 3),
        (
            "class X_Ham(plugin.Co2Plugin):\n    def receive(self, d): ...\n    channels = ('a.>.b',)",
            "X_Ham.channels: ",
            4,
        ),
        (
            "class Base(plugin.Co2Plugin):\n    live: str = 'meter'\n"
            "class X_Ham(Base):\n    def receive(self, d): ...",
            "X_Ham.live: found the text 'meter'",
            3,
        ),
        ("class X_Ham(plugin.Co2Plugin):\n    def f(self): ...\n    durable = 1", "X_Ham.durable: ", 4),
        (
            "class X_Ham(plugin.Co2Plugin):\n    def __init__(self, var_dict):\n        self.x = 1",
            "does not call super().__init__",
            3,
        ),
        ("class X_Ham(plugin.Co2Plugin):\n    async def __init__(self, var_dict): ...", "is async", 3),
        ("class X_Ham(plugin.Co2Plugin):\n    Config = 3", "expected a msgspec.Struct or a dataclass", 0),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(
    tmp_path: Path, check: Any, code: str, problem: str, line: int
) -> None:
    write_package(tmp_path, "ham", spam=code)
    [finding] = check()
    assert problem in finding["problem"]
    assert finding["line"] == line
    if line:
        assert finding["file"] == str(tmp_path / "ham" / "spam.py")
    assert finding["fatal"] is True


def test_all_of_it_is_told_not_only_the_first(tmp_path: Path, check: Any) -> None:
    bad = "class X_Ham(plugin.Co2Plugin):\n    def receive(self): ...\n    def x_f(self): ...\n    live = 'meter'"
    write_package(tmp_path, "ham", spam=bad, eggs="import nope", good=GOOD)
    found = check()
    assert [finding["line"] for finding in found] == [2, 3, 4]
    assert 'requires = ("nope",)' in found[0]["mend"]
    assert "-m pip install nope" in found[0]["mend"]


def test_what_is_required_is_looked_for(tmp_path: Path, check: Any) -> None:
    write_package(tmp_path, "ham", init="\nrequires = ('no-such-thing',)", spam="import no_such_thing")
    [finding] = check()
    assert (finding["file"], finding["line"]) == (str(tmp_path / "ham" / "__init__.py"), 2)
    assert "-m pip install no-such-thing" in finding["problem"]


def test_what_is_missing_keeps_nobody_from_the_rest(tmp_path: Path, check: Any) -> None:
    init = "\nrequires = ('no-such-thing>=2', 'pyno')"
    bad = "class X_Bad(plugin.Co2Plugin):\n    def receive(self): ..."
    write_package(tmp_path, "ham", init=init, a="import no_such_thing", bad=bad, c="import no", good=GOOD)
    required, bad_one, other = check()
    assert (required["line"], bad_one["line"], other["line"]) == (2, 3, 2)
    assert "'no-such-thing>=2' (not installed), 'pyno' (not installed)" in required["problem"]
    assert "expected receive(self, data_dict)" in bad_one["problem"]
    assert "No module named 'no'" in other["problem"]
    assert other["mend"].startswith(
        "one of the package's requirements may provide it: install those first. Otherwise if it is"
    )


def test_where_the_package_itself_needs_what_is_missing_only_that_is_told(tmp_path: Path, check: Any) -> None:
    write_package(tmp_path, "ham", init="\nrequires = ('nope',)\nimport nope", spam=GOOD)
    [finding] = check()
    assert "nope" in finding["problem"]
    assert finding["line"] == 2


@pytest.mark.parametrize("name", ["relay", "json"])
def test_names_that_cannot_be_are_told(tmp_path: Path, check: Any, name: str) -> None:
    write_package(tmp_path, name, spam=GOOD)
    assert name in check(name)[0]["problem"]


def test_what_is_ignored_is_told_and_no_failure(tmp_path: Path, check: Any, capsys: Any) -> None:
    write_package(tmp_path, "ham", spam=GOOD + "\nclass X_No:\n    def f(self): ...")
    [finding] = check(code=0)
    assert (finding["fatal"], finding["line"]) == (False, 9)
    assert main(["plugin", "check", "ham"]) == 0
    assert "ignored: X_No does not inherit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "told", "line"),
    [
        (
            "class X_Ham(plugin.Co2Plugin):\n    def receive(self, d): ...\n    def relay(self, d): return d",
            "X_Ham.relay: never called, because X_Ham is a plugin for satellites",
            4,
        ),
        (
            "class Base(plugin.Co2Plugin):\n    async def relay(self, d): return d\nclass X_Ham(Base): ...",
            "X_Ham.relay: never called, because X_Ham is a plugin for satellites",
            3,
        ),
        (
            "class X_Ham(plugin.Co2RelayPlugin):\n    durable = True\n    def relay(self, d): return d",
            "X_Ham.durable: a relay plugin cannot be durable: messages that it misses are not repeated",
            3,
        ),
        (
            "class X_Ham(plugin.Co2RelayPlugin):\n    def relay(self, d): return d\n    live = ('meter.*',)",
            "X_Ham.live: messages of a relay plugin are never live",
            4,
        ),
    ],
)
def test_what_means_nothing_to_its_host_is_told_and_no_failure(
    tmp_path: Path, check: Any, capsys: Any, code: str, told: str, line: int
) -> None:
    write_package(tmp_path, "ham", spam=code)
    [finding] = check(code=0)
    assert finding["problem"] == told
    assert (finding["fatal"], finding["line"]) == (False, line)
    assert main(["plugin", "check", "ham"]) == 0
    assert f"spam.py:{line}: ignored: {told}\n    {finding['mend']}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "code",
    [
        "class X_Lamp(plugin.Co2Plugin):\n    def receive(self, d): self.relay(1)\n    def relay(self, on): ...",
        "class X_Lamp(plugin.Co2Plugin):\n    def receive(self, d): self.every(1, lambda: self.relay(1))\n"
        "    def relay(self, on): ...",
        "class X_Ham(plugin.Co2RelayPlugin):\n    channels = ('a',)\n    def relay(self, d): return d",
    ],
)
def test_a_relay_that_the_plugin_calls_itself_is_its_own_business(tmp_path: Path, check: Any, code: str) -> None:
    write_package(tmp_path, "ham", spam=code)
    assert check(code=0) == []


def test_one_that_hangs_is_told(tmp_path: Path, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "IMPORT_TIMEOUT", 0.5)
    write_package(tmp_path, "ham", spam="import time; time.sleep(60)")
    assert "hangs" in check()[0]["problem"]


def test_its_table_of_the_configuration_is_looked_at(tmp_path: Path, check: Any) -> None:
    write_package(tmp_path, "ham", spam=TYPED)
    assert check(code=0) == []
    (tmp_path / "co2.toml").write_text("[plugin.ham]\nprot = 1\n")
    [finding] = check()
    assert finding["problem"] == "unknown key; did you mean 'port'?"
    assert finding["file"] == f"{tmp_path / 'co2.toml'}: [plugin.ham] prot"


def test_its_configuration_is_in_no_command_line_where_other_users_could_read_it(
    tmp_path: Path, check: Any
) -> None:
    typed = f"import sys\nopen({str(tmp_path / 'typed')!r}, 'w').write(' '.join(sys.orig_argv))\n"
    write_package(tmp_path, "ham", init=typed, spam=GOOD)
    (tmp_path / "co2.toml").write_text('[plugin.ham]\npassword = "shrubbery"\n')
    assert check(code=0) == []
    assert "co2.plugin.packages.check" in (tmp_path / "typed").read_text()
    assert "shrubbery" not in (tmp_path / "typed").read_text()


def test_a_table_longer_than_a_command_line(tmp_path: Path, check: Any) -> None:
    write_package(tmp_path, "ham", spam=GOOD)
    (tmp_path / "co2.toml").write_text(f'[plugin.ham]\nnotes = "{"nih" * 100_000}"\n')
    assert check(code=0) == []


def test_what_others_have_put_into_its_folder_is_not_read(tmp_path: Path, check: Any) -> None:
    """Such as a virtual environment, with Python files that no Python can parse."""
    write_package(tmp_path, "ham", spam=GOOD)
    for folder in (".venv/lib", "node_modules/gyp", "lib/site-packages/old"):
        (tmp_path / "ham" / folder).mkdir(parents=True)
        (tmp_path / "ham" / folder / "old.py").write_text("print 'ni'\n")
    assert check(code=0) == []


def test_a_folder_of_packages_and_a_single_file(tmp_path: Path, capsys: Any) -> None:
    plugins = tmp_path / "plugins"
    write_package(plugins, "ham", spam=GOOD)
    write_package(plugins, "eggs", spam="class X_Eggs(plugin.Co2Plugin):\n    def receive(self): ...")
    (plugins / "fader.py").write_text("from co2 import plugin\n" + GOOD)
    assert main(["plugin", "check", "plugins"]) == 1
    told = capsys.readouterr().out
    assert f"{plugins / 'eggs' / 'spam.py'}:3: X_Eggs.receive has the wrong parameters" in told
    assert "eggs: 1 problem; it would not load" in told
    assert "fader: no problems: fader.fader.X_Ham, fader.fader.call_me" in told
    assert main(["plugin", "check", "plugins/fader.py"]) == 0
    assert main(["plugin", "check", "nowhere"]) == 2
