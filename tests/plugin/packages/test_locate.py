"""Packages that are a single file, and packages that pip has installed."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from co2.plugin.packages.discovery import BUNDLED_FOLDER, find_packages
from co2.plugin.packages.entry_points import installed_packages
from co2.plugin.packages.loader import LoadFailure, find_plugins, import_package
from co2.plugin.packages.locate import place_of
from co2.plugin.packages.spec import PackageSpec
from tests.plugin.support import carrying, write_package

FADER = """
from co2 import plugin
class X_Fader(plugin.Co2Plugin):
    def x_name(self, data_dict):
        return str(self)
"""


def config(folder: Path, *names: str) -> Any:
    return SimpleNamespace(
        plugin_dir=folder,
        plugin_list=names or None,
        plugin_config={},
        plugin_limits={},
        trusted_users=(),
        trusted_groups=(),
        config_file=None,
    )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what pip has installed."""
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", str(place))
    return place


def install(site: Path, distribution: str, points: str) -> None:
    info = site / f"{distribution.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[co2.plugins]\n{points}\n")


@pytest.mark.parametrize("package", ["example", "map", "osc", "sysinfo", "throttle", "udp"])
def test_a_bundled_package_is_where_its_files_are(package: str) -> None:
    place = place_of(package, "")
    assert place.file.is_file()
    assert place.file == BUNDLED_FOLDER / package / "__init__.py"


def test_a_single_file_is_a_package_of_one_module_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "fader.py").write_text(FADER)
    (tmp_path / "helper.py").write_text("raise SystemExit  # no class that begins with X_\n")
    (tmp_path / "config.py").write_text("class X_No: pass\n")
    (tmp_path / "config.py").chmod(0o600)
    (tmp_path / "broken.py").write_text("class X_Broken(:\n")
    specs, problems = find_packages(config(tmp_path))
    assert [(spec.name, spec.folder) for spec in specs] == [("broken", tmp_path), ("fader", tmp_path)]
    assert problems == []

    async def scenario() -> None:
        async with carrying(specs) as it:
            assert [p.name for p in it.status("fader").plugins] == ["fader.fader.X_Fader"]
            assert await it.call("fader.fader.name") == "fader.fader.X_Fader"
            assert it.state("broken") == "failed"
            assert f"{tmp_path / 'broken.py'}:1" in it.status("broken").last_error

    asyncio.run(scenario())


def test_a_single_file_without_a_plugin_is_refused_when_it_is_listed(tmp_path: Path) -> None:
    (tmp_path / "helper_of_mine.py").write_text("")
    [spec] = find_packages(config(tmp_path, "helper_of_mine"))[0]
    module = import_package(spec.name, str(tmp_path))
    with pytest.raises(LoadFailure, match="no class X_") as caught:
        find_plugins(spec.name, module)
    assert caught.value.where == str(tmp_path / "helper_of_mine.py")


def test_a_folder_hides_a_file_and_a_bundled_package_and_it_says_so(tmp_path: Path) -> None:
    write_package(tmp_path, "fader", spam="")
    (tmp_path / "fader.py").write_text(FADER)
    (tmp_path / "osc.py").write_text(FADER)
    specs, _ = find_packages(config(tmp_path))
    assert [spec.name for spec in specs] == ["fader", "osc"]
    assert "fader.py have the same name, and only the first is loaded" in specs[0].note
    assert "instead of the package of the same name that comes with co2" in specs[1].note
    assert find_packages(config(tmp_path / "none", "osc"))[0][0].note == ""


def test_a_single_file_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fader.py").write_text(FADER)
    (tmp_path / "fader.py").chmod(0o666)
    [(name, problem)] = find_packages(config(tmp_path))[1]
    assert name == "fader"
    assert "every user may write to it" in problem


def test_what_pip_installed_is_found_by_its_entry_point(tmp_path: Path, site: Path) -> None:
    (site / "fader_plugin").mkdir()
    (site / "fader_plugin" / "__init__.py").write_text("")
    (site / "fader_plugin" / "spam.py").write_text(FADER)
    (site / "one_file.py").write_text(FADER)
    install(site, "co2-fader", "fader = fader_plugin\nsingle = one_file\nlost = nowhere_to_be_found")
    found = installed_packages()
    assert (found["fader"].module, found["fader"].distribution) == ("fader_plugin", "co2-fader 1.2")
    specs, problems = find_packages(config(tmp_path, "fader", "single", "lost"))
    assert problems == []
    assert specs[0] == PackageSpec("fader", None, module="fader_plugin")

    async def scenario() -> None:
        async with carrying(specs) as it:
            assert await it.call("fader.spam.name") == "fader.spam.X_Fader"
            assert await it.call("single.single.name") == "single.single.X_Fader"
            assert "'nowhere_to_be_found' cannot be found" in it.status("lost").last_error

    asyncio.run(scenario())


def test_folder_and_bundled_come_before_what_is_installed(tmp_path: Path, site: Path) -> None:
    install(site, "others", "osc = others\nham = others")
    write_package(tmp_path, "ham", spam=FADER)
    specs, _ = find_packages(config(tmp_path, "osc", "ham"))
    assert [(spec.folder, spec.module) for spec in specs] == [(None, ""), (tmp_path, "")]


def test_entry_points_that_lead_nowhere_are_told(tmp_path: Path, site: Path) -> None:
    install(site, "one", "fader = one\nobject = one:Plugin")
    install(site, "two", "fader = two")
    problems = dict(find_packages(config(tmp_path, "fader", "object", "fadr"))[1])
    assert "both provide it" in problems["fader"]
    assert "one 1.2" in problems["fader"]
    assert "should be the name of a package, found 'one:Plugin'" in problems["object"]
    assert "did you mean 'fader'?" in problems["fadr"]


def test_what_is_installed_is_not_looked_through_without_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: pytest.fail("looked"))
    write_package(tmp_path, "ham", spam=FADER)
    assert len(find_packages(config(tmp_path, "ham", "osc"))[0]) == 2
