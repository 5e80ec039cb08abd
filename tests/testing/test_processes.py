"""Real hosts as fixtures."""

import sys
import tomllib
import xmlrpc.client
from pathlib import Path

import pytest

from co2.config import load_config
from co2.testing import HostProcess, assert_received, wait_for
from co2.testing.tables import toml_text
from tests.plugin.support import write_package

ECHO = """
class X_Spam(plugin.Co2Plugin):
    channels = ("in",)
    def receive(self, data_dict):
        self.send({"channel": "out", "data": [data_dict["data"], self.config.get("who")]})
    def x_break(self, data_dict):
        raise ValueError("broken")
"""


@pytest.mark.co2_config({"plugin": {"ham": {"who": "Brian"}}, "satellite": {"receive_deadline": 5.0}})
def test_a_real_network(co2_network, tmp_path):
    write_package(tmp_path, "ham", spam=ECHO)
    satellite = co2_network.satellite(tmp_path / "ham", "example")
    assert_received(co2_network, channel="hello", data="example")
    co2_network.send({"channel": "in", "data": 3})
    message = assert_received(co2_network, channel="out", data=[3, "Brian"])
    assert message["host_id"].partition("@")[0] == satellite.host_id.partition("@")[0]
    assert co2_network.call("example.example.greet", "John") == "Hello, John!"
    with pytest.raises(xmlrpc.client.Fault, match="broken"):
        satellite.call("ham.spam.break")
    wait_for(lambda: "ValueError: broken" in satellite.log(), "the traceback in the log")
    with pytest.raises(AssertionError, match=r"no message with data=4(.|\n)*'data': \[3, 'Brian'\]"):
        assert_received(co2_network, data=4, timeout=0.1)
    assert satellite.stop() == 0


def test_single_hosts(co2_host, tmp_path):
    single = tmp_path / "solo.py"
    single.write_text(f"from co2 import plugin\n{ECHO}")
    relay = co2_host("relay")
    satellite = co2_host("satellite", single, relay=relay.url, config={"plugin": {"solo": {"who": "me"}}})
    with relay.proxy() as proxy:
        assert proxy.ping() is True
        wait_for(lambda: [row["plugins"] for row in proxy.relay.get_satellites()] == [["solo.solo.X_Spam"]])
    assert tomllib.loads((satellite.folder / "co2.toml").read_text()) == {"plugin": {"solo": {"who": "me"}}}


def test_a_host_that_does_not_start_says_why(co2_host):
    with pytest.raises(AssertionError, match="unknown key"):
        co2_host("relay", config={"relay": {"no_such_key": 1}})


def test_tables_are_written_as_they_are_read(tmp_path: Path) -> None:
    tables = {
        "satellite": {"relay": 'http://[::1]:2003/"\\', "plugin_list": ["a", "b"], "watch": True},
        "plugin": {
            "ham": {"a": 1.5, "list": [{"x": 1}, {"y": [True, "é"]}], "deep": {"odd key": {}, "b": 1e-7}},
            "egg": {},
        },
    }
    assert tomllib.loads(toml_text({**tables, "top": 1})) == {
        **tables,
        "plugin": {"ham": {**tables["plugin"]["ham"], "deep": {"b": 1e-7, "odd key": {}}}, "egg": {}},
        "top": 1,
    }
    (tmp_path / "co2.toml").write_text(toml_text({"satellite": {"watch": True}}))
    assert load_config("satellite", {}, {}, tmp_path).watch is True


def test_output_that_is_not_utf_8_is_read_on(tmp_path):
    code = "import os, time; os.write(2, b'\\xff'); print('ready relay a@1.2.3.4:5 http://1.2.3.4:5', flush=True);"
    code += "os.write(2, b' and on\\n'); time.sleep(60)"
    host = HostProcess(tmp_path, "relay", program=(sys.executable, "-c", code))
    try:
        wait_for(lambda: host.stderr == "\\xff and on\n", "all of it is read")
    finally:
        host.kill()
