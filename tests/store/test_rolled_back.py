"""What a receipt proves of a log: that it is an older copy; never that of one which has only crashed or is old."""

import shutil
from pathlib import Path

import pytest

from co2.store import log_file, relay_log
from co2.store.relay_log import RelayLog
from tests.store.test_relay_log import Logs, append, logs, on_disk

__all__ = ["logs"]


def kill_and_copy(log: RelayLog, path: Path, copy: Path) -> None:
    """Copy a log's files while it is in use, as a snapshot of its disk does."""
    on_disk(log)
    for file in path.parent.glob(f"{path.name}*"):
        if file.suffix != ".reserve" and not file.name.endswith("-shm"):
            shutil.copy(file, copy.with_name(file.name.replace(path.name, copy.name, 1)))


def test_an_older_copy_is_known_by_a_run_that_it_does_not_know(logs: Logs, tmp_path: Path) -> None:
    log = logs.open()
    append(log, b"\x01")
    log.close()
    older = tmp_path / "older.db"
    shutil.copy(logs.path, older)
    log = logs.open()
    shown = append(log, b"\x02").end
    on_disk(log)
    name, run = log.log_id, log.run
    assert not log.was_rolled_back(name, run, shown)
    log.close()
    log = logs.open()
    assert not log.was_rolled_back(name, run, shown), "it was closed, and is whole"
    restored = logs.open(older)
    for _ in range(5):
        append(restored, b"\x03")
    assert restored.last > shown, "it has gone further since"
    assert restored.was_rolled_back(name, run, shown)
    assert not restored.was_rolled_back("another", run, shown)
    restored.replace_id()
    assert restored.was_rolled_back(name, run, shown), "others come later, and know it by its former name"
    restored.close()
    assert logs.open(older).was_rolled_back(name, run, shown)


def test_a_copy_of_the_same_run_is_known_by_how_far_that_had_come(logs: Logs, tmp_path: Path) -> None:
    log = logs.open()
    append(log, b"\x01")
    older = tmp_path / "older.db"
    kill_and_copy(log, logs.path, older)
    before = log.last
    shown = append(log, b"\x02").end
    on_disk(log)
    restored = logs.open(older)
    assert restored.holds(log.run, shown), "by its lease it may have been handed out"
    assert restored.was_rolled_back(log.log_id, log.run, shown)
    assert not restored.was_rolled_back(log.log_id, log.run, before)


def test_a_log_that_was_only_killed_is_not_rolled_back(logs: Logs, tmp_path: Path) -> None:
    log = logs.open()
    head = log.committed
    killed = tmp_path / "killed.db"
    kill_and_copy(log, logs.path, killed)
    again = logs.open(killed)
    assert not again.was_rolled_back(log.log_id, log.run, head), "it had given nothing out yet"
    head = again.committed
    assert head > log.last, "it goes on behind its lease"
    third = tmp_path / "third.db"
    kill_and_copy(again, killed, third)
    assert not logs.open(third).was_rolled_back(again.log_id, again.run, head)


def test_who_was_away_for_more_starts_than_are_remembered_goes_on(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_log, "MAX_RUNS", 3)
    log = logs.open()
    shown = append(log, b"\x01").end
    on_disk(log)
    run = log.run
    for _ in range(5):
        log.close()
        log = logs.open()
        append(log, b"\x02")
        on_disk(log)
    assert run not in log._runs
    assert log.holds(run, shown)
    assert not log.was_rolled_back(log.log_id, run, shown)
    assert not log.holds("made up", log.last)


# ---- marks --------------------------------------------------------------------------------------------------


def test_one_sender_has_so_many_marks(logs: Logs) -> None:
    log = logs.open()
    append(log, b"\x01", origin="spam", epoch=5, seq=1)
    for epoch in range(1, 101):
        append(log, b"\x01", origin="ham", epoch=epoch, seq=1)
    newest = {("ham", epoch) for epoch in range(37, 101)} | {("spam", 5)}
    assert set(log.marks) == newest
    on_disk(log)
    log.close()
    log = logs.open()
    assert set(log.marks) == newest
    append(log, b"\x01", origin="ham", epoch=101, seq=1)
    assert ("ham", 37) not in log.marks


def test_all_together_have_so_many_while_the_relay_runs(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "MAX_MARKS", 50)
    monkeypatch.setattr(relay_log, "MARKS_SLACK", 10)
    log = logs.open()
    for number in range(1, 500):
        append(log, b"\x01", origin="honest", epoch=7, seq=number)
        append(log, b"\x01", origin=f"flood{number}", epoch=7, seq=1)
        if not number % 5:
            on_disk(log)
        assert len(log.marks) <= 50 + 10 + 20
    assert log.marks["honest", 7] == 499
    assert len(log._epochs) == len(log.marks)
    on_disk(log)
    log.close()
    assert len(logs.open().marks) <= 50


def test_a_run_that_speaks_again_just_when_it_was_forgotten_keeps_its_mark(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "MAX_MARKS", 50)
    monkeypatch.setattr(relay_log, "MARKS_SLACK", 10)
    log = logs.open()
    append(log, b"\x01", origin="a", epoch=7, seq=1)
    on_disk(log)
    flood = 0
    while not log._writer._trimmed:  # on disk it is forgotten, in memory with the next run that begins
        flood += 1
        append(log, b"\x01", origin=f"flood{flood}", epoch=7, seq=1)
        on_disk(log)
    append(log, b"\x02", origin="a", epoch=7, seq=2)
    on_disk(log)
    append(log, b"\x01", origin="another", epoch=7, seq=1)
    assert log.marks["a", 7] == 2
    assert ("flood1", 7) not in log.marks
    on_disk(log)
    log.close()
    assert logs.open().marks["a", 7] == 2
