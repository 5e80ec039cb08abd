"""What a package requires is read, not executed; what is missing is named with what to do."""

import asyncio
import shlex
import sys
from pathlib import Path

import pytest

from co2.plugin.packages import requirements
from co2.plugin.packages.requirements import RequirementsProblem, check_requirements, read_requirements
from tests.plugin.support import carrying, write_package


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("", ([], 0)),
        ("import os\nrequires = ('a', 'b>=2')\nraise SystemExit", (["a", "b>=2"], 2)),
        ("requires: tuple[str, ...] = ('a',)", (["a"], 1)),
        ("requires = ['a']", (["a"], 1)),
        ("requires = ()", ([], 1)),
        ("def f():\n    requires = ('a',)", ([], 0)),
        ("this is no python", ([], 0)),
        ("\0", ([], 0)),
    ],
)
def test_it_is_read_with_its_line(source: str, found: tuple[list[str], int]) -> None:
    assert read_requirements(source.encode()) == found


@pytest.mark.parametrize(
    "source",
    ["requires = 'a'", "requires = ('a')", "requires = (1,)", "requires = tuple(x)", "requires: tuple[str, ...]"],
)
def test_anything_but_a_tuple_of_text_is_refused(source: str) -> None:
    with pytest.raises(RequirementsProblem, match="must be a tuple of names"):
        read_requirements(source.encode())


def test_what_is_there_is_not_named() -> None:
    check_requirements(b"requires = ('msgspec>=0.18', 'Click', 'nope; python_version < \"3\"')")


def test_what_is_missing_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    source = b"\nrequires = ('msgspec', 'no-such-thing>=2', 'click<1')"
    with pytest.raises(RequirementsProblem) as caught:
        check_requirements(source)
    problem, line = caught.value.problem, caught.value.line
    assert line == 2
    assert "'no-such-thing>=2' (not installed), 'click<1' (found 8." in problem
    assert problem.endswith(f"{shlex.quote(sys.executable)} -m pip install 'no-such-thing>=2' 'click<1'")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert requirements.install_command(["x"]) == f"uv pip install --python {shlex.quote(sys.executable)} x"


def test_what_is_no_requirement_is_refused() -> None:
    with pytest.raises(RequirementsProblem, match="'numpy =! 3' in requires is not a valid requirement"):
        check_requirements(b"requires = ('numpy =! 3',)")


def test_nothing_of_the_package_runs_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        bomb = f"requires = ('no-such-thing',)\nopen({str(tmp_path / 'executed')!r}, 'w')"
        async with carrying([write_package(tmp_path, "ham", init=bomb, spam="import nope")]) as it:
            error = it.status("ham").last_error
            assert f"{tmp_path / 'ham' / '__init__.py'}:1: it requires 'no-such-thing' (not installed)" in error
            assert "-m pip install no-such-thing" in error
        assert not (tmp_path / "executed").exists()

    asyncio.run(scenario())
