"""The tutorial does what it says."""

import pytest

from co2.plugins.example.example import X_Example
from tests.plugins.carry import carried

JOHN = {"host_id": "1@127.0.0.1:2004", "client_address": ("127.0.0.1", 4567)}


def test_says_hello_answers_and_says_goodbye():
    with carried(X_Example) as plugin:
        assert plugin.sent == [{"channel": "hello", "data": "example"}]
        plugin.receive({"channel": "hello", "data": "a stranger", **JOHN})
        assert plugin.sent[1:] == [{"channel": "greeting", "data": "Hello, a stranger!"}]
        plugin.receive({"channel": "greeting", "data": "Hello, example!", **JOHN})
        plugin.receive({"data": 2, **JOHN})
        assert len(plugin.sent) == 2
        assert plugin.x_count({}) == {"1@127.0.0.1:2004": 3}
    assert plugin.sent[-1] == {"channel": "goodbye", "data": "example"}
    assert plugin.logged[-1] == "heard 3 messages, goodbye"


def test_configuration_and_methods():
    with carried(X_Example, name="Brian", greeting="Good evening") as plugin:
        assert plugin.sent[0]["data"] == "Brian"
        assert plugin.x_greet({"data": "John"}) == "Good evening, John!"
        assert plugin.sent[1]["data"] == "Good evening, John!"
        with pytest.raises(TypeError, match="should be a name"):
            plugin.x_greet({"data": 5})
