"""The parts of the supervisor that do no I/O: queue, window, calls, deaths, watchdog, progress, output."""

import asyncio
import itertools
import logging
import os
import time

import pytest

from co2.errors import CallTimeout, PluginFailed
from co2.logs import LineBudget
from co2.plugin import waiting
from co2.plugin.calls import MAX_CALLS, PendingCalls
from co2.plugin.deaths import MAX_TRIES, PARK_DEATHS, PARK_WITHIN, Deaths, backoff, read_progress
from co2.plugin.output import MAX_LINE, TAIL, Output, innermost_place
from co2.plugin.progress import EXITING, ProgressWords, make_progress_file
from co2.plugin.records import Records
from co2.plugin.waiting import Envelope, Waiting, Window
from co2.plugin.watch import Watch
from co2.protocol.frames import PluginInfo, Progress, Record
from tests.harness import wait_for

A = Envelope("a@127.0.0.1:1", ("127.0.0.1", 1))
B = Envelope("b@127.0.0.1:2", ("127.0.0.1", 2))


# ---- waiting -------------------------------------------------------------------------------------------


def test_sources_take_turns_and_each_keeps_its_order() -> None:
    queue = Waiting()
    queue.put("", A, [b"1", b"2"])
    queue.put("ham", B, [b"x"])
    queue.put("", B, [b"3"])
    assert len(queue) == 4
    assert [queue.take(1) for _ in range(5)] == [(A, [b"1"]), (B, [b"x"]), (A, [b"2"]), (B, [b"3"]), None]
    assert queue.bytes == 0


def test_a_batch_has_one_envelope_and_at_least_one_message() -> None:
    queue = Waiting()
    queue.put("", A, [b"1" * 1000, b"2"])
    queue.put("", B, [b"3"])
    assert queue.take(1) == (A, [b"1" * 1000])
    assert queue.take(10_000) == (A, [b"2"])
    assert queue.take(10_000) == (B, [b"3"])


def test_who_floods_the_queue_loses_messages_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MAX_WAITING", 10_000)
    queue = Waiting()
    queue.put("", A, [b"mine"] * 10)
    assert queue.put("flood", B, [bytes([n % 256]) * 100 for n in range(1000)]) == queue.dropped > 900
    assert queue.bytes <= 10_000
    first = queue.take(10_000)
    assert first == (A, [b"mine"] * 10)
    left = queue.take(100_000)
    assert left is not None
    assert left[1][-1] == bytes([999 % 256]) * 100, "the oldest went"


def test_the_window_numbers_and_gives_again_what_is_not_done() -> None:
    window = Window()
    window.give(A, [b"1", b"2"])
    frame = window.give(B, [b"3"])
    assert (frame.first, len(window)) == (3, 3)
    assert window.done(1) == 1
    again = window.again()
    assert [(f.first, f.host_id, f.messages) for f in again] == [
        (2, A.host_id, [b"2"]),
        (3, B.host_id, [b"3"]),
    ]
    assert window.find(3) == (B, b"3")
    assert window.find(1) is None
    assert window.done(9) == 2
    assert window.room == waiting.WINDOW
    assert window.again() == []
    assert window.give(A, [b"4"]).first == 4, "numbers are never used twice"


# ---- calls ---------------------------------------------------------------------------------------------


def test_calls_are_answered_fail_or_time_out_and_are_bounded() -> None:
    async def scenario() -> None:
        calls = PendingCalls()
        first, answer = calls.new("ham.spam.one", 10)
        calls.answer(first, b"\x01", "")
        calls.answer(first, b"\x02", "")
        assert await calls.wait(first, answer, 1) == b"\x01"
        second, answer = calls.new("ham.spam.two", 10)
        assert calls.method(second) == "ham.spam.two"
        calls.fail("died")
        with pytest.raises(PluginFailed, match=r"ham\.spam\.two: died"):
            await calls.wait(second, answer, 1)
        third, answer = calls.new("ham.spam.three", 10)
        with pytest.raises(CallTimeout, match=r"ham\.spam\.three"):
            await calls.wait(third, answer, 0.001)
        calls.answer(third, b"late", "")
        assert calls.method(third) == ""
        for _ in range(MAX_CALLS):
            calls.new("ham.spam.many", 1)
        with pytest.raises(PluginFailed, match="wait already"):
            calls.new("ham.spam.many", 1)

    asyncio.run(scenario())


# ---- progress and deaths -------------------------------------------------------------------------------

PLUGINS = [PluginInfo(name, name, True, "") for name in ("a", "b", "c", "d")]


def test_progress_goes_through_the_file() -> None:
    fd = make_progress_file()
    writer, reader = ProgressWords(fd), ProgressWords(fd)
    os.close(fd)
    writer.words[6] = 2**64 - 1
    writer.words[7] = 5
    assert (reader.message(3), reader.activity(3)) == (2**64 - 1, 5)
    writer.close()
    reader.close()


def test_where_each_plugin_stood() -> None:
    words = ProgressWords()
    words.words[0] = 2 * 7 + 1  # a: inside 7
    words.words[2] = 2 * 7 + 2  # b: after 7
    words.words[4] = 2 * 3 + 2  # c: has not moved since it died in 4
    before = {"c": Progress(3, 4), "d": Progress(5, 6)}
    assert read_progress(words, PLUGINS, before) == {
        "a": Progress(6, 7),
        "b": Progress(7, 0),
        "c": Progress(3, 4),
        "d": Progress(5, 6),
    }


def test_three_deaths_in_one_message_make_a_dead_letter_and_do_not_park() -> None:
    deaths = Deaths()
    given_up = [deaths.add(now, [("a", 5)]) for now in range(MAX_TRIES)]
    assert given_up == [[], [], [("a", 5)]]
    assert not deaths.park(3)


def test_deaths_in_different_messages_park() -> None:
    deaths = Deaths()
    for number in range(PARK_DEATHS):
        assert not deaths.park(number)
        assert deaths.add(number, [("a", number)]) == []
    assert deaths.park(PARK_DEATHS)


def test_deaths_outside_of_messages_park_when_they_come_soon_after_another() -> None:
    deaths = Deaths()
    for now in range(PARK_DEATHS - 1):
        deaths.add(now, [])
    assert not deaths.park(PARK_DEATHS)
    deaths.add(PARK_WITHIN + 1, [])
    assert not deaths.park(PARK_WITHIN + 1), "the first is long ago"
    for _ in range(2):
        deaths.add(PARK_WITHIN + 1, [])
    assert deaths.park(PARK_WITHIN + 1)


def test_tries_are_forgotten_once_all_are_done() -> None:
    deaths = Deaths()
    deaths.add(0, [("a", 5)])
    deaths.add(0, [("a", 5)])
    deaths.forget_up_to(5)
    assert deaths.add(0, [("a", 5)]) == []


def test_delays_double_up_to_a_cap_with_jitter() -> None:
    delays = list(itertools.islice(backoff(), 20))
    for number, delay in enumerate(delays):
        middle = min(10.0, 0.1 * 2**number)
        assert 0.7 * middle < delay < 1.3 * middle


# ---- watchdog ------------------------------------------------------------------------------------------


def test_the_watchdog_tells_once_of_each_limit() -> None:
    words = ProgressWords()
    watch = Watch(words, PLUGINS, 1.0, 3.0)
    words.words[2] = 2 * 9 + 1
    words.words[5] = 2 * 4 + 1
    words.words[7] = EXITING
    assert watch.look(10.0) == []
    assert watch.look(10.9) == []
    slow = watch.look(11.1)
    assert [(s.plugin, s.inside, s.call_id, s.late) for s in slow] == [("b", 9, 0, False), ("c", 0, 4, False)]
    assert watch.look(12.0) == []
    words.words[2] = 2 * 9 + 2
    assert [(s.plugin, s.late) for s in watch.look(13.1)] == [("c", True)]
    assert watch.look(20.0) == []
    assert watch.slowest == pytest.approx(10.0)


def test_the_watchdog_starts_anew_with_each_message() -> None:
    words = ProgressWords()
    watch = Watch(words, PLUGINS, 1.0, 3.0)
    for number in range(1, 20):
        words.words[0] = 2 * number + 1
        assert watch.look(float(number) * 0.9) == []


def test_a_look_that_comes_late_tells_only_of_the_deadline() -> None:
    words = ProgressWords()
    watch = Watch(words, PLUGINS, 1.0, 3.0)
    words.words[0] = 3
    watch.look(0.0)
    assert [s.late for s in watch.look(50.0)] == [True]
    assert watch.look(60.0) == []


# ---- output --------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def output(caplog: pytest.LogCaptureFixture) -> tuple[Output, LineBudget, Clock]:
    caplog.set_level(logging.DEBUG)
    clock = Clock()
    logger = logging.getLogger("co2.plugins.ham")
    budget = LineBudget(rate=10, burst=5, clock=clock)
    return Output(logger, logging.INFO, budget), budget, clock


Kit = tuple[Output, LineBudget, Clock]


def test_output_is_cut_into_lines_however_it_comes(output: Kit, caplog: pytest.LogCaptureFixture) -> None:
    for part in (b"one", b" line\ntwo\n", b"\n", "drüben".encode(), b"\xff\n", b"last"):
        output[0].feed(part)
    output[0].close()
    assert caplog.messages == ["one line", "two", "drüben\ufffd", "last"]


def test_a_line_without_end_is_cut(output: Kit, caplog: pytest.LogCaptureFixture) -> None:
    out, budget, _ = output
    for _ in range(100):
        out.feed(b"x" * 1000)
    out.feed(b"\nnext\n")
    budget.tell(logging.getLogger("co2.plugins.ham"))
    assert [len(message) for message in caplog.messages[:2]] == [MAX_LINE, 4]
    assert f"0 lines, {100_000 - MAX_LINE} bytes" in caplog.messages[2]
    assert len(out.tail) == TAIL


def test_lines_over_the_rate_are_counted_and_told(output: Kit, caplog: pytest.LogCaptureFixture) -> None:
    out, budget, clock = output
    out.feed(b"line\n" * 100)
    out.feed(b"line\n" * 100 + b"half a line")
    assert len(caplog.messages) == 5
    clock.now = 0.2
    out.feed(b" and its end\nnew\n")
    budget.tell(logging.getLogger("co2.plugins.ham"))
    assert caplog.messages[5] == "new"
    assert caplog.messages[6].startswith("suppressed 195 lines")


def test_a_package_may_write_200_lines_at_once_and_100_a_second(caplog: pytest.LogCaptureFixture) -> None:
    records = Records("ham")
    with caplog.at_level(logging.INFO, "co2.plugins.ham"):
        started = time.monotonic()
        for _ in range(1000):
            records.take(Record("ham.spam.X_Ham", logging.INFO, "a line"))
        written = caplog.messages.count("a line")
        assert 200 <= written <= 200 + 100 * (time.monotonic() - started) + 1

        def told() -> bool:
            records.tell(time.monotonic(), 0)
            return len(caplog.messages) > written

        wait_for(told)
    assert caplog.messages[written:] == [
        f"suppressed {1000 - written} lines, {6 * (1000 - written)} bytes "
        "(left out here: they came too fast or were too long)"
    ]


def test_the_place_in_a_dump_of_stacks() -> None:
    dump = (
        "Thread 0x01 (most recent call first):\n"
        '  File "/usr/lib/threading.py", line 1 in wait\n'
        '  File "/plugins/ham/spam.py", line 7 in receive\n'
        '  File "/plugins/ham/spam.py", line 9 in other\n'
    )
    assert innermost_place(dump, "/plugins") == "/plugins/ham/spam.py:7 in receive"
    assert innermost_place(dump, "/elsewhere") == ""
