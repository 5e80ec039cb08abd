"""Lines of a plugin host at the limits: of a line, of what is kept, and of what the log takes."""

import logging

import pytest

from co2.logs import LineBudget
from co2.plugin.parent.process_output import MAX_LINE, TAIL, ProcessOutput

LOGGER = logging.getLogger("co2.plugins.ham")


class Output:
    """One with a budget, and a clock that stands."""

    def __init__(self, burst: int = 100) -> None:
        self.now = 0.0
        self.budget = LineBudget(1.0, burst, lambda: self.now)
        self.output = ProcessOutput(LOGGER, logging.INFO, self.budget)

    def feed(self, *parts: bytes) -> None:
        for part in parts:
            self.output.feed(part)

    @property
    def suppressed(self) -> tuple[int, int]:
        return self.budget.lines, self.budget.bytes


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


@pytest.mark.parametrize(("size", "shown", "cut"), [(MAX_LINE, MAX_LINE, 0), (MAX_LINE + 1, MAX_LINE, 1)])
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_is_shown_up_to_its_limit(
    caplog: pytest.LogCaptureFixture, size: int, shown: int, cut: int, end: bytes
) -> None:
    it = Output()
    it.feed(b"x" * size + end)
    it.output.close()
    assert [len(text) for text in caplog.messages] == [shown]
    assert it.suppressed == (0, cut)


def test_what_follows_in_a_line_that_was_cut_is_counted_and_the_next_line_is_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    it = Output()
    it.feed(b"x" * (MAX_LINE + 5), b"12345", b"123\n", b"next\n", b"one more\n")
    assert [text[:8] for text in caplog.messages] == ["x" * 8, "next", "one more"]
    assert it.suppressed == (0, 5 + 5 + 3)


def test_lines_without_room_are_counted_with_what_was_there_of_them(caplog: pytest.LogCaptureFixture) -> None:
    it = Output(burst=1)
    it.feed(b"one\nhal")
    assert it.suppressed == (0, 0)
    it.feed(b"f\ntwo\nthree")
    assert it.suppressed == (2, len(b"half\ntwo\nthree"))
    it.now = 5.0
    it.feed(b"rest of three\nfour\n")
    assert caplog.messages == ["one", "four"]
    assert it.suppressed == (2, len(b"half\ntwo\nthree") + len(b"rest of three"))


def test_after_whole_lines_that_were_counted_the_next_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    it = Output(burst=1)
    it.feed(b"one\n", b"two\n")
    it.now = 5.0
    it.feed(b"three\n")
    assert caplog.messages == ["one", "three"]


def test_empty_lines_are_not_shown_and_take_no_room(caplog: pytest.LogCaptureFixture) -> None:
    it = Output(burst=1)
    it.feed(b"\n \n\t\r\n", b"one\r\n")
    it.output.close()
    it.output.close()
    assert caplog.messages == ["one"]
    assert it.suppressed == (0, 0)


def test_the_last_line_is_shown_once(caplog: pytest.LogCaptureFixture) -> None:
    it = Output()
    it.feed(b"no end")
    it.output.close()
    it.output.close()
    assert caplog.messages == ["no end"]


@pytest.mark.parametrize("parts", [(TAIL,), (TAIL + 1,), (10, TAIL - 1), (TAIL, 10), (5, 5)])
def test_the_newest_output_is_kept(parts: tuple[int, ...]) -> None:
    it = Output()
    fed = [bytes([65 + number]) * size for number, size in enumerate(parts)]
    it.feed(*fed)
    assert it.output.tail == b"".join(fed)[-TAIL:].decode()


def test_only_a_dump_that_is_expected_and_only_its_lines_are_for_the_debug_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    it = Output()
    dump = b'  File "spam.py", line 1 in receive\n'
    it.feed(dump, b"print\n")
    it.output.expect_dump()
    it.feed(dump, b"print\n")
    assert [record.levelno for record in caplog.records] == [
        *(logging.INFO, logging.INFO),
        *(logging.DEBUG, logging.INFO),
    ]
    assert it.output.tail == dump.decode() + "print\n"
