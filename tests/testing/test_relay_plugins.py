"""The relay of a network in memory carries plugins: a chain that messages pass."""

import pytest

from co2 import plugin
from co2.plugin import errors
from co2.plugin.packages.loader import LoadFailure
from co2.testing import assert_received


class X_Mouth(plugin.Co2Plugin):
    """Only sends."""


class X_Ear(plugin.Co2Plugin):
    def receive(self, data_dict):
        """It is written down."""


class X_Filter(plugin.Co2RelayPlugin):
    def relay(self, data_dict):
        data = data_dict["data"]
        if data == "raise":
            raise ValueError("no")
        if data == "nonsense":
            return 7
        if data == "odd":
            return None
        if data == "early":
            self.send({"data": "late", "origin_host_id": data_dict["host_id"]})
            return None
        return {**data_dict, "data": f"{data} filtered"}

    def x_times(self, number: int):
        return 2 * number

    def x_ask(self, data_dict):
        return self.call("tests.test_relay_plugins.twice", 4)

    def x_hosts(self, data_dict):
        return [host.host_id for host in self.hosts()]


class X_Stamp(plugin.Co2RelayPlugin):
    channels = ("stage.>",)

    def relay(self, data_dict):
        data_dict["stamp"] = self.config.get("stamp", "seen")
        return data_dict


class X_Twice(plugin.Co2Plugin):
    def x_twice(self, data_dict):
        return 2 * data_dict["data"]


class X_Door(plugin.Co2RelayPlugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.seen = []
        assert var_dict["role"] == "relay"

    def register(self, host):
        if host.plugins == ["tests.test_relay_plugins.X_Mouth"]:
            return "no mouths"
        if host.plugins == ["tests.test_relay_plugins.X_Twice"]:
            raise ValueError("do not know")
        return None

    def joined(self, host):
        self.seen.append(("joined", host.host_id))

    def left(self, host):
        self.seen.append(("left", host.host_id))


def data_of(messages):
    return [message["data"] for message in messages]


def test_messages_pass_what_it_loads(co2_net):
    ear = co2_net.satellite(X_Ear)
    mouth = co2_net.satellite(X_Mouth)
    relay = co2_net.relay.load(X_Filter)
    assert relay is co2_net.relay
    for data in ("one", "odd", "two"):
        mouth.plugin.send({"data": data})
    assert data_of(ear.received) == ["one filtered", "two filtered"]
    assert data_of(relay.received) == ["one", "odd", "two"]
    assert {message["host_id"] for message in [*ear.received, *relay.received]} == {mouth.host_id}
    relay.stop()
    mouth.plugin.send({"data": "three"})
    assert ear.received[-1]["data"] == "three"


def test_what_it_sends_does_not_go_back_and_passes_those_behind_only(co2_net):
    one, two = co2_net.satellite(X_Ear, X_Mouth), co2_net.satellite(X_Ear)
    relay = co2_net.relay.load(X_Filter, X_Behind)
    one.plugins["tests.test_relay_plugins.X_Mouth"].plugin.send({"data": "early"})
    (late,) = two.received
    assert late["data"] == "late behind" and late["host_id"] == relay.host_id
    assert late["origin_host_id"] == one.host_id
    # Its sibling has heard the first one, directly; the second does not come back to this satellite.
    assert data_of(one.received) == ["early"]
    assert data_of(relay.sent) == ["late"]


class X_Behind(plugin.Co2RelayPlugin):
    def relay(self, data_dict):
        return {**data_dict, "data": f"{data_dict['data']} behind"}


def test_the_chain_has_the_order_of_loading(co2_net):
    co2_net.relay.load(X_Behind, X_Filter)
    ear = co2_net.satellite(X_Ear)
    co2_net.send({"data": "x"})
    assert data_of(ear.received) == ["x behind filtered"]


def test_channels_and_configuration(co2_net):
    relay = co2_net.relay.load(X_Stamp, config={"stamp": "mine"})
    ear = co2_net.satellite(X_Ear)
    co2_net.send({"data": 1, "channel": "stage.left"})
    co2_net.send({"data": 2})
    assert [message.get("stamp") for message in ear.received] == ["mine", None]
    assert data_of(relay.received) == [1]


@pytest.mark.parametrize(("data", "kind"), [("raise", ValueError), ("nonsense", errors.MessageError)])
def test_what_fails_goes_on_as_it_came_and_must_be_expected(co2_net, data, kind):
    ear = co2_net.satellite(X_Ear)
    co2_net.relay.load(X_Filter)
    co2_net.send({"data": data})
    assert data_of(ear.received) == [data]
    failure = co2_net.expect_failure(kind)
    assert (failure.what, failure.message["data"]) == ("relay", data)


def test_methods_are_called_by_name(co2_net):
    relay = co2_net.relay.load(X_Filter)
    assert co2_net.call("tests.test_relay_plugins.times", {"number": 4}) == 8
    assert co2_net.call("tests.test_relay_plugins.times", {"number": 4}, host_id=relay.host_id) == 8
    satellite = co2_net.satellite(X_Twice)
    assert satellite.plugin.call("tests.test_relay_plugins.times", {"number": 1}) == 2
    assert co2_net.call("tests.test_relay_plugins.ask") == 8
    assert co2_net.call("tests.test_relay_plugins.hosts") == [satellite.host_id]
    satellite.disconnect()
    with pytest.raises(errors.PeerError):
        satellite.plugin.call("tests.test_relay_plugins.times", {"number": 1})


def test_register_admits_and_refuses(co2_net):
    relay = co2_net.relay.load(X_Door)
    mouth = co2_net.satellite(X_Mouth)
    assert not mouth.connected
    assert mouth.refused == "tests.test_relay_plugins.X_Door: no mouths"
    mouth.plugin.send({"data": "waits"})
    ear = co2_net.satellite(X_Ear)
    assert ear.connected and not ear.refused
    twice = co2_net.satellite(X_Twice)
    assert twice.connected
    assert co2_net.expect_failure(ValueError, "do not know").what == "register"
    assert relay.plugin.seen == [("joined", ear.host_id), ("joined", twice.host_id)]
    ear.stop()
    assert relay.plugin.seen[-1] == ("left", ear.host_id)
    relay.stop()
    mouth.connect()
    assert mouth.connected and not mouth.refused
    assert_received(co2_net, data="waits")


def test_each_role_carries_its_own(co2_net):
    with pytest.raises(LoadFailure, match="X_Filter is not for a satellite"):
        co2_net.satellite(X_Filter)
    with pytest.raises(LoadFailure, match="X_Ear is not for a relay"):
        co2_net.relay.load(X_Ear)
    with pytest.raises(LoadFailure, match="for a satellite"):
        co2_net.relay.load("example")
    co2_net.relay.load(X_Filter)
    with pytest.raises(ValueError, match="already carries 'tests'"):
        co2_net.relay.load(X_Behind)


def test_many_messages_keep_their_order(co2_net):
    ear, mouth = co2_net.satellite(X_Ear), co2_net.satellite(X_Mouth)
    co2_net.relay.load(X_Filter)
    for number in range(3000):
        mouth.plugin.send({"data": number})
    assert data_of(ear.received) == [f"{number} filtered" for number in range(3000)]
