"""The store of a plugin package: a dictionary that outlives its plugins."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from co2.errors import NotRunning, StorageFailed, StorageFull, StoreLimit, TooBig, ValueRefused
from co2.store import key_values
from co2.store.key_values import MAX_KEY, KeyValues


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stores" / "ham.db"


@pytest.fixture
def store(path: Path) -> Iterator[KeyValues]:
    made = KeyValues(path)
    yield made
    made.close()


def test_it_is_a_dictionary(store: KeyValues) -> None:
    store["b"] = {"list": [1, 2.5, "x", b"y", None]}
    store["a"] = 1
    assert dict(store) == {"a": 1, "b": {"list": [1, 2.5, "x", b"y", None]}}
    assert (list(store), len(store), "a" in store, "c" in store) == (["a", "b"], 2, True, False)
    assert (store.get("c"), store.get("c", 3)) == (None, 3)
    with pytest.raises(KeyError):
        store["c"]
    with pytest.raises(KeyError):
        del store["c"]
    with pytest.raises(KeyError):
        store.pop("c")
    assert (store.pop("c", 5), store.pop("a")) == (5, 1)
    assert (store.setdefault("n", 7), store.setdefault("n", 8)) == (7, 7)
    del store["n"]
    store.update({"x": 1}, y=2)
    assert set(store) == {"b", "x", "y"}
    store.clear()
    assert (len(store), store.bytes) == (0, 0)
    assert repr(store) == "<store ham>"


def test_what_is_read_is_a_copy(store: KeyValues) -> None:
    store["list"] = [1]
    store["list"].append(2)
    assert store["list"] == [1]


def test_it_is_there_after_a_restart_and_for_others_at_the_same_time(store: KeyValues, path: Path) -> None:
    store["n"] = 1
    other = KeyValues(path)
    assert other["n"] == 1
    other["n"] = 2
    assert store["n"] == 2, "the new plugin host of a reload and the old one see the same"
    other.close()
    store.close()
    again = KeyValues(path)
    assert again["n"] == 2
    again.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_its_bytes_are_bounded_and_counted_exactly(store: KeyValues, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_values, "STORE_MAX", 1000)
    store["a"] = b"x" * 400
    before = store.bytes
    with pytest.raises(StoreLimit, match="the limit is 1000") as caught:
        store.update({"b": b"x" * 400, "c": b"x" * 400})
    assert isinstance(caught.value, ValueError)
    assert (list(store), store.bytes) == (["a"], before), "all or none"
    store["a"] = b"y" * 900
    store["a"] = b"z" * 10
    store["b"] = b"x" * 900
    with pytest.raises(StoreLimit):
        store.setdefault("d", b"x" * 100)
    store.pop("b")
    del store["a"]
    assert store.bytes == 0


def test_as_much_is_stored_as_may_be_and_no_byte_more(store: KeyValues, monkeypatch: pytest.MonkeyPatch) -> None:
    store["k" * MAX_KEY] = b"x" * 10
    monkeypatch.setattr(key_values, "STORE_MAX", 2 * store.bytes)
    store["l" * MAX_KEY] = b"x" * 10
    assert store.bytes == key_values.STORE_MAX
    with pytest.raises(StoreLimit):
        store["l" * MAX_KEY] = b"x" * 11
    assert store["l" * MAX_KEY] == b"x" * 10


def test_its_folders_are_made_at_the_first_access(tmp_path: Path) -> None:
    store = KeyValues(tmp_path / "of" / "a" / "host" / "ham.db")
    store["n"] = 1
    assert store["n"] == 1
    store.close()


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("k" * (MAX_KEY + 1), 1, StoreLimit),
        ("ä" * MAX_KEY, 1, StoreLimit),
        ("\ud800", 1, ValueRefused),
        (3, 1, TypeError),
        ("k", object(), ValueRefused),
        ("k", b"x" * 800_000, TooBig),
    ],
)
def test_what_cannot_be_stored_is_refused(store: KeyValues, key: Any, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        store[key] = value
    assert len(store) == 0


def test_any_thread_may_use_it(store: KeyValues) -> None:
    def work(name: int) -> None:
        for number in range(20):
            store[f"{name}.{number}"] = number

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store) == 80


def test_what_was_stored_is_there_after_a_kill(path: Path) -> None:
    code = f"""
import os, pathlib, signal
from co2.store.key_values import KeyValues
store = KeyValues(pathlib.Path({str(path)!r}))
for number in range(50):
    store["n"] = number
    os.write(1, b"%d\\n" % number)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -9
    last = int(done.stdout.split()[-1])
    store = KeyValues(path)
    assert store["n"] == last == 49
    store.close()


def test_a_file_that_cannot_be_read_is_set_aside_and_told(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    told: list[str] = []
    store = KeyValues(path, told.append)
    store["n"] = 1
    assert store["n"] == 1
    assert "it is kept as ham.db.bad-" in told[0]
    assert [entry.read_bytes()[:11] for entry in path.parent.glob("ham.db.bad-*")] == [b"no database"]
    store.close()


def test_a_file_of_a_later_version_is_left_alone(path: Path) -> None:
    store = KeyValues(path)
    store["n"] = 1
    with store._open() as db:
        db.execute("PRAGMA user_version = 9")
    store.close()
    later = KeyValues(path)
    with pytest.raises(StorageFailed, match="version is 9"):
        later["n"]
    later.close()


def test_a_disk_that_fails_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "stores").write_text("a file where the folder should be")
    with pytest.raises(StorageFailed):
        KeyValues(tmp_path / "stores" / "ham.db")["n"] = 1


def test_after_the_end_nothing_is_looked_up(store: KeyValues) -> None:
    store["n"] = 1
    store.close()
    store.close()
    with pytest.raises(NotRunning):
        store["n"]


def test_a_full_disk_stores_nothing_and_leaves_what_was_there(store: KeyValues) -> None:
    store["n"] = 1
    with store._open() as db:
        db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StorageFull, match="nothing was stored"):
        store["big"] = b"x" * 100_000
    assert dict(store) == {"n": 1}


def test_a_file_that_is_damaged_meanwhile_is_set_aside_at_the_next_start(store: KeyValues, path: Path) -> None:
    store["n"] = 1
    told: list[str] = []
    with pytest.raises(StorageFailed, match="malformed"), store._open():
        raise apsw.CorruptError("database disk image is malformed")
    store.close()
    later = KeyValues(path, told.append)
    assert "n" not in later
    assert "it is kept as ham.db.bad-" in told[0]
    later.close()
