"""What is on disk is so on macOS too, where ``fsync`` leaves it in the cache of the drive."""

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from co2.store.cursors import Cursors
from co2.store.fsync import sync_data, sync_file, sync_folder
from co2.store.journal import Journal, new_key
from co2.store.state_folder import StateFolder

F_FULLFSYNC = 51


class Mac:
    """A Mac's disk.

    Attributes:
        calls: what was asked of it: ``full`` or ``plain``, and of a ``file`` or a ``folder``.
        knows: whether the file system takes F_FULLFSYNC.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.knows = True

    def note(self, how: str, descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        self.calls.append(f"{how} {kind}")


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> Mac:
    mac = Mac()
    ask = fcntl.fcntl

    def asked(descriptor: int, what: int, *more: int) -> int:
        if what != F_FULLFSYNC:
            return ask(descriptor, what, *more)
        mac.note("full", descriptor)
        if not mac.knows:
            raise OSError(errno.ENOTSUP, "a share does not know it")
        return 0

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", F_FULLFSYNC, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", asked)
    monkeypatch.setattr(os, "fsync", lambda descriptor: mac.note("plain", descriptor))
    monkeypatch.delattr(os, "fdatasync", raising=False)
    return mac


def sync_opened(sync: Callable[[int], None]) -> Callable[[Path], None]:
    def sync_it(path: Path) -> None:
        with path.open("r+b") as file:
            sync(file.fileno())

    return sync_it


@pytest.mark.parametrize(
    ("sync", "kind"),
    [(sync_opened(sync_file), "file"), (sync_opened(sync_data), "file"), (sync_folder, "folder")],
    ids=["file", "data", "folder"],
)
def test_it_leaves_the_drives_cache(sync: Callable[[Path], None], kind: str, tmp_path: Path, mac: Mac) -> None:
    path = tmp_path if kind == "folder" else tmp_path / "file"
    if kind == "file":
        path.touch()
    sync(path)
    assert mac.calls == [f"full {kind}"]
    mac.calls.clear()
    mac.knows = False
    sync(path)
    assert mac.calls == [f"full {kind}", f"plain {kind}"], "where the drive cannot be told, the system is"


def test_so_do_the_cursors(tmp_path: Path, mac: Mac) -> None:
    Cursors.open(tmp_path / "cursors.json").save("log", "r", {"ham": 7})
    assert mac.calls == ["full file"]


def test_so_does_each_record_of_the_journal_and_its_name_once(tmp_path: Path, mac: Mac) -> None:
    journal = Journal(tmp_path / "log.db", new_key(), 0)
    try:
        journal.make()
        assert mac.calls == ["full file", "full folder"]
        for _ in range(2):
            mac.calls.clear()
            journal.append(b"a record")
            assert mac.calls == ["full file"]
    finally:
        journal.close()


def test_so_do_the_names_of_a_new_secret_and_origin(tmp_path: Path, mac: Mac) -> None:
    with StateFolder.open(tmp_path / "state"):
        assert mac.calls == ["full file", "full folder"] * 2
