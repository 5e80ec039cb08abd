"""What looks meant for co2 and is not is told, with what to type; base classes and helpers are not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from co2.cli import main
from co2.plugin.packages.discovery import find_packages
from co2.plugin.packages.loader import LoadFailure, find_plugins, import_package
from tests.harness import running, wait_for
from tests.plugin.support import write_package

FADER = "from co2 import plugin\nclass Fader(plugin.Co2Plugin):\n    def receive(self, data_dict): ...\n"
INIT = "def __init__(self, v):\n        super().__init__(v)\n        "
GOOD = "class X_Good(plugin.Co2Plugin):\n    def receive(self, data_dict): ...\n"


def config(folder: Path, *names: str) -> Any:
    return SimpleNamespace(
        plugin_dir=folder,
        plugin_list=names or None,
        plugin_config={},
        plugin_limits={},
        trusted_users=(),
        trusted_groups=(),
    )


def warnings_of(folder: Path, **modules: str) -> list[str]:
    write_package(folder, "ham", None, **modules)
    warnings = find_plugins("ham", import_package("ham", str(folder)))[1]
    return [text.replace(f"{folder}/ham/", "") for text in warnings]


def test_a_file_whose_class_lacks_the_x_is_told(tmp_path: Path) -> None:
    (tmp_path / "fader.py").write_text(FADER)
    (tmp_path / "notes.py").write_text("from co2 import plugin\n")
    specs, problems = find_packages(config(tmp_path))
    assert specs == []
    assert problems == [
        (
            "fader",
            (
                "fader.py: Fader is a Co2Plugin whose name does not begin with X_, so it is not loaded; rename it "
                "to X_Fader"
            ),
        )
    ]
    assert find_packages(config(tmp_path, "example"))[1] == [], "where packages are listed it is nobody's business"


@pytest.mark.parametrize(
    "user",
    ["from fader import Fader\n", "import fader\n", "    from fader import Fader as F\n"],
)
def test_a_file_that_others_import_holds_base_classes(tmp_path: Path, user: str) -> None:
    (tmp_path / "fader.py").write_text(FADER)
    (tmp_path / "ham").mkdir()
    (tmp_path / "ham" / "__init__.py").write_text("")
    (tmp_path / "ham" / "spam.py").write_text(f"if True:\n{user}" if user.startswith(" ") else user)
    assert find_packages(config(tmp_path))[1] == []


@pytest.mark.parametrize(
    "code",
    [
        "class _Fader(plugin.Co2Plugin): ...",
        "class Fader(plugin.Co2Plugin, ABC): ...",
        "class Fader: ...",
        "class Base(plugin.Co2Plugin): ...\nclass X_Fader(Base): ...",
    ],
)
def test_what_is_not_meant_to_be_one_is_not_told(tmp_path: Path, code: str) -> None:
    (tmp_path / "fader.py").write_text(f"from abc import ABC\nfrom co2 import plugin\n{code}\n")
    assert find_packages(config(tmp_path))[1] == []


def test_a_folder_with_a_plugin_and_no_init_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "ham").mkdir()
    (tmp_path / "ham" / "helper.py").write_text("")
    (tmp_path / "ham" / "spam.py").write_text(f"from co2 import plugin\n{GOOD}")
    specs, problems = find_packages(config(tmp_path))
    assert not specs
    assert problems == [
        (
            "ham",
            "ham/spam.py has a plugin, X_Good, but the folder has no file __init__.py, so it is not loaded; make "
            "one (it may be empty)",
        )
    ]
    (tmp_path / "ham" / "__init__.py").touch()
    specs, problems = find_packages(config(tmp_path))
    assert ([spec.name for spec in specs], problems) == (["ham"], [])


@pytest.mark.parametrize(
    ("folder", "file", "code"),
    [
        ("ham", "spam.py", "class X_Ham: ..."),
        ("ham", "spam.py", "class X_Ham("),
        ("ham", "spam.py", "class Base(plugin.Co2Plugin): ..."),
        ("ham", "_spam.py", GOOD),
        ("ham", "test_spam.py", GOOD),
        ("ham", "conftest.py", GOOD),
        ("ham", "spam.txt", GOOD),
        ("tests", "spam.py", GOOD),
        ("_ham", "spam.py", GOOD),
        (".ham", "spam.py", GOOD),
        ("not-ham", "spam.py", GOOD),
    ],
)
def test_a_folder_that_is_not_meant_as_a_package_is_not_told(
    tmp_path: Path, folder: str, file: str, code: str
) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / file).write_text(f"from co2 import plugin\n{code}\n")
    assert find_packages(config(tmp_path)) == ([], [])


def test_a_folder_that_others_import_from_is_not_told(tmp_path: Path) -> None:
    write_package(tmp_path, "ham", spam=f"from common.base import X_Base\n{GOOD}")
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "base.py").write_text(
        "from co2 import plugin\nclass X_Base(plugin.Co2Plugin):\n    def receive(self, d): ...\n"
    )
    assert find_packages(config(tmp_path))[1] == []


def test_the_leaf_is_told_and_not_its_base(tmp_path: Path) -> None:
    code = "class Base(plugin.Co2Plugin): ...\nclass x_fader(Base): ..."
    (tmp_path / "fader.py").write_text(f"from co2 import plugin\n{code}\n")
    [(_, problem)] = find_packages(config(tmp_path))[1]
    assert (
        problem
        == "fader.py: x_fader is a Co2Plugin whose name does not begin with X_, so it is not loaded; rename it "
        "to X_fader"
    )


def test_in_a_package_it_is_told_beside_those_that_are_loaded(tmp_path: Path) -> None:
    base = "class Base(plugin.Co2Plugin): ...\nclass Alone(plugin.Co2Plugin):\n    def receive(self, d): ...\n"
    spam = f"from ham.base import Alone, Base\n{GOOD}class X_B(Base):\n    def receive(self, d): ...\n"
    told = (
        "base.py:4: Alone is a Co2Plugin whose name does not begin with X_, so it is not loaded; rename it to "
        "X_Alone"
    )
    assert warnings_of(tmp_path, base=base, spam=spam) == [told]


def test_a_package_with_nothing_else_is_refused_with_that(tmp_path: Path) -> None:
    write_package(tmp_path, "ham", spam="class Fader(plugin.Co2Plugin):\n    def receive(self, d): ...\n")
    module = import_package("ham", str(tmp_path))
    with pytest.raises(
        LoadFailure,
        match="Fader is a Co2Plugin whose name does not begin with X_, so it is not loaded; rename it to X_Fader",
    ) as caught:
        find_plugins("ham", module)
    assert caught.value.where == f"{tmp_path / 'ham' / 'spam.py'}:3"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("def recieve(self, data_dict): ...", "receive"),
        ("def Receive(self, data_dict): ...", "receive"),
        ("async def receives(self, data_dict): ...", "receive"),
        ("def X_go(self, data_dict): ...", "x_go"),
        ("def hand_over(self): ...", "handover"),
        ("def Left(self, host): ...", "left"),
    ],
)
def test_a_slip_is_told_with_what_was_meant(tmp_path: Path, written: str, meant: str) -> None:
    name = written.partition("(")[0].split()[-1]
    other = "" if meant == "receive" else "    def receive(self, data_dict): ...\n"
    code = f"class X_Rec(plugin.Co2Plugin):\n    {written}\n{other}"
    assert warnings_of(tmp_path, rec=code) == [f"rec.py:3: X_Rec.{name} is never called; did you mean {meant}?"]


@pytest.mark.parametrize(
    "code",
    [
        "def receive(self, d): self.recieve(d)\n    def recieve(self, d): ...",
        "def receive(self, d): ...\n    def received(self): ...",
        "def receive(self, d): ...\n    def map(self): ...\n    def leave(self): ...\n    def tap(self): ...",
        "def receive(self, d): ...\n    def x_go(self, d): self.X_go()\n    def X_go(self): ...",
    ],
)
def test_an_honest_method_is_not_taken_for_a_slip(tmp_path: Path, code: str) -> None:
    assert warnings_of(tmp_path, rec=f"class X_Rec(plugin.Co2Plugin):\n    {code}\n") == []


def test_one_that_does_nothing_is_told(tmp_path: Path) -> None:
    assert warnings_of(tmp_path, rec="class X_Rec(plugin.Co2Plugin):\n    def work(self): self.log('x')\n") == [
        "rec.py:3: X_Rec does nothing: it has no receive, no x_ method, and never sends"
    ]


@pytest.mark.parametrize(
    "body",
    [
        INIT + "self.every(1, self.tick)\n    def tick(self): ...",
        INIT + "register(self)",
        INIT + "register(self.work)\n    def work(self): ...",
        "def work(self): self.send({'data': 1})",
        "def joined(self, host): ...",
    ],
)
def test_one_that_may_do_something_is_not(tmp_path: Path, body: str) -> None:
    code = f"def register(it): ...\nclass X_Rec(plugin.Co2Plugin):\n    {body}\n"
    assert warnings_of(tmp_path, rec=code) == []


def test_the_bundled_plugins_and_those_that_new_writes_are_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in ("example", "map", "osc", "sysinfo", "throttle", "udp"):
        assert find_plugins(name, import_package(name, ""))[1] == []
    monkeypatch.chdir(tmp_path)
    assert main(["plugin", "new", "fader"]) == main(["plugin", "new", "limits", "--relay"]) == 0
    capsys.readouterr()
    assert main(["plugin", "check", "."]) == 0
    assert "ignored" not in capsys.readouterr().out


def test_people_are_told_by_satellite_ps_and_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "fader.py").write_text(FADER)
    write_package(plugins, "rec", rec="class X_Rec(plugin.Co2Plugin):\n    def recieve(self, data_dict): ...\n")
    unnamed = (
        "fader.py: Fader is a Co2Plugin whose name does not begin with X_, so it is not loaded; rename it to "
        "X_Fader"
    )
    slip = "rec.py:3: X_Rec.recieve is never called; did you mean receive?"
    with running(tmp_path, "satellite") as satellite, satellite.proxy() as proxy:
        for text in (unnamed, slip):
            wait_for(lambda text=text: text in satellite.stderr, text)
            assert text in satellite.log()
        rows = {row["name"]: row for row in proxy.co2.get_properties()["plugins"]}
        assert (rows["fader"]["state"], rows["fader"]["last_error"]) == ("failed", unnamed)
        assert rows["rec"]["state"] == "running"
        assert rows["rec"]["last_error"].endswith(slip)
        (plugins / "fader.py").write_text(FADER.replace("Fader", "X_Fader"))
        proxy.co2.plugin.load("fader")
        rows = {row["name"]: row for row in proxy.co2.get_properties()["plugins"]}
        assert rows["fader"]["state"] == "running"
    (plugins / "fader.py").write_text(FADER)
    monkeypatch.chdir(tmp_path)
    assert main(["plugin", "check", "plugins"]) == 1
    told = capsys.readouterr().out
    assert f"fader.py:3: it has no class X_…: {unnamed.partition(': ')[2]}" in told
    assert f"rec.py:3: ignored: {slip.partition(': ')[2]}" in told
