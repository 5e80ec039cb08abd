"""``co2 plugin check`` says the same as the loader of what the loader refuses, and refuses nothing else."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from co2.plugin.child.progress import MAX_PLUGINS
from co2.plugin.packages.check import Finding, check_package
from co2.plugin.packages.discovery import find_packages
from co2.plugin.packages.loader import LoadFailure, find_plugins, import_package
from tests.plugin.packages import test_loader as loader
from tests.plugin.support import carrying, write_package

pytestmark = pytest.mark.usefixtures("imports_undone")

HAM = "class X_Ham(plugin.Co2Plugin):\n    "
GOOD = f"{HAM}def receive(self, data_dict): ...\n"
TYPED = f"import msgspec\n{HAM}class Config(msgspec.Struct):\n        port: int\n"

REFUSED_BY_LOADER = [
    *(({"spam": HAM + method}, method) for method, _ in loader.OTHER_ARGUMENTS),
    *((modules, problem) for modules, problem, _ in loader.WRONG_PACKAGES),
    *(({"spam": f"{HAM}{line}\n    def receive(self, d): ..."}, line) for line, _ in loader.WRONG_ATTRIBUTES),
    ({"spam": "import json\njson.loads('{')"}, "an error elsewhere"),
    ({"spam": "import nope"}, "a module that is not there"),
    ({"spam": f"{HAM}def x_it(self, level: float, more): ..."}, "half annotated"),
    ({"spam": f"{HAM}def x_it(self, level: float, more: 'Nowhere'): ..."}, "an annotation that leads nowhere"),
    ({"spam": f"{HAM}def x_it(self, *levels: float): ..."}, "no names"),
    ({"init": "requires = ('no-such-thing',)", "spam": GOOD}, "what is required"),
    ({"init": "requires = 'click'", "spam": GOOD}, "requires as text"),
    ({"init": "requires = ('numpy =! 3',)", "spam": GOOD}, "no requirement"),
    ({"spam": "\n".join(f"class X_{n}(plugin.Co2Plugin): ..." for n in range(MAX_PLUGINS + 1))}, "too many"),
]


def same(problem: str, place: str, findings: list[Finding]) -> bool:
    """Whether one of the findings is this problem, in this place."""
    return any(
        finding.fatal
        and (finding.problem in problem or problem in finding.problem)
        and place.startswith(f"{finding.file}:{finding.line}" if finding.line else finding.file)
        for finding in findings
    )


@pytest.mark.parametrize("modules", [pytest.param(modules, id=what) for modules, what in REFUSED_BY_LOADER])
def test_what_the_loader_refuses_is_found(tmp_path: Path, modules: dict[str, str]) -> None:
    write_package(tmp_path, "ham", None, **modules)
    with pytest.raises(LoadFailure) as refused:
        find_plugins("ham", import_package("ham", str(tmp_path)))
    findings, _ = check_package(tmp_path / "ham")
    assert same(refused.value.problem, refused.value.where, findings), (vars(refused.value), findings)


def a_class(code: str) -> Callable[[Path], Any]:
    return lambda place: write_package(place.parent, place.name, spam=code)


def open_to_all(place: Path) -> None:
    a_class(GOOD)(place)
    (place / "spam.py").chmod(0o666)


def without_init(place: Path) -> None:
    place.mkdir()
    (place / "spam.py").write_text(GOOD)


REFUSED_BY_SATELLITE = {
    "relay": a_class(GOOD),
    "json": a_class(GOOD),
    "nine-tails": a_class(GOOD),
    "open": open_to_all,
    "without_init": without_init,
    "no_super": a_class(f"{HAM}def __init__(self, var_dict):\n        self.x = 1"),
    "async_init": a_class(f"{HAM}async def __init__(self, var_dict):\n        super().__init__(var_dict)"),
    "no_config": a_class(f"{HAM}Config = 3"),
    "misses_a_key": a_class(TYPED),
    "wrong_key": a_class(TYPED),
    "dies": a_class("import os\nos._exit(3)"),
    "single": lambda place: place.with_suffix(".py").write_text("from co2 import plugin\n" + HAM + "send = 3"),
}
"""Packages that more than the loader refuses: whoever looks for them, makes their plugins, reads their table."""

TABLES = {"wrong_key": {"port": "80"}}

SAYS = {
    "dies": ("exit status 3", "Python ended with exit status 3"),
    "async_init": ("__init__", "X_Ham.__init__ is async"),
    "no_super": ("does not call super", "does not call super().__init__"),
}
"""Where the words differ: those of the satellite, those of the check."""


def test_what_a_satellite_refuses_is_found(tmp_path: Path) -> None:
    for name, write in REFUSED_BY_SATELLITE.items():
        write(tmp_path / name)
    config = SimpleNamespace(
        plugin_dir=tmp_path,
        plugin_list=tuple(REFUSED_BY_SATELLITE),
        plugin_config=TABLES,
        plugin_limits={},
        trusted_users=(),
        trusted_groups=(),
    )
    specs, problems = find_packages(config)  # type: ignore[arg-type]
    refused = dict(problems)

    async def load_them() -> None:
        async with carrying(specs) as it:
            for spec in specs:
                await it.until(lambda spec=spec: it.state(spec.name) != "starting", spec.name)
                refused[spec.name] = it.status(spec.name).last_error
                assert it.state(spec.name) in ("failed", "restarting"), spec.name

    asyncio.run(load_them())
    assert set(refused) == set(REFUSED_BY_SATELLITE)
    for name, problem in refused.items():
        path = tmp_path / name
        findings, _ = check_package(path if path.exists() else path.with_suffix(".py"), TABLES.get(name, {}))
        there, here = SAYS.get(name, ("", ""))
        assert there in problem
        told = [finding.problem for finding in findings if finding.fatal]
        assert any(text in problem for text in told) or (here and any(here in text for text in told)), (
            name,
            problem,
            told,
        )


@pytest.mark.parametrize(
    "modules",
    [
        {"spam": GOOD},
        {"init": "__all__ = ['spam']", "spam": GOOD, "other": "raise SystemExit"},
        {"_hidden": "raise SystemExit", "spam": GOOD},
        {"spam": GOOD, "deep_in": "import os\n", "no_super": "class X_No:\n    def __init__(self, a): ..."},
        {"init": "__all__ = ['spam']", "spam": GOOD, "broken": "def f(:"},
        {
            "init": "from co2 import plugin\nclass X_Here(plugin.Co2Plugin):\n    def __init__(self): ...",
            "spam": GOOD,
        },
        {"init": "requires = ('msgspec',)", "spam": GOOD + "class X_NoPlugin:\n    def f(self): ..."},
    ],
    ids=lambda modules: re.sub(r"\W+", " ", str(modules))[:40],
)
def test_what_the_loader_takes_is_not_refused(tmp_path: Path, modules: dict[str, str]) -> None:
    write_package(tmp_path, "ham", None, **modules)
    found, _ = find_plugins("ham", import_package("ham", str(tmp_path)))
    findings, names = check_package(tmp_path / "ham")
    assert [finding for finding in findings if finding.fatal] == []
    assert [one.name for one in found] == names[:1]


def test_a_folder_that_everybody_may_write_is_found(tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    write_package(plugins, "ham", spam=GOOD)
    plugins.chmod(0o777)
    config = SimpleNamespace(
        plugin_dir=plugins,
        plugin_list=None,
        plugin_config={},
        plugin_limits={},
        trusted_users=(),
        trusted_groups=(),
    )
    [(name, problem)] = find_packages(config)[1]  # type: ignore[arg-type]
    findings, _ = check_package(plugins / "ham")
    assert (name, problem) == ("ham", findings[0].problem)
