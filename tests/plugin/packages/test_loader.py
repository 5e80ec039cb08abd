"""What loads, what is ignored, what is refused and how that is said."""

import re
import sys
from pathlib import Path

import pytest

from co2.plugin.packages.loader import FoundPlugin, LoadFailure, find_plugins, import_package, plugin_info
from tests.plugin.support import write_package

X_HAM = """
class X_Ham(plugin.Co2Plugin):
    def x_call_me(self, data_dict: dict) -> int:
        '''Call me.'''
"""

# What is refused stands here, apart from its tests, because `co2 plugin check` must find the same.

OTHER_ARGUMENTS = [
    ("def receive(self): ...", "receive(self, data_dict)"),
    ("def receive(self, a, b): ...", "receive(self, data_dict)"),
    ("receive = 3", "receive(self, data_dict)"),
    ("def __init__(self): ...", "__init__(self, var_dict)"),
    ("def x_it(self): ...", "x_it(self, data_dict)"),
    ("def x_it(self, a, *, b): ...", "x_it(self, data_dict)"),
    ("def __exit__(self, one): ...", "__exit__(self)"),
    ("send = 3", "send"),
]

WRONG_PACKAGES: list[tuple[dict[str, str], str, str]] = [
    ({"init": "__all__ = ['gone']", "spam": X_HAM}, "no gone.py in the package; its modules: spam", "__init__.py"),
    ({"init": "__all__ = 'spam'", "spam": X_HAM}, "must be a list of module names", "__init__.py"),
    ({"init": "1/0", "spam": X_HAM}, "ZeroDivisionError", "__init__.py:1"),
    ({"init": "raise SystemExit(3)", "spam": X_HAM}, "SystemExit: 3", "__init__.py:1"),
    ({"spam": "def f(:"}, "SyntaxError", "spam.py:2"),
    ({"spam": "x = 1"}, "no class X_", "ham"),
    ({}, "no class X_", "ham"),
    (
        {"init": f"from co2 import plugin\n{X_HAM}"},
        "X_Ham is in __init__.py and is ignored; move it to a module",
        "ham",
    ),
    (
        {"spam": "class X_Ham:\n    def receive(self, data_dict): ..."},
        "X_Ham does not inherit from plugin.Co2Plugin",
        "ham",
    ),
    (
        {"spam": X_HAM + "class X_Eggs(plugin.Co2Plugin):\n    def x_call_me(self, data_dict): ...\n"},
        "X_Ham and X_Eggs both have x_call_me",
        "spam.py:7",
    ),
    (
        {"spam": f"class X_{'a' * 600}(plugin.Co2Plugin): ..."},
        "its full name, with package and module, has 611 characters; the limit is 512",
        "spam.py",
    ),
    (
        {"spam": f"class X_Ham(plugin.Co2Plugin):\n    def x_{'a' * 120}(self, data_dict): ..."},
        "a method name has up to 128 characters, A-Z, a-z, 0-9, _ and dots, and this one has 129",
        "spam.py:3, class X_Ham",
    ),
    (
        {"käse": "class X_Ham(plugin.Co2Plugin):\n    def x_it(self, data_dict): ..."},
        "X_Ham.x_it could not be called: its full name, with package and module, is 'ham.käse.it'",
        "käse.py:3, class X_Ham",
    ),
]

WRONG_ATTRIBUTES = [
    ("channels = 'stage.>'", "X_Ham.channels: found the text 'stage.>', expected a tuple of patterns"),
    ("channels = {'stage.>'}", "X_Ham.channels: found set, expected a tuple of patterns"),
    ("channels = None", "X_Ham.channels: found NoneType, expected a tuple of patterns"),
    ("channels = (7,)", "X_Ham.channels: found 7, expected text"),
    ("channels = ('',)", "X_Ham.channels: a channel pattern has 1 to 256 bytes"),
    ("channels = ('a..b',)", "X_Ham.channels: not a channel pattern: 'a..b'"),
    ("channels = ('>.a',)", "X_Ham.channels: not a channel pattern: '>.a'"),
    ("channels = ('left*',)", "X_Ham.channels: 'left*': '*' and '>' must be whole tokens"),
    ("channels = ('\\ud800',)", "X_Ham.channels: '\\ud800' is not valid Unicode"),
    ("channels = ['a'] * 257", "X_Ham.channels: 257 patterns; the limit is 256"),
    ("live = 'meter.*'", "X_Ham.live: found the text 'meter.*'"),
    ("live = ('meter.>.x',)", "X_Ham.live: not a channel pattern"),
    ("durable = 1", "X_Ham.durable: found 1, expected True or False"),
    ("flush = 3", "a method flush"),
    ("def gap(self): ...", "expected gap(self, gap)"),
]


def load(folder: Path, **modules: str) -> tuple[list[FoundPlugin], list[str]]:
    write_package(folder, "ham", None, **modules)
    return find_plugins("ham", import_package("ham", str(folder)))


def refused(folder: Path, **modules: str) -> LoadFailure:
    with pytest.raises(LoadFailure) as caught:
        load(folder, **modules)
    return caught.value


def test_plugins_are_called_package_module_class(tmp_path: Path) -> None:
    found, warnings = load(
        tmp_path, spam=X_HAM, eggs="class X_Eggs(plugin.Co2Plugin):\n    def receive(self, d): ..."
    )
    assert [one.name for one in found] == ["ham.eggs.X_Eggs", "ham.spam.X_Ham"]
    assert found[1].methods == {"ham.spam.call_me": "x_call_me"}
    assert warnings == []


def test_all_selects_the_modules(tmp_path: Path) -> None:
    found, _ = load(tmp_path, init="__all__ = ['spam']", spam=X_HAM, other="raise SystemExit")
    assert [one.name for one in found] == ["ham.spam.X_Ham"]


def test_without_all_underscored_modules_are_left_out_and_folders_are_modules(tmp_path: Path) -> None:
    (tmp_path / "ham" / "deep").mkdir(parents=True)
    (tmp_path / "ham" / "deep" / "__init__.py").write_text("from co2 import plugin\n" + X_HAM)
    (tmp_path / "ham" / "no_module").mkdir()
    found, _ = load(tmp_path, _hidden="raise SystemExit")
    assert [one.name for one in found] == ["ham.deep.X_Ham"]


def test_only_classes_of_the_module_itself_load(tmp_path: Path) -> None:
    found, _ = load(tmp_path, base=X_HAM, spam="from .base import X_Ham\nclass X_Spam(X_Ham): ...\nX_Too = X_Spam")
    assert [one.name for one in found] == ["ham.base.X_Ham", "ham.spam.X_Spam"]
    assert set(found[1].methods) == {"ham.spam.call_me"}


def test_the_package_can_import_its_own_parts(tmp_path: Path) -> None:
    found, _ = load(
        tmp_path, spam="import ham.helper\nfrom .helper import X\nfrom ham import helper\n" + X_HAM, helper="X=1"
    )
    assert len(found) == 1


def test_a_plugin_folder_hides_no_installed_module(tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("raise SystemExit")
    load(tmp_path, spam="import colorsys\n" + X_HAM)
    assert sys.path[-1] == str(tmp_path)


def test_other_classes_are_ignored_and_x_classes_that_are_no_plugins_warned_about(tmp_path: Path) -> None:
    code = "class NotX(plugin.Co2Plugin): ...\nclass X_NoPlugin:\n    def f(self): ..."
    found, warnings = load(tmp_path, init="class X_Astray: ...", spam=X_HAM + code)
    assert [one.name for one in found] == ["ham.spam.X_Ham"]
    assert "X_Astray is in __init__.py" in warnings[0]
    assert "X_NoPlugin does not inherit from plugin.Co2Plugin" in warnings[1]
    assert "spam.py:8" in warnings[1]


def test_methods_may_be_static_class_and_decorated(tmp_path: Path) -> None:
    code = """
    import functools
    def twice(f):
        @functools.wraps(f)
        def wrapper(*args): return f(*args)
        return wrapper
    class X_Ham(plugin.Co2Plugin):
        x_number = 3
        @staticmethod
        def x_static(data_dict) -> str: ...
        @classmethod
        def x_class(cls, data_dict): ...
        @twice
        def x_decorated(self, data_dict): ...
        async def x_async(self, data_dict, more=None): ...
    """
    import textwrap

    found, _ = load(tmp_path, spam=textwrap.dedent(code))
    assert sorted(found[0].methods.values()) == ["x_async", "x_class", "x_decorated", "x_static"]
    info, methods = plugin_info(found[0], found[0].kind({}), [])
    assert (info.help, info.receives) == ("", False)
    assert next(m for m in methods if m.name == "ham.spam.static").signatures == [["string", "struct"]]


@pytest.mark.parametrize(
    ("method", "expected"),
    OTHER_ARGUMENTS,
)
def test_methods_that_take_other_arguments_are_refused(tmp_path: Path, method: str, expected: str) -> None:
    failure = refused(tmp_path, spam=f"class X_Ham(plugin.Co2Plugin):\n    {method}")
    assert f"expected {expected}" in failure.problem or f"a method {expected}" in failure.problem
    assert "X_Ham" in failure.problem
    assert "found" in failure.problem
    if "def" in method:
        assert "spam.py:3, class X_Ham" in failure.where


@pytest.mark.parametrize(
    ("modules", "problem", "where"),
    WRONG_PACKAGES,
)
def test_a_package_with_something_wrong_is_refused(
    tmp_path: Path, modules: dict[str, str], problem: str, where: str
) -> None:
    failure = refused(tmp_path, **modules)
    assert problem in failure.problem
    assert where in failure.where


def test_the_traceback_begins_in_the_package(tmp_path: Path) -> None:
    failure = refused(tmp_path, spam="import json\njson.loads('{')")
    assert "spam.py:3" in failure.where
    assert "importlib" not in failure.details
    assert "spam.py" in failure.details.splitlines()[1]
    assert "JSONDecodeError" in failure.details


@pytest.mark.parametrize("name", ["json", "msgspec", "logging"])
def test_a_package_called_as_a_module_that_is_needed_is_refused(tmp_path: Path, name: str) -> None:
    write_package(tmp_path, name, spam=X_HAM)
    with pytest.raises(LoadFailure, match="rename the package"):
        import_package(name, str(tmp_path))


def test_a_folder_without_init_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "ham").mkdir()
    with pytest.raises(LoadFailure, match=r"__init__\.py"):
        import_package("ham", str(tmp_path))


def test_bundled_packages_have_names_as_others() -> None:
    found, _ = find_plugins("example", import_package("example", ""))
    assert [one.name for one in found] == ["example.example.X_Example"]


def test_a_configuration_may_decide_which_channels_are_wanted(tmp_path: Path) -> None:
    code = """
class X_Ham(plugin.Co2Plugin):
    channels = ("never",)

    @classmethod
    def wanted_channels(cls, config):
        return config["hears"]
"""
    plain = "class X_Plain(plugin.Co2Plugin):\n    def wanted_channels(self, config): ..."
    [found, unbound], _ = load(tmp_path, spam=code + plain)
    assert found.channels({"hears": ["stage.*"]}) == ["stage.*"]
    with pytest.raises(LoadFailure, match=r"X_Plain\.wanted_channels: expected a classmethod"):
        unbound.channels({})
    for hears, told in (
        ("stage.>", "X_Ham.wanted_channels: found the text 'stage.>', expected a tuple of patterns"),
        (None, "X_Ham.wanted_channels: found NoneType"),
        (["a..b"], "X_Ham.wanted_channels: not a channel pattern: 'a..b'"),
    ):
        with pytest.raises(LoadFailure, match=re.escape(told)):
            found.channels({"hears": hears})


def test_channels_live_and_durable_are_read_from_the_class(tmp_path: Path) -> None:
    code = """class X_Ham(plugin.Co2Plugin):
    channels = ["stage.*", "lab.>"]
    live = ("meter.>",)
    durable = True
"""
    found, _ = load(tmp_path, spam=code + "class X_Plain(plugin.Co2Plugin): ...")
    infos = [plugin_info(one, one.kind({}), one.channels({}))[0] for one in found]
    assert [(info.channels, info.durable) for info in infos] == [(["stage.*", "lab.>"], True), ([], False)]


@pytest.mark.parametrize(
    ("line", "text"),
    WRONG_ATTRIBUTES,
)
def test_attributes_of_other_forms_are_refused(tmp_path: Path, line: str, text: str) -> None:
    failure = refused(tmp_path, spam=f"class X_Ham(plugin.Co2Plugin):\n    {line}\n    def receive(self, d): ...")
    assert text in failure.problem
    assert "spam.py" in failure.where
    assert "X_Ham" in failure.where
