"""The outbox on disk: written in order, read back whole, deleted, set aside when it cannot be read."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from co2.protocol.satellite.outbox import SEGMENT, Cut, Segment
from co2.store import outbox_store, outbox_thread
from co2.store.outbox_store import OutboxStore
from co2.store.outbox_thread import OutboxThread
from tests.harness import wait_for


class Stores:
    """Opens stores, and closes them at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened: list[OutboxThread] = []
        self.stored: list[tuple[Segment, tuple[int, int]]] = []

    def open(self) -> OutboxThread:
        store = OutboxThread.open(self.path, lambda segment, rows: self.stored.append((segment, rows)))
        self.opened.append(store)
        return store

    def close(self) -> None:
        for store in self.opened:
            store.close(5)
        self.opened = []


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    made = Stores(tmp_path / "outbox.db")
    yield made
    made.close()


def segment_of(first: int, last: int, epoch: int = 7, size: int = 100) -> Segment:
    cuts = [Cut(epoch, number, number, os.urandom(size)) for number in range(first, last + 1)]
    return Segment(epoch, first, last, sum(cut.size for cut in cuts), cuts, "storing")


def test_what_was_stored_is_there_after_a_kill_in_order_and_whole(stores: Stores) -> None:
    store = stores.open()
    segments = [segment_of(1, 20), segment_of(21, 30), segment_of(1, 5, epoch=8)]
    for segment in segments:
        store.put(segment)
    wait_for(lambda: len(stores.stored) == 3)
    killed = stores.path.with_name("killed")
    for suffix in ("", "-wal"):
        shutil.copy(f"{stores.path}{suffix}", f"{killed}{suffix}")
    stores.path = killed
    again = stores.open()
    left = again.left()
    assert [(segment.epoch, segment.first, segment.last) for segment in left] == [(7, 1, 30), (8, 1, 5)]
    assert [segment.size for segment in left] == [segments[0].size + segments[1].size, segments[2].size]
    found = [cut for segment in left for cut in again.load(segment.rows)]
    expected = [cut for segment in segments for cut in segment.cuts or ()]
    assert [(cut.first, cut.data) for cut in found] == [(cut.first, cut.data) for cut in expected]


def test_what_is_forgotten_is_not_left(stores: Stores) -> None:
    store = stores.open()
    store.put(segment_of(1, 10))
    store.put(segment_of(11, 20))
    wait_for(lambda: len(stores.stored) == 2)
    store.forget(stores.stored[0][1][1])
    wait_for(lambda: [segment.first for segment in store.left()] == [11])
    store.put(segment_of(21, 30))
    wait_for(lambda: len(stores.stored) == 3)
    assert stores.stored[2][1] > stores.stored[1][1]


def test_much_is_left_in_pieces_that_can_be_loaded(stores: Stores) -> None:
    store = stores.open()
    for first in range(0, 100, 10):
        store.put(segment_of(first + 1, first + 10, size=20_000))
    wait_for(lambda: len(stores.stored) == 10)
    left = store.left()
    assert len(left) >= 7
    assert max(segment.size for segment in left) <= SEGMENT
    assert [segment.first for segment in left] == [1, *(segment.last + 1 for segment in left[:-1])]


def test_a_damaged_frame_is_left_out(stores: Stores, caplog: pytest.LogCaptureFixture) -> None:
    store = stores.open()
    store.put(segment_of(1, 3))
    wait_for(lambda: len(stores.stored) == 1)
    stores.close()
    raw = apsw.Connection(str(stores.path))
    raw.execute("UPDATE frame SET data = ? WHERE first = 2", (b"other",))
    raw.close()
    again = stores.open()
    assert [cut.first for cut in again.load(again.left()[0].rows)] == [1, 3]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("data", None),
        ("data", 5),
        ("data", b"\xff"),
        ("epoch", None),
        ("first", None),
        ("first", 0),
        ("last", "spoilt"),
        ("last", 1),
        ("last", 2**60),
        ("crc", None),
    ],
)
def test_a_damaged_row_is_left_out_and_the_others_are_there(stores: Stores, column: str, value: object) -> None:
    store = stores.open()
    store.put(segment_of(1, 5))
    wait_for(lambda: len(stores.stored) == 1)
    stores.close()
    raw = apsw.Connection(str(stores.path))
    raw.execute(f"UPDATE frame SET {column} = ? WHERE first = 3", (value,))
    raw.close()
    again = stores.open()
    assert again.replaced == ""
    left = again.left()
    assert [cut.first for segment in left for cut in again.load(segment.rows)] == [1, 2, 4, 5]
    assert left[-1].last == 5


def test_rows_that_are_lost_are_told(stores: Stores, caplog: pytest.LogCaptureFixture) -> None:
    store = stores.open()
    store.put(segment_of(1, 5))
    wait_for(lambda: len(stores.stored) == 1)
    stores.close()
    raw = apsw.Connection(str(stores.path))
    raw.execute("UPDATE frame SET last = NULL WHERE first > 3")
    raw.close()
    assert [(segment.first, segment.last) for segment in stores.open().left()] == [(1, 3)]
    assert "2 frames of messages in the outbox are damaged on disk and lost" in caplog.text


def test_text_in_the_place_of_bytes_is_read_as_these(stores: Stores) -> None:
    store = stores.open()
    store.put(segment_of(1, 3))
    wait_for(lambda: len(stores.stored) == 1)
    stores.close()
    raw = apsw.Connection(str(stores.path))
    raw.execute("UPDATE frame SET data = CAST(data AS TEXT)")  # the type of a column is a few bits of its row
    raw.close()
    again = stores.open()
    assert [cut.first for cut in again.load(again.left()[0].rows)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("table", "values"),
    [("moved", (7, 9, None)), ("moved", (7, "spoilt", 1)), ("moved", (7, 7, 1)), ("ended", (7, None))],
)
def test_a_damaged_note_of_a_run_is_left_out(stores: Stores, table: str, values: tuple[object, ...]) -> None:
    store = stores.open()
    store.put(segment_of(1, 3))
    store.move(6, 8, 4)
    store.ended(6, 9)
    wait_for(lambda: not store.something())
    stores.close()
    raw = apsw.Connection(str(stores.path))
    raw.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)
    raw.close()
    again = stores.open()
    assert (again.moves(), again.ends()) == ({6: (8, 4)}, {6: 9})


def test_an_outbox_with_a_damaged_page_is_set_aside_and_a_new_one_begins(stores: Stores) -> None:
    store = stores.open()
    for begun in range(1, 400, 20):
        store.put(segment_of(begun, begun + 19, size=1000))
    wait_for(lambda: len(stores.stored) == 20)
    stores.close()
    content = bytearray(stores.path.read_bytes())
    content[5 * 16_384 : 5 * 16_384 + 64] = bytes(64)
    stores.path.write_bytes(content)
    again = stores.open()
    [aside] = stores.path.parent.glob("outbox.db.bad-*Z")
    assert aside.read_bytes() == content
    assert aside.name in again.replaced
    assert again.left() == []
    again.put(segment_of(1, 3))
    wait_for(lambda: len(stores.stored) == 21)
    assert again.left()[0].last == 3


@pytest.mark.parametrize("content", [b"no database " * 2000, b"SQLite format 3\x00" + bytes(100)])
def test_a_file_that_cannot_be_read_is_set_aside(stores: Stores, content: bytes) -> None:
    stores.path.write_bytes(content)
    store = stores.open()
    aside = [path for path in stores.path.parent.iterdir() if ".bad-" in path.name]
    assert [path.read_bytes() for path in aside] == [content]
    assert aside[0].name in store.replaced
    assert store.left() == []


def test_a_full_disk_keeps_what_waits_until_there_is_room(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = stores.open()
    write = store._write
    tries: list[int] = []

    def full(segments: list[Segment], forget: int) -> list[tuple[int, int]]:
        tries.append(len(segments))
        if len(tries) < 2:
            raise apsw.FullError("database or disk is full")
        return write(segments, forget)

    monkeypatch.setattr(store, "_write", full)
    store.put(segment_of(1, 3))
    wait_for(lambda: stores.stored)
    assert tries == [1, 1]
    assert "the disk is full" in caplog.text
    assert not store.full
    assert store.left()[0].last == 3


def test_a_full_disk_is_tried_now_and_then(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_thread, "RETRY", 0.05)
    store = stores.open()
    write = store._write
    tries: list[float] = []

    def full(segments: list[Segment], forget: int) -> list[tuple[int, int]]:
        tries.append(time.monotonic())
        if tries[-1] < tries[0] + 0.5:
            raise apsw.FullError("database or disk is full")
        return write(segments, forget)

    monkeypatch.setattr(store, "_write", full)
    store.put(segment_of(1, 3))
    wait_for(lambda: stores.stored)
    assert 2 <= len(tries) <= 15, "each attempt writes, and wears the disk out"


def test_a_disk_that_fails_is_told_and_nothing_more_is_written(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = stores.open()

    def fail(segments: list[Segment], forget: int) -> list[tuple[int, int]]:
        raise apsw.IOError("disk I/O error")

    monkeypatch.setattr(store, "_write", fail)
    store.put(segment_of(1, 3))
    wait_for(lambda: store.failed)
    assert "in memory only" in caplog.text
    assert stores.stored == []
    store.ended(7, 3)
    store.move(7, 8, 0)
    stores.close()
    again = OutboxStore.open(stores.path, lambda *_: None)
    assert (again.left(), again.ends(), again.moves()) == ([], {}, {})
    again.close(1.0)


def test_what_was_acknowledged_while_the_disk_was_full_does_not_go_there(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores.open()
    write = store._write
    room: list[bool] = []

    def full(segments: list[Segment], forget: int) -> list[tuple[int, int]]:
        if not room:
            raise apsw.FullError("database or disk is full")
        return write(segments, forget)

    monkeypatch.setattr(store, "_write", full)
    acknowledged, waiting = segment_of(1, 3), segment_of(4, 6)
    store.put(acknowledged)
    store.put(waiting)
    wait_for(lambda: store.full)
    acknowledged.first = acknowledged.last + 1
    room.append(True)
    wait_for(lambda: stores.stored)
    assert [(segment.first, segment.last) for segment in store.left()] == [(4, 6)]


def test_a_disk_that_has_failed_holds_nothing_in_memory(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stores.open()

    def fail(segments: list[Segment], forget: int) -> list[tuple[int, int]]:
        raise apsw.IOError("disk I/O error")

    monkeypatch.setattr(store, "_write", fail)
    store.put(segment_of(1, 3))
    wait_for(lambda: store.failed)
    store.put(segment_of(4, 6))
    assert not store.something()


def test_which_runs_go_out_in_another_one_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    store = OutboxStore.open(path, lambda *_: None)
    assert store.moves() == {}
    segment = Segment(7, 1, 1, 0, [Cut(7, 1, 1, b"x")])
    store.put(segment)
    store.move(7, 8, 4)
    store.move(8, 9, 0)
    assert store.something()
    store.close(1.0)
    store = OutboxStore.open(path, lambda *_: None)
    assert store.moves() == {7: (8, 4), 8: (9, 0)}
    store.forget(1)
    store.close(1.0)
    store = OutboxStore.open(path, lambda *_: None)
    assert store.moves() == {}
    store.close(1.0)


def test_how_far_a_run_came_that_ended_in_good_order_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    store = OutboxStore.open(path, lambda *_: None)
    assert store.ends() == {}
    store.put(Segment(7, 1, 1, 0, [Cut(7, 1, 1, b"x")]))
    store.ended(7, 1)
    assert store.something()
    store.close(1.0)
    store = OutboxStore.open(path, lambda *_: None)
    assert store.ends() == {7: 1}
    store.put(Segment(8, 1, 2, 0, [Cut(8, 1, 2, b"x")]))
    store.ended(8, 2)
    store.close(1.0)
    store = OutboxStore.open(path, lambda *_: None)
    assert store.ends() == {7: 1, 8: 2}
    store.forget(2)
    store.close(1.0)
    store = OutboxStore.open(path, lambda *_: None)
    assert store.ends() == {}
    store.ended(9, 3)
    store.put(Segment(9, 1, 3, 0, [Cut(9, 1, 3, b"x")]))
    store.close(1.0)
    store = OutboxStore.open(path, lambda *_: None)
    assert store.ends() == {9: 3}, "what ended long ago is forgotten with the last of it"
    store.close(1.0)


def test_a_file_of_a_later_version_is_set_aside(stores: Stores) -> None:
    store = stores.open()
    store.put(segment_of(1, 3))
    stores.close()
    other = apsw.Connection(str(stores.path))
    other.execute("PRAGMA user_version = 99")
    other.close()
    assert stores.open().left() == []
    assert len(list(stores.path.parent.glob("outbox.db.bad-*Z"))) == 1


# ---- without the thread --------------------------------------------------------------------------------


class Turned:
    """A store that writes when it is told to."""

    def __init__(self, path: Path) -> None:
        self.rows: list[tuple[int, int]] = []
        self.store = OutboxStore.open(path, lambda _segment, rows: self.rows.append(rows))

    def turn(self) -> bool:
        return self.store.turn()

    @property
    def left(self) -> list[tuple[int, int]]:
        return [(segment.first, segment.last) for segment in self.store.left()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def test_a_later_run_writes_behind_what_is_left_and_deletes_nothing_by_itself(path: Path) -> None:
    first = Turned(path)
    assert not first.store.something()
    first.store.put(segment_of(1, 3))
    assert first.turn()
    first.store.close(5)
    second = Turned(path)
    assert not second.store.something()
    second.store.put(segment_of(4, 5))
    assert second.turn()
    assert (first.rows, second.rows, second.left) == ([(1, 3)], [(4, 5)], [(1, 5)])
    second.store.forget(2)
    second.store.forget(1)
    assert second.turn()
    assert second.left == [(3, 5)]
    second.store.close(5)


def test_what_waits_is_written_at_the_end(path: Path) -> None:
    one = Turned(path)
    one.store.put(segment_of(1, 3))
    one.store.put(segment_of(4, 6))
    one.store.close(5)
    two = Turned(path)
    assert two.left == [(1, 6)]
    two.store.close(5)


@pytest.mark.parametrize(("spare", "pieces"), [(0, [(1, 2), (3, 4)]), (-1, [(1, 1), (2, 2), (3, 3), (4, 4)])])
def test_pieces_are_as_large_as_they_may_be(
    path: Path, monkeypatch: pytest.MonkeyPatch, spare: int, pieces: list[tuple[int, int]]
) -> None:
    one = Turned(path)
    one.store.put(segment_of(1, 4, size=100))
    assert one.turn()
    monkeypatch.setattr(outbox_store, "SEGMENT", 2 * (100 + outbox_store._OVERHEAD) + spare)
    assert one.left == pieces
    one.store.close(5)


def test_frames_of_another_run_or_behind_a_hole_are_a_piece_of_their_own(path: Path) -> None:
    one = Turned(path)
    for segment in (segment_of(1, 2), segment_of(4, 5), segment_of(6, 7, epoch=8), segment_of(8, 8, epoch=8)):
        one.store.put(segment)
    assert one.turn()
    assert one.left == [(1, 2), (4, 5), (6, 8)]
    one.store.close(5)


def test_how_many_are_damaged_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = Turned(path)
    one.store.put(segment_of(1, 5))
    assert one.turn()
    one.store._db.execute("UPDATE frame SET epoch = NULL WHERE first IN (2, 4)")
    assert one.left == [(1, 1), (3, 3), (5, 5)]
    assert "2 frames of messages in the outbox are damaged" in caplog.text
    one.store.close(5)


def test_the_first_run_of_all_may_take_over_the_rest_of_another(path: Path) -> None:
    one = Turned(path)
    one.store.put(segment_of(1, 1))
    one.store.move(7, 1, 3)
    one.store.move(8, 8, 3)
    one.store.move(9, 0, 3)
    assert one.turn()
    assert one.store.moves() == {7: (1, 3)}, "no run takes over itself, and none is called 0"
    one.store.close(5)


@pytest.mark.parametrize("table", ["moved", "ended"])
def test_notes_of_another_form_are_found_at_the_start_and_the_file_is_set_aside(path: Path, table: str) -> None:
    one = Turned(path)
    one.store.put(segment_of(1, 1))
    assert one.turn()
    one.store._db.execute(f"CREATE TABLE {table} (something)")
    one.store.close(5)
    two = Turned(path)
    assert (two.left, "cannot be read" in two.store.replaced) == ([], True)
    two.store.close(5)


def test_a_note_alone_is_written_soon(stores: Stores) -> None:
    store = stores.open()
    store.put(segment_of(1, 3))
    wait_for(lambda: len(stores.stored) == 1)
    store.ended(7, 3)
    wait_for(lambda: store.ends() == {7: 3}, "the end is on disk")
    store.move(7, 9, 2)
    wait_for(lambda: store.moves() == {7: (9, 2)}, "the move is on disk")


def test_a_full_disk_is_tried_again_and_a_broken_one_is_not(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = Turned(path)
    write = one.store._write

    def full(segments: Any, forget: int) -> Any:
        one.store._db.execute("BEGIN IMMEDIATE")  # SQLite does not end it in each case
        raise apsw.FullError("database or disk is full")

    one.store.put(segment_of(1, 3))
    one.store.forget(9)
    with monkeypatch.context() as patch:
        patch.setattr(one.store, "_write", full)
        assert [one.turn(), one.turn(), one.store.full] == [True, True, True]
        assert caplog.text.count("the disk is full") == 1
    assert (one.turn(), one.store.full, one.left) == (True, False, [(1, 3)])
    assert "the disk has room again" in caplog.text

    def broken(_segments: Any, _forget: int) -> Any:
        raise apsw.IOError("disk I/O error")

    one.store.put(segment_of(4, 5))
    monkeypatch.setattr(one.store, "_write", broken)
    assert not one.turn()
    assert "disk I/O error" in one.store.failed
    one.store.put(segment_of(6, 7))
    one.store.ended(7, 7)
    one.store.move(7, 9, 2)
    monkeypatch.setattr(one.store, "_write", write)
    assert not one.store._segments
    one.store.close(5)
    two = Turned(path)
    assert (two.left, two.store.ends(), two.store.moves()) == ([(1, 3)], {}, {})
    two.store.close(5)
