"""What is compiled is tested in Python too: the modules in BOTH run twice. What a test imports is forgotten."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from co2.plugin.child import receiver, send_queue, speedups

BOTH = ("test_api", "test_batches", "test_causes", "test_writer")

WITHOUT = "import sys\nsys.modules['co2.plugin.child._speedups'] = None\n"
"""Makes Python, when it starts, believe that there is no compiled module."""


@pytest.fixture(autouse=True)
def forget_imports(imports_undone: None) -> None:
    """Have every test here leave no package behind."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in BOTH:
        metafunc.fixturenames.append("loops")
        metafunc.parametrize("loops", ["compiled", "plain"], indirect=True)


@pytest.fixture
def loops(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Take the loops of ``speedups.py`` compiled or plain, in this process and in those that it starts."""
    if request.param == "plain":
        monkeypatch.setattr(send_queue, "make_fast_send", speedups._make_fast_send)
        monkeypatch.setattr(receiver, "give", speedups._give)
        folder: Path = tmp_path_factory.mktemp("plain")
        (folder / "sitecustomize.py").write_text(WITHOUT)
        monkeypatch.setenv("PYTHONPATH", str(folder))
    yield
