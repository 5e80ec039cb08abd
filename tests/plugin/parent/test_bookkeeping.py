"""The parts of the supervisor that do no I/O: queue, window, calls, deaths, watchdog, progress, output."""

import itertools
import logging
import os
import sys
import tempfile
import time

import msgspec
import pytest

from co2.errors import FlushTimeout, NotRunning
from co2.logs import LineBudget
from co2.plugin.child.flushes import MAX_FLUSHES, Flushes
from co2.plugin.child.progress import EXITING, ProgressWords, make_progress_file
from co2.plugin.parent import delivery_queue
from co2.plugin.parent.delivery import Delivery
from co2.plugin.parent.delivery_queue import WINDOW, Envelope, FairQueue, GapRange, QueuedBatch, Window
from co2.plugin.parent.package_log import PackageLog
from co2.plugin.parent.process_output import MAX_LINE, TAIL, ProcessOutput, innermost_place
from co2.plugin.parent.restart_policy import (
    MAX_TRIES,
    PARK_DEATHS,
    PARK_WITHIN,
    RestartPolicy,
    backoff,
    read_progress,
)
from co2.plugin.parent.watchdog import Watchdog
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.plugin_frames.frames import Deliver, Gap, PluginInfo, Progress, Record
from co2.values import pack, unpack_batch
from tests.harness import wait_for

A = Envelope("a@127.0.0.1:1", ("127.0.0.1", 1))
B = Envelope("b@127.0.0.1:2", ("127.0.0.1", 2))


# ---- waiting -------------------------------------------------------------------------------------------


def queued(envelope: Envelope, *messages: bytes, skip: int = 0) -> QueuedBatch:
    return QueuedBatch(envelope, make_batch([pack({"data": one}) for one in messages]), len(messages), skip)


def contents(taken: QueuedBatch | GapRange | None) -> object:
    if isinstance(taken, QueuedBatch):
        messages = [message["data"] for message in unpack_batch(taken.batch)]
        assert len(messages) == taken.count
        return taken.envelope, messages
    return taken


def test_sources_take_turns_and_each_keeps_its_order() -> None:
    queue = FairQueue()
    queue.put("", queued(A, b"1", b"2"))
    queue.put("ham", queued(B, b"x"))
    queue.put("", queued(A, b"3"))
    queue.put("", queued(B, b"4"))
    assert len(queue) == 5
    taken = [contents(queue.take(1)) for _ in range(5)]
    assert taken == [(A, [b"1", b"2"]), (B, [b"x"]), (A, [b"3"]), (B, [b"4"]), None]
    assert (queue.bytes, len(queue)) == (0, 0)


def test_small_batches_of_one_envelope_are_joined_within_the_room() -> None:
    queue = FairQueue()
    for number in range(5):
        queue.put("", queued(A, b"%d" % number, b"x" * 1000))
    queue.put("", queued(B, b"other"))
    queue.put("", queued(B, b"had", b"new", skip=1))
    assert contents(queue.take(2500)) == (A, [b"0", b"x" * 1000, b"1", b"x" * 1000])
    assert contents(queue.take(10_000)) == (A, [b"2", b"x" * 1000, b"3", b"x" * 1000, b"4", b"x" * 1000])
    assert contents(queue.take(10_000)) == (B, [b"other"])
    last = queue.take(10_000)
    assert isinstance(last, QueuedBatch)
    assert (last.skip, last.wanted) == (1, 1)
    assert (queue.bytes, len(queue)) == (0, 0)


def test_batches_are_joined_where_the_causes_go_on() -> None:
    queue = FairQueue()
    for cause, run in ((10, 0), (12, 0), (15, 0), (17, 9), (19, 9), (0, 0), (0, 0)):
        queue.put("", msgspec.structs.replace(queued(A, b"1", b"2"), cause=cause, run=run))
    taken = []
    window = Window()
    while isinstance(batch := queue.take(10**6), QueuedBatch):
        frame = window.give(batch)
        assert isinstance(frame, Deliver)
        taken.append((frame.first, batch.count, frame.position, frame.run))
    assert taken == [(1, 4, 10, 0), (5, 2, 15, 0), (7, 4, 17, 9), (11, 4, 0, 0)]
    assert [frame.position for frame in window.again() if isinstance(frame, Deliver)] == [10, 15, 17, 0]


def test_joined_batches_keep_the_bound_of_a_batch() -> None:
    queue = FairQueue()
    for _ in range(5):
        queue.put("", queued(A, *(b"x" for _ in range(1000))))
    counts = []
    while isinstance(taken := queue.take(10**6), QueuedBatch):
        counts.append(taken.count)
    assert counts == [2000, 2000, 1000]


def test_who_floods_the_queue_loses_batches_of_its_own_and_a_gap_stands_in_their_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery_queue, "MAX_WAITING", 10_000)
    queue = FairQueue()
    queue.put("", queued(A, b"mine"))
    dropped = sum(queue.put("flood", queued(B, bytes([number]) * 100, b"second")) for number in range(250))
    assert dropped == queue.dropped > 400
    assert queue.bytes <= 10_000
    assert contents(queue.take(10_000)) == (A, [b"mine"])
    assert contents(queue.take(10_000)) == GapRange(dropped=dropped)
    left = contents(queue.take(100_000))
    assert isinstance(left, tuple)
    assert left[1][-2:] == [bytes([249]) * 100, b"second"], "the oldest went"
    assert left[1][0] == bytes([dropped // 2]) * 100, "the gap is just before"


def test_nothing_is_dropped_of_what_just_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    one = queued(A, b"1")
    monkeypatch.setattr(delivery_queue, "MAX_WAITING", 3 * one.size)
    queue = FairQueue()
    assert [queue.put("", one) for _ in range(3)] == [0, 0, 0]
    assert queue.put("", one) > 0


def test_a_gap_that_was_told_keeps_its_place_and_joins_what_is_dropped_around_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = FairQueue()
    queue.put("", queued(A, b"1"))
    queue.put_gap("", GapRange(17, 29, ("retention",)))
    queue.put_gap("", GapRange(29, 35, ("damaged",)))
    queue.put("", queued(A, b"2"))
    told = GapRange(17, 35, ("retention", "damaged"))
    assert [contents(queue.take(10**6)) for _ in range(3)] == [(A, [b"1"]), told, (A, [b"2"])]
    assert told.frame(4) == Gap(4, 17, 35, "retention; damaged")
    queue.put("", queued(A, b"1"))
    queue.put_gap("", GapRange(17, 29, ("retention",)))
    monkeypatch.setattr(delivery_queue, "MAX_WAITING", 1200)
    queue.put("", queued(A, b"2" * 300))
    assert contents(queue.take(10**6)) == GapRange(0, 29, ("retention",), 1)
    assert contents(queue.take(10**6)) == (A, [b"2" * 300])
    assert queue.bytes == 0


def test_the_window_numbers_and_gives_again_what_is_not_done() -> None:
    window = Window()
    window.give(queued(A, b"1", b"2"))
    frame = window.give(queued(B, b"3", b"4", b"5", skip=1))
    gap = window.give(GapRange(dropped=7))
    assert (frame.first, gap.first, len(window)) == (3, 6, 4)
    assert window.done(1) == 1
    again = window.again()
    assert [(one.first, getattr(one, "skip", None)) for one in again] == [(1, 0), (3, 1), (6, None)]
    assert isinstance(again[2], Gap)
    assert again[2].reason.startswith("7 messages were dropped")
    assert window.find(4) == (B, pack({"data": b"4"}))
    assert window.find(6) is None
    assert window.done(3) == 1, "the first of the second batch was not for the package"
    assert window.find(1) is None
    assert [one.first for one in window.again()] == [3, 6]
    assert window.done(4) == 1
    assert window.done(4) == 0
    assert window.done(99) == 1
    assert (window.room, len(window)) == (delivery_queue.WINDOW, 0)
    assert window.again() == []
    assert window.give(queued(A, b"4")).first == 7, "numbers are never used twice"


def test_a_child_has_no_more_than_a_window_of_what_it_is_not_done_with() -> None:
    given: list[Deliver | Gap] = []
    delivery = Delivery(lambda: None)
    delivery.begin(given.append)
    half = queued(A, bytes(WINDOW // 2))
    for _ in range(4):
        delivery.deliver("ham", half)
    assert len(given) == 2
    delivery.done(1)
    assert len(given) == 3
    delivery.done(3)
    assert len(given) == 4


# ---- flushes -------------------------------------------------------------------------------------------


def test_flushes_are_answered_refused_or_time_out_and_are_bounded() -> None:
    pending = Flushes()
    first = pending.new(1.0)
    pending.answer(first, "")
    pending.wait(first, 1.0, 1.0)
    pending.forget(first)
    refused = pending.new(1.0)
    pending.answer(refused, "the disk is full")
    with pytest.raises(FlushTimeout, match=r"^the disk is full\. The messages still wait"):
        pending.wait(refused, 1.0, 1.0)
    late = pending.new(7.0)
    with pytest.raises(FlushTimeout, match=r"7 s: the relay is away, slow, or its disk is full \(co2 ps"):
        pending.wait(late, 0.001, 7.0)
    pending.forget(late)
    pending.answer(late, "")
    for _ in range(MAX_FLUSHES - 1):
        waits = pending.new(1.0)
    with pytest.raises(FlushTimeout, match="already waiting"):
        pending.new(1.0)
    pending.close()
    with pytest.raises(NotRunning):
        pending.wait(waits, 1.0, 1.0)
    with pytest.raises(NotRunning):
        pending.new(1.0)


# ---- progress and deaths -------------------------------------------------------------------------------

PLUGINS = [PluginInfo(name, name, True, "") for name in ("a", "b", "c", "d")]


@pytest.mark.parametrize(
    ("platform", "is_shared_memory"), [(sys.platform, True), ("darwin", True), ("darwin", False)]
)
def test_progress_goes_through_the_file(
    monkeypatch: pytest.MonkeyPatch, platform: str, is_shared_memory: bool
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    if not is_shared_memory:
        monkeypatch.setitem(sys.modules, "_posixshmem", None)
    made = []
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda make=tempfile.TemporaryFile: made.append(1) or make())
    fd = make_progress_file()
    assert bool(made) == (not is_shared_memory), "macOS writes a file to its disk whenever it is mapped"
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
    restarts = RestartPolicy()
    given_up = [restarts.add(now, [("a", 5)]) for now in range(MAX_TRIES)]
    assert given_up == [[], [], [("a", 5)]]
    assert not restarts.park(3)


def test_deaths_in_different_messages_park() -> None:
    restarts = RestartPolicy()
    for number in range(PARK_DEATHS):
        assert not restarts.park(number)
        assert restarts.add(number, [("a", number)]) == []
    assert restarts.park(PARK_DEATHS)


def test_deaths_outside_of_messages_park_when_they_come_soon_after_another() -> None:
    restarts = RestartPolicy()
    for now in range(PARK_DEATHS - 1):
        restarts.add(now, [])
    assert not restarts.park(PARK_DEATHS)
    restarts.add(PARK_WITHIN + 1, [])
    assert not restarts.park(PARK_WITHIN + 1), "the first is long ago"
    for _ in range(2):
        restarts.add(PARK_WITHIN + 1, [])
    assert restarts.park(PARK_WITHIN + 1)


def test_deaths_in_messages_and_outside_of_them_add_up() -> None:
    restarts = RestartPolicy()
    for number in range(3):
        restarts.add(number, [("a", number)])
    restarts.add(3, [])
    assert not restarts.park(3)
    restarts.add(4, [])
    assert restarts.park(4)


def test_a_death_that_several_plugins_may_have_caused_is_one() -> None:
    restarts = RestartPolicy()
    everybody = [(name, 7) for name in "abcdef"]
    assert restarts.add(0, everybody) == []
    assert not restarts.park(0)
    assert restarts.add(1, [("a", 7), ("b", 8)]) == []
    assert not restarts.park(1), "the same message"
    assert restarts.add(2, everybody) == [("a", 7)]


def test_tries_are_forgotten_once_all_are_done() -> None:
    restarts = RestartPolicy()
    restarts.add(0, [("a", 5)])
    restarts.add(0, [("a", 5)])
    restarts.forget_up_to(5)
    assert restarts.add(0, [("a", 5)]) == []


def test_delays_double_up_to_a_cap_with_jitter() -> None:
    delays = list(itertools.islice(backoff(), 20))
    for number, delay in enumerate(delays):
        middle = min(10.0, 0.1 * 2**number)
        assert 0.7 * middle < delay < 1.3 * middle


# ---- watchdog ------------------------------------------------------------------------------------------


def test_the_watchdog_tells_once_of_each_limit() -> None:
    words = ProgressWords()
    watchdog = Watchdog(words, PLUGINS, 1.0, 3.0)
    words.words[2] = 2 * 9 + 1
    words.words[5] = 2 * 4 + 1
    words.words[7] = EXITING
    assert watchdog.look(10.0) == []
    assert watchdog.look(10.9) == []
    slow = watchdog.look(11.1)
    assert [(s.plugin, s.inside, s.call_id, s.late) for s in slow] == [("b", 9, 0, False), ("c", 0, 4, False)]
    assert watchdog.look(12.0) == []
    words.words[2] = 2 * 9 + 2
    assert [(s.plugin, s.late) for s in watchdog.look(13.1)] == [("c", True)]
    assert watchdog.look(20.0) == []
    assert watchdog.slowest == pytest.approx(10.0)


def test_the_watchdog_knows_who_hangs_now() -> None:
    words = ProgressWords()
    watchdog = Watchdog(words, PLUGINS, 1.0, 3.0)
    words.words[2] = 2 * 9 + 1
    for now, seconds in ((10.0, 0.0), (10.9, 0.0), (11.5, 1.5), (20.0, 10.0)):
        watchdog.look(now)
        assert watchdog.hangs == pytest.approx(seconds)
    words.words[2] = 2 * 9 + 2
    watchdog.look(20.1)
    assert watchdog.hangs == 0


def test_the_watchdog_starts_anew_with_each_message() -> None:
    words = ProgressWords()
    watchdog = Watchdog(words, PLUGINS, 1.0, 3.0)
    for number in range(1, 20):
        words.words[0] = 2 * number + 1
        assert watchdog.look(float(number) * 0.9) == []


def test_a_look_that_comes_late_tells_only_of_the_deadline() -> None:
    words = ProgressWords()
    watchdog = Watchdog(words, PLUGINS, 1.0, 3.0)
    words.words[0] = 3
    watchdog.look(0.0)
    assert [s.late for s in watchdog.look(50.0)] == [True]
    assert watchdog.look(60.0) == []


# ---- output --------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def output(caplog: pytest.LogCaptureFixture) -> tuple[ProcessOutput, LineBudget, Clock]:
    caplog.set_level(logging.DEBUG)
    clock = Clock()
    logger = logging.getLogger("co2.plugins.ham")
    budget = LineBudget(rate=10, burst=5, clock=clock)
    return ProcessOutput(logger, logging.INFO, budget), budget, clock


Kit = tuple[ProcessOutput, LineBudget, Clock]


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
    package_log = PackageLog("ham")
    with caplog.at_level(logging.INFO, "co2.plugins.ham"):
        started = time.monotonic()
        for _ in range(1000):
            package_log.take(Record("ham.spam.X_Ham", logging.INFO, "a line"))
        written = caplog.messages.count("a line")
        assert 200 <= written <= 200 + 100 * (time.monotonic() - started) + 1

        def told() -> bool:
            package_log.tell(time.monotonic(), 0)
            return len(caplog.messages) > written

        wait_for(told)
    assert caplog.messages[written:] == [
        f"suppressed {1000 - written} lines, {6 * (1000 - written)} bytes (too long, or too many in a short time)"
    ]


def test_a_dump_that_was_asked_for_is_for_the_debug_log(output: Kit, caplog: pytest.LogCaptureFixture) -> None:
    out, _, clock = output
    dump = b'Current thread 0x00007f01 (most recent call first):\n  File "/a b/spam.py", line 7 in receive\n'
    caplog.set_level(logging.DEBUG)
    out.feed(dump)
    clock.now = 10
    out.expect_dump()
    out.feed(dump + b"no memory\n")
    assert [record.levelno for record in caplog.records] == [logging.INFO] * 2 + [logging.DEBUG] * 2 + [
        logging.INFO
    ]
    assert out.tail == dump.decode() + "no memory\n"


def test_the_place_in_a_dump_of_stacks() -> None:
    dump = (
        "Thread 0x01 (most recent call first):\n"
        '  File "/usr/lib/threading.py", line 1 in wait\n'
        '  File "/plugins/ham/spam.py", line 7 in receive\n'
        '  File "/plugins/ham/spam.py", line 9 in other\n'
    )
    assert innermost_place(dump, "/plugins") == "/plugins/ham/spam.py:7 in receive"
    assert innermost_place(dump, "/elsewhere") == ""
