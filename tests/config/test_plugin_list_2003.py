"""The config.py of 2003: its plugin_list is read, nothing in it is executed."""

import errno
import os
from pathlib import Path

import pytest

from co2.config import read_plugin_list_2003
from co2.config.plugin_list_2003 import MAX_SIZE
from co2.errors import ConfigError


def read(folder: Path, code: str | bytes) -> list[str] | None:
    path = folder / "config.py"
    path.write_bytes(code.encode() if isinstance(code, str) else code)
    return read_plugin_list_2003(path)


def wrong(folder: Path, code: str | bytes) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        read(folder, code)
    assert str(error.value).startswith(str(folder / "config.py"))
    assert len(str(error.value)) < 600
    return error.value


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("plugin_list = ['ham', 'eggs']", ["ham", "eggs"]),
        ('plugin_list = ("ham",)', ["ham"]),
        ("plugin_list: list[str] = ['ham']", ["ham"]),
        ("plugin_list = []", []),
        ("a = plugin_list = ['ham']", ["ham"]),
        ("plugin_list = [\n  'ham',  # mine\n  'eg' 'gs',\n]\n", ["ham", "eggs"]),
        ("plugin_list = ['ham']\nplugin_list = ['eggs']", ["eggs"]),
        ("plugin_list = ['ham', 'ham']", ["ham", "ham"]),
        ("# -*- coding: latin-1 -*-\nplugin_list = ['h\xe4m']".encode("latin-1"), ["häm"]),
        ("\ufeffplugin_list = ['ham']\r\n", ["ham"]),
    ],
)
def test_a_list_of_names(code: str | bytes, expected: list[str], tmp_path: Path) -> None:
    assert read(tmp_path, code) == expected


@pytest.mark.parametrize(
    "code",
    [
        "",
        "# nothing",
        "plugins = ['ham']",
        "if True:\n    plugin_list = ['ham']",
        "plugin_list: list[str]",
        "def plugin_list(): pass",
        "self.plugin_list = ['ham']",
    ],
)
def test_a_file_without_a_list(code: str, tmp_path: Path) -> None:
    assert read(tmp_path, code) is None


def test_no_file_at_all(tmp_path: Path) -> None:
    assert read_plugin_list_2003(tmp_path / "config.py") is None
    (tmp_path / "config.py").mkdir()
    assert read_plugin_list_2003(tmp_path / "config.py") is None


@pytest.mark.parametrize(
    "value",
    [
        "['ham', 1]",
        "[b'ham']",
        "['ham', None]",
        "'ham'",
        "{'ham'}",
        "[name]",
        "['ham'] + ['eggs']",
        "None",
        "[...]",
        "os.listdir('.')",
        "list('ham')",
        "[n for n in 'ham']",
        "[f'{1}']",
        "[*others]",
        "[['ham']]",
    ],
)
def test_what_is_not_plain_is_refused_with_its_line(value: str, tmp_path: Path) -> None:
    error = wrong(tmp_path, f"import os\n\nplugin_list = {value}\n")
    assert error.where == f"{tmp_path / 'config.py'}:3"
    assert "must be written as a list of plain strings" in error.problem
    assert "not executed" in error.problem


def test_a_list_that_grows_later_is_refused(tmp_path: Path) -> None:
    error = wrong(tmp_path, "plugin_list = ['ham']\nplugin_list += ['eggs']\n")
    assert error.where.endswith("config.py:2"), "half of the plugins must not be missing silently"


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("plugin_list = ['ham'\nx = (\n", 1),
        ("import os\nplugin_list = ['ham', 'eggs\n", 2),
        ("a = 1\n  b = 2\n", 2),
        ("a = 1\n\nprint 'of 2003'\n", 3),
    ],
)
def test_what_is_not_python_is_told_with_its_line(code: str, line: int, tmp_path: Path) -> None:
    error = wrong(tmp_path, code)
    assert error.where == f"{tmp_path / 'config.py'}:{line}"
    assert error.problem.startswith("not Python: ")


@pytest.mark.parametrize(
    "code",
    [
        b"\x00",
        b"\x89PNG\r\n\xff",
        b"plugin_list = ['\xff']",
        b"# coding: none-such\n",
        b"x = " + b"(" * 50000,
        b"plugin_list = " + b"-" * 100000 + b"1",
    ],
    ids=["null", "binary", "not utf-8", "coding", "deep", "deeper"],
)
def test_what_is_no_text_is_refused(code: bytes, tmp_path: Path) -> None:
    assert "not Python" in wrong(tmp_path, code).problem


def test_a_warning_of_the_parser_is_nobodys_affair(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    assert read(tmp_path, "x = '\\d'\ny = 1 is 1\nplugin_list = ['ham']\n") == ["ham"]
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    start = "plugin_list = ['ham']\n"
    assert read(tmp_path, start + "#" * (MAX_SIZE - len(start))) == ["ham"]
    assert wrong(tmp_path, start + "#" * (MAX_SIZE - len(start) + 1)).problem == f"larger than {MAX_SIZE} bytes"


def test_nothing_is_executed(tmp_path: Path) -> None:
    code = f"""
import pathlib
pathlib.Path({str(tmp_path / "made")!r}).write_text("executed")
print("executed")
class Side:
    pathlib.Path({str(tmp_path / "made")!r}).touch()
plugin_list = ['ham']
raise SystemExit(7)
"""
    assert read(tmp_path, code) == ["ham"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.py"], "no bytecode either"


def test_a_file_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("plugin_list = ['ham']")
    path.chmod(0o646)
    with pytest.raises(ConfigError, match=r"every user may write to it.*chmod o-w"):
        read_plugin_list_2003(path)


def test_a_file_that_we_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.py"
    path.write_text("plugin_list = ['ham']")

    def denied(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)  # file modes do not keep root out
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        read_plugin_list_2003(path)
