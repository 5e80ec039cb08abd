"""The way through relay plugins: every message comes out once, in order, whatever the filters do and when."""

from collections import deque
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from co2.protocol.relay.filter_chain import FilterChain, InFlight, Passed
from co2.protocol.wire.batch import DROPPED, make_batch
from tests.protocol import network
from tests.protocol.network import FakeSatellite, Network, batch_of

ADDRESS = ("10.0.0.1", 1)


class FakeFilter:
    """Answers when it is told to, in order; marks what it has seen."""

    def __init__(self, name: bytes, wanted: str | None = None) -> None:
        self.name = name
        self.wanted = wanted
        self.asked: deque[tuple[bytes, Callable[[Passed | None], None]]] = deque()
        self.seen: list[bytes] = []

    def wants(self, channels: tuple[str, ...] | None) -> bool:
        return self.wanted is None or channels is None or self.wanted in channels

    def take(self, in_flight: InFlight, done: Callable[[Passed | None], None]) -> None:
        self.seen.append(in_flight.batch)
        self.asked.append((in_flight.batch, done))

    def answer(self, *, as_it_came: bool = False) -> None:
        if self.asked:
            batch, done = self.asked.popleft()
            done(None if as_it_came else Passed(batch + self.name, ("",)))


class Way:
    """A passage, and what has come out of it."""

    def __init__(self, *filters: FakeFilter) -> None:
        self.filter_chain = FilterChain()
        self.filter_chain.set_filters(filters)
        self.out: list[bytes] = []
        self.late = 0
        self.filter_chain.released = self._released

    def _released(self) -> None:
        self.late += 1

    def enter(
        self, batch: bytes, channel: str = "", behind: FakeFilter | None = None, sender: str = "a@10.0.0.1:1"
    ) -> None:
        release = lambda through: self.out.append(through.batch)  # noqa: E731
        self.filter_chain.enter(InFlight(sender, ADDRESS, batch, 1, (channel,), release), behind)


def test_without_filters_nothing_waits() -> None:
    way = Way()
    assert not way.filter_chain.occupied
    way.enter(b"1")
    assert (way.out, way.filter_chain.bytes, way.filter_chain.occupied) == ([b"1"], 0, False)


def test_filters_come_one_after_the_other() -> None:
    first, second = FakeFilter(b"a"), FakeFilter(b"b")
    way = Way(first, second)
    way.enter(b"1")
    way.enter(b"2")
    assert (way.out, way.filter_chain.bytes) == ([], 2)
    first.answer()
    first.answer()
    assert second.seen == [b"1a", b"2a"]
    assert way.filter_chain.bytes == 4
    second.answer()
    second.answer(as_it_came=True)
    assert way.out == [b"1ab", b"2a"]
    assert (way.filter_chain.bytes, way.late) == (0, 4)


def test_what_a_filter_does_not_want_waits_for_what_came_before_it() -> None:
    first, second = FakeFilter(b"a", "x"), FakeFilter(b"b")
    way = Way(first, second)
    way.enter(b"1", "x")
    way.enter(b"2", "y")
    assert second.seen == []
    first.answer()
    assert second.seen == [b"1a", b"2"]


def test_who_sends_nothing_to_a_filter_does_not_wait_for_it() -> None:
    first, second = FakeFilter(b"a", "x"), FakeFilter(b"b", "z")
    way = Way(first, second)
    way.enter(b"1", "x")
    way.enter(b"2", "y", sender="b@10.0.0.2:1")
    assert way.out == [b"2"]
    way.enter(b"3", "x", sender="b@10.0.0.2:1")
    way.enter(b"4", "y", sender="b@10.0.0.2:1")
    first.answer()
    assert way.out == [b"2", b"1a"]
    first.answer()
    assert way.out == [b"2", b"1a", b"3a", b"4"]
    way.enter(b"5", "y")
    assert way.out[-1] == b"5"


def test_what_a_filter_sends_passes_those_behind_it_only() -> None:
    first, second = FakeFilter(b"a"), FakeFilter(b"b")
    way = Way(first, second)
    way.enter(b"1", behind=first)
    way.enter(b"2", behind=second)
    assert (first.seen, second.seen, way.out) == ([], [b"1"], [b"2"])
    second.answer()
    assert way.out == [b"2", b"1b"]


def test_nobody_looks_at_a_frame_of_which_all_was_dropped() -> None:
    class Dropper(FakeFilter):
        def answer(self, *, as_it_came: bool = False) -> None:
            self.asked.popleft()[1](Passed(make_batch([DROPPED]), ()))

    first, second = Dropper(b"a"), FakeFilter(b"b")
    way = Way(first, second)
    way.enter(b"1")
    first.answer()
    assert (second.seen, way.out) == ([], [make_batch([DROPPED])])


def test_what_is_at_a_filter_that_is_taken_away_goes_on() -> None:
    first, second, third = FakeFilter(b"a"), FakeFilter(b"b"), FakeFilter(b"c")
    way = Way(first, second, third)
    for batch in (b"1", b"2", b"3"):
        way.enter(batch)
    first.answer()
    first.answer()
    second.answer()
    way.filter_chain.set_filters([first, third])
    assert third.seen == [b"1ab", b"2a"]
    second.answer()  # too late
    first.answer()
    assert third.seen == [b"1ab", b"2a", b"3a"]
    way.filter_chain.set_filters([])
    assert way.out == [b"1ab", b"2a", b"3a"]
    assert (way.filter_chain.occupied, way.filter_chain.bytes) == (False, 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from(["xa", "xb", "ya", "yb"])),
        st.tuples(st.just("answer"), st.integers(0, 2)),
        st.tuples(st.just("by"), st.integers(0, 2)),
        st.tuples(st.just("filters"), st.sets(st.integers(0, 2))),
    ),
    max_size=60,
)


@given(STEPS)
def test_every_message_comes_out_once_and_in_order(steps: list[tuple[str, object]]) -> None:
    filters = [FakeFilter(b"a", "x"), FakeFilter(b"b"), FakeFilter(b"c", "y")]
    way = Way(*filters)
    count = 0
    for what, how in steps:
        match what, how:
            case "enter", str(how):
                way.enter(how[1].encode() + b"%04d" % count, how[0], sender=f"{how[1]}@10.0.0.1:1")
                count += 1
            case "answer", int(which):
                filters[which].answer()
            case "by", int(which):
                filters[which].answer(as_it_came=True)
            case "filters", set(those):
                way.filter_chain.set_filters([one for at, one in enumerate(filters) if at in those])
    way.filter_chain.set_filters([])
    assert sorted(batch[1:5] for batch in way.out) == [b"%04d" % number for number in range(count)]
    assert (way.filter_chain.bytes, way.filter_chain.occupied) == (0, False)
    for batches in (way.out, *(one.seen for one in filters)):
        for sender in (b"a", b"b"):
            of_sender = [batch[:5] for batch in batches if batch.startswith(sender)]
            assert of_sender == sorted(of_sender)


# ---- in the relay ------------------------------------------------------------------------------------------


class Held:
    """Two satellites and a filter that holds what it is given, until it is told what goes on."""

    def __init__(self) -> None:
        self.net = Network()
        self.spam, self.ham = self.net.satellite("spam"), self.net.satellite("ham", "p")
        self.net.run()
        self.filter = FakeFilter(b"")
        self.filter_chain = self.net.relay.filter_chain
        self.filter_chain.set_filters([self.filter])
        self.filter_chain.released = self.net.relay.come_through

    def answer(self, passed: Passed | None) -> None:
        self.filter.asked.popleft()[1](passed)
        self.net.run()


def sent(net: Network, satellite: FakeSatellite, *values: int) -> None:
    satellite.send(*values)
    net.run()


def test_a_changed_frame_is_delivered_and_its_sender_acknowledged() -> None:
    held = Held()
    sent(held.net, held.spam, 1, 2, 3)
    assert not held.ham.got
    assert len(held.spam.outbox) == 3
    changed = make_batch([batch_of(1)[5:], DROPPED, batch_of(33)[5:]])
    held.answer(Passed(changed, ("",)))
    assert held.ham.got["p"] == [1, 33]
    assert len(held.spam.outbox) == 0


def test_a_frame_of_which_nothing_is_left_is_acknowledged_and_not_delivered() -> None:
    held = Held()
    sent(held.net, held.spam, 1, 2)
    held.answer(Passed(make_batch([DROPPED, DROPPED]), ()))
    assert not held.ham.got
    assert len(held.spam.outbox) == 0
    sent(held.net, held.spam, 3)
    held.answer(None)
    assert held.ham.got["p"] == [3]


def test_what_was_on_its_way_when_its_link_ended_counts_once() -> None:
    held = Held()
    sent(held.net, held.spam, 1, 2)
    held.net.cut(held.spam)
    held.net.connect(held.spam)
    held.net.run()  # it sends again what was not acknowledged
    held.answer(None)
    while held.filter.asked:
        held.answer(None)
    assert held.ham.got["p"] == [1, 2]
    assert len(held.spam.outbox) == 0


def test_messages_that_a_filter_has_while_the_disk_is_full_come_again_in_order_on_the_same_link() -> None:
    held = Held()
    for value in (1, 2, 3):
        sent(held.net, held.spam, value)
    held.net.log.takes = False
    held.answer(None)
    assert "disk is full" in held.spam.core.held
    sent(held.net, held.spam, 4)
    held.net.log.takes = True
    held.net.relay.has_room()
    held.net.run()  # all four come again, while the filter still has 2 and 3 of the first time
    while held.filter.asked:
        held.answer(None)
    assert not held.spam.ended
    assert held.ham.got["p"] == [1, 2, 3, 4]
    assert len(held.spam.outbox) == 0


def test_live_messages_that_a_filter_has_while_the_disk_is_full_are_passed_on() -> None:
    held = Held()
    sent(held.net, held.spam, 1)
    held.spam.core.publish_live(*network.sent("live"))
    held.net.run()
    held.net.log.takes = False
    held.answer(None)
    held.net.log.takes = True
    held.net.relay.has_room()
    held.net.run()
    while held.filter.asked:
        held.answer(None)
    assert held.ham.got["p"] == ["live", 1]


def test_a_relay_plugin_does_not_see_what_the_disk_has_no_room_for() -> None:
    held = Held()
    held.net.log.takes = False
    sent(held.net, held.spam, 1)
    assert not held.filter.asked
    assert "disk is full" in held.spam.core.held
    held.net.log.takes = True
    held.net.relay.has_room()
    held.net.run()
    held.answer(None)
    assert held.ham.got["p"] == [1]
    assert len(held.filter.seen) == 1


def test_what_the_full_disk_refuses_of_a_link_that_has_ended_comes_again_on_the_next() -> None:
    held = Held()
    sent(held.net, held.spam, 1)
    held.net.cut(held.spam)
    held.net.log.takes = False
    held.answer(None)
    held.net.log.takes = True
    held.net.connect(held.spam)
    held.net.run()
    held.answer(None)
    assert held.ham.got["p"] == [1]
    assert not held.spam.ended[1:]


def test_a_filter_that_is_taken_away_holds_nothing_up() -> None:
    held = Held()
    sent(held.net, held.spam, 1)
    held.filter_chain.set_filters([])
    held.net.run()
    assert held.ham.got["p"] == [1]
    sent(held.net, held.spam, 2)
    assert held.ham.got["p"] == [1, 2]


def test_a_filter_is_alone_while_it_is_the_only_one_and_has_nothing() -> None:
    first, second = FakeFilter(b"a"), FakeFilter(b"b")
    way = Way(first)
    assert way.filter_chain.lone is first
    way.enter(b"1")
    assert way.filter_chain.lone is None
    first.answer()
    assert way.filter_chain.lone is first
    way.filter_chain.set_filters([first, second])
    assert way.filter_chain.lone is None


def test_a_filter_that_answers_out_of_order_keeps_the_order() -> None:
    filter_ = FakeFilter(b"a")
    way = Way(filter_)
    way.enter(b"1")
    way.enter(b"2")
    filter_.asked.reverse()
    filter_.answer()
    assert (way.out, way.late) == ([], 0)
    filter_.answer()
    assert (way.out, way.late) == ([b"1a", b"2a"], 1)
