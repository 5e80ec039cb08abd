"""Ids of messages lately relayed: bounded, and on disk with their messages."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from co2.protocol.relay.log import Entry
from co2.store import relayed_ids
from co2.store.relay_log import RelayLog
from co2.store.relayed_ids import IDS_PER_HOST, RelayedIds
from tests.store.test_relay_log import Logs, append, on_disk


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    made = Logs(tmp_path)
    yield made
    made.close()


def relayed(log: RelayLog, message_id: str, origin: str = "xml") -> Entry:
    """Append a message that came with an id."""
    return append(log, b"\xc0", origin=origin, message_id=message_id)


def rows(path: Path) -> list[tuple[int, str, str]]:
    """Read what the file has, with SQLite alone."""
    db = apsw.Connection(str(path))
    try:
        return db.execute("SELECT position, origin, id FROM relayed ORDER BY position").fetchall()
    finally:
        db.close()


# ---- in memory ---------------------------------------------------------------------------------------------


def test_a_repeat_gets_the_first_position_and_another_host_has_its_own_ids() -> None:
    ids = RelayedIds()
    assert ids.remember("a", "1", 17) == []
    assert ids.position("a", "1") == 17
    assert ids.position("b", "1") is None


def test_the_last_ten_thousand_are_remembered() -> None:
    ids = RelayedIds()
    forgotten = [ids.remember("a", str(number), number) for number in range(IDS_PER_HOST + 1)]
    assert ids.position("a", "0") is None
    assert ids.position("a", "1") == 1
    assert forgotten == [[]] * IDS_PER_HOST + [[0]]
    assert len(ids) == IDS_PER_HOST


def test_the_host_that_was_silent_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relayed_ids, "MAX_IDS", 10)
    ids = RelayedIds()
    forgotten: list[int] = []
    for host, origin in enumerate(("a", "b", "c")):
        for number in range(5):
            forgotten += ids.remember(origin, str(number), 10 * host + number)
    assert ids.position("a", "0") is None
    assert ids.position("b", "0") == 10
    assert forgotten == [0, 1, 2, 3, 4]
    assert len(ids) == 10


def test_a_host_that_speaks_again_is_no_longer_the_silent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relayed_ids, "MAX_IDS", 3)
    ids = RelayedIds()
    for position, (origin, name) in enumerate([("a", "1"), ("b", "1"), ("a", "2"), ("c", "1")]):
        ids.remember(origin, name, position)
    assert (ids.position("a", "1"), ids.position("b", "1"), ids.position("c", "1")) == (0, None, 3)


def test_a_host_that_is_alone_is_not_forgotten_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relayed_ids, "MAX_IDS", 3)
    ids = RelayedIds()
    assert [ids.remember("a", str(number), number) for number in range(5)] == [[]] * 5
    assert len(ids) == 5


# ---- on disk -----------------------------------------------------------------------------------------------


def test_an_id_is_known_to_the_next_run_whatever_became_of_this_one(logs: Logs, tmp_path: Path) -> None:
    log = logs.open()
    append(log, b"\x01")
    first, second = relayed(log, "one"), relayed(log, "ünï")
    on_disk(log)
    copy = tmp_path / "copy.db"
    for suffix in ("", "-wal", ".journal"):  # what a killed relay leaves
        shutil.copy(f"{logs.path}{suffix}", f"{copy}{suffix}")
    log.close()
    for path in (logs.path, copy):
        again = logs.open(path)
        assert again.ids.position("xml", "one") == first.position
        assert again.ids.position("xml", "ünï") == second.position
        assert again.ids.position("ham", "one") is None
        assert len(again.ids) == 2
        assert relayed(again, "three").position > second.position


def test_what_is_forgotten_leaves_the_file_too(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relayed_ids, "IDS_PER_HOST", 3)
    monkeypatch.setattr(relayed_ids, "MAX_IDS", 5)
    log = logs.open()
    for origin in ("a", "b", "c"):
        for number in range(4):
            relayed(log, str(number), origin)
    on_disk(log)
    log.close()
    kept = [("c", "1"), ("c", "2"), ("c", "3")]
    assert [(origin, message_id) for _, origin, message_id in rows(logs.path)] == kept
    monkeypatch.setattr(relayed_ids, "IDS_PER_HOST", 2)
    again = logs.open()
    assert again.ids.position("c", "1") is None
    relayed(again, "0", "d")
    on_disk(again)
    again.close()
    assert [message_id for _, _, message_id in rows(logs.path)] == ["2", "3", "0"]


def test_a_log_without_ids_has_no_table_of_them_and_gets_it_with_the_first(logs: Logs) -> None:
    log = logs.open()
    entry = append(log, b"\x01", seq=1)
    log.close()
    with pytest.raises(apsw.SQLError, match="no such table"):
        rows(logs.path)
    log = logs.open()
    assert not log.replaced
    found = relayed(log, "one").position
    log.close()
    assert rows(logs.path) == [(found, "xml", "one")]
    again = logs.open()
    assert not again.replaced
    assert again.ids.position("xml", "one") == found
    assert [kept.position for kept in again.read_disk(0, 2**20).entries] == [entry.position, found]


@pytest.mark.parametrize("harm", ["id = 'two'", "position = 77", "origin = x'ff'", "id = NULL", "checksum = 1"])
def test_a_damaged_id_is_left_out_and_nothing_else(logs: Logs, harm: str) -> None:
    log = logs.open()
    relayed(log, "one")
    other = relayed(log, "other")
    log.close()
    db = apsw.Connection(str(logs.path))
    db.execute(f"UPDATE relayed SET {harm} WHERE id = 'one'")
    db.close()
    again = logs.open()
    assert not again.replaced
    assert again.ids.position("xml", "other") == other.position
    assert len(again.ids) == 1
