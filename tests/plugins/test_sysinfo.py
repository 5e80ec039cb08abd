"""Real readings of this machine."""

import json
import math
import os
import socket
import time

import pytest

from co2.plugins.sysinfo.readings import Meter
from co2.plugins.sysinfo.sysinfo import X_Sysinfo, machine_name
from co2.testing import assert_received
from co2.values import to_jsonable
from tests.harness import wait_for
from tests.plugins.carry import carried


def test_a_reading_is_plausible():
    meter = Meter("/")
    first, second = meter.read(), meter.read()
    for reading in (first, second):
        assert 0 <= reading["cpu"]["percent"] <= 100
        assert reading["cpu"]["count"] == os.cpu_count()
        assert 0 < reading["memory"]["used"] < reading["memory"]["total"]
        assert 0 < reading["disk"]["used"] <= reading["disk"]["total"]
        assert all(rate >= 0 for rate in reading["rates"].values())
        assert set(reading["load"]) == {"1m", "5m", "15m"}
        assert abs(reading["time"] - time.time()) < 60
    json.dumps(to_jsonable(first), allow_nan=False)


def test_it_sends_every_interval_and_stops(co2_net):
    satellite = co2_net.satellite("sysinfo", config={"interval": 0.05})
    wait_for(lambda: len(satellite.sent) >= 2)
    assert_received(co2_net, channel=f"sysinfo.{machine_name()}")
    assert co2_net.call("sysinfo.sysinfo.read")["cpu"]["count"] == os.cpu_count()
    thread = satellite.plugin._thread
    satellite.stop()
    assert not thread.is_alive()


def test_what_goes_wrong_is_logged_and_it_goes_on():
    with carried(X_Sysinfo, interval=0.05, channel="lab.load") as plugin:
        plugin.refuse = TimeoutError("full")
        wait_for(lambda: plugin.logged)
        plugin.refuse = None
        wait_for(lambda: plugin.sent)
        assert plugin.sent[0]["channel"] == "lab.load"


@pytest.mark.parametrize(
    "config",
    [
        {"interval": 0},
        {"interval": math.nan},
        {"interval": math.inf},
        {"interval": "1"},
        {"interval": True},
        {"intervall": 1},
        {"channel": 5},
    ],
)
def test_a_configuration_that_is_wrong(co2_net, config):
    with pytest.raises(ValueError, match=next(iter(config))):
        co2_net.satellite(X_Sysinfo, config=config)


def test_the_name_of_the_machine_is_one_token(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "my pi.local.lan")
    assert machine_name() == "my_pi"
