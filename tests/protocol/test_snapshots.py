"""A package that starts gets the last values first: each once, none from behind its position, none doubled."""

from typing import Any

import pytest

from co2.protocol.relay import last_values, snapshots
from co2.protocol.wire import link_frames
from co2.protocol.wire.link_frames import Subscription, Welcome, Wish
from tests.protocol.network import FakeSatellite, Network

WANTED = ("a.>",)


def publish(satellite: FakeSatellite, channel: str, *values: Any, many: bool = False) -> None:
    satellite.core.publish(*sent_on(channel, *values, many=many))


def sent_on(channel: str, *values: Any, many: bool = False) -> Any:
    import msgspec

    from co2.protocol.wire.batch import make_batch
    from co2.protocol.wire.plugin_frames.frames import Publish

    batch = make_batch([msgspec.msgpack.encode({"channel": channel, "data": value}) for value in values])
    return "p", Publish("p.m.X_P", None if many else [channel], batch), len(values)


@pytest.fixture
def network() -> Network:
    return Network()


def test_a_late_joiner_gets_the_last_values_and_then_what_follows(network: Network) -> None:
    sender = network.satellite("one")
    publish(sender, "a.x", 1, 2)
    publish(sender, "a.y", 3)
    publish(sender, "b", 4)
    network.run()
    late = network.satellite("two", "p", channels=["a.>", "b"], snapshot=WANTED)
    assert late.snapshots == [("p", [2, 3])]
    publish(sender, "a.x", 5)
    publish(sender, "b", 6)
    network.run()
    assert late.got["p"] == [5, 6]


@pytest.mark.parametrize("durable", [False, True])
def test_what_is_sent_while_it_waits_comes_once_and_behind_the_snapshot(network: Network, durable: bool) -> None:
    sender = network.satellite("one")
    for n in range(100):
        publish(sender, f"a.{n % 10}", n)
    network.run()
    late = network.satellite("two")
    late.core.subscribe("p", ["a.>"], durable=durable, snapshot=WANTED)
    for n in range(100, 200):
        publish(sender, f"a.{n % 10}", n)
        network._carry(late if n % 3 else sender)
        if n % 7 == 0:
            network.commit()
            network._serve()
    network.run()
    [(_, values)] = late.snapshots
    assert len(values) == 10
    got = late.got.get("p", [])
    assert sorted(values) == list(range(min(values), min(values) + 10))
    assert got == list(range(max(values) + 1, 200))


def test_a_frame_of_many_channels_is_looked_through(network: Network) -> None:
    sender = network.satellite("one")
    publish(sender, "a.x", 1, many=True)
    publish(sender, "c", 2, many=True)
    network.run()
    late = network.satellite("two", "p", snapshot=("a.x", "c"))
    assert late.snapshots == [("p", [1, 2])]


def test_values_wait_for_the_disk(network: Network) -> None:
    sender = network.satellite("one")
    network.auto_commit = False
    publish(sender, "a.x", 1)
    network.run()
    late = network.satellite("two", "p", snapshot=WANTED)
    assert not late.snapshots
    publish(sender, "a.x", 2)
    network.run()
    assert not late.got
    network.auto_commit = True
    network.run()
    assert late.snapshots == [("p", [1])]
    assert late.got["p"] == [2]


def test_values_wait_until_the_index_is_complete(network: Network) -> None:
    sender = network.satellite("one")
    publish(sender, "a.x", 1)
    network.run()
    network.relay.fan_out.last_values.begin_restore()
    late = network.satellite("two", "p", snapshot=WANTED)
    assert not late.snapshots
    network.relay.fan_out.last_values.end_restore()
    network.relay.values_restored()
    network.run()
    assert late.snapshots == [("p", [1])]


def test_a_link_that_breaks_while_it_waits_gives_all_of_it_on_the_next_one(network: Network) -> None:
    sender = network.satellite("one")
    publish(sender, "a.x", 1)
    network.run()
    late = network.satellite("two")
    late.core.subscribe("p", ["a.>"], snapshot=WANTED)
    for data in late.core.taken():
        network.relay.receive(late.peer, data)  # type: ignore[arg-type]
    network.cut(late)
    publish(sender, "a.x", 2)
    network.run()
    assert not late.snapshots
    network.connect(late)
    assert late.snapshots == [("p", [2])]
    assert not late.got


def test_a_part_that_came_before_the_link_broke_is_not_given_twice(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "PART", 10)
    sender = network.satellite("one")
    for n in range(5):
        publish(sender, f"a.{n}", n)
    network.run()
    late = network.satellite("two")
    late.core.subscribe("p", ["a.>"], snapshot=WANTED)
    for data in late.core.taken():
        network.relay.receive(late.peer, data)  # type: ignore[arg-type]
    network._serve()
    parts = network.relay.taken(late.peer)  # type: ignore[arg-type]
    assert len(parts) > 3
    for data in parts[:-1]:
        late.core.receive(data)
    network.cut(late)
    network.connect(late)
    assert late.snapshots == [("p", [0, 1, 2, 3, 4])]


def test_a_link_that_comes_back_gives_no_second_snapshot(network: Network) -> None:
    sender = network.satellite("one")
    publish(sender, "a.x", 1)
    network.run()
    late = network.satellite("two", "p", snapshot=WANTED)
    network.cut(late)
    publish(sender, "a.x", 2)
    network.run()
    network.connect(late)
    late.core.subscribe("p", ["a.>", "b"], snapshot=("a.>", "b"))  # new code
    network.run()
    assert late.snapshots == [("p", [1])]
    assert late.got["p"] == [2]


def test_a_package_that_is_loaded_anew_gets_another_one(network: Network) -> None:
    sender = network.satellite("one")
    publish(sender, "a.x", 1)
    network.run()
    late = network.satellite("two", "p", snapshot=WANTED)
    late.core.unsubscribe("p")
    late.core.subscribe("p", ["a.>"], snapshot=WANTED)
    network.run()
    assert late.snapshots == [("p", [1]), ("p", [1])]


def test_a_package_that_left_meanwhile_gets_nothing(network: Network) -> None:
    sender = network.satellite("one")
    publish(sender, "a.x", 1)
    network.run()
    network.auto_commit = False
    publish(sender, "a.x", 2)
    network.run()
    late = network.satellite("two", "p", snapshot=WANTED)
    late.core.unsubscribe("p")
    network.auto_commit = True
    network.run()
    assert not late.snapshots
    assert not network.relay.snapshots._works


def test_a_package_with_a_position_continues_there_without_a_snapshot(network: Network) -> None:
    sender = network.satellite("one")
    publish(sender, "a.x", 1)
    publish(sender, "a.x", 2)
    network.run()
    late = network.satellite("two")
    late.core.subscribe("p", ["a.>"], durable=True, position=2, snapshot=WANTED)
    network.run()
    assert not late.snapshots
    assert late.got["p"] == [2]


def test_a_relay_that_gives_none_makes_nobody_wait(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "co2.protocol.relay.core.Welcome", lambda *args, **more: Welcome(*args, **{**more, "snapshots": False})
    )
    sender = network.satellite("one")
    publish(sender, "a.x", 1)
    network.run()
    late = network.satellite("two", "p", snapshot=WANTED)
    publish(sender, "a.x", 2)
    network.run()
    assert late.refused == ["p"]
    assert late.got["p"] == [2]
    late.core.subscribe("q", ["a.>"], snapshot=WANTED)
    publish(sender, "a.x", 3)
    network.run()
    assert late.got["q"] == [3]


def test_a_link_without_room_gets_nothing_from_before_the_snapshot(network: Network) -> None:
    sender = network.satellite("one")
    publish(sender, "a.x", 0)
    network.run()
    late = network.satellite("two", "other")
    assert late.peer is not None
    network.relay.pause(late.peer)  # its live stream stays behind
    for n in range(1, 10):
        publish(sender, "a.x", n)
    network._carry(sender)
    network.commit()
    late.core.subscribe("p", ["a.>"], snapshot=WANTED)
    network.run()
    assert late.snapshots == [("p", [9])]
    network.relay.resume(late.peer)
    publish(sender, "a.x", 10)
    network.run()
    assert late.got["p"] == [10]
    assert late.got["other"] == list(range(1, 11))
    publish(sender, "a.x", 11)
    network.run()
    assert late.got["p"] == [10, 11]
    assert not late.peer.streams  # it reads with the others


def test_with_another_copy_of_the_log_no_value_comes_again(network: Network) -> None:
    sender = network.satellite("one")
    publish(sender, "a.x", 1, 2)
    network.run()
    late = network.satellite("two", "p", snapshot=WANTED)
    assert late.snapshots == [("p", [2])]
    network.crash()
    network.log.log_id = "another"
    network.connect(late)
    network.connect(sender)
    publish(sender, "a.x", 3)
    network.run()
    assert late.gaps == [("p", "log replaced")]
    assert late.got["p"] == [3]


# ---- siblings: they hear each other at once, not through the relay -----------------------------------------


def test_a_value_that_a_sibling_has_sent_before_is_given(network: Network) -> None:
    satellite = network.satellite("one")
    publish(satellite, "a.x", 1)
    network.run()
    satellite.core.remember_sent(wanted=True)
    satellite.core.subscribe("p", ["a.>"], snapshot=WANTED)
    network.run()
    assert satellite.snapshots == [("p", [1])]


def test_a_message_of_a_sibling_that_came_at_once_does_not_come_as_last_value_too(network: Network) -> None:
    satellite = network.satellite("one")
    publish(satellite, "a.y", 0)
    network.run()
    satellite.core.remember_sent(wanted=True)
    publish(satellite, "a.x", 1)  # the package, which is starting, has it already
    network.run()
    satellite.core.subscribe("p", ["a.>"], snapshot=WANTED)
    network.run()
    assert satellite.snapshots == [("p", [0])]


@pytest.mark.parametrize("many", [False, True])
def test_an_older_value_does_not_follow_a_siblings_newer_message(network: Network, many: bool) -> None:
    satellite, other = network.satellite("one"), network.satellite("two")
    publish(satellite, "a.x", 1)
    publish(other, "a.z", 1)
    publish(other, "a.y", 1)
    network.run()
    satellite.core.remember_sent(wanted=True)
    satellite.core.subscribe("p", ["a.>"], snapshot=WANTED)
    for data in satellite.core.taken():
        network.relay.receive(satellite.peer, data)  # type: ignore[arg-type]
    publish(satellite, "a.x", 2, many=many)  # given to the package at once; the relay gets it behind the question
    publish(satellite, "a.z", 2, many=many)
    network.run()
    assert satellite.snapshots == [("p", [1])]
    assert not satellite.got


def test_a_value_that_is_newer_than_a_siblings_message_is_given(network: Network) -> None:
    satellite, other = network.satellite("one"), network.satellite("two")
    satellite.core.remember_sent(wanted=True)
    publish(satellite, "a.x", 1)
    network.run()
    publish(other, "a.x", 2)
    network.run()
    satellite.core.subscribe("p", ["a.>"], snapshot=WANTED)
    network.run()
    assert satellite.snapshots == [("p", [2])]


def test_nothing_is_remembered_when_nobody_starts(network: Network) -> None:
    satellite = network.satellite("one")
    publish(satellite, "a.x", 1)
    assert satellite.core._sent is None
    satellite.core.remember_sent(wanted=True)
    publish(satellite, "a.x", 1)
    satellite.core.remember_sent(wanted=False)
    assert satellite.core._sent is None


# ---- limits and others' mistakes ---------------------------------------------------------------------------


def test_values_that_do_not_fit_are_counted(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_values, "MAX_ANSWER_BYTES", 100)
    sender = network.satellite("one")
    for n in range(10):
        publish(sender, f"a.{n}", n)
    network.run()
    late = network.satellite("two", "p", snapshot=WANTED)
    [(_, values)] = late.snapshots
    assert values == list(range(10 - len(values), 10))
    assert late.left_out == 10 - len(values) > 0


def test_a_wrong_pattern_ends_the_link(network: Network) -> None:
    late = network.satellite("two")
    assert late.peer is not None
    wrong = Subscription("p", None, None, False, Wish(1, ["a..b"]))
    network.relay.receive(late.peer, link_frames.encode_link_frame(link_frames.Interest([wrong], [], [])))
    network.run()
    assert [one.reason for one in late.ended] == ["garbage"]


def test_links_take_turns_and_few_wishes_are_worked_on_at_a_time(network: Network) -> None:
    sender = network.satellite("one")
    publish(sender, "a.x", 1)
    network.run()
    network.auto_commit = False
    publish(sender, "a.x", 2)
    network.run()
    greedy = network.satellite("two", *(f"p{n}" for n in range(20)), snapshot=WANTED)
    assert not greedy.snapshots
    modest = network.satellite("three", "p", snapshot=WANTED)
    assert len(network.relay.snapshots._works) == snapshots.MAX_QUESTIONS
    order: list[str] = []
    work = network.relay.snapshots._write

    def written(of: Any, found: Any) -> None:
        order.append(of.peer.origin)
        work(of, found)

    network.relay.snapshots._write = written  # type: ignore[method-assign]
    network.auto_commit = True
    network.run()
    assert len(greedy.snapshots) == 20
    assert modest.snapshots == [("p", [2])]
    assert order.index("three") <= snapshots.MAX_QUESTIONS + 1
