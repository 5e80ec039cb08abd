"""Messages at the relay plugins of a package: a window, answers, patience, and changes of who carries them."""

from typing import Any

from co2.plugin.parent.filter_stage import BEHIND, PATIENCE, SLOW, STUCK, WINDOW, FilterStage, PackageFilters
from co2.protocol.relay.filter_chain import InFlight, Passed
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.plugin_frames.frames import PluginInfo
from co2.protocol.wire.plugin_frames.transit import Transit, Transited
from co2.values import pack

ADDRESS = ("10.0.0.1", 5)
WORD = {"p.m.X_A": 0, "p.m.X_B": 0}


def info(name: str = "p.m.X_A", channels: list[str] | None = None, *, relays: bool = True) -> PluginInfo:
    return PluginInfo(name, name, False, "", channels or [], False, relays)


def batch(*values: Any) -> bytes:
    return make_batch([pack({"data": value}) for value in values])


class Package:
    """The relay's side, with a child that notes what it is given."""

    def __init__(self, *plugins: PluginInfo) -> None:
        self.filters = PackageFilters()
        self.given: list[Transit] = []
        self.out: list[tuple[bytes, Passed | None]] = []
        self.filters.begin(self.given.append, plugins or [info()])
        (self.stage, *_) = self.filters.stages

    def take(self, *values: Any, stage: FilterStage | None = None) -> None:
        what = batch(*values)
        in_flight = InFlight("a@10.0.0.1:1", ADDRESS, what, len(values), None)
        (stage or self.stage).take(in_flight, lambda passed: self.out.append((what, passed)))

    def answer(self, number: int, what: bytes = b"", **counts: int) -> None:
        self.filters.answered(Transited(number, what, [""], **counts))

    @property
    def numbers(self) -> list[int]:
        return [frame.number for frame in self.given]


def test_what_the_plugin_answers_goes_on_and_is_counted() -> None:
    package = Package()
    package.take(1, 2)
    package.take(3)
    package.answer(1, batch(1, 22), changed=1)
    package.answer(3, failed=1)
    assert package.out == [(batch(1, 2), Passed(batch(1, 22), ("",))), (batch(3), None)]
    counts = package.filters.counts
    assert (counts.seen, counts.changed, counts.failed, counts.passed_by) == (3, 1, 1, 0)


def test_what_comes_back_as_it_came_is_what_came() -> None:
    package = Package()
    package.take(1)
    package.answer(1, batch(1))
    assert package.out == [(batch(1), None)]


def test_the_number_of_what_comes_next_is_known_while_the_child_has_nothing() -> None:
    package = Package()
    for values in ((1,), (2, 3), (4,)):
        foreseen = package.stage.next_number
        package.take(*values)
        assert package.given[-1].number == foreseen
        assert not package.stage.next_number
        package.answer(foreseen, changed=1)
        assert package.stage.changes == 1
    package.filters.hold()
    assert not package.stage.next_number
    package.filters.resume(package.given.append)
    assert package.stage.next_number == 5
    package.take(5)
    package.filters.look(0.0, WORD.__getitem__)
    package.filters.look(PATIENCE, WORD.__getitem__)
    assert not package.stage.next_number, "it has not answered what has passed it by"
    package.answer(5)
    assert package.stage.next_number == 6
    package.filters.lose()
    assert not package.stage.next_number


def test_an_answer_with_another_number_of_messages_changes_nothing() -> None:
    package = Package()
    package.take(1, 2)
    package.answer(1, batch(1))
    assert package.out == [(batch(1, 2), None)]


def test_a_window_bounds_what_the_child_is_given() -> None:
    package = Package()
    big = "x" * (WINDOW // 2)
    for _ in range(3):
        package.take(big)
    assert package.numbers == [1]
    package.answer(1)
    assert package.numbers == [1, 2]


def test_a_plugin_that_does_not_get_on_is_passed_by_until_it_has_caught_up() -> None:
    package = Package()
    package.take(1)
    package.take(2)
    assert package.filters.look(0.0, WORD.__getitem__) == []
    assert package.filters.look(PATIENCE - 0.1, WORD.__getitem__) == []
    assert package.filters.look(PATIENCE, WORD.__getitem__) == [("p.m.X_A", STUCK)]
    assert package.out == [(batch(1), None), (batch(2), None)]
    package.take(3)
    assert package.out[-1] == (batch(3), None)
    assert package.numbers == [1, 2]
    package.answer(1, batch("late"))
    package.answer(2, batch("late"))
    assert len(package.out) == 3
    package.take(4)
    package.answer(3, batch("in time"))
    assert package.out[-1] == (batch(4), Passed(batch("in time"), ("",)))
    assert (package.filters.counts.passed_by, package.filters.counts.seen) == (3, 1)


def test_one_that_gets_on_is_waited_for_as_long_as_it_keeps_up() -> None:
    package = Package()
    now = 0.0
    for number in range(1, 100):
        package.take(number)
        now += PATIENCE * 0.9
        assert package.filters.look(now, lambda _name, word=number: word) == []
        package.answer(number)
    assert len(package.out) == 99


def test_one_that_is_slower_than_its_messages_come_is_passed_by() -> None:
    package = Package()
    package.take(*range(100))
    told = []
    steps = int(BEHIND / 0.1) + 2
    for step in range(steps):
        package.take("more")
        told += package.filters.look(step * 0.1, lambda _name, word=step: word)
    assert told == [("p.m.X_A", SLOW)]
    assert len(package.out) == steps + 1


def test_an_idle_one_is_not_told_of() -> None:
    package = Package()
    for step in range(5):
        assert package.filters.look(step * PATIENCE, WORD.__getitem__) == []
    package.take(1)
    assert package.filters.look(5.1 * PATIENCE, WORD.__getitem__) == []


def test_when_the_child_dies_all_passes_by_until_there_is_another() -> None:
    package = Package()
    package.take(1)
    package.filters.lose()
    package.take(2)
    assert [passed for _, passed in package.out] == [None, None]
    package.filters.begin(package.given.append, [info()])
    package.take(3)
    assert package.numbers == [1, 2]
    package.answer(2, batch(33))
    assert package.out[-1] == (batch(3), Passed(batch(33), ("",)))


def test_a_change_of_code_gives_the_new_one_what_the_old_one_has_not_done() -> None:
    package = Package()
    package.take(1)
    package.take(2)
    package.answer(1)
    package.filters.hold()
    package.take(3)
    assert package.numbers == [1, 2]
    new: list[Transit] = []
    package.filters.begin(new.append, [info()])
    assert [frame.number for frame in new] == [2, 3]
    assert package.filters.stages == [package.stage]  # the same filter, whoever carries it
    package.answer(2)
    package.answer(3)
    assert [what for what, _ in package.out] == [batch(1), batch(2), batch(3)]


def test_a_change_that_came_to_nothing_leaves_the_old_one_what_it_has() -> None:
    package = Package()
    package.take(1)
    package.filters.hold()
    package.take(2)
    package.filters.resume(package.given.append)
    assert package.numbers == [1, 2]


def test_a_change_of_code_is_waited_for_and_not_for_ever() -> None:
    package = Package()
    package.take(1)
    package.filters.hold()
    package.take(2)
    told = []
    for step in range(int(BEHIND / 0.1) + 2):
        told += package.filters.look(step * 0.1, WORD.__getitem__)
        if step * 0.1 < BEHIND - 0.05:
            assert told == []
    assert told == [("p.m.X_A", SLOW)]
    assert [passed for _, passed in package.out] == [None, None]
    package.filters.begin(package.given.append, [info()])
    package.take(3)
    assert package.numbers[-1] == 3


def test_several_plugins_have_a_stage_each_and_one_that_is_gone_holds_nothing() -> None:
    package = Package(info(), info("p.m.X_B", ["b"]), info("p.m.X_C", relays=False))
    first, second = package.filters.stages
    assert [first.plugin, second.plugin] == ["p.m.X_A", "p.m.X_B"]
    assert (second.wants(("a",)), second.wants(("b",))) == (False, True)
    package.take(1, stage=second)
    package.filters.hold()
    package.filters.begin(package.given.append, [info()])
    assert package.filters.stages == [first]
    assert package.out == [(batch(1), None)]
    package.take(2, stage=second)
    assert package.out[-1] == (batch(2), None)


def test_an_answer_goes_to_the_stage_that_asked_and_counts_once() -> None:
    package = Package(info(), info("p.m.X_B"))
    first, second = package.filters.stages
    package.take(1, 2, stage=first)
    package.take(3, stage=second)
    package.take(4, stage=first)
    package.answer(3, dropped=1)
    assert [what for what, _ in package.out] == [batch(3)]
    package.answer(1, dropped=2)
    package.answer(1, dropped=2)  # a child that repeats itself
    package.answer(99, dropped=2)
    package.answer(4)
    assert [what for what, _ in package.out] == [batch(3), batch(1, 2), batch(4)]
    assert (package.filters.counts.seen, package.filters.counts.dropped) == (4, 3)


def test_a_late_answer_is_that_of_its_stage_alone() -> None:
    package = Package(info(), info("p.m.X_B"))
    first, second = package.filters.stages
    package.take(1, stage=first)
    package.filters.look(0.0, WORD.__getitem__)
    package.take(2, stage=second)
    package.filters.look(PATIENCE, WORD.__getitem__)
    assert package.out == [(batch(1), None)]
    package.answer(1)
    package.answer(2, batch(22))
    assert package.out[1:] == [(batch(2), Passed(batch(22), ("",)))]


HALF = "x" * (WINDOW // 2 + 60_000 - len(batch("x" * 60_000)))
"""Two of them fill the window to the byte."""


def test_the_window_holds_as_much_as_it_may_however_often_it_was_filled() -> None:
    assert 2 * len(batch(HALF)) == WINDOW
    package = Package()
    for _ in range(7):
        package.take(HALF)
    given = [len(package.numbers)]
    for number in range(1, 8):
        package.answer(number)
        given.append(len(package.numbers))
    assert given == [2, 3, 4, 5, 6, 7, 7, 7]


def test_after_it_was_passed_by_the_window_is_empty_again() -> None:
    package = Package()
    for _ in range(3):
        package.take(HALF)
    package.filters.lose()
    package.filters.begin(package.given.append, [info()])
    for _ in range(3):
        package.take(HALF)
    assert package.numbers == [1, 2, 4, 5]


def test_late_answers_of_a_child_that_is_gone_are_owed_by_nobody() -> None:
    package = Package()
    package.take(1)
    package.filters.look(0.0, WORD.__getitem__)
    package.filters.look(PATIENCE, WORD.__getitem__)
    package.take(2)
    assert package.out == [(batch(1), None), (batch(2), None)]
    package.filters.lose()
    package.filters.begin(package.given.append, [info()])
    package.take(3)
    assert package.numbers == [1, 2]
    package.answer(2, batch(33))
    assert package.out[-1] == (batch(3), Passed(batch(33), ("",)))


def test_before_anything_has_begun_all_passes_by() -> None:
    filters = PackageFilters()
    assert filters.stages == []
    stage = FilterStage("p.m.X_A", filters)
    filters.stages = [stage]
    out: list[Passed | None] = []
    stage.take(InFlight("a@10.0.0.1:1", ADDRESS, batch(1, 2), 2, None), out.append)
    assert (out, filters.counts.passed_by) == ([None], 2)


def test_one_that_just_stands_is_waited_for_from_where_it_last_moved() -> None:
    package = Package()
    package.take(1)
    word = [7]
    for now, moved, told in ((10.0, 7, []), (10.9, 8, []), (11.8, 8, []), (11.9, 8, [("p.m.X_A", STUCK)])):
        word[0] = moved
        assert package.filters.look(now, lambda _name: word[0]) == told


def test_messages_that_came_before_a_look_are_measured_from_it() -> None:
    package = Package()
    now = 100.0
    package.take(1)
    package.take(2)
    assert package.filters.look(now, lambda _name: 1) == []
    for step in range(1, 7):  # it moves all the time, and does nothing to the end
        package.take("more")
        told = package.filters.look(now + step * 0.9, lambda _name, word=step: word + 1)
        assert told == ([] if step * 0.9 < BEHIND else [("p.m.X_A", SLOW)])
