"""The log of a package: its last lines, its last error, and what is said of lines that were left out."""

import logging
from collections.abc import Iterator

import pytest

from co2.plugin.parent import package_log
from co2.plugin.parent.package_log import LogTail, PackageLog
from co2.plugin.parent.process_output import BURST
from co2.protocol.wire.plugin_frames.frames import Record
from tests.harness import wait_for

NAME = "co2.plugins.ham"


@pytest.fixture
def ham(caplog: pytest.LogCaptureFixture) -> Iterator[PackageLog]:
    caplog.set_level(logging.DEBUG, NAME)
    made = PackageLog("ham")
    yield made
    made.close()


def line(text: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("co2.plugins.ham.spam.X_Ham", level, "", 0, text, None, None)


def test_the_last_lines_are_numbered_and_read_from_any_of_them_on() -> None:
    tail = LogTail()
    for number in range(1, 6):
        tail.emit(line(f"line {number}"))
    assert [(row["number"], row["text"]) for row in tail.rows(0, 100)] == [(n, f"line {n}") for n in range(1, 6)]
    assert [row["number"] for row in tail.rows(3, 100)] == [4, 5]
    assert [row["number"] for row in tail.rows(0, 2)] == [4, 5], "the newest"
    assert tail.rows(5, 100) == []
    row = tail.rows(4, 1)[0]
    assert (row["level"], row["source"]) == ("INFO", "ham.spam.X_Ham")
    assert tail.level == logging.INFO, "debug lines are not kept"


def test_as_many_lines_are_kept_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_log, "MAX_LINES", 3)
    tail = LogTail()
    for number in range(3):
        tail.emit(line(f"line {number}"))
    assert len(tail.rows(0, 100)) == 3
    tail.emit(line("one more"))
    assert [row["number"] for row in tail.rows(0, 100)] == [2, 3, 4]


@pytest.mark.parametrize(("spare", "kept"), [(0, [2, 3]), (-1, [3])])
def test_as_many_characters_are_kept_as_may_be(
    monkeypatch: pytest.MonkeyPatch, spare: int, kept: list[int]
) -> None:
    monkeypatch.setattr(package_log, "MAX_BYTES", 20 + 30 + 2 * package_log._OVERHEAD + spare)
    tail = LogTail()
    for size in (10, 20, 30):
        tail.emit(line("x" * size))
    assert [row["number"] for row in tail.rows(0, 100)] == kept
    for _ in range(50):
        tail.emit(line("x" * 25))
    assert [row["number"] for row in tail.rows(0, 100)] == ([52, 53] if spare == 0 else [53])


def test_a_line_with_a_wrong_placeholder_is_kept_as_it_was_written() -> None:
    tail = LogTail()
    tail.emit(logging.LogRecord("ham", logging.INFO, "", 0, "%d pieces", ("many",), None))
    assert tail.rows(0, 1)[0]["text"] == "%d pieces"


def test_lines_go_out_under_the_name_of_their_plugin_and_are_kept(
    ham: PackageLog, caplog: pytest.LogCaptureFixture
) -> None:
    ham.take(Record("ham.spam.X_Ham", logging.INFO, "hello"))
    ham.take(Record("", logging.DEBUG, "more"))
    ham.take(Record("", logging.INFO, ""))
    assert [(one.name, one.levelno, one.getMessage()) for one in caplog.records] == [
        (f"{NAME}.spam.X_Ham", logging.INFO, "hello"),
        (NAME, logging.DEBUG, "more"),
    ]
    assert [row["text"] for row in ham.tail.rows(0, 100)] == ["hello"]
    assert (ham.last_error, ham.last_error_age) == ("", None)
    ham.close()
    ham.logger.info("after the end")
    assert len(ham.tail.rows(0, 100)) == 1


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("it failed", "it failed"),
        ("it failed\nTraceback:\n  File\nValueError: nih\n\n", "it failed - ValueError: nih"),
        ("x" * 1000 + "\nValueError: nih", "x" * 300 + " - ValueError: nih"),
        ("  \n ", ""),
    ],
)
def test_the_last_error_is_its_first_line_and_the_end_of_its_traceback(
    ham: PackageLog, text: str, last: str
) -> None:
    ham.take(Record("ham.spam.X_Ham", logging.WARNING, "no error"))
    assert ham.last_error == ""
    ham.take(Record("ham.spam.X_Ham", logging.ERROR, text))
    assert ham.last_error == f"ham.spam.X_Ham: {last}"
    age = ham.last_error_age
    assert age is not None
    assert 0 <= age < 60
    ham.forget_error()
    assert (ham.last_error, ham.last_error_age) == ("", None)


def test_errors_and_warnings_of_the_satellite_about_a_package_are_its_last_error(
    ham: PackageLog, caplog: pytest.LogCaptureFixture
) -> None:
    ham.error("it died")
    assert ham.last_error == "it died"
    ham.warn("x" * 1000)
    assert ham.last_error == "x" * package_log.MAX_ERROR
    assert [(one.levelno, one.getMessage()) for one in caplog.records] == [
        (logging.ERROR, "it died"),
        (logging.WARNING, "x" * 1000),
    ]


def test_an_error_that_comes_again_is_for_the_file_and_is_told_with_its_number_later(
    ham: PackageLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(ham._repeats, "_clock", lambda: clock[0])
    trace = "\nTraceback (most recent call last):\n  File\nValueError: nih"

    def fail(what: str) -> list[tuple[str, str, bool]]:
        caplog.clear()
        ham.take(Record("ham.spam.X_Ham", logging.ERROR, what + trace))
        return shown()

    def shown() -> list[tuple[str, str, bool]]:
        return [
            (one.name.removeprefix(NAME), one.getMessage(), getattr(one, "told", True)) for one in caplog.records
        ]

    name = ".spam.X_Ham"
    assert fail("a") == [(name, "a" + trace, True)], "the first is shown at the terminal"
    assert fail("a") == [], "the very same is only counted"
    assert fail("b") == [(name, "b - ValueError: nih (again)", False)]
    assert ham.last_error == "ham.spam.X_Ham: b - ValueError: nih"
    clock[0] = 1.0
    caplog.clear()
    ham.tell(100.0, 0)
    ((name, text, is_told),) = shown()
    assert (name, is_told) == (".spam.X_Ham", True)
    assert text.startswith("b - ValueError: nih (repeated: 3 times in 1 s")
    for number in range(package_log.QUIET_BURST + 5):
        fail(f"c {number}")
    assert fail("d") == [], "there is a limit to what the file gets of it"


def test_what_was_dropped_is_told_at_intervals_and_only_what_is_new(
    ham: PackageLog, caplog: pytest.LogCaptureFixture
) -> None:
    def told(now: float, dropped: int, unkept: int = 0) -> list[str]:
        caplog.clear()
        ham.tell(now, dropped, unkept)
        return [text.partition(" ")[2] if text.startswith("gap") else text for text in caplog.messages]

    assert told(100.0, 0) == []
    (text,) = told(100.0, 3)
    assert text.startswith("3 messages were dropped")
    assert told(104.9, 5) == [], "too soon"
    (text,) = told(105.0, 5)
    assert text.startswith("2 messages were dropped")
    assert told(200.0, 5) == []
    (text,) = told(200.0, 5, 4)
    assert text.startswith("4 dead letters were not kept")
    first, second = told(300.0, 6, 9)
    assert (first[:1], second[:1]) == ("1", "5")


def test_suppressed_lines_are_told_at_intervals_once_there_is_room(
    ham: PackageLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    for name in ("_budget", "_debug_budget", "_quiet_budget"):
        monkeypatch.setattr(getattr(ham, name), "_clock", lambda: clock[0])
        getattr(ham, name)._at = 0.0

    def told(now: float) -> list[tuple[int, str]]:
        caplog.clear()
        ham.tell(now, 0)
        return [(one.levelno, one.getMessage().partition(" (")[0]) for one in caplog.records]

    for _ in range(BURST + 3):
        ham.take(Record("", logging.INFO, "four"))
    assert told(100.0) == [], "a line about lines is one itself"
    clock[0] = 1.0
    assert told(100.0) == [(logging.WARNING, "suppressed 3 lines, 12 bytes")]
    for _ in range(package_log.DEBUG_BURST + 2):
        ham.take(Record("", logging.DEBUG, "four"))
    clock[0] = 2.0
    assert told(104.9) == [], "too soon"
    assert told(105.0) == [(logging.WARNING, "suppressed 2 lines, 8 bytes")]
    ham._quiet_budget.suppress(0, 7)
    assert told(200.0) == [(logging.INFO, "suppressed 0 lines, 7 bytes")]
    ham._quiet_budget.suppress(7, 0)
    assert told(300.0) == [(logging.INFO, "suppressed 7 lines, 0 bytes")]


def test_the_age_of_an_error_grows(ham: PackageLog) -> None:
    ham.error("it died")
    before = ham.last_error_age
    assert before is not None
    wait_for(lambda: (ham.last_error_age or 0.0) > before, "it is older")
