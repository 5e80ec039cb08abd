"""``co2 plugin new``: write a plugin package to start from, with a test and a README, that pip can install."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from co2.cli.arguments import json_option
from co2.cli.failures import EXIT_FAILED
from co2.cli.output import print_json

__all__ = ["files_of", "new"]


class PackageName(click.ParamType[str]):
    """A name that a new package can have."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name; fail if a package cannot have it."""
        from co2.plugin.packages.discovery import name_problem

        problem = name_problem(value)
        if value.startswith("_"):
            problem = "names that begin with _ are not loaded"
        if value in sys.stdlib_module_names or value == "tests":
            problem = f"{value!r} is already the name of another module that Python can import"
        if problem:
            self.fail(problem, param, ctx)
        return value


@click.command()
@click.argument("name", metavar="NAME", type=PackageName())
@click.option("--relay", "for_relay", is_flag=True, help="Write a relay plugin.")
@json_option
def new(name: str, for_relay: bool, as_json: bool) -> int:
    """Write a new plugin package to the folder NAME, with a test and a README. The test passes unchanged.

    \b
    Examples:
      cd plugins && co2 plugin new fader && cd fader && pytest
      co2 plugin new limits --relay
    """
    folder = Path(name)
    if folder.exists():
        click.echo(f"co2: {folder} already exists; choose another name, or remove it", err=True)
        return EXIT_FAILED
    files = files_of(name, for_relay=for_relay)
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    if as_json:
        print_json({"package": name, "files": [str(folder / path) for path in files]})
        return 0
    for path in files:
        click.echo(f"wrote {folder / path}")
    for line in _test_commands(name):
        click.echo(line)
    click.echo(f"run it:  co2 {'relay' if for_relay else 'satellite'} --plugin-dir . --plugin {name}")
    return 0


def _test_commands(name: str) -> Iterator[str]:
    """Yield lines with the commands that run the new test with this Python."""
    import importlib.util
    import shutil

    from co2.plugin.packages.requirements import install_command

    if importlib.util.find_spec("pytest") is None:
        yield f"install pytest, which the test needs:  {install_command(['pytest'])}"
    found = shutil.which("pytest")
    ours = found is not None and Path(found).parent == Path(sys.executable).parent
    yield f"test it:  cd {name} && {'pytest' if ours else f'{shlex.quote(sys.executable)} -m pytest'}"


def files_of(name: str, *, for_relay: bool = False) -> dict[str, str]:
    """Return the text of each file of a new package, by path.

    Args:
        name: of the package.
        for_relay: whether its plugin is a relay plugin.
    """
    module, test, readme, what = _MODULE, _TEST, _README, _WHAT
    if for_relay:
        from co2.cli.relay_template import MODULE, README, TEST, WHAT

        module, test, readme, what = MODULE, TEST, README, WHAT
    kind = "X_" + "".join(part.capitalize() for part in name.split("_"))
    distribution = f"co2-{name.lower().replace('_', '-')}"

    def filled(text: str) -> str:
        return text.replace("@DIST@", distribution).replace("@KIND@", kind).replace("@NAME@", name).lstrip()

    return {
        "__init__.py": filled(_INIT),
        f"{name}.py": filled(module),
        f"tests/test_{name}.py": filled(test),
        "README.md": filled(readme),
        "pyproject.toml": filled(_PYPROJECT.replace("@WHAT@", what)),
    }


_WHAT = "A co2 plugin that keeps a level between 0 and 1."

_INIT = '''
"""The plugin package @NAME@."""

# The libraries that it needs besides co2, with their names for pip, such as ("numpy>=2",). co2 reads this line
# before it imports the package, and does not load the package if one of them is missing.
requires = ()
'''

_MODULE = '''
"""Keeps a level between 0 and 1, and sends a message when it changes."""

from typing import Any

import msgspec

from co2 import plugin


class Config(msgspec.Struct):
    """The keys of the table [plugin.@NAME@] in co2.toml, with their types and defaults."""

    channel: str = "@NAME@"


class @KIND@(plugin.Co2Plugin):
    """Keeps a level between 0 and 1."""

    Config = Config
    config: Config

    def __init__(self, var_dict: dict[str, Any]) -> None:
        super().__init__(var_dict)
        self.level = 0.0

    def receive(self, data_dict: dict[str, Any]) -> None:
        """Set the level to the data of a message on our channel with .set behind it."""
        if data_dict.get("channel") == f"{self.config.channel}.set":
            self.x_set(data_dict["data"])

    def x_set(self, level: float) -> float:
        """Set the level, and return it; a value below 0 or above 1 is replaced by that limit."""
        level = min(1.0, max(0.0, level))
        if level != self.level:
            self.level = level
            self.send({"channel": self.config.channel, "data": level})
        return self.level
'''

_TEST = '''
"""Tests of the plugin. The fixtures come with co2: co2_net is a network in memory, co2_network a real one."""

import subprocess
import sys
from pathlib import Path

import pytest

from co2.testing import assert_received
from @NAME@.@NAME@ import @KIND@

PACKAGE = Path(__file__).parents[1]


@pytest.mark.parametrize(("given", "level"), [(0.5, 0.5), (7, 1.0), (-7, 0.0)])
def test_the_level_stays_between_0_and_1(co2_net, given, level):
    co2_net.satellite(@KIND@)
    assert co2_net.call("@NAME@.@NAME@.set", {"level": given}) == level


def test_a_change_of_the_level_is_sent_once(co2_net):
    satellite = co2_net.satellite(@KIND@)
    co2_net.send({"channel": "@NAME@.set", "data": 0.5})
    co2_net.send({"channel": "@NAME@.set", "data": 0.5})
    co2_net.send({"channel": "something.else", "data": 0.7})
    assert satellite.sent == [{"channel": "@NAME@", "data": 0.5}]


def test_the_channel_can_be_configured(co2_net):
    co2_net.satellite(@KIND@, config={"channel": "stage"})
    co2_net.send({"channel": "stage.set", "data": 1})
    assert_received(co2_net, channel="stage", data=1.0)


def test_it_works_in_real_hosts(co2_network):
    co2_network.satellite(PACKAGE)
    co2_network.send({"channel": "@NAME@.set", "data": 0.5})
    assert_received(co2_network, channel="@NAME@", data=0.5)


def test_co2_finds_no_problems():
    command = [sys.executable, "-m", "co2", "plugin", "check", str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
'''

_README = """
# @NAME@

A co2 plugin that keeps a level between 0 and 1, and sends a message when it changes.

To test it:

```
python3 -m pip install pytest     # only if pytest is not installed
pytest
co2 plugin check .
```

To run it, type each line in its own terminal, in this folder. `--plugin-dir` names the folder that contains the
package.

```
co2 relay
co2 satellite --plugin-dir .. --plugin @NAME@
co2 watch
co2 call @NAME@.@NAME@.set '{"data": {"level": 0.5}}'
```

You can also install it on any machine that has co2. A satellite there finds it by its name:

```
pip install .
co2 satellite --plugin @NAME@
```

It sends on the channel `@NAME@`, and receives on `@NAME@.set`. To use another channel, write in `co2.toml`:

```toml
[plugin.@NAME@]
channel = "stage.@NAME@"
```
"""

_PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "@DIST@"
version = "0.1.0"
description = "@WHAT@"
readme = "README.md"
requires-python = ">=3.11"
# co2 itself is not listed: the plugin is installed into the environment of the co2 that loads it.
dependencies = []

[project.optional-dependencies]
test = ["pytest"]

# co2 finds an installed plugin package by this entry: its name, and the module that Python imports.
[project.entry-points."co2.plugins"]
@NAME@ = "@NAME@"

# The package is this folder, not a folder in it.
[tool.hatch.build.targets.wheel]
include = ["*"]
exclude = ["tests", "pyproject.toml", "README.md", ".*", "dist", "build"]

[tool.hatch.build.targets.wheel.sources]
"" = "@NAME@"

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = [".."]
"""
