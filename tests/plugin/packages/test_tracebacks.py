"""What a caller is told of an error: what happened, where, and what helps."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from co2.errors import OutboxFull, ValueRefused
from co2.plugin.child import actor
from co2.plugin.packages.tracebacks import MAX_ERROR_LINE, error_line, files_of, place_in
from co2.values import pack


def test_the_advice_at_the_end_of_an_error_is_told() -> None:
    why = (
        "the messages that wait at the satellite have reached outbox_max, 1073741824 bytes; the relay at "
        "http://192.168.111.222:2003 has been away since 12:34:56 (connection refused)"
    )
    error = OutboxFull(5.0, why)
    assert error_line(error) == f"OutboxFull: {error}"
    assert error_line(error).endswith("in co2.toml set the limits")


def test_a_long_error_is_cut_between_two_words() -> None:
    words = [f"word{number}" for number in range(1000)]
    line = error_line(ValueError(" ".join(words)))
    assert MAX_ERROR_LINE - 10 < len(line) <= MAX_ERROR_LINE
    assert line.endswith("…")
    assert line.removesuffix("…").split()[-1] in words


@pytest.mark.parametrize("text", ["x" * 10_000, "few words and then " + "x" * 10_000])
def test_an_error_without_words_is_cut_where_it_must_be(text: str) -> None:
    line = error_line(ValueError(text))
    assert len(line) == MAX_ERROR_LINE
    assert line.endswith("x…")


def test_only_the_first_line_and_the_type_where_there_is_none() -> None:
    assert error_line(ValueError("not this one\nand more")) == "ValueError: not this one"
    assert error_line(ValueError()) == "ValueError"


def test_an_error_in_a_file_of_co2_is_at_the_place_that_called_it() -> None:
    with pytest.raises(ValueRefused) as caught:
        pack({"data": object()})
    place = place_in(Path("/"), caught.value, but=actor._CO2)
    assert place.startswith(f"{__file__}:")


Call = Callable[[str], object]
"""Imports a module by its full name and calls its function ``call``."""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Packages ``tracebacks_ham``, of several modules, and ``tracebacks_egg``, of one file."""
    files = {
        "tracebacks_ham/__init__.py": "",
        "tracebacks_ham/spam.py": "from tracebacks_ham.deep import helper\n\ncall = helper.call\n",
        "tracebacks_ham/other.py": "import tracebacks_egg\n\n\ndef call():\n    tracebacks_egg.call()\n",
        "tracebacks_ham/deep/__init__.py": "",
        "tracebacks_ham/deep/helper.py": "import json\n\n\ndef call():\n    json.loads('{')\n",
        "tracebacks_egg.py": "def call():\n    1 / 0\n",
    }
    for name, source in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda module: importlib.import_module(module).call()


@pytest.mark.parametrize(
    ("module", "place"),
    [
        ("tracebacks_ham.spam", "tracebacks_ham/deep/helper.py:5"),
        ("tracebacks_ham.other", "tracebacks_ham/other.py:5"),
        ("tracebacks_ham.deep.helper", "tracebacks_ham/deep/helper.py:5"),
        ("tracebacks_egg", "tracebacks_egg.py:2"),
    ],
)
def test_an_error_is_at_the_innermost_line_of_the_package_whichever_of_its_modules_has_it(
    call: Call, tmp_path: Path, module: str, place: str
) -> None:
    with pytest.raises((ValueError, ZeroDivisionError)) as caught:
        call(module)
    assert place_in(files_of(module), caught.value) == f"{tmp_path / place}"


def test_the_files_of_a_bundled_package_are_its_own_and_not_those_of_all() -> None:
    import co2.plugins.osc.packets as packets

    folder = Path(packets.__file__).parent
    assert files_of("co2.plugins.osc.packets") == files_of("co2.plugins.osc") == folder
    assert (folder.name, folder.parent.name) == ("osc", "plugins")
