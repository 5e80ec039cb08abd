"""What one satellite says of the log, and of its own numbers, concerns nobody else, unless a receipt shows it."""

from typing import Any

import pytest

from co2.protocol.relay import core as relay
from co2.protocol.relay.losses import MAX_LOSSES
from co2.protocol.relay.receipts import ReceiptKey
from co2.protocol.wire import close_reasons
from co2.protocol.wire.link_frames import (
    MAX_RECEIPTS,
    Gap,
    Hello,
    Receipt,
    Subscription,
    decode_relay_frame,
    encode_link_frame,
)
from tests.protocol.network import KEY, FakeLog, FakeSatellite, Network


def hostile(net: Network, origin: str = "mallory", **fields: Any) -> list[Any]:
    """Say one Hello on a link of its own; return what comes back."""
    known = {"log_id": net.log.log_id, "run": "made up", "subscriptions": [], "outbox": [(7, 1)]}
    peer = net.relay.opened(("10.0.0.66", 1))
    hello = Hello(
        f"{origin}@10.0.0.66:1", methods=[], plugins=[], token=f"token of {origin}", **{**known, **fields}
    )
    net.relay.receive(peer, encode_link_frame(hello))
    net.run()
    return [decode_relay_frame(data) for data in peer.taken()]


def busy() -> tuple[Network, FakeSatellite, FakeSatellite]:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    ham.send(1, 2, 3)
    net.run()
    net.give_receipts()
    return net, ham, spam


FORGED = [
    None,
    Receipt("log-1", "made up", 10**6, b""),
    Receipt("log-1", "made up", 10**6, b"x" * 32),
    ReceiptKey("another secret").sign("mallory", "log-1", "made up", 10**6),
    ReceiptKey("").sign("mallory", "log-1", "made up", 10**6),
    KEY.sign("spam", "log-1", "made up", 10**6),
]


@pytest.mark.parametrize("receipt", FORGED)
@pytest.mark.parametrize(("run", "position"), [("made up", 2), ("run-1", 10**5), ("made up", 10**6)])
def test_a_position_that_nobody_has_given_concerns_only_who_says_it(
    run: str, position: int, receipt: Receipt | None
) -> None:
    net, ham, spam = busy()
    for _ in range(3):
        subscriptions = [Subscription("p", position), Subscription("d", position, durable=True)]
        welcome, *rest = hostile(net, run=run, subscriptions=subscriptions, receipt=receipt)
        gaps = [frame for frame in rest if isinstance(frame, Gap)]
        assert (welcome.anew, welcome.position) == (True, 1)
        assert [(gap.package, gap.next, gap.reason) for gap in gaps] == [
            ("p", 1, "log replaced"),
            ("d", 1, "log replaced"),
        ]
    ham.send(4)
    net.run()
    assert (net.log.log_id, ham.ended, spam.ended, spam.gaps) == ("log-1", [], [], [])
    assert spam.got == {"b": [1, 2, 3, 4]}


def test_a_true_receipt_of_this_log_proves_nothing_against_it() -> None:
    net, _, spam = busy()
    [receipt] = spam.core.receipts
    assert KEY.is_true("spam", receipt)
    assert not KEY.is_true("mallory", receipt)
    assert receipt.position == net.log.committed
    hostile(net, run="made up", subscriptions=[Subscription("p", 10**5)], receipt=receipt, outbox=[(7, 10**6)])
    assert (net.log.log_id, spam.ended, spam.gaps) == ("log-1", [], [])
    for changed in (("log-1", "run-1", 10**6), ("log-1", "run-2", receipt.position), ("log-2", "run-1", 1)):
        assert not KEY.is_true("spam", Receipt(*changed, receipt.mac))


def test_a_receipt_comes_where_it_is_news_and_only_to_those_that_know_it() -> None:
    net = Network()
    ham, spam, old = net.satellite("ham"), net.satellite("spam", "b"), net.satellite("old", "b", token="")
    before = spam.core.receipts
    net.give_receipts()
    assert spam.core.receipts is before
    ham.send(1)
    net.run()
    net.relay.give_receipts(net.relay.peers.values())
    assert [len(peer.out) for peer in net.relay.peers.values()] == [1, 1, 0]
    net.run()
    assert [receipt.position for receipt in spam.core.receipts] == [2]
    assert old.core.receipts == ()
    assert not old.ended


@pytest.mark.parametrize("token", [None, ""])
def test_who_reads_in_a_log_that_does_not_know_its_run_gets_all_of_it_again_and_nothing_twice(
    token: str | None,
) -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b", token=token)
    ham.send(1, 2)
    net.run()
    net.cut(spam)
    ham.send(3)
    net.run()
    spam.core.run, spam.core.receipts = "forgotten", ()
    net.connect(spam)
    ham.send(4)
    net.run()
    assert spam.got == {"b": [1, 2, 3, 4]}
    assert spam.gaps == [("b", "log replaced")]
    assert net.log.log_id == "log-1"


def test_a_package_that_is_new_beside_one_that_begins_anew_hears_nothing_of_before() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b")
    ham.send(1, 2)
    net.run()
    net.cut(spam)
    ham.send(3)
    net.run()
    spam.core.run = "forgotten"
    spam.core.subscribe("new")
    net.connect(spam)
    ham.send(4)
    net.run()
    assert spam.got == {"b": [1, 2, 3, 4], "new": [4]}


def test_a_log_is_renamed_once_in_a_run_and_by_a_true_receipt_only() -> None:
    net, ham, spam = busy()
    net.roll_back(0, {})
    [receipt] = ham.core.receipts
    net.log.runs, net.log.next = {"run-1": 2}, 3  # it was stopped, not killed, before it was copied
    net.log.begin_run()
    net.connect(spam)
    renamed = net.log.log_id
    assert renamed != "log-1"
    for _ in range(3):
        hostile(net, "ham", run="run-1", receipt=receipt, log_id="log-1", subscriptions=[Subscription("p", 3)])
    assert net.log.log_id == renamed
    assert not [ended for ended in spam.ended if ended.reason == close_reasons.LOG_REPLACED]


# ---- numbers ------------------------------------------------------------------------------------------------


def test_claims_of_numbers_leave_nothing_behind() -> None:
    net, ham, spam = busy()
    before = dict(net.log.marks)
    for number in range(50):
        hostile(net, f"m{number}", outbox=[(number * 64 + run + 1, 10**6) for run in range(64)])
    assert net.log.marks == before
    assert (spam.gaps, spam.ended, list(net.log.losses)) == ([], [], [])
    ham.send(4)
    net.run()
    assert spam.got == {"b": [1, 2, 3, 4]}


def test_a_run_goes_on_where_its_satellite_says_if_the_log_does_not_know_it() -> None:
    net, ham, spam = busy()
    net.log.marks = {}
    net.cut(ham)
    net.connect(ham)
    ham.send(4)
    net.run()
    assert spam.got == {"b": [1, 2, 3, 4]}
    assert net.log.marks == {("ham", 7): 4}
    assert spam.gaps == []


def test_what_is_lost_is_told_once_for_a_satellite_however_often_it_says_so() -> None:
    net, _, spam = busy()
    [welcome, *_] = hostile(net, run="run-1")
    net.roll_back(0, {})
    net.connect(spam)
    spam.gaps.clear()
    for number in range(20):
        outbox = [(number * 64 + run + 1, 10**6) for run in range(64)]
        hostile(net, receipt=KEY.sign("mallory", "log-1", "run-1", 4), outbox=outbox)
    net.run()
    assert welcome.receipt.position == 4
    assert len(spam.gaps) == 1
    assert "and of 56 more runs" in spam.gaps[0][1]
    assert len(list(net.log.losses)) == 1 <= MAX_LOSSES
    assert len(net.log.marks) == 64


@pytest.mark.parametrize("others", [1, MAX_RECEIPTS, MAX_RECEIPTS + 1])
def test_an_older_copy_of_a_log_before_the_last_one_is_known_from_an_earlier_receipt(others: int) -> None:
    net, ham, spam = busy()
    older = net.log
    ham.send(4, 5)
    net.run()
    for number in range(others):
        net.put_in(FakeLog())
        net.log.log_id = f"another-{number}"
        net.connect(spam)
        net.connect(ham)
        ham.send(6 + number)
        net.run()
    net.put_in(older)
    net.roll_back(1, {("ham", 7): 3})
    spam.gaps.clear()
    spam.got.clear()
    net.connect(spam)
    net.connect(ham)
    lost = [f"the relay lost messages 4 to {5 + others} of ham@10.0.0.2:2004"] if others <= MAX_RECEIPTS else []
    assert [loss.reason for loss in net.log.losses] == lost
    assert [reason for _, reason in spam.gaps] == ["log replaced", *lost]
    assert spam.got == {}, "it has had them"
    assert len(ham.core.receipts) == min(others, MAX_RECEIPTS) + 1


def test_a_receipt_for_an_earlier_id_of_a_log_proves_nothing_once_there_is_one_for_a_later_id() -> None:
    """Its satellite has been told then; and a run that is too old for the log's marks has lost nothing."""
    net, ham, spam = busy()
    net.roll_back(0, {})
    net.connect(spam)
    net.log.replace_id()
    net.connect(ham)
    ham.send(4)
    net.run()
    net.give_receipts()
    assert [receipt.log_id for receipt in ham.core.receipts] == [net.log.log_id, "log-1"]
    losses = [loss.reason for loss in net.log.losses]
    assert losses == ["the relay lost messages 1 to 3 of ham@10.0.0.2:2004"]
    net.crash()
    net.log.marks = {}
    net.connect(ham)
    net.run()
    assert [loss.reason for loss in net.log.losses] == losses


def test_what_shows_a_loss_is_kept_until_the_loss_is_on_disk() -> None:
    """The relay crashes once more before it is: it is shown again, and told."""
    net, ham, _ = busy()
    ham.send(4, 5)
    net.run()
    net.roll_back(0, {})
    shows = ham.core.receipts
    net.auto_commit = False
    net.connect(ham)
    ham.send(6)
    net.run()
    net.give_receipts()
    assert ham.core.receipts == shows
    assert len(list(net.log.losses)) == 1
    net.crash()
    net.log.losses._losses.clear()
    net.log.marks = {}
    net.auto_commit = True
    net.connect(ham)
    assert ["1 to 5" in loss.reason for loss in net.log.losses] == [True]
    ham.send(7)
    net.run()
    net.give_receipts()
    assert ham.core.receipts != shows


def test_so_many_satellites_are_named_and_then_it_is_told_that_there_are_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "MAX_LOSSES", 3)
    net, _, spam = busy()
    net.roll_back(0, {})
    net.connect(spam)
    spam.gaps.clear()
    for number in range(10):
        origin = f"m{number}"
        hostile(net, origin, receipt=KEY.sign(origin, "log-1", "run-1", 4), outbox=[(7, 10**6)])
    net.run()
    told = [reason.partition(" of ")[2] for _, reason in spam.gaps]
    assert told == ["m0@10.0.0.66:1", "m1@10.0.0.66:1", "more satellites than it can list"]


def test_a_log_that_takes_nothing_gives_no_receipts() -> None:
    """The run that a receipt names may not be on its disk."""
    net, ham, spam = busy()
    before = spam.core.receipts
    net.log.takes = False
    net.log.committed += 1
    net.relay.committed(net.log.committed)
    net.give_receipts()
    assert spam.core.receipts is before
    net.log.takes = True
    net.give_receipts()
    assert spam.core.receipts is not before
    assert not ham.ended
