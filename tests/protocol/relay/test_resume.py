"""What a Hello comes to, case by case."""

from typing import Any

import pytest

from co2.host_id import HostId
from co2.protocol.relay.log import LogGap
from co2.protocol.relay.resume import Resumption, in_this_log, live_beginning, lost_in_words, meet
from co2.protocol.wire.link_frames import BEGINNING, Hello, Subscription
from tests.protocol.network import FakeLog, Network, batch_of


@pytest.mark.parametrize(
    ("mark", "first", "rolled_back", "meeting"),
    [
        (None, 1, True, Resumption(0, is_new_mark=True)),
        (None, 1, False, Resumption(0, is_new_mark=True)),
        (None, 5, False, Resumption(4, is_new_mark=True)),
        (None, 5, True, Resumption(4, is_new_mark=True, lost=(1, 4))),
        (2, 5, True, Resumption(4, is_new_mark=True, lost=(3, 4))),
        (2, 5, False, Resumption(4, is_new_mark=True)),
        (4, 5, True, Resumption(4)),
        (9, 5, True, Resumption(9)),
        (9, 5, False, Resumption(9)),
    ],
)
def test_where_a_run_goes_on(mark: int | None, first: int, rolled_back: bool, meeting: Resumption) -> None:
    log = FakeLog()
    if mark is not None:
        log.marks = {("ham", 7): mark}
    peer = Network().relay.opened(("10.0.0.2", 1))
    peer.host_id = HostId("ham", "10.0.0.2", 2004)
    assert meet(log, peer, 7, first, rolled_back) == meeting


def test_what_is_lost_is_told_in_one_gap() -> None:
    assert lost_in_words("ham@10.0.0.2:2004", [(3, 4)]) == "the relay lost messages 3 to 4 of ham@10.0.0.2:2004"
    assert lost_in_words("ham", [(3, 4), (1, 9)]) == "the relay lost messages 3 to 4, 1 to 9 of ham"
    many = lost_in_words("ham", [(1, number) for number in range(64)])
    assert many.endswith("1 to 7, and of 56 more runs, of ham")


def test_what_is_not_on_disk_yet_is_not_acknowledged() -> None:
    log = FakeLog()
    log.append(batch=batch_of(1, 2), count=2, origin="ham", host_id="", client_address=("", 0), epoch=7, seq=1)
    peer = Network().relay.opened(("10.0.0.2", 1))
    peer.host_id = HostId("ham", "10.0.0.2", 2004)
    assert meet(log, peer, 7, 1, rolled_back=False) == Resumption(0)
    log.committed = log.last
    assert meet(log, peer, 7, 1, rolled_back=False) == Resumption(2)


def hello(log_id: str, *subscriptions: Subscription) -> Hello:
    return Hello("ham@10.0.0.2:2004", log_id, "run-1", list(subscriptions), [], [], [])


def test_positions_of_another_log_are_gaps_and_begin_anew() -> None:
    log: Any = FakeLog()
    log.next = 51
    old, new = Subscription("old", 50, ["a.*"], durable=True), Subscription("new", None)
    for log_id in ("log-1", ""):
        assert in_this_log(log, hello(log_id, old, new)) == ([old, new], [])
    assert in_this_log(log, hello("another", old, new)) == (
        [Subscription("old", BEGINNING, ["a.*"], durable=True), new],
        [("old", LogGap(50, BEGINNING, "log replaced"))],
    )
    log.next = 50  # it has never come so far: whoever says so is told, and nobody else
    assert in_this_log(log, hello("log-1", old, new)) == in_this_log(log, hello("another", old, new))
    assert log.log_id == "log-1"


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
