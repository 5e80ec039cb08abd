"""A package's own files: which they are, what their hash says, and that nothing else is taken for them."""

import sys
from pathlib import Path

from co2.plugin.packages.loader import code_of, import_package
from co2.plugin.packages.source import read_code, serve_code
from tests.plugin.support import write_package


def test_the_hash_is_of_paths_and_contents_and_of_nothing_else(tmp_path: Path) -> None:
    write_package(tmp_path, "ham", spam="x = 1", eggs="y = 2")
    place = tmp_path / "ham"
    first = read_code(place)
    assert sorted(first.sources) == ["__init__.py", "eggs.py", "spam.py"]
    for other in ("notes.txt", "data.json", "__pycache__/spam.cpython-311.pyc", ".git/hook.py"):
        (place / other).parent.mkdir(exist_ok=True)
        (place / other).write_text("other")
    assert read_code(place) == first
    (place / "spam.py").rename(place / "span.py")
    renamed = read_code(place)
    (place / "span.py").write_text((place / "span.py").read_text().replace("1", "3"))
    edited = read_code(place)
    (place / "part.so").write_bytes(b"\x7fELF")
    extended = read_code(place)
    assert len({code.digest for code in (first, renamed, edited, extended)}) == 4
    assert "part.so" not in extended.sources


def test_a_link_that_leads_back_is_followed_once(tmp_path: Path) -> None:
    write_package(tmp_path, "ham", spam="x = 1")
    (tmp_path / "ham" / "again").symlink_to(tmp_path / "ham")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "part.py").write_text("z = 3")
    (tmp_path / "ham" / "linked").symlink_to(tmp_path / "other")
    assert sorted(read_code(tmp_path / "ham").sources) == ["__init__.py", "linked/part.py", "spam.py"]


def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    write_package(tmp_path, "ham", spam="x = 1")
    (tmp_path / "ham" / "gone.py").symlink_to(tmp_path / "nowhere")
    assert sorted(read_code(tmp_path / "ham").sources) == ["__init__.py", "spam.py"]


def test_what_is_imported_later_is_as_old_as_the_rest(tmp_path: Path) -> None:
    write_package(tmp_path, "ham", init="def late():\n    from . import spam\n    return spam.x", spam="x = 1")
    module = import_package("ham", str(tmp_path))
    first = code_of("ham", str(tmp_path))
    (tmp_path / "ham" / "spam.py").write_text("x = 2")
    assert module.late() == 1
    (tmp_path / "ham" / "spam.py").unlink()
    write_package(tmp_path, "ham", init="from . import spam", spam="x = 3")
    assert import_package("ham", str(tmp_path)).spam.x == 3
    assert code_of("ham", str(tmp_path)) != first


def test_a_module_beside_the_package_is_compiled_anew(tmp_path: Path) -> None:
    import py_compile

    helper = tmp_path / "co2_test_helper.py"
    helper.write_text("N = 1")
    py_compile.compile(str(helper), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    helper.write_text("N = 2")
    write_package(tmp_path, "ham", init="import co2_test_helper\nN = co2_test_helper.N")
    assert import_package("ham", str(tmp_path)).N == 2


def test_source_and_files_of_the_package_are_to_be_had(tmp_path: Path) -> None:
    import inspect
    import pkgutil

    write_package(tmp_path, "ham", init="def f():\n    return 1")
    (tmp_path / "ham" / "data.txt").write_text("nih")
    module = import_package("ham", str(tmp_path))
    assert inspect.getsource(module.f) == "def f():\n    return 1\n"
    assert pkgutil.get_data("ham", "data.txt") == b"nih"


def test_only_the_newest_code_of_a_package_is_served(tmp_path: Path) -> None:
    write_package(tmp_path, "of_this_test", init="x = 1")  # others may have left something behind
    before = len(sys.meta_path)
    for _ in range(3):
        serve_code("of_this_test", tmp_path / "of_this_test")
    assert len(sys.meta_path) == before + 1
