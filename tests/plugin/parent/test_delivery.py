"""When a child gets what: at once, later, again, or never."""

from typing import Any

import msgspec
import pytest

from co2.plugin.parent import delivery as delivery_module
from co2.plugin.parent.delivery import NETWORK, Delivery
from co2.plugin.parent.delivery_queue import OVERHEAD, WINDOW, GapRange
from tests.plugin.parent.test_bookkeeping import A, queued


class Delivered:
    """A delivery, what its child got, and how often there was room again."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.rooms = 0
        self.delivery = Delivery(self._on_room)

    def _on_room(self) -> None:
        self.rooms += 1

    @property
    def numbers(self) -> list[int]:
        return [frame.first for frame in self.given]


BIG = msgspec.structs.replace(queued(A, b"1"), batch=bytes(WINDOW))


def test_without_a_child_all_waits_and_the_next_one_gets_what_was_not_done() -> None:
    it = Delivered()
    it.delivery.deliver("ham", queued(A, b"1"))
    assert (it.given, len(it.delivery), it.delivery.received) == ([], 1, 0)
    it.delivery.begin(it.given.append)
    it.delivery.deliver("ham", queued(A, b"2"))
    assert it.numbers == [1, 2]
    it.delivery.done(1)
    assert (len(it.delivery), it.delivery.received) == (1, 1)
    it.delivery.hold()
    it.delivery.deliver("ham", queued(A, b"3"))
    assert it.numbers == [1, 2]
    it.delivery.resume(it.given.append)
    assert it.numbers == [1, 2, 3], "the same child has the others still"
    it.delivery.hold()
    it.delivery.begin(it.given.append)
    assert it.numbers == [1, 2, 3, 2, 3], "another one gets them again"
    it.delivery.forget_given()
    assert (len(it.delivery), it.delivery.received) == (0, 1)


def test_what_waits_is_not_overtaken() -> None:
    it = Delivered()
    it.delivery.begin(it.given.append)
    it.delivery.deliver("ham", BIG)
    it.delivery.deliver("ham", queued(A, b"2"))
    assert it.numbers == [1]
    it.delivery.hold()
    it.delivery.done(1)
    assert it.numbers == [1]
    it.delivery.resume(it.given.append)
    assert it.numbers == [1, 2]
    it.delivery.forget()
    it.delivery.gap("ham", GapRange(1, 5, ("retention",)))
    assert it.numbers == [1, 2, 3]


def test_the_number_of_what_would_be_given_at_once_is_known() -> None:
    it = Delivered()
    assert it.delivery.next_number(0) == 0, "there is no child"
    it.delivery.begin(it.given.append)
    assert it.delivery.next_number(10) == 1
    assert (it.delivery.next_number(WINDOW - 1), it.delivery.next_number(WINDOW)) == (1, 0)
    it.delivery.deliver("ham", queued(A, b"1", b"2"))
    assert it.delivery.next_number(10) == 3
    it.delivery.deliver("ham", BIG)
    assert it.delivery.next_number(-(2**40)) == 4
    it.delivery.deliver("ham", BIG)
    assert it.delivery.next_number(-(2**40)) == 0, "something waits"


def test_the_network_is_told_when_there_is_too_much_and_when_there_is_room_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = queued(A, b"1")
    monkeypatch.setattr(delivery_module, "MAX_FROM_NETWORK", 4 * one.size)
    it = Delivered()
    assert [it.delivery.deliver_from_network(one) for _ in range(6)] == [True] * 4 + [False] * 2
    assert it.rooms == 0
    monkeypatch.setattr(delivery_module, "MAX_FROM_NETWORK", 24 * one.size)  # a quarter of it is all that waits
    assert not it.delivery.deliver_from_network(msgspec.structs.replace(one, count=1))
    it.delivery.begin(lambda _frame: None)
    assert it.rooms == 1
    assert it.delivery.deliver_from_network(one)
    it.delivery.done(2)
    assert it.rooms == 1, "once"


def test_siblings_are_forgotten_and_the_network_is_not() -> None:
    it = Delivered()
    it.delivery.deliver("ham", queued(A, b"1"))
    it.delivery.deliver(NETWORK, queued(A, b"2"))
    it.delivery.forget(but=NETWORK)
    it.delivery.begin(it.given.append)
    assert [b"2" in frame.batch for frame in it.given] == [True]


def test_where_it_stands_is_known_for_its_own_log() -> None:
    it = Delivered()
    assert (it.delivery.standing, it.delivery.position("log"), it.delivery.position("")) == (("", 0), 0, 0)
    it.delivery.begin(it.given.append)
    it.delivery.deliver(NETWORK, msgspec.structs.replace(queued(A, b"1", b"2"), position=7, log_id="log"))
    it.delivery.done(2)
    assert it.delivery.standing == ("log", 8)
    assert (it.delivery.position("log"), it.delivery.position("other")) == (8, 0)


@pytest.mark.parametrize(("room", "given"), [(1, 2), (0, 1)])
def test_a_child_gets_more_as_long_as_there_is_any_room(room: int, given: int) -> None:
    it = Delivered()
    it.delivery.begin(it.given.append)
    it.delivery.deliver("ham", msgspec.structs.replace(BIG, batch=bytes(WINDOW - OVERHEAD - room)))
    it.delivery.deliver("ham", queued(A, b"2"))
    assert len(it.given) == given
