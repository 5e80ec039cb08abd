"""Load, unload and reload: who may, what is tried again and what is not, and what callers are told."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from co2.errors import BadParams, ConfigError, Denied, LoadError, NotLoadable
from co2.plugin.packages.locate import place_of
from co2.plugin.packages.source import read_code
from co2.plugin.packages.spec import PackageSpec
from co2.plugin.parent.status import PackageStatus
from co2.server.admin.plugin_control import (
    MAX_LINES,
    Found,
    PluginControl,
    package_row,
    warn_of_those_that_do_not_run,
)
from co2.xmlrpc.registry import Caller, Registry
from tests.plugin.support import write_package

HERE = Caller("127.0.0.1", 1)
METHODS = ("load", "unload", "reload", "get_log")


class Carrying:
    """A supervisor that loads whatever it is given, unless its code says ``broken``."""

    def __init__(self) -> None:
        self.packages: dict[str, tuple[PackageSpec, PackageStatus]] = {}
        self.done: list[str] = []

    def status(self) -> list[PackageStatus]:
        return [status for _, status in self.packages.values()]

    def spec(self, name: str) -> PackageSpec | None:
        return self.packages[name][0] if name in self.packages else None

    def _load(self, spec: PackageSpec, what: str) -> None:
        self.done.append(f"{what} {spec.name}")
        code = read_code(place_of(spec.name, str(spec.folder)).path)
        if any(b"broken" in source for source in code.sources.values()):
            raise LoadError(spec.name, "its code is broken")
        self.packages[spec.name] = (spec, PackageStatus(name=spec.name, state="running", load=1, code=code.digest))

    async def load(self, spec: PackageSpec) -> None:
        self._load(spec, "load")

    async def reload(self, spec: PackageSpec, *, fresh: bool) -> None:
        self._load(spec, "reload fresh" if fresh else "reload")

    async def unload(self, name: str, exit_timeout: float) -> None:
        self.done.append(f"unload {name} {exit_timeout:g}")
        if self.packages.pop(name, None) is None:
            raise LoadError(name, "it is not loaded")

    def keep(self, name: str) -> None:
        self.done.append(f"keep {name}")

    def log(self, name: str, after: int, maximum: int) -> list[dict[str, Any]] | None:
        return [{"after": after, "max": maximum}] if name in self.packages else None

    def take_done(self) -> list[str]:
        done, self.done = self.done, []
        return done


class Control:
    """The control of a folder with the packages ham and spam, which the configuration lists."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listed = ["ham", "spam"]
        self.config: dict[str, Any] = {}
        self.error = ""
        for name in self.listed:
            self.write(name)
        self.carrying = Carrying()
        self.not_found = [("ham", "was not there"), ("eggs", "is not there")]
        self.registry = Registry()
        self.control = PluginControl(self.carrying, self._find, 3.0, self.not_found)  # type: ignore[arg-type]
        self.control.add_methods(self.registry)

    def write(self, name: str, code: str = "good") -> None:
        write_package(self.folder, name, code=f"TEXT = {code!r}")

    def _find(self, names: Sequence[str] | None) -> Found:
        if self.error:
            raise ConfigError("co2.toml", self.error)
        specs, problems = [], []
        for name in self.listed if names is None else names:
            if (self.folder / name).is_dir():
                specs.append(PackageSpec(name, self.folder, self.config))
            else:
                problems.append((name, f"plugin package {name!r}: there is none"))
        return specs, problems

    def call(self, method: str, *params: Any, caller: Caller = HERE) -> Any:
        return asyncio.run(self.registry.dispatch(f"co2.plugin.{method}", list(params), caller))

    def reload_changed(self) -> list[str]:
        asyncio.run(self.control.reload_changed())
        return self.carrying.take_done()


@pytest.fixture
def it(tmp_path: Path) -> Control:
    return Control(tmp_path)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "caller",
    [
        Caller("10.0.0.7", 1),
        Caller("127.0.0.1", 1, relayed=True),
        Caller("127.0.0.1", 1, proxied=True),
    ],
)
def test_only_the_hosts_own_machine_may(it: Control, method: str, caller: Caller) -> None:
    with pytest.raises(Denied, match="allowed only from the host's own machine"):
        it.call(method, "ham", caller=caller)
    assert it.carrying.done == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("params", [(), ("ham", "spam"), (7,), ("",), ({},), ({"package": 7},), ("x" * 65,)])
def test_what_names_no_package_is_refused(it: Control, method: str, params: tuple[Any, ...]) -> None:
    with pytest.raises(BadParams):
        it.call(method, *params)
    assert it.carrying.done == []


@pytest.mark.parametrize("argument", ["ham", {"package": "ham"}, {"data": "ham"}])
def test_a_package_is_loaded_reloaded_and_unloaded(it: Control, argument: Any) -> None:
    row = it.call("load", argument)
    assert (row["name"], row["state"], row["load"], row["pid"], row["last_error_age"]) == (
        "ham",
        "running",
        1,
        0,
        0.0,
    )
    assert it.not_found == [("eggs", "is not there")], "it has been found since"
    assert it.call("reload", argument)["name"] == "ham"
    assert it.call("unload", argument) is True
    assert it.carrying.done == ["load ham", "reload ham", "unload ham 3"]


def test_fresh_code_gets_no_handover(it: Control) -> None:
    it.call("reload", {"package": "ham", "fresh": True})
    it.call("reload", {"package": "ham", "fresh": False})
    assert it.carrying.done == ["reload fresh ham", "reload ham"]
    with pytest.raises(BadParams, match="fresh"):
        it.call("reload", {"package": "ham", "fresh": 1})


def test_why_nothing_is_loaded_or_unloaded_is_said(it: Control) -> None:
    with pytest.raises(NotLoadable, match="'eggs': there is none"):
        it.call("load", "eggs")
    it.write("ham", "broken")
    for method in ("load", "reload"):
        with pytest.raises(NotLoadable, match="its code is broken"):
            it.call(method, "ham")
    with pytest.raises(NotLoadable, match="it is not loaded"):
        it.call("unload", "ham")
    it.error = "a key that is none"
    with pytest.raises(NotLoadable, match="a key that is none"):
        it.call("load", "spam")
    assert it.not_found[0] == ("ham", "was not there")


def test_lines_of_a_log_are_limited(it: Control) -> None:
    it.call("load", "ham")
    assert it.call("get_log", "ham") == [{"after": 0, "max": 100}]
    for most in (1, MAX_LINES):
        assert it.call("get_log", {"package": "ham", "after": 7, "max": most}) == [{"after": 7, "max": most}]
    for wrong in ({"after": -1}, {"max": 0}, {"max": MAX_LINES + 1}):
        with pytest.raises(BadParams):
            it.call("get_log", {"package": "ham", **wrong})
    with pytest.raises(NotLoadable, match="'spam': it is not loaded"):
        it.call("get_log", "spam")


def test_what_has_changed_is_reloaded_and_nothing_else(it: Control) -> None:
    assert it.reload_changed() == ["load ham", "load spam"]
    assert it.reload_changed() == []
    it.write("ham", "better")
    assert it.reload_changed() == ["reload ham"]
    it.config = {"port": 7}
    assert it.reload_changed() == ["reload ham", "reload spam"]
    assert it.reload_changed() == []


def test_code_that_fails_is_tried_once_and_again_when_it_is_edited(it: Control) -> None:
    it.reload_changed()
    it.write("ham", "broken")
    assert it.reload_changed() == ["reload ham"]
    assert it.reload_changed() == []
    it.write("ham", "still broken")
    assert it.reload_changed() == ["reload ham"]
    it.write("ham")
    assert it.reload_changed() == ["keep ham"], "the edit was undone"
    assert it.reload_changed() == []
    it.write("ham", "still broken")
    assert it.reload_changed() == ["reload ham"]


def test_a_package_that_fails_at_its_first_load_is_tried_once_and_again_when_it_is_edited(it: Control) -> None:
    it.write("ham", "broken")
    assert it.reload_changed() == ["load ham", "load spam"]
    assert it.reload_changed() == []
    it.write("ham")
    assert it.reload_changed() == ["load ham"]


def test_what_was_unloaded_comes_back_only_when_it_is_asked_for(it: Control) -> None:
    it.reload_changed()
    it.call("unload", "ham")
    it.write("ham", "better")
    assert it.reload_changed() == ["unload ham 3"]
    it.call("load", "ham")
    it.write("ham", "even better")
    assert it.reload_changed() == ["load ham", "reload ham"]


def test_one_that_was_loaded_by_name_is_reloaded_too(it: Control) -> None:
    it.listed.remove("ham")
    it.call("load", "ham")
    it.write("ham", "better")
    assert it.reload_changed() == ["load ham", "load spam", "reload ham"]


def test_load_or_reload_does_what_is_to_be_done(it: Control) -> None:
    for _ in range(2):
        asyncio.run(it.control.load_or_reload("ham"))
    assert it.carrying.done == ["load ham", "reload ham"]


def test_with_a_wrong_configuration_nothing_is_reloaded_and_that_is_logged(
    it: Control, caplog: pytest.LogCaptureFixture
) -> None:
    it.error = "a key that is none"
    assert it.reload_changed() == []
    assert "nothing is reloaded: co2.toml: a key that is none" in caplog.text


def test_who_is_elsewhere_reads_no_traceback() -> None:
    row = PackageStatus(
        name="ham", state="failed", last_error="ValueError: no\n/home/me/plugins/ham/spam.py:3", last_error_age=2.5
    )
    assert package_row(row)["last_error"] == row.last_error
    assert "/home/me" not in package_row(row, here=False)["last_error"]
    assert package_row(row, here=False)["last_error_age"] == 2.5


def test_before_a_host_is_ready_it_says_which_packages_do_not_run_and_what_to_type(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "co2.plugins"):
        warn_of_those_that_do_not_run(
            [
                PackageStatus(name="ham", state="failed"),
                PackageStatus(name="spam", state="parked", load=3),
                PackageStatus(name="eggs", state="running", load=1),
            ],
            2004,
        )
    assert [record.getMessage() for record in caplog.records] == [
        "plugin package ham does not run (failed); fix it, then: co2 plugin load ham --url http://127.0.0.1:2004",
        "plugin package spam does not run (parked); fix it, then: co2 plugin reload spam --url http://127.0.0.1:2004",
    ]
