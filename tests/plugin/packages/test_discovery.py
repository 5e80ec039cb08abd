"""Which packages there are: nothing is executed to find out."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from co2.errors import ConfigError
from co2.plugin.packages.discovery import RESERVED, bundled_packages, find_packages, stray_tables
from tests.plugin.support import write_package

BOMB = "raise SystemExit('executed')"


def config(folder: Path, *names: str, tables: dict[str, Any] | None = None) -> Any:
    return SimpleNamespace(
        plugin_dir=folder,
        plugin_list=names or None,
        plugin_config=tables or {},
        plugin_limits={"ham": {"memory": 99}},
        trusted_users=(),
        trusted_groups=(),
    )


def test_a_package_has_limits_of_its_own(tmp_path: Path) -> None:
    for name in ("ham", "eggs"):
        write_package(tmp_path, name)
    specs, _ = find_packages(config(tmp_path))
    assert {spec.name: spec.limits for spec in specs} == {"ham": {"memory": 99}, "eggs": {}}


def test_a_table_that_no_package_reads_is_told(tmp_path: Path) -> None:
    write_package(tmp_path, "ham")
    tables = {"ham": {}, "osc": {}, "throttel": {}, "nothing_like_it": {}}
    assert stray_tables(config(tmp_path, tables=tables)) == [
        "[plugin.throttel] is not used: there is no package 'throttel'; did you mean 'throttle'?",
        "[plugin.nothing_like_it] is not used: there is no package 'nothing_like_it'",
    ]
    assert stray_tables(config(tmp_path, tables={"ham": {}})) == []


def test_the_package_of_maps_is_loaded_where_there_are_maps(tmp_path: Path) -> None:
    write_package(tmp_path, "ham")
    entries = {"map": {"map": [{}]}}
    for tables, listed, wanted in (
        (entries, (), ["ham", "map"]),
        (entries, ("osc",), ["osc", "map"]),
        (entries, ("map", "osc"), ["map", "osc"]),
        ({"map": {}}, ("osc",), ["osc"]),
        ({}, (), ["ham"]),
    ):
        specs, _ = find_packages(config(tmp_path, *listed, tables=tables))
        assert [spec.name for spec in specs] == wanted
    specs, _ = find_packages(config(tmp_path, "ham", tables=entries), ["ham"])
    assert [spec.name for spec in specs] == ["ham"]


def test_packages_are_found_by_name_whatever_is_listed(tmp_path: Path) -> None:
    for name in ("ham", "eggs"):
        write_package(tmp_path, name)
    specs, problems = find_packages(config(tmp_path, "ham"), ["eggs", "osc", "spam"])
    assert [spec.name for spec in specs] == ["eggs", "osc"]
    assert [name for name, _ in problems] == ["spam"]


def test_every_package_of_the_folder_and_no_bundled_one(tmp_path: Path) -> None:
    for name in ("ham", "eggs", "_hidden", ".git"):
        write_package(tmp_path, name, init=BOMB)
    (tmp_path / "no_package").mkdir()
    (tmp_path / "file.py").write_text(BOMB)
    specs, problems = find_packages(config(tmp_path, tables={"ham": {"port": 1}}))
    assert [(spec.name, spec.folder, spec.config) for spec in specs] == [
        ("eggs", tmp_path, {}),
        ("ham", tmp_path, {"port": 1}),
    ]
    assert problems == []


def test_what_is_plainly_for_relays_is_left_out_unless_it_is_named(tmp_path: Path) -> None:
    relay = "from co2 import plugin\nclass X_A(plugin.Co2RelayPlugin):\n    pass\n"
    satellite = "from co2.plugin import Co2Plugin\nclass X_B(Co2Plugin):\n    pass\n"
    write_package(tmp_path, "for_relays", module=relay, helper="def f(): ...")
    write_package(tmp_path, "for_both", module=relay + satellite)
    write_package(tmp_path, "for_satellites", module=satellite)
    write_package(tmp_path, "broken", module=relay, other="def (")
    write_package(tmp_path, "unclear", module="from base import Base\nclass X_C(Base):\n    pass\n")
    (tmp_path / "single.py").write_text(relay)
    specs, problems = find_packages(config(tmp_path))
    assert [spec.name for spec in specs] == ["broken", "for_both", "for_satellites", "unclear"]
    assert problems == []
    specs, _ = find_packages(config(tmp_path, "single", "for_relays"))
    assert [spec.name for spec in specs] == ["single", "for_relays"]


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert find_packages(config(tmp_path / "plugins")) == ([], [])


def test_the_list_is_looked_up_in_the_folder_then_among_the_bundled(tmp_path: Path) -> None:
    write_package(tmp_path, "osc", init=BOMB)
    write_package(tmp_path, "other", init=BOMB)
    specs, problems = find_packages(config(tmp_path, "osc", "example", "osc"))
    assert [(spec.name, spec.folder) for spec in specs] == [("osc", tmp_path), ("example", None)]
    assert problems == []
    assert bundled_packages() == ["example", "map", "osc", "sysinfo", "throttle", "udp"]


def test_a_config_of_2003_is_read_and_never_executed(tmp_path: Path) -> None:
    for name in ("ham", "eggs"):
        write_package(tmp_path, name)
    (tmp_path / "config.py").write_text(f"plugin_list = ['ham']\n{BOMB}\n")
    (tmp_path / "config.py").chmod(0o600)
    assert [spec.name for spec in find_packages(config(tmp_path))[0]] == ["ham"]
    assert [spec.name for spec in find_packages(config(tmp_path, "eggs"))[0]] == ["eggs"]
    (tmp_path / "config.py").write_text("plugin_list = 1 +\n")
    with pytest.raises(ConfigError):
        find_packages(config(tmp_path))


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_names_are_not_loaded_and_it_says_why(tmp_path: Path, name: str) -> None:
    write_package(tmp_path, name, init=BOMB)
    specs, problems = find_packages(config(tmp_path))
    assert specs == []
    assert problems[0][0] == name
    assert f"{name!r} is reserved" in problems[0][1]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("exmaple", "did you mean 'example'"),
        ("../x", "letters"),
        ("nope", "there is no package 'nope'"),
        ("9a", "digit"),
    ],
)
def test_names_that_lead_nowhere_are_told(tmp_path: Path, name: str, problem: str) -> None:
    specs, problems = find_packages(config(tmp_path, name))
    assert specs == []
    assert problem in problems[0][1]


def test_a_name_in_other_letters_is_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS and Windows the folder ``ham`` is there as ``Ham`` too, but not for Python's import."""
    write_package(tmp_path, "ham")
    is_there = {name: getattr(Path, name) for name in ("exists", "is_dir")}
    for name, found in is_there.items():
        monkeypatch.setattr(Path, name, lambda path, found=found: found(path.with_name(path.name.lower())))
    specs, problems = find_packages(config(tmp_path, "Ham"))
    assert specs == []
    assert "did you mean 'ham'" in problems[0][1]


def test_a_folder_without_init_is_told(tmp_path: Path) -> None:
    (tmp_path / "ham").mkdir()
    assert "__init__.py" in find_packages(config(tmp_path, "ham"))[1][0][1]


@pytest.mark.parametrize("what", [".", "ham", "ham/__init__.py", "ham/spam.py"])
def test_what_everybody_may_write_is_not_loaded(tmp_path: Path, what: str) -> None:
    write_package(tmp_path, "ham", spam="")
    (tmp_path / what).chmod((tmp_path / what).stat().st_mode | 0o002)
    specs, problems = find_packages(config(tmp_path))
    assert specs == []
    assert "chmod o-w" in problems[0][1]
