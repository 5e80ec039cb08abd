"""The reference pages that tools/write_reference.py writes are up to date, and leave nothing out."""

import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from co2 import plugin
from co2.cli.main import COMMANDS
from tests.test_public_names import OURS, members

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_reference", ROOT / "tools" / "write_reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["commands.md", "plugin-api.md"])
def test_the_pages_are_up_to_date(reference: ModuleType, name: str) -> None:
    path = ROOT / "docs" / "reference" / name
    assert path.read_text(encoding="utf-8") == reference.pages()[path], "run: make reference"


def commands(reference: ModuleType) -> Iterator[tuple[str, click.Command]]:
    for first in COMMANDS:
        yield from reference.tree(first, reference.load(first))


def test_every_command_and_every_option_has_its_place(reference: ModuleType) -> None:
    page = reference.commands_page()
    for name, command in commands(reference):
        section = page.partition(f"\n## co2 {name}\n")[2].partition("\n## ")[0]
        assert f"\n```\nco2 {name}" in section
        flags = [flag for option in command.params if isinstance(option, click.Option) for flag in option.opts]
        assert [flag for flag in flags if flag not in section] == []


def test_every_public_name_has_its_place(reference: ModuleType) -> None:
    page = reference.plugin_page()
    for name in plugin.__all__:
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        kind = getattr(plugin, name)
        if inspect.isclass(kind):
            public = members(kind) - OURS.get(name, set())
            inherited = {
                one for base in kind.__mro__[1:] if base.__module__.startswith("co2.") for one in members(base)
            }
            assert sorted(one for one in public - inherited if one not in section) == []
        elif inspect.isfunction(kind):
            assert [one for one in inspect.signature(kind).parameters if f"`{one}`" not in section] == []
            assert f"def {name}(" in section
        else:
            assert [one for one in kind.__all__ if f"`{one}`" not in section] == []


def test_what_is_left_out_is_not_for_authors(reference: ModuleType) -> None:
    for name, hidden in reference.NOT_FOR_AUTHORS.items():
        assert hidden - {"__init__"} == OURS.get(name, set())


def test_markup_in_a_help_text_stays_text(reference: ModuleType) -> None:
    assert reference.escaped("its __exit__ of <a|b>: *") == r"its \_\_exit\_\_ of \<a\|b>: \*"
    assert (
        reference.prose("As :meth:`call`, with ``stage.*`` or\n    ``<random>``.")
        == "As `call`, with `stage.*` or `<random>`."
    )
