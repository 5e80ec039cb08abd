"""The watch of the plugin folder: which files count, and that a change is told once, with events or without."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import watchfiles

from co2.server.admin import file_watch
from co2.server.admin.file_watch import PluginWatch, signature


def write(path: Path, text: str = "x = 1\n") -> None:
    """Write a file at once: a look in the middle of it would see two changes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plugin folder with the package ham."""
    write(tmp_path / "plugins/ham/__init__.py")
    write(tmp_path / "plugins/ham/deep/spam.py")
    return tmp_path / "plugins"


@pytest.mark.parametrize(
    "file", ["ham/new.py", "ham/deep/new.py", "ham/new.so", "ham/new.pyd", "eggs.py", "eggs/__init__.py"]
)
def test_code_that_is_new_changed_or_gone_counts(folder: Path, file: str) -> None:
    seen = [signature(folder)]
    write(folder / file)
    seen.append(signature(folder))
    write(folder / file, "x = 22\n")
    seen.append(signature(folder))
    os.utime(folder / file, ns=(1, 1))
    seen.append(signature(folder))
    assert len(set(seen)) == 4
    assert signature(folder) == seen[-1]
    (folder / file).unlink()
    assert signature(folder) == seen[0]


@pytest.mark.parametrize(
    "file",
    [
        "data.txt", "_private.py", ".hidden.py", "_eggs/__init__.py", ".eggs/__init__.py", "no_package/spam.py",
        "ham/data.txt", "ham/spam.pyc", "ham/__pycache__/spam.py", "ham/.venv/spam.py", "ham/site-packages/a.py",
        "ham/deep/node_modules/a.py",
    ],
)  # fmt: skip
def test_what_is_no_code_of_a_package_does_not_count(folder: Path, file: str) -> None:
    before = signature(folder)
    write(folder / file)
    assert signature(folder) == before


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_counts(folder: Path) -> None:
    file = folder / "ham/__init__.py"
    before, stat = signature(folder), file.stat()
    write(folder / "new.txt")
    os.utime(folder / "new.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (folder / "new.txt").replace(file)
    assert signature(folder) != before


def test_files_besides_count_whether_they_are_there_or_not(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "co2.toml"
    before = signature(folder, config)
    write(config)
    assert signature(folder, config) != before
    assert signature(tmp_path / "no folder", config) == signature(tmp_path / "none either", config) != frozenset()


class Watched:
    """A watch, and how often it has told of a change."""

    def __init__(self, folder: Path, *also: Path) -> None:
        self.told = 0
        self.fails = False
        self.watch = PluginWatch(folder, self._changed, *also)

    async def _changed(self) -> None:
        self.told += 1
        if self.fails:
            raise ValueError("ours")

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    @contextlib.asynccontextmanager
    async def running(self, caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
        with caplog.at_level("INFO", "co2.plugins"):
            task = asyncio.create_task(self.watch.run())
            try:
                await self.until(lambda: "watching" in caplog.text)
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])


@pytest.fixture(params=["events", "no events"])
def often(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Look often, with events of the system or where there are none."""
    monkeypatch.setattr(file_watch, "LOOK_INTERVAL", 0.02)
    if request.param == "no events":

        async def none(*_: object, **__: object) -> AsyncIterator[None]:
            raise OSError("no inotify here")
            yield

        monkeypatch.setattr(watchfiles, "awatch", none)
    return str(request.param)


def test_each_change_is_told_and_nothing_else(
    folder: Path, tmp_path: Path, often: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        config = tmp_path / "co2.toml"
        watched = Watched(folder, config)
        async with watched.running(caplog):
            write(folder / "ham/spam.py")
            await watched.until(lambda: watched.told == 1)
            write(folder / "data.txt")
            write(config)
            await watched.until(lambda: watched.told == 2)
        assert watched.told == 2
        assert ("no file events for" in caplog.text) == (often == "no events")

    asyncio.run(test())


def test_an_error_of_the_one_who_is_told_is_logged_and_the_next_change_is_told(
    folder: Path, often: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        watched = Watched(folder)
        watched.fails = True
        async with watched.running(caplog):
            for told in (1, 2):
                write(folder / f"ham/new{told}.py")
                await watched.until(lambda told=told: watched.told == told)
        assert caplog.text.count("could not be loaded") == 2

    asyncio.run(test())


def test_a_folder_that_comes_goes_and_comes_again_is_watched(
    tmp_path: Path, often: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        folder = tmp_path / "plugins"
        watched = Watched(folder)
        async with watched.running(caplog):
            for told in (1, 3):
                write(folder / "ham.py")
                await watched.until(lambda told=told: watched.told == told)
                (folder / "ham.py").unlink()
                folder.rmdir()
                await watched.until(lambda told=told: watched.told == told + 1)

    asyncio.run(test())
