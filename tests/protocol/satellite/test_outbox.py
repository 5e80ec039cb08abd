"""The outbox: cut once, given in order, to disk what waits long, and back."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from co2.protocol.satellite import outbox as outbox_module
from co2.protocol.satellite.outbox import Cut, Outbox, Segment
from co2.protocol.wire.batch import make_batch, split_batch
from co2.protocol.wire.link_frames import Publish, decode_satellite_frame
from co2.protocol.wire.plugin_frames import frames


class Disk:
    """Rows in a list, and an outbox whose clock the test turns."""

    def __init__(self, epoch: int = 7, max_bytes: int = 2**40) -> None:
        self.time = 100.0
        self.rows: dict[int, Cut] = {}
        self.next = 1
        self.writing: list[Segment] = []
        self.signals: list[str] = []
        self.outbox = self.new(epoch, max_bytes)

    def new(self, epoch: int, max_bytes: int = 2**40) -> Outbox:
        return Outbox(
            epoch,
            max_bytes,
            lambda: self.signals.append("full"),
            lambda: self.signals.append("room"),
            lambda: self.time,
        )

    def send(self, *values: int, size: int = 0) -> None:
        batch = make_batch([msgspec.msgpack.encode({"data": value, "x": b"x" * size}) for value in values])
        self.outbox.put("p", frames.Publish("p.m.X", [""], batch), len(values))

    def look(self, everything: bool = False) -> None:
        """Hand over what is due; it is written by :meth:`write`."""
        self.writing += self.outbox.to_store(everything)

    def write(self) -> None:
        if self.writing:
            segment = self.writing.pop(0)
            begun = self.next
            for cut in list(segment.cuts or ()):
                self.rows[self.next] = cut
                self.next += 1
            self.outbox.stored(segment, (begun, self.next - 1))
        self.forget()

    def forget(self) -> None:
        gone = self.outbox.to_forget()
        for row in [row for row in self.rows if row <= gone]:
            del self.rows[row]

    def load(self) -> bool:
        segment = self.outbox.wanted()
        if segment is not None:
            first, last = segment.rows
            self.outbox.loaded(segment, [self.rows[row] for row in sorted(self.rows) if first <= row <= last])
        return segment is not None

    def given(self, room: int = 2**30) -> list[int]:
        """Give all that can be given, loading what must be: the values."""
        values: list[int] = []
        while (frames := self.outbox.give(room)) or self.load():
            for data in frames:
                values += values_of(decode_satellite_frame(data))
        return values

    def restart(self, epoch: int) -> None:
        """Kill the satellite: what is on disk is left."""
        self.writing = []
        left: list[Segment] = []
        for row, cut in sorted(self.rows.items()):
            if not left or left[-1].epoch != cut.epoch or left[-1].last + 1 != cut.first:
                left.append(Segment(cut.epoch, cut.first, cut.last, 0, None, "stored", (row, row)))
            left[-1].last, left[-1].rows = cut.last, (left[-1].rows[0], row)
            left[-1].size += cut.size
        self.outbox = self.new(epoch)
        self.outbox.found(left)


def values_of(frame: Publish) -> list[int]:
    return [msgspec.msgpack.decode(message)["data"] for message in split_batch(frame.batch)]


def test_what_is_acknowledged_in_time_never_sees_the_disk() -> None:
    disk = Disk()
    for value in range(100):
        disk.send(value)
        disk.time += 0.03
        assert disk.given() == [value]
        disk.outbox.acknowledged(7, value + 1)
        disk.look()
    assert disk.writing == []
    assert len(disk.outbox) == disk.outbox.bytes == 0


def test_what_waits_goes_to_disk_after_a_while_and_is_deleted_with_its_acknowledgement() -> None:
    disk = Disk()
    disk.send(1, 2)
    disk.look()
    assert disk.writing == []
    disk.time += 0.06
    disk.look()
    disk.write()
    assert len(disk.rows) == 1
    assert disk.outbox.stored_bytes == disk.outbox.bytes > 0
    assert disk.given() == [1, 2], "what is on disk is still in memory while that is little"
    disk.outbox.acknowledged(7, 2)
    disk.forget()
    assert disk.rows == {}
    assert len(disk.outbox) == disk.outbox.bytes == disk.outbox.stored_bytes == 0


def test_a_relay_that_is_slow_as_usual_does_not_send_everything_to_disk() -> None:
    disk = Disk()
    for value in range(200):
        disk.send(value)
        disk.given()
        disk.time += 0.1
        disk.outbox.acknowledged(7, value + 1)
    disk.send(200)
    disk.time += 0.2
    disk.look()
    assert disk.writing == []
    disk.time += 10
    disk.look()
    assert len(disk.writing) == 1


def test_what_an_earlier_run_left_goes_out_and_is_acknowledged_before_the_first_of_this_one() -> None:
    disk = Disk()
    disk.send(1)
    disk.look(everything=True)
    disk.write()
    disk.send(2)  # not on disk when the satellite is killed
    disk.restart(epoch=8)
    disk.send(3)
    assert len(disk.outbox) == 2
    assert disk.outbox.unacknowledged() == [(7, 1), (8, 1)]
    assert disk.given() == [1]
    disk.outbox.acknowledged(7, 1)
    assert disk.given() == [3]
    disk.forget()
    assert disk.rows == {}


def test_memory_is_bounded_while_the_relay_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "MEMORY", 1000_000)
    disk = Disk()
    for value in range(300):
        disk.send(value, size=20_000)
        disk.time += 0.06
        disk.look()
        disk.write()
    held = sum(len(cut.data) for segment in disk.outbox._segments for cut in segment.cuts or ())
    assert held <= 1_000_000
    assert disk.signals == []
    assert disk.outbox.bytes > 6_000_000
    assert disk.given() == list(range(300))
    disk.outbox.again()
    assert disk.given() == list(range(300)), "and once more after a lost connection"


def test_many_small_frames_that_wait_are_few_segments() -> None:
    disk = Disk()
    for value in range(5000):
        disk.send(value)
        disk.time += 0.06
        disk.look()
        disk.write()
    assert len(disk.outbox._segments) < 20
    assert disk.given() == list(range(5000))


def test_senders_wait_when_a_bound_is_passed_and_go_on_when_half_of_it_is_free() -> None:
    disk = Disk(max_bytes=100_000)
    for value in range(12):
        disk.send(value, size=10_000)
    assert disk.signals == ["full"]
    disk.given()
    disk.outbox.acknowledged(7, 6)
    assert disk.signals == ["full"]
    disk.outbox.acknowledged(7, 9)
    assert disk.signals == ["full", "room"]


def test_senders_wait_when_the_disk_does_not_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "MEMORY", 100_000)
    disk = Disk()
    for value in range(12):
        disk.send(value, size=10_000)
        disk.time += 1
        disk.look()
    assert disk.signals == ["full"]
    while disk.writing:
        disk.write()
    assert disk.signals == ["full", "room"]


def test_what_the_disk_does_not_give_back_is_counted_and_the_rest_goes_on() -> None:
    disk = Disk()
    for value in range(6):
        disk.send(value)
    disk.look(everything=True)
    disk.write()
    del disk.rows[3]
    disk.restart(epoch=8)
    assert disk.given() == [0, 1, 3, 4, 5]
    assert len(disk.outbox) == 5
    disk.outbox.acknowledged(7, 6)
    assert len(disk.outbox) == disk.outbox.bytes == 0


def test_of_very_many_runs_the_oldest_are_told_first() -> None:
    disk = Disk(epoch=1)
    for epoch in range(2, 100):
        disk.send(1)
        disk.look(everything=True)
        disk.write()
        disk.restart(epoch)
    told = disk.outbox.unacknowledged()
    assert [epoch for epoch, _ in told] == [*range(1, 64), 99]
    for epoch in range(1, 99):
        assert disk.given() == [1]
        disk.outbox.acknowledged(epoch, 1)
    assert len(disk.outbox) == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 5)),
        st.tuples(st.just("give"), st.integers(1, 2000)),
        st.tuples(st.just("ack"), st.integers(0, 8)),
        st.tuples(st.sampled_from(["again", "look", "all", "write", "load", "restart"]), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=4 * settings().max_examples)
@given(STEPS)
def test_every_frame_that_is_not_acknowledged_is_given_in_order_whatever_happens(
    steps: list[tuple[str, int]],
) -> None:
    disk = Disk()
    patch = pytest.MonkeyPatch()
    patch.setattr(outbox_module, "MEMORY", 700)
    patch.setattr(outbox_module, "SEGMENT", 900)
    try:
        run(disk, steps)
    finally:
        patch.undo()


def run(disk: Disk, steps: list[tuple[str, int]]) -> None:
    waiting: list[tuple[int, int]] = []  # (epoch, number) of messages that are not acknowledged
    epoch, sent = 7, 0
    given = 0
    for step, number in steps:
        disk.time += 0.02
        match step:
            case "send":
                disk.send(*range(sent + 1, sent + 1 + number))
                waiting += [(epoch, value) for value in range(sent + 1, sent + 1 + number)]
                sent += number
            case "give":
                for data in disk.outbox.give(number):
                    frame = decode_satellite_frame(data)
                    for value in values_of(frame):
                        if (frame.epoch, value) in waiting:
                            assert waiting[given] == (frame.epoch, value)
                            given += 1
            case "ack":
                run_of = waiting[0][0] if waiting else epoch
                acked = [entry for entry in waiting[: min(number, given)] if entry[0] == run_of]
                if acked:
                    disk.outbox.acknowledged(run_of, acked[-1][1])
                    del waiting[: len(acked)]
                    given -= len(acked)
            case "again":
                disk.outbox.again()
                given = 0
            case "look":
                disk.look()
            case "all":
                disk.look(everything=True)
            case "write":
                disk.write()
            case "load":
                disk.load()
            case "restart":
                kept = {
                    (cut.epoch, number) for cut in disk.rows.values() for number in range(cut.first, cut.last + 1)
                }
                epoch, sent, given = epoch + 1, 0, 0
                disk.restart(epoch)
                # What was acknowledged and not yet deleted comes once more: the relay knows it.
                waiting = sorted(kept)
        assert len(disk.outbox) == len(waiting)
    while disk.writing:
        disk.write()
    disk.outbox.again()
    while waiting:
        run_of = waiting[0][0]
        found = disk.given()
        part = [value for run, value in waiting if run == run_of]
        assert [value for value in found if value in part][-len(part) :] == part
        disk.outbox.acknowledged(run_of, part[-1])
        waiting = waiting[len(part) :]
    disk.forget()
    assert (len(disk.outbox), disk.outbox.bytes, disk.outbox.stored_bytes, disk.rows) == (0, 0, 0, {})


def numbers(disk: Disk) -> list[tuple[int, int, list[int]]]:
    """Return all again: run, number and values of each frame."""
    disk.outbox.again()
    found = []
    while (frames := disk.outbox.give(2**30)) or disk.load():
        for data in frames:
            frame = decode_satellite_frame(data)
            found.append((frame.epoch, frame.seq, values_of(frame)))
    return found


def test_what_was_never_sent_is_not_acknowledged_and_nothing_is_forgotten() -> None:
    disk = Disk()
    disk.send(1, 2)
    assert not disk.outbox.acknowledged(7, 3)
    assert len(disk.outbox) == 2
    assert disk.outbox.acknowledged(7, 2)


def test_what_waits_goes_out_in_another_run_from_memory_and_from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "SEGMENT", 1)
    monkeypatch.setattr(outbox_module, "MEMORY", 0)
    disk = Disk()
    for value in range(0, 30, 3):
        disk.send(value, value + 1, value + 2)
    disk.outbox.acknowledged(7, 4)  # in the middle of the second frame
    disk.look(everything=True)
    for _ in range(6):
        disk.write()
    disk.send(30)
    before = len(disk.outbox)
    assert disk.outbox.renumber(8) == 4
    disk.send(31)
    while disk.writing:
        disk.write()
    assert (len(disk.outbox), disk.outbox.last) == (before + 1, 28)
    assert disk.outbox.unacknowledged() == [(8, 1)]
    expected = [(8, 1, [4, 5])]
    expected += [(8, 3 + 3 * at, [6 + 3 * at, 7 + 3 * at, 8 + 3 * at]) for at in range(8)]
    expected += [(8, 27, [30]), (8, 28, [31])]
    assert numbers(disk) == expected
    assert disk.outbox.renumber(9) == 0, "and once more"
    assert numbers(disk) == [(9, seq, values) for _, seq, values in expected]
    assert disk.outbox.acknowledged(9, 28)
    assert (len(disk.outbox), disk.outbox.bytes, disk.outbox.memory_bytes) == (0, 0, 0)


def test_the_next_process_goes_on_with_them_there() -> None:
    disk = Disk()
    disk.send(1, 2)
    disk.send(3)
    disk.outbox.acknowledged(7, 1)
    disk.look(everything=True)
    disk.write()
    moves = {7: (8, disk.outbox.renumber(8))}
    left = [Segment(7, 1, 3, 500, None, "stored", (1, 2))]
    disk.outbox = disk.new(9)
    disk.outbox.found(left, moves)
    assert disk.outbox.unacknowledged() == [(8, 1), (9, 1)]
    assert numbers(disk) == [(8, 1, [2]), (8, 2, [3])]


def left_of(first: int, last: int, epoch: int = 7) -> Segment:
    return Segment(epoch, first, last, 500, None, "stored", (1, last))


def test_of_a_run_that_ended_in_good_order_more_than_it_sent_is_not_taken_as_acknowledged() -> None:
    disk = Disk()
    disk.outbox = disk.new(9)
    disk.outbox.found([left_of(2, 6)], ends={7: 6})
    assert not disk.outbox.acknowledged(7, 7)
    assert (len(disk.outbox), disk.outbox.unacknowledged()) == (5, [(7, 2), (9, 1)])
    assert disk.outbox.renumber(8, 7) == 1
    assert disk.outbox.unacknowledged() == [(8, 1), (9, 1)]
    assert not disk.outbox.acknowledged(8, 6)
    assert disk.outbox.acknowledged(8, 5)
    assert (len(disk.outbox), disk.outbox.epoch, disk.outbox.last) == (0, 9, 0)
    assert disk.outbox.acknowledged(7, 10**6), "nothing of it waits any more"


def test_a_run_that_was_moved_ended_where_it_was_moved_to() -> None:
    disk = Disk()
    disk.outbox = disk.new(9)
    disk.outbox.found([left_of(3, 6)], {7: (8, 2)}, {7: 6})
    assert not disk.outbox.acknowledged(8, 5)
    assert disk.outbox.acknowledged(8, 4)
    assert len(disk.outbox) == 0


def test_of_a_run_that_was_killed_more_may_have_been_sent_than_is_left() -> None:
    disk = Disk()
    disk.outbox = disk.new(9)
    disk.outbox.found([left_of(2, 6)], ends={5: 1})
    assert disk.outbox.acknowledged(7, 10)
    assert len(disk.outbox) == 0


def test_new_messages_in_another_run_begin_at_1() -> None:
    disk = Disk()
    disk.send(1, 2)
    disk.outbox.renew(8)
    disk.send(3)
    assert numbers(disk) == [(7, 1, [1, 2])]
    assert disk.outbox.last_of(8) == 1
    assert disk.outbox.acknowledged(7, 2)
    assert disk.outbox.done == 2
    assert numbers(disk) == [(8, 1, [3])]
    assert disk.outbox.acknowledged(8, 1)
    assert (disk.outbox.done, len(disk.outbox)) == (3, 0)


def test_all_is_given_when_nothing_is_left_to_give() -> None:
    disk = Disk()
    assert disk.outbox.is_given
    disk.send(1)
    assert not disk.outbox.is_given
    assert disk.given() == [1]
    assert disk.outbox.is_given
    disk.send(2)
    assert not disk.outbox.is_given
    disk.outbox.again()
    assert disk.given() == [1, 2]
    disk.outbox.acknowledged(7, 2)
    assert disk.outbox.is_given


def test_what_was_acknowledged_while_the_disk_read_it_is_not_sent_again() -> None:
    disk = Disk()
    disk.send(1, 2)
    disk.look(everything=True)
    disk.write()
    disk.restart(8)
    segment = disk.outbox.wanted()
    assert segment is not None
    assert disk.outbox.acknowledged(7, 2)
    disk.outbox.loaded(segment, [*disk.rows.values()])
    assert disk.given() == []
    assert (len(disk.outbox), disk.outbox.lost) == (0, 0)


def test_what_the_disk_has_lost_whole_is_counted_and_makes_room() -> None:
    disk = Disk()
    disk.send(1, 2)
    disk.look(everything=True)
    disk.write()
    disk.restart(8)
    disk.send(3)
    disk.rows.clear()
    assert disk.given() == [3]
    assert (disk.outbox.lost, len(disk.outbox)) == (2, 1)
    assert disk.outbox.to_forget() == 1
