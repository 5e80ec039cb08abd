"""Last values in a network in memory: what an author of a plugin with ``snapshot`` can test."""

from typing import Any

import pytest

from co2 import plugin
from co2.testing import Network
from co2.testing.clock import Clock


class X_Lamp(plugin.Co2Plugin):
    channels = ("stage.*",)
    snapshot = True

    def __init__(self, var_dict: dict[str, Any]) -> None:
        super().__init__(var_dict)
        self.levels: dict[str, Any] = {}

    def receive(self, data_dict: dict[str, Any]) -> None:
        self.levels[data_dict["channel"]] = data_dict["data"]


class X_Some(plugin.Co2Plugin):
    channels = ("stage.*", "lab")
    snapshot = ("stage.a", "elsewhere")

    def receive(self, data_dict: dict[str, Any]) -> None:
        """Nothing: the test looks at what it got."""


class X_Plain(plugin.Co2Plugin):
    def receive(self, data_dict: dict[str, Any]) -> None:
        """Nothing: the test looks at what it got."""


class X_Kept(X_Plain):
    durable = True
    snapshot = True


class X_Fader(plugin.Co2Plugin):
    def x_move(self, level: float) -> None:
        self.send({"channel": "stage.a", "data": level})


def marked(got: list[dict[str, Any]]) -> list[tuple[str, Any, bool]]:
    return [(one.get("channel", ""), one["data"], one.get("snapshot", False)) for one in got]


def test_a_lamp_that_starts_late_knows_where_the_fader_is(co2_net: Network) -> None:
    co2_net.send({"channel": "stage.a", "data": 0.1})
    co2_net.send({"channel": "stage.a", "data": 0.5})
    co2_net.send({"channel": "stage.b", "data": 1})
    co2_net.send({"channel": "lab", "data": 2})
    co2_net.send({"data": 3})
    lamp = co2_net.satellite(X_Lamp)
    assert lamp.plugin.levels == {"stage.a": 0.5, "stage.b": 1}
    co2_net.send({"channel": "stage.a", "data": 0.6})
    assert marked(lamp.received) == [("stage.a", 0.5, True), ("stage.b", 1, True), ("stage.a", 0.6, False)]
    assert lamp.received[0]["age"] == 0
    assert "age" not in lamp.received[2]
    assert lamp.received[0]["host_id"] == lamp.received[2]["host_id"]


def test_patterns_choose_the_channels_of_which_it_gets_the_last_values(co2_net: Network) -> None:
    for channel in ("stage.a", "stage.b", "lab", "elsewhere"):
        co2_net.send({"channel": channel, "data": 1})
    some = co2_net.satellite(X_Some)
    assert marked(some.received) == [("stage.a", 1, True)]


def test_only_the_plugins_of_a_package_that_ask_get_them(co2_net: Network) -> None:
    co2_net.send({"channel": "stage.a", "data": 1})
    satellite = co2_net.satellite(X_Lamp, X_Plain)
    co2_net.send({"channel": "stage.a", "data": 2})
    assert marked(satellite.plugins["tests.test_snapshot.X_Lamp"].received) == [
        ("stage.a", 1, True), ("stage.a", 2, False),
    ]  # fmt: skip
    assert marked(satellite.plugins["tests.test_snapshot.X_Plain"].received) == [("stage.a", 2, False)]


def test_it_waits_for_the_relay_and_gets_them_once(co2_net: Network) -> None:
    co2_net.send({"channel": "stage.a", "data": 1})
    lamp = co2_net.satellite(X_Lamp, connected=False)
    co2_net.send({"channel": "stage.a", "data": 2})
    assert not lamp.received
    lamp.connect()
    assert marked(lamp.received) == [("stage.a", 2, True)]
    lamp.disconnect()
    co2_net.send({"channel": "stage.a", "data": 3})
    lamp.connect()
    assert marked(lamp.received) == [("stage.a", 2, True), ("stage.a", 3, False)]


def test_a_ttl_ends_a_value_and_the_clock_of_the_test_tells_the_age(co2_net: Network, co2_clock: Clock) -> None:
    co2_net.send({"channel": "stage.a", "data": 1, "ttl": 10})
    co2_net.send({"channel": "stage.b", "data": 2})
    co2_clock.advance(9)
    early = co2_net.satellite(X_Lamp)
    co2_clock.advance(1)
    late = co2_net.satellite(X_Lamp)
    assert [(one["data"], one["age"]) for one in early.received] == [(1, 9.0), (2, 9.0)]
    assert [(one["data"], one["age"]) for one in late.received] == [(2, 10.0)]


def test_a_durable_plugin_gets_them_at_its_first_start(co2_net: Network) -> None:
    co2_net.send({"channel": "stage.a", "data": 1})
    kept = co2_net.satellite(X_Kept)
    co2_net.send({"channel": "stage.a", "data": 2})
    assert marked(kept.received) == [("stage.a", 1, True), ("stage.a", 2, False)]


def test_siblings_that_send_while_it_starts_are_heard_once_and_last(co2_net: Network) -> None:
    co2_net.satellite(X_Fader, name="home")
    co2_net.call("tests.test_snapshot.move", {"level": 0.2})
    satellite = co2_net.satellite(X_Fader, X_Lamp, name="away", connected=False)
    satellite.plugins["tests.test_snapshot.X_Fader"].plugin.send({"channel": "stage.a", "data": 0.3})
    assert marked(satellite.plugins["tests.test_snapshot.X_Lamp"].received) == [("stage.a", 0.3, False)]
    satellite.connect()
    # The relay gets the sibling's message behind the snapshot: the older value must not come back.
    assert satellite.plugins["tests.test_snapshot.X_Lamp"].plugin.levels == {"stage.a": 0.3}


def test_what_is_forgotten_does_not_come(co2_net: Network) -> None:
    co2_net.send({"channel": "stage.a", "data": 1})
    co2_net.send({"channel": "stage.b", "data": 2})
    assert co2_net.core.forget_values("stage.a") == 1
    assert marked(co2_net.satellite(X_Lamp).received) == [("stage.b", 2, True)]


@pytest.mark.parametrize("snapshot", ["stage.a", 1, ("a..b",), None])
def test_another_snapshot_than_patterns_is_refused(co2_net: Network, snapshot: Any) -> None:
    kind = type("X_Wrong", (X_Plain,), {"snapshot": snapshot, "__module__": __name__})
    with pytest.raises(Exception, match=r"X_Wrong\.snapshot: .*expected|X_Wrong\.snapshot: not a channel pattern"):
        co2_net.satellite(kind)


@pytest.mark.parametrize("ttl", ["5", -1, float("inf"), True])
def test_a_ttl_that_is_no_number_of_seconds_is_refused_where_it_is_sent(co2_net: Network, ttl: Any) -> None:
    with pytest.raises(ValueError, match="'ttl' is a number of seconds"):
        co2_net.send({"channel": "a", "data": 1, "ttl": ttl})
