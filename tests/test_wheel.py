"""What a wheel holds: all of co2, compiled where there is a C compiler; without one Python does the same."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.needs import needs

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
COMPILED = sorted(file.relative_to(SOURCE).with_suffix("") for file in SOURCE.rglob("*.c"))
HEADERS = Path(sysconfig.get_path("include"), "Python.h")
COMPILER = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]

LOADED = """
import co2
from co2.plugin.child import speedups
from co2.server.express import loop
print(co2.__file__, speedups.COMPILED, loop.AVAILABLE)
"""


def unpacked(folder: Path, **variables: str) -> Path:
    """Build a wheel of this checkout, and unpack it as an installer would."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(folder), str(ROOT)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    place = folder / "site"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(place)
    return place


def python(place: Path, *arguments: str) -> str:
    """Run Python with what was unpacked there, in place of this checkout."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


@pytest.mark.timeout(180)
def test_without_a_compiler_a_wheel_is_made_all_the_same_and_works(tmp_path: Path) -> None:
    place = unpacked(tmp_path, CC="false")
    assert not [*place.rglob("*.so")]
    assert python(place, "-c", LOADED).split() == [str(place / "co2" / "__init__.py"), "False", "False"]
    assert python(place, "-m", "co2", "--version")
    there = {file.relative_to(place) for file in place.rglob("*") if file.is_file()}
    ours = [
        file.relative_to(SOURCE)
        for file in (SOURCE / "co2").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.suffix not in (".c", ".so")
    ]
    assert {*ours} <= there, "pages and types as well as code"


@pytest.mark.timeout(180)
@needs(HEADERS.exists() and shutil.which(COMPILER), "a C compiler, and Python's headers")
def test_with_a_compiler_a_wheel_holds_what_was_compiled(tmp_path: Path) -> None:
    place = unpacked(tmp_path)
    for module in COMPILED:
        assert [*place.glob(f"{module}.*.so")], module
    assert not [*place.rglob("*.c")]
    loaded = python(place, "-c", LOADED).split()
    assert loaded == [str(place / "co2" / "__init__.py"), "True", str(sys.platform == "linux")]
