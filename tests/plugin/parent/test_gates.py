"""The ways into a package open, hold and close together."""

from types import SimpleNamespace
from typing import Any

import pytest

from co2.plugin.parent.delivery import NETWORK
from co2.plugin.parent.gates import Gates


class Way:
    """Notes what is asked of it."""

    def __init__(self, name: str, asked: list[Any]) -> None:
        self.held = False
        self._name = name
        self._asked = asked

    def __getattr__(self, what: str) -> Any:
        def ask(*args: Any, **keys: Any) -> None:
            self._asked.append((f"{self._name}.{what}", *args, *keys.values()))

        return ask


class Ways:
    """The gates, and what they have asked of each way."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        ways: list[Any] = [Way(name, self.asked) for name in ("delivery", "calls", "filters")]
        self.filters = ways[2]
        self.gates = Gates(*ways)

    def taken(self) -> list[Any]:
        asked, self.asked[:] = [*self.asked], []
        return asked


def generation(*, receives: bool = True, durable: bool = False) -> Any:
    return SimpleNamespace(send="send", plugins=["plugins"], receives=receives, durable=durable)


BEGUN = [("delivery.begin", "send"), ("calls.begin", "send"), ("filters.begin", "send", ["plugins"])]
FORGET_ALL = [("delivery.forget",), ("delivery.forget_given",)]
FORGET_SIBLINGS = [("delivery.forget", NETWORK)]
KEPT: list[Any] = []


@pytest.mark.parametrize(
    ("one", "before", "first"),
    [
        (generation(), None, KEPT),
        (generation(), generation(durable=True), KEPT),
        (generation(receives=False), None, FORGET_ALL),
        (generation(receives=False, durable=True), None, FORGET_ALL),
        (generation(durable=True), None, FORGET_SIBLINGS),
        (generation(durable=True), generation(), FORGET_SIBLINGS),
        (generation(durable=True), generation(durable=True), KEPT),
    ],
)
def test_a_new_generation_gets_what_it_wants_of_the_work_of_the_one_before(
    one: Any, before: Any, first: list[Any]
) -> None:
    ways = Ways()
    ways.gates.open(one, before)
    assert ways.taken() == first + BEGUN


def test_all_ways_hold_and_lead_to_the_same_generation_again() -> None:
    ways = Ways()
    ways.gates.hold()
    assert ways.taken() == [("delivery.hold",), ("calls.hold",), ("filters.hold",)]
    ways.gates.resume(generation())
    assert ways.taken() == [("delivery.resume", "send"), ("calls.resume", "send"), ("filters.resume", "send")]


@pytest.mark.parametrize(
    ("on_trial", "held", "filters"),
    [
        (False, False, [("filters.lose",)]),
        (False, True, []),
        (True, False, [("filters.hold",)]),
        (True, True, [("filters.hold",)]),
    ],
)
def test_after_a_death_messages_pass_the_filters_by_unless_these_come_back(
    on_trial: bool, held: bool, filters: list[Any]
) -> None:
    ways = Ways()
    ways.filters.held = held
    ways.gates.lose("it died", on_trial=on_trial)
    assert ways.taken() == [("delivery.hold",), ("calls.lose", "it died"), *filters]


def test_closed_ways_fail_calls_and_keep_the_messages() -> None:
    ways = Ways()
    ways.gates.close("it was stopped", "stopped")
    assert ways.taken() == [("delivery.hold",), ("calls.end", "it was stopped", "stopped"), ("filters.lose",)]
