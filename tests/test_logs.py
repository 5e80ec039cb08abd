"""Log files: lines that cannot be forged, files kept apart, floods that are counted and told."""

import logging
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from co2 import logs
from co2.logs import MAX_VALUE, PLACE_BURST, LineBudget, LineBudgets, LogFiles, escaped, setup_logs
from co2.plugin.parent.package_log import PackageLog
from co2.protocol.wire.plugin_frames.frames import Record
from co2.server.http.access_log import AccessLog
from co2.server.http.refused import Refused
from co2.xmlrpc.registry import Caller
from tests.harness import wait_for

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (DEBUG|INFO|WARNING|ERROR) +co2[\w.]*: .*")
FORGED = "2026-01-01 00:00:00.000 ERROR   co2: everything is deleted"
FAILED = 'every failed\nTraceback (most recent call last):\n  File "spam.py", line 3, in tick\nValueError: '
LINE_ENDS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with setup_logs(tmp_path / "logs"):
        yield tmp_path / "logs"


def lines(folder: Path, name: str = "co2.log") -> list[str]:
    # splitlines() would also cut at the exotic ones: this is what an editor shows.
    return (folder / name).read_text().splitlines()


def test_writing_direction_cannot_be_turned_round(folder: Path) -> None:
    logging.getLogger("co2.server").info("from %s", "\u202egro.elpmaxe")
    assert lines(folder)[0].endswith("from \\u202egro.elpmaxe")


# ---- lines that cannot lie -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", LINE_ENDS, ids=repr)
def test_a_value_with_line_ends_stays_on_one_line(folder: Path, end: str) -> None:
    logging.getLogger("co2.server").info("refused: %s", f"a{end}{FORGED}")
    (line,) = lines(folder)
    assert LINE.fullmatch(line)
    assert repr(end)[1:-1] in line


@pytest.mark.parametrize("end", LINE_ENDS, ids=repr)
def test_an_error_with_line_ends_stays_on_one_line(folder: Path, end: str) -> None:
    logging.getLogger("co2").warning("failed: %s", ValueError(f"a{end}{FORGED}"))
    assert len(lines(folder)) == 1


@pytest.mark.parametrize("end", LINE_ENDS, ids=repr)
def test_a_plugin_cannot_forge_a_line(folder: Path, end: str) -> None:
    logging.getLogger("co2.plugins.ham.spam.X_Ham").info("%s", f"one{end}{FORGED}")
    first, *more = lines(folder)
    assert LINE.fullmatch(first)
    assert all(line.startswith("  | ") for line in more), "a further line is seen to be one"


def test_a_traceback_is_indented(folder: Path) -> None:
    try:
        raise ValueError(f"one\n{FORGED}")
    except ValueError:
        logging.getLogger("co2").exception("failed")
    first, *more = lines(folder)
    assert LINE.fullmatch(first)
    assert len(more) > 3
    assert all(line.startswith("  | ") for line in more)
    assert any(FORGED in line for line in more)


def test_a_terminal_is_told_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "".join(chr(code) for code in [*range(32), *range(127, 160)]) + "\x1b[2J"
    logging.getLogger("co2.plugins.ham").warning("%s", text)
    logging.getLogger("co2").warning("%s", text)
    shown = (folder / "co2.log").read_text()
    assert not set(shown) - {"\n", "\t"} & set(map(chr, [*range(32), *range(127, 160)]))
    assert "\\x1b[2J" in shown


def test_escaping_leaves_text_alone() -> None:
    assert escaped("drüben → 日本 \t 100%\n") == "drüben → 日本 \t 100%\n"
    assert escaped("\x1b[31m\x00\ud800") == "\\x1b[31m\\x00\\ud800"


def test_a_long_value_is_cut_and_its_length_told(folder: Path) -> None:
    logging.getLogger("co2.relay").info("from %s: %d", "x" * 100_000, 7)
    (line,) = lines(folder)
    assert f"{'x' * MAX_VALUE}… (100000 characters): 7" in line
    assert len(line) < MAX_VALUE + 200


def test_a_percent_sign_in_a_value_is_one(folder: Path) -> None:
    logging.getLogger("co2").info("%s", "100%s %d\n%n")
    assert lines(folder)[0].endswith("co2: 100%s %d\\n%n")


# ---- three files and stderr ----------------------------------------------------------------------------


def test_each_file_has_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("co2.plugins.ham").debug("found out")
    logging.getLogger("co2").info("happened")
    logging.getLogger("co2.access").info("127.0.0.1 POST ping")
    wait_for(lambda: lines(folder, "access.log"), "the access log is written without being asked")
    for name, text in (("co2.log", "happened"), ("debug.log", "found out"), ("access.log", "POST ping")):
        (line,) = lines(folder, name)
        assert line.endswith(text)
    assert capsys.readouterr().err == ""


def test_warnings_are_also_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with setup_logs(tmp_path / "logs"):
        logging.getLogger("co2.relay").warning("careful\x1b[2J")
        logging.getLogger("co2.plugins.ham").error("broken")
        logging.getLogger("co2").info("all is well")
    found = capsys.readouterr()
    assert [LINE.fullmatch(line) is not None for line in found.err.splitlines()] == [True, True]
    assert "careful\\x1b[2J" in found.err
    assert found.out == "", "stdout is for the ready line"
    assert len(lines(tmp_path / "logs")) == 3


def test_what_comes_again_is_in_the_file_only_until_it_is_told_with_a_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with setup_logs(tmp_path / "logs"):
        records = PackageLog("ham")
        for number in range(3):
            failed = FAILED.replace("every failed", f"receive failed: {number}")
            records.take(Record("ham.spam.X_Ham", logging.ERROR, f"{failed}nih\x1b[2J {number}"))
        records.take(Record("ham.spam.X_Other", logging.ERROR, f"{FAILED}nih"))
        records.close()
    shown = capsys.readouterr().err.splitlines()
    first, other = [line.partition(": ")[2] for line in shown if LINE.fullmatch(line)]
    assert (first, other) == ("receive failed: 0", "every failed"), "whole, with further lines"
    assert sum("Traceback" in line for line in shown) == 2
    told = [line for line in lines(tmp_path / "logs") if "(again)" in line]
    assert [line.partition(" co2.plugins.ham.spam.X_Ham: ")[2] for line in told] == [
        f"receive failed: {number} - ValueError: nih\\x1b[2J {number} (again)" for number in (1, 2)
    ]


def test_lines_of_the_access_log_that_come_together(folder: Path, tmp_path: Path) -> None:
    logging.getLogger("co2.access").info("2 requests", extra={"lines": ["one", "two \x1b"]})
    wait_for(lambda: lines(folder, "access.log") == ["one", "two \\x1b"])


def test_a_line_that_comes_while_the_others_are_written_is_not_lost(folder: Path) -> None:
    """The thread that writes takes the list of records away just before another thread appends to it."""
    logger = logging.getLogger("co2.access")
    handler = next(one for one in logger.handlers if isinstance(one, logs._BufferedFile))
    began, written = threading.Event(), threading.Event()

    def write() -> None:
        assert began.wait(10)
        handler.flush()
        written.set()

    class Records(list[logging.LogRecord]):
        def append(self, record: logging.LogRecord) -> None:
            began.set()
            written.wait(0.2)  # it must wait for us; without the lock it does not
            super().append(record)

    handler._records = Records()
    writer = threading.Thread(target=write)
    writer.start()
    logger.info("127.0.0.1 POST ping")
    writer.join(10)
    wait_for(lambda: lines(folder, "access.log"), "the line is written")


def test_only_we_may_read_them(tmp_path: Path) -> None:
    with setup_logs(tmp_path / "logs"):
        logging.getLogger("co2").info("secret")
    assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "logs").iterdir()}
    assert files == dict.fromkeys(("co2.log", "debug.log", "access.log"), 0o600)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "logs" / "access.log").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match=r"access\.log"):
        LogFiles(tmp_path / "logs")
    assert logging.getLogger("co2").handlers == [], "what was opened before is closed"
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_full_file_is_numbered_and_only_so_many_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "FILE_SIZE", 1000)
    with setup_logs(tmp_path / "logs"):
        for number in range(200):
            logging.getLogger("co2").info("line %d", number)
    found = sorted((tmp_path / "logs").glob("co2.log*"))
    assert [path.name for path in found] == ["co2.log", "co2.log.1", "co2.log.2", "co2.log.3"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in found)
    assert all(path.stat().st_size <= 1000 for path in found)
    assert "line 199" in found[0].read_text()


def test_after_the_end_everything_is_as_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with setup_logs(tmp_path / "logs"):
        logging.getLogger("co2").info("one")
    logging.getLogger("co2").warning("two")
    assert len(lines(tmp_path / "logs")) == 1
    assert caplog.messages == ["two"]


# ---- the limit -----------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate_and_what_is_over_is_told(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    budget = LineBudget(rate=10, burst=5, clock=clock)
    assert [budget.take(100) for _ in range(8)] == [True] * 5 + [False] * 3
    assert budget.spent
    clock.now = 0.25
    assert [budget.take(100) for _ in range(3)] == [True, True, False]
    clock.now = 1000.0
    assert [budget.take(100) for _ in range(6)] == [True] * 5 + [False], "what is not used is not saved up"
    budget.tell(logging.getLogger("co2"))
    budget.tell(logging.getLogger("co2"))
    (record,) = caplog.records
    assert "suppressed 5 lines, 500 bytes" in record.getMessage()
    assert record.levelno == logging.WARNING, "it is not silent"


def test_refusals_that_were_suppressed_are_told_when_a_line_comes(caplog: pytest.LogCaptureFixture) -> None:
    books = AccessLog(None)
    caller = Caller("192.0.2.1", 7)
    with caplog.at_level(logging.INFO, "co2.server"):
        for _ in range(100):
            books.refused(caller, Refused(404, "no such page"))
        written = len(caplog.records)
        assert written < 60

        def tried() -> bool:
            books.refused(caller, Refused(404, "no such page"))
            return len(caplog.records) > written

        wait_for(tried)
    assert re.search(r"192\.0\.2\.1 suppressed \d+ lines", caplog.text)


def test_refusals_that_were_suppressed_are_told_also_when_no_line_follows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    books = AccessLog(None)
    with caplog.at_level(logging.INFO, "co2.server"):
        for _ in range(1000):
            books.refused(Caller("192.0.2.1", 7), Refused(404, "no such page"))

        def told() -> bool:
            books.write_down()
            return "192.0.2.1 suppressed " in caplog.text

        wait_for(told)
    total = sum(map(int, re.findall(r"suppressed (\d+) lines", caplog.text)))
    assert total + sum("refused" in message for message in caplog.messages) == 1000


def test_the_end_and_a_forgotten_address_are_told(caplog: pytest.LogCaptureFixture) -> None:
    books = AccessLog(None)
    with caplog.at_level(logging.INFO, "co2.server"):
        for _ in range(100):
            books.dropped_one(Caller("192.0.2.1", 7), "full", "too many")
        for number in range(1024):
            books.dropped_one(Caller(f"10.0.{number // 256}.{number % 256}", 1), "full", "too many")
        books.write_down()
        assert "192.0.2.1 suppressed " in caplog.text
        for _ in range(100):
            books.dropped_one(Caller("192.0.2.9", 7), "full", "too many")
        books.write_down(ending=True)
    assert "192.0.2.9 suppressed " in caplog.text


def test_sources_have_budgets_of_their_own_and_one_together(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    budgets = LineBudgets(1.0, 5, 10.0, 30, max_sources=100, clock=clock)
    logger = logging.getLogger("co2.test.budgets")
    with caplog.at_level(logging.INFO, logger="co2.test.budgets"):
        for n in range(1000):
            budgets.log(logger, logging.INFO, "mallory", "line %d of mallory", n)
        budgets.log(logger, logging.INFO, "honest", "an honest line")
        assert len(caplog.records) == 6
        for n in range(1000):
            budgets.log(logger, logging.INFO, f"sybil {n}", "a line of sybil %d", n)
        assert len(caplog.records) == 30
        caplog.clear()
        clock.now = 60.0
        budgets.tell(logger)
        told = " ".join(record.getMessage() for record in caplog.records)
        caplog.clear()
        budgets.tell(logger, ending=True)
        told += " ".join(record.getMessage() for record in caplog.records)
        assert "mallory suppressed" in told
        assert "others suppressed" in told
        suppressed = sum(int(found) for found in re.findall(r"suppressed (\d+) lines", told))
        assert suppressed == 2001 - 30, "each line that is not there was told"


def test_no_place_in_the_code_fills_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("co2.test.places")
    with setup_logs(tmp_path):
        for n in range(PLACE_BURST + 500):
            logger.warning("a line that a peer has caused: %d", n)
        logger.warning("another place")
        for _ in range(100):
            try:
                raise ValueError("boom")
            except ValueError:
                logger.exception("with a traceback")
    text = (tmp_path / "co2.log").read_text()
    assert text.count("a line that a peer has caused") < PLACE_BURST + 200
    assert text.count("Traceback") <= 22
    assert "another place" in text
    assert "suppressed" in text
    assert capsys.readouterr().err.count("a line that a peer has caused") == text.count(
        "a line that a peer has caused"
    )
