"""The tutorial does what it says."""

import pytest

from co2.errors import PluginFailed
from co2.plugins.example.example import X_Example
from co2.testing import assert_received


def test_says_hello_answers_and_says_goodbye(co2_net):
    satellite = co2_net.satellite("example")
    assert satellite.sent == [{"channel": "hello", "data": "example"}]
    co2_net.send({"channel": "hello", "data": "a stranger"})
    assert satellite.sent[1:] == [{"channel": "greeting", "data": "Hello, a stranger!"}]
    co2_net.send({"channel": "greeting", "data": "Hello, example!"})
    co2_net.send({"data": 2})
    assert len(satellite.sent) == 2
    assert list(co2_net.call("example.example.count").values()) == [3]
    satellite.stop()
    assert_received(co2_net, channel="goodbye", data="example")
    assert satellite.logged[-1] == "heard 3 messages, goodbye"


def test_two_of_them_greet_each_other_once(co2_net):
    first, second = co2_net.satellite(X_Example), co2_net.satellite(X_Example, config={"name": "Brian"})
    assert [message["data"] for message in first.sent] == ["example", "Hello, Brian!"]
    assert [message["data"] for message in second.sent] == ["Brian"]
    assert first.plugin.x_count({}) == {second.host_id: 1}


def test_configuration_and_methods(co2_net):
    satellite = co2_net.satellite(X_Example, config={"name": "Brian", "greeting": "Good evening"})
    assert satellite.sent[0]["data"] == "Brian"
    assert co2_net.call("example.example.greet", "John") == "Good evening, John!"
    assert satellite.sent[1]["data"] == "Good evening, John!"
    with pytest.raises(PluginFailed, match="should be a name"):
        co2_net.call("example.example.greet", 5)
