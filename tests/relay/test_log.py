"""The ring in memory: positions, cursors, gaps, bounds."""

from co2.relay.log import BEGINNING, MemoryLog
from co2.values import pack


def filled(count: int, max_messages: int = 100, max_bytes: int = 10**6, origin: str = "a") -> MemoryLog:
    log = MemoryLog(max_messages, max_bytes)
    for number in range(count):
        log.append(origin, f"{origin}@127.0.0.1:1", ("127.0.0.1", 1), pack({"data": number}))
    return log


def test_positions_count_up_and_are_read_in_order() -> None:
    log = filled(5)
    reading = log.read(BEGINNING, 100, 10**6, not_from="b")
    assert [entry.position for entry in reading.entries] == [2, 3, 4, 5, 6]
    assert (reading.next, reading.gap) == (6, None)


def test_a_reader_goes_on_where_it_stopped() -> None:
    log = filled(5)
    first = log.read(BEGINNING, 2, 10**6, not_from="b")
    second = log.read(first.next, 100, 10**6, not_from="b")
    assert [entry.position for entry in second.entries] == [4, 5, 6]


def test_own_messages_are_left_out_but_the_cursor_passes_them() -> None:
    log = filled(3)
    reading = log.read(BEGINNING, 100, 10**6, not_from="a")
    assert (reading.entries, reading.next) == ([], log.head)


def test_who_falls_out_is_told_the_gap_and_goes_on_behind_it() -> None:
    log = filled(50, max_messages=10)
    reading = log.read(BEGINNING, 100, 10**6, not_from="b")
    assert reading.gap is not None
    assert (reading.gap.after, reading.gap.next) == (BEGINNING, 41)
    assert [entry.position for entry in reading.entries] == list(range(42, 52))


def test_zero_is_the_oldest_kept_and_no_gap() -> None:
    reading = filled(50, max_messages=10).read(0, 1, 10**6, not_from="b")
    assert reading.gap is None
    assert reading.entries[0].position == 42


def test_a_position_beyond_the_head_belongs_to_another_log() -> None:
    reading = filled(3).read(1_000, 100, 10**6, not_from="b")
    assert reading.gap is not None
    assert reading.gap.reason == "log replaced"
    assert len(reading.entries) == 3


def test_bytes_are_bounded_written_forms_included() -> None:
    log = filled(0, max_messages=10**6, max_bytes=20_000)
    for number in range(200):
        log.append("a", "a@127.0.0.1:1", ("127.0.0.1", 1), pack({"data": "x" * 100}))
        reading = log.read(log.head - 1, 1, 10**6, not_from="b")
        log.written(reading.entries[0], "plain", lambda entry: b"y" * 500)
        assert log.bytes <= 20_000, number


def test_a_message_larger_than_the_bound_is_kept_until_the_next() -> None:
    log = filled(0, max_bytes=1_000)
    position = log.append("a", "a@127.0.0.1:1", ("127.0.0.1", 1), b"x" * 5_000)
    assert log.read(position - 1, 1, 10, not_from="b").entries[0].position == position
    log.append("a", "a@127.0.0.1:1", ("127.0.0.1", 1), b"y")
    assert len(log) == 1


def test_a_reading_is_cut_by_bytes_but_never_empty_for_it() -> None:
    log = filled(0)
    for _ in range(4):
        log.append("a", "a@127.0.0.1:1", ("127.0.0.1", 1), b"x" * 100)
    assert len(log.read(BEGINNING, 100, 250, not_from="b").entries) == 2
    assert len(log.read(BEGINNING, 100, 1, not_from="b").entries) == 1


def test_a_form_is_written_once_for_all() -> None:
    log = filled(1)
    entry = log.read(BEGINNING, 1, 10**6, not_from="b").entries[0]
    calls: list[int] = []

    def write(_entry: object) -> bytes:
        calls.append(1)
        return b"form"

    assert log.written(entry, "plain", write) == log.written(entry, "plain", write) == b"form"
    assert len(calls) == 1
