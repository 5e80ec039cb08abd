"""What a relay that has no link brings with ``notify``: messages once, and gaps to plugins in their place."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from co2.errors import BadParams, NotOurRelay
from co2.satellite.notify_endpoint import MAX_GAPS, NotifyEndpoint
from co2.values import unpack_batch
from co2.xmlrpc.registry import Caller

RELAY = Caller("10.0.0.1", 4567)
MESSAGE = {"host_id": "a@10.0.0.7:2004", "data": 1}


class Plugins:
    """Writes down what came, in order."""

    def __init__(self) -> None:
        self.came: list[Any] = []
        self.closed = ""
        self.notify_endpoint = NotifyEndpoint(
            "own", lambda: frozenset(("10.0.0.1",)), lambda: self.closed, self.deliver, self.gap
        )

    def deliver(
        self, host_id: str, address: tuple[str, int], channels: Sequence[str] | None, batch: bytes
    ) -> None:
        self.came += [message["data"] for message in unpack_batch(batch)]

    def gap(self, after: int, following: int, reason: str) -> None:
        self.came.append((after, following, reason))

    def notify(self, **keys: Any) -> bool:
        return self.notify_endpoint.notify([{**MESSAGE, **keys}], RELAY)


def test_a_gap_is_told_to_plugins_before_the_message_that_brings_it() -> None:
    plugins = Plugins()
    plugins.notify(position=1)
    plugins.notify(data=2, position=9, gaps=[{"after": 1, "next": 8, "reason": "retention"}])
    assert plugins.came == [1, (1, 9, "retention"), 2]
    plugins.notify(data=2, position=9, gaps=[{"after": 1, "next": 8, "reason": "retention"}])
    assert plugins.came == [1, (1, 9, "retention"), 2], "a repeat is nothing new"
    assert plugins.notify_endpoint.gaps == 1


@pytest.mark.parametrize("gaps", [5, [5], [{}], [{"after": -1, "next": 2}], [{"after": 1, "next": "x"}]], ids=repr)
def test_gaps_that_are_none_are_refused_and_the_message_with_them(gaps: Any) -> None:
    plugins = Plugins()
    with pytest.raises(BadParams):
        plugins.notify(position=1, gaps=gaps)
    plugins.notify(position=1)
    assert plugins.came == [1]


def test_very_many_gaps_are_few_lines_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    plugins = Plugins()
    gaps = [{"after": number, "next": number + 1, "reason": "x" * 10_000} for number in range(MAX_GAPS)]
    with caplog.at_level(logging.WARNING):
        plugins.notify(position=9, gaps=gaps)
    assert sum(len(record.getMessage()) for record in caplog.records) < 2000
    with pytest.raises(BadParams, match="gaps"):
        plugins.notify(position=10, gaps=[*gaps, gaps[0]])


def test_only_our_relay_may_notify() -> None:
    with pytest.raises(NotOurRelay):
        Plugins().notify_endpoint.notify([MESSAGE], Caller("10.0.0.2", 1))


def test_not_even_our_relay_may_where_it_is_passed_on_or_not_wanted() -> None:
    plugins = Plugins()
    for caller in (Caller("10.0.0.1", 1, relayed=True), Caller("10.0.0.1", 1, proxied=True)):
        with pytest.raises(NotOurRelay):
            plugins.notify_endpoint.notify([MESSAGE], caller)
    plugins.closed = "there is a link"
    with pytest.raises(NotOurRelay, match="there is a link"):
        plugins.notify()
    assert not plugins.came
