"""What a Hello comes to, case by case."""

from typing import Any

import pytest

from co2.host_id import HostId
from co2.protocol.link_frames import BEGINNING, Hello, Subscription
from co2.protocol.log import LogGap
from co2.protocol.welcome import Meeting, in_this_log, live_beginning, meet
from tests.protocol.network import FakeLog, Network, batch_of

LOST = "the relay lost messages {} of ham@10.0.0.2:2004"


@pytest.mark.parametrize(
    ("mark", "first", "same_log", "meeting"),
    [
        (None, 1, True, Meeting(0, is_new_mark=True)),
        (None, 1, False, Meeting(0, is_new_mark=True)),
        (None, 5, False, Meeting(4, is_new_mark=True)),
        (None, 5, True, Meeting(4, is_new_mark=True, lost=LOST.format("1 to 4"))),
        (2, 5, True, Meeting(4, is_new_mark=True, lost=LOST.format("3 to 4"))),
        (2, 5, False, Meeting(4, is_new_mark=True, lost=LOST.format("3 to 4"))),
        (4, 5, True, Meeting(4)),
        (9, 5, True, Meeting(9)),
        (9, 5, False, Meeting(9)),
    ],
)
def test_where_a_run_goes_on(mark: int | None, first: int, same_log: bool, meeting: Meeting) -> None:
    log = FakeLog()
    if mark is not None:
        log.marks = {("ham", 7): mark}
    peer = Network().relay.opened(("10.0.0.2", 1))
    peer.host_id = HostId("ham", "10.0.0.2", 2004)
    assert meet(log, peer, 7, first, same_log) == meeting


def test_what_is_not_on_disk_yet_is_not_acknowledged() -> None:
    log = FakeLog()
    log.append(batch=batch_of(1, 2), origin="ham", host_id="", client_address=("", 0), epoch=7, seq=1)
    peer = Network().relay.opened(("10.0.0.2", 1))
    peer.host_id = HostId("ham", "10.0.0.2", 2004)
    assert meet(log, peer, 7, 1, same_log=True) == Meeting(0)
    log.committed = log.last
    assert meet(log, peer, 7, 1, same_log=True) == Meeting(2)


def hello(log_id: str, *subscriptions: Subscription) -> Hello:
    return Hello("ham@10.0.0.2:2004", log_id, "run-1", list(subscriptions), [], [], [])


def test_positions_of_another_log_are_gaps_and_begin_anew() -> None:
    log: Any = FakeLog()
    old, new = Subscription("old", 50, ["a.*"], durable=True), Subscription("new", None)
    for log_id in ("log-1", ""):
        assert in_this_log(log, hello(log_id, old, new)) == ([old, new], [])
    assert in_this_log(log, hello("another", old, new)) == (
        [Subscription("old", BEGINNING, ["a.*"], durable=True), new],
        [("old", LogGap(50, BEGINNING, "log replaced"))],
    )


@pytest.mark.parametrize(
    ("positions", "durable", "begins"),
    [
        ([], [], 100),
        ([None], [], 100),
        ([70], [], 70),
        ([70, 90], [], 90),
        ([70, None], [], 100),
        ([120], [], 120),
        ([], [5, None], 100),
        ([70], [5, None], 70),
    ],
)
def test_where_the_live_stream_begins(positions: list[Any], durable: list[Any], begins: int) -> None:
    subscriptions = [Subscription("p", position) for position in positions]
    subscriptions += [Subscription("d", position, durable=True) for position in durable]
    assert live_beginning(subscriptions, 100) == begins
