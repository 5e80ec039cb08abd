"""How far durable packages are: kept, replaced as a whole, set aside when it cannot be read."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from co2.protocol.wire.link_frames import MAX_RECEIPTS, Receipt
from co2.store import cursors as cursors_module
from co2.store.cursors import Cursors


def test_positions_are_there_again(tmp_path: Path) -> None:
    path = tmp_path / "cursors.json"
    cursors = Cursors.open(path)
    assert (cursors.log_id, cursors.positions, cursors.replaced) == ("", {}, "")
    cursors.save("log", "r", {"ham": 7})
    cursors.save("log", "r", {"spam": 2**60})
    again = Cursors.open(path)
    assert (again.log_id, again.run) == ("log", "r")
    assert again.positions == {"ham": 7, "spam": 2**60}
    assert [found.name for found in tmp_path.iterdir()] == ["cursors.json"]


def test_positions_of_another_log_are_forgotten(tmp_path: Path) -> None:
    cursors = Cursors.open(tmp_path / "cursors.json")
    cursors.save("log", "r", {"ham": 7, "spam": 8})
    cursors.save("other", "r", {"ham": 3})
    assert Cursors.open(tmp_path / "cursors.json").positions == {"ham": 3}


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    cursors = Cursors.open(tmp_path / "cursors.json")
    cursors.save("log", "r", {})
    assert not (tmp_path / "cursors.json").exists()
    cursors.save("log", "r", {"ham": 1})
    assert not cursors.differ("log", "r", {"ham": 1})
    assert cursors.differ("log", "r", {"ham": 2})
    assert cursors.differ("log", "another", {"ham": 1})
    assert cursors.differ("other", "r", {"ham": 1})


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"log_id": 1}', b'{"log_id": "x", "run": "r", "positions": {"a": "b"}}',
     b"\xff" * 10, b" " * (1024 * 1024 + 1)],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_set_aside_and_said_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cursors.json"
    path.write_bytes(content)
    cursors = Cursors.open(path)
    assert cursors.positions == {}
    (aside,) = tmp_path.iterdir()
    assert aside.name.startswith("cursors.json.bad-")
    assert aside.name in cursors.replaced
    assert aside.read_bytes() == content


def test_what_the_disk_did_not_take_is_written_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cursors.json"
    cursors = Cursors.open(path)
    cursors.save("log", "r", {"ham": 1})

    def no_room(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "fsync", no_room)
        cursors.save("log", "r", {"ham": 2})
    assert Cursors.open(path).positions == {"ham": 1}
    assert cursors.differ("log", "r", {"ham": 2})
    cursors.save("log", "r", {"ham": 2})
    assert Cursors.open(path).positions == {"ham": 2}


def test_two_threads_may_save_at_once(tmp_path: Path) -> None:
    cursors = Cursors.open(tmp_path / "cursors.json")

    def save(package: str) -> None:
        for number in range(1, 100):
            cursors.save("log", "r", {package: number})

    with ThreadPoolExecutor(2) as pool:
        for saved in [pool.submit(save, package) for package in ("ham", "spam")]:
            saved.result()
    assert Cursors.open(tmp_path / "cursors.json").positions == {"ham": 99, "spam": 99}


def test_receipts_are_kept_with_them_and_what_is_none_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "cursors.json"
    receipts = tuple(Receipt(f"log {number}", "r", 7, b"\x00\xff" * 16) for number in range(1 + MAX_RECEIPTS))
    cursors = Cursors.open(path)
    cursors.save("log", "r", {"ham": 7}, receipts)
    assert not cursors.differ("log", "r", {"ham": 7})
    assert Cursors.open(path).receipts == receipts
    broken: Any
    for broken in (None, "x", {"x": 1}, 7, ["x"], [[]], [["log", "r", "x", "00"]], [["l", "r", 7, None]], [None]):
        path.write_text(json.dumps({"log_id": "log", "run": "r", "positions": {"ham": 7}, "receipts": broken}))
        again = Cursors.open(path)
        assert (again.receipts, again.positions, again.replaced) == ((), {"ham": 7}, "")
    shown = ["log", "r", 7, "00ff" * 16]
    before = {"log_id": "log", "run": "r", "positions": {"ham": 7}}
    one = Receipt("log", "r", 7, b"\x00\xff" * 16)
    for known, kept in (({"receipt": shown}, (one,)), ({"receipt": None}, ()), ({}, ())):
        path.write_text(json.dumps({**before, **known}))
        again = Cursors.open(path)
        assert (again.receipts, again.positions) == (kept, {"ham": 7})


def test_all_is_in_the_file_when_it_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cursors = Cursors.open(tmp_path / "cursors.json")
    synced: list[bytes] = []
    new = tmp_path / "cursors.json.new"
    monkeypatch.setattr(cursors_module, "sync_file", lambda _fd: synced.append(new.read_bytes()))
    cursors.save("log", "r", {"ham": 7})
    assert synced == [(tmp_path / "cursors.json").read_bytes()]


@pytest.mark.parametrize("spare", [0, -1])
def test_a_file_is_read_up_to_its_largest_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    path = tmp_path / "cursors.json"
    Cursors.open(path).save("log", "r", {"ham": 7})
    monkeypatch.setattr(cursors_module, "MAX_SIZE", path.stat().st_size + spare)
    again = Cursors.open(path)
    assert (again.positions, bool(again.replaced)) == (({}, True) if spare else ({"ham": 7}, False))
