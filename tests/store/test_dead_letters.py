"""Dead letters on disk: bounded, the oldest go, numbers are never used twice, a damaged file is set aside."""

import shutil
from pathlib import Path

import apsw
import pytest

from co2.store import dead_letters
from co2.store.dead_letters import OVERHEAD, DeadLetterStore, StoredLetter
from co2.values import pack


def letter(number: int, package: str = "ham", size: int = 0) -> StoredLetter:
    message = pack({"data": [number, "x" * size]})
    return StoredLetter(
        1e9 + number, package, f"{package}.spam.X_Spam", "a@10.0.0.7:2004", ("10.0.0.7", 5), "E: no", message
    )


def ids(letters: list[StoredLetter]) -> list[int]:
    return [one.id for one in letters]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dead_letters.db"


def test_a_letter_comes_back_as_it_was_also_after_a_kill(path: Path) -> None:
    store = DeadLetterStore(path)
    store.add([letter(1), letter(2, "eggs")])
    killed = path.with_name("killed.db")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{killed}{suffix}")
    again = DeadLetterStore(killed)
    again.open()
    assert (again.kept, again.bytes) == (2, store.bytes)
    (first, second) = again.read(0, 10, 1 << 20)
    assert (first.at, first.package, first.plugin) == (1e9 + 1, "ham", "ham.spam.X_Spam")
    assert (first.host_id, first.client_address) == ("a@10.0.0.7:2004", ("10.0.0.7", 5))
    assert (first.reason, first.message) == ("E: no", letter(1).message)
    assert (second.id, second.package) == (2, "eggs")
    store.close()
    assert not path.with_name(f"{path.name}-wal").exists(), "a file that was closed is whole by itself"
    again.close()


def test_where_nothing_was_ever_lost_there_is_no_file(path: Path) -> None:
    store = DeadLetterStore(path)
    store.open()
    assert store.read(0, 10, 100) == store.last(20, "ham") == []
    assert (store.find(1), store.drop(99), store.kept) == (None, 0, 0)
    store.remove(1)
    assert not path.exists()


def test_reading_goes_on_after_an_id_in_bounds_and_by_package(path: Path) -> None:
    store = DeadLetterStore(path)
    store.add([letter(number, "ham" if number % 2 else "eggs", 1000) for number in range(1, 9)])
    assert ids(store.read(0, 3, 1 << 20)) == [1, 2, 3]
    assert ids(store.read(3, 100, 1 << 20)) == [4, 5, 6, 7, 8]
    assert ids(store.read(0, 100, 2 * (1100 + OVERHEAD))) == [1, 2]
    assert ids(store.read(0, 100, 1)) == [1], "one is always given"
    assert ids(store.read(2, 100, 1 << 20, "ham")) == [3, 5, 7]
    assert ids(store.last(2, "eggs")) == [8, 6]
    found = store.find(5)
    assert found is not None
    assert found.message == letter(5, size=1000).message
    store.close()


def test_too_many_or_too_big_the_oldest_go_and_are_counted(path: Path) -> None:
    store = DeadLetterStore(path, max_kept=5)
    for number in range(1, 9):
        store.add([letter(number)])
    assert (store.kept, store.gone, ids(store.read(0, 100, 1 << 20))) == (5, 3, [4, 5, 6, 7, 8])
    store.close()
    store = DeadLetterStore(path, max_bytes=4000)
    store.add([letter(9, size=1000), letter(10, size=1000)])
    assert ids(store.read(0, 100, 1 << 20)) == [4, 5, 6, 7, 8, 9, 10]
    store.add([letter(11, size=1000)])
    assert ids(store.read(0, 100, 1 << 20)) == [8, 9, 10, 11]
    assert store.bytes <= 4000
    store.add([letter(12, size=5000)])
    assert (store.kept, store.bytes) == (0, 0), "one that has no room even alone is not kept either"
    assert store.gone > 0
    store.close()


def test_what_was_dropped_is_gone_and_its_number_never_comes_again(path: Path) -> None:
    store = DeadLetterStore(path)
    store.add([letter(number, "ham" if number % 2 else "eggs") for number in range(1, 7)])
    assert store.drop(4, "ham") == 2
    assert ids(store.read(0, 100, 1 << 20)) == [2, 4, 5, 6]
    store.remove(5)
    assert store.drop(99) == 3
    assert (store.kept, store.bytes) == (0, 0)
    store.close()
    store = DeadLetterStore(path)
    store.add([letter(7)])
    assert ids(store.read(0, 100, 1 << 20)) == [7]
    store.close()


@pytest.mark.parametrize("harm", ["garbage", "of another program", "of a later version"])
def test_a_damaged_file_is_set_aside_and_a_new_one_begins(
    path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    if harm == "garbage":
        path.write_bytes(b"garbage" * 4096)
    else:
        with apsw.Connection(str(path)) as db:
            db.execute("CREATE TABLE other (x)")
            db.execute(f"PRAGMA user_version = {1 if harm == 'of another program' else 99}")
        db.close()
    store = DeadLetterStore(path)
    store.open()
    store.add([letter(1)])
    assert ids(store.read(0, 10, 1 << 20)) == [1]
    store.close()
    assert len([*path.parent.glob("dead_letters.db.bad-*")]) >= 1
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize("column", ["at", "package", "plugin", "host_id", "ip", "port", "reason", "message"])
@pytest.mark.parametrize("value", ["NULL", "CAST(x'ff' AS TEXT)", "x'ff'"])
def test_a_damaged_letter_keeps_nobody_from_the_others(path: Path, column: str, value: str) -> None:
    store = DeadLetterStore(path)
    store.add([letter(number) for number in (1, 2, 3)])
    store.close()
    with apsw.Connection(str(path)) as db:
        db.execute(f"UPDATE letter SET {column} = {value} WHERE id = 2")
    db.close()
    store = DeadLetterStore(path, max_kept=3)
    store.open()
    assert store.kept == 3
    found = {one.id: one.message for one in store.read(0, 10, 1 << 20)}
    assert (found[1], found[3]) == (letter(1).message, letter(3).message)
    assert (2 in found) is ((column, value) != ("message", "NULL"))
    if value == "NULL" and column in {"at", "port"}:
        two = store.find(2)
        assert two is not None
        assert (two.at, two.client_address[1])[column == "port"] == 0
    assert ids(store.last(10, "ham"))[0] == 3
    store.add([letter(4), letter(5)])
    assert (store.kept, ids(store.read(0, 10, 1 << 20))) == (3, [3, 4, 5])
    assert store.drop(10) == 3
    assert (store.kept, store.bytes) == (0, 0)
    store.close()


def test_a_file_that_is_damaged_while_it_is_open_is_set_aside_at_the_next_letter(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = DeadLetterStore(path)
    store.add([letter(number, size=20_000) for number in range(1, 30)])
    store.close()
    store = DeadLetterStore(path)
    store.open()
    data = bytearray(path.read_bytes())
    data[16384:] = b"\xff" * (len(data) - 16384)
    path.write_bytes(data)
    store.add([letter(30)])
    assert (store.kept, store.read(0, 10, 1 << 20)[0].message) == (1, letter(30).message)
    assert "cannot be read" in caplog.text
    store.close()


def test_where_no_new_file_can_be_opened_none_are_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DeadLetterStore(path)
    store.add([letter(number, size=20_000) for number in range(1, 30)])
    store.close()
    store = DeadLetterStore(path)
    store.open()
    data = bytearray(path.read_bytes())
    data[16384:] = b"\xff" * (len(data) - 16384)
    path.write_bytes(data)

    def refusing(_path: Path) -> apsw.Connection:
        raise apsw.CantOpenError("unable to open database file")

    monkeypatch.setattr(dead_letters, "open_database", refusing)
    with pytest.raises(apsw.CantOpenError):
        store.add([letter(30)])
    assert (store.kept, store.bytes) == (0, 0)
    store.close()


def test_a_full_disk_is_an_error_and_changes_nothing(path: Path) -> None:
    store = DeadLetterStore(path)
    store.add([letter(1)])
    assert store._db is not None
    pages = store._db.execute("PRAGMA page_count").fetchall()[0][0]
    store._db.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    with pytest.raises(apsw.FullError):
        store.add([letter(2), letter(3, size=100_000)])
    with pytest.raises(apsw.FullError):
        store.add([letter(3, size=100_000)])
    assert (store.kept, ids(store.read(0, 10, 1 << 20))) == (1, [1])
    store._db.execute("PRAGMA max_page_count = 100000").fetchall()
    store.add([letter(4)])
    assert store.kept == 2
    store.close()


def test_a_damaged_file_is_set_aside_at_the_first_letter_too(path: Path) -> None:
    path.write_bytes(b"garbage" * 4096)
    store = DeadLetterStore(path)
    store.add([letter(1)])
    assert (store.kept, store.bytes) == (1, len(letter(1).message) + OVERHEAD)
    store.close()


def test_as_much_is_kept_and_read_as_may_be_and_no_byte_more(path: Path) -> None:
    one = len(letter(1).message) + OVERHEAD
    for spare, kept in ((0, [1, 2]), (-1, [2])):
        store = DeadLetterStore(path.with_name(f"{spare}.db"), max_bytes=2 * one + spare)
        store.add([letter(1)])
        store.add([letter(2)])
        assert ids(store.read(0, 10, 1 << 20)) == kept
        store.add([letter(3)])
        assert ids(store.read(0, 10, 1 << 20)) == ([2, 3] if spare == 0 else [3]), "no more goes than has to"
        store.close()
    store = DeadLetterStore(path)
    store.add([letter(1), letter(2)])
    assert ids(store.read(0, 10, 2 * one)) == [1, 2]
    assert ids(store.read(0, 10, 2 * one - 1)) == [1]
    store.close()


def test_letters_that_could_not_be_written_leave_the_store_in_order(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DeadLetterStore(path)
    store.add([letter(1)])
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(store, "_make_room", lambda *_args: raising(MemoryError))
        store.add([letter(2)])
    store.add([letter(3)])
    assert [one.message for one in store.read(0, 10, 1 << 20)] == [letter(1).message, letter(3).message]
    assert store.kept == 2
    store.close()


def raising(error: type[Exception]) -> tuple[int, int]:
    raise error
