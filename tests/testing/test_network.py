"""The network in memory: what plugins see in it is what they see in a real one."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from co2 import errors, plugin
from co2.plugin.packages.loader import LoadFailure
from co2.testing import Network, assert_received, assert_sent
from tests.plugin.support import write_package


class X_Ear(plugin.Co2Plugin):
    def receive(self, data_dict):
        if data_dict["data"] == "break":
            raise ValueError("broken")


class X_Mouth(plugin.Co2Plugin):
    live = ("meter",)


class X_Stage(plugin.Co2Plugin):
    channels = ("stage.*",)

    def receive(self, data_dict):
        self.send({"data": [data_dict["data"]], "channel": "seen"})


class X_Methods(plugin.Co2Plugin):
    def x_double(self, number: int) -> int:
        return 2 * number

    def x_raw(self, data_dict):
        return data_dict

    def x_break(self, data_dict):
        raise ValueError("broken")

    def x_outer(self, data_dict):
        return self.call("tests.test_network.inner", data_dict["data"])

    def x_self(self, data_dict):
        return self.call("tests.test_network.self")


class X_Inner(plugin.Co2Plugin):
    def x_inner(self, data_dict):
        return (data_dict["data"], "inner")


class X_Back(plugin.Co2Plugin):
    def x_inner(self, data_dict):
        return self.call("tests.test_network.outer")


def test_what_is_sent_is_there_with_the_next_line(co2_net):
    mouth, ear = co2_net.satellite(X_Mouth), co2_net.satellite(X_Ear)
    mouth.plugin.send({"data": (1, {2}), "channel": "x", "host_id": "me@1.1.1.1:1"})
    arrived = {"data": [1, [2]], "channel": "x", "host_id": mouth.host_id, "client_address": ("10.0.0.3", 40000)}
    assert ear.received == co2_net.received == [arrived]
    assert mouth.sent == [{"data": [1, [2]], "channel": "x"}]


def test_nobody_hears_itself_and_siblings_hear_each_other(co2_net):
    one = co2_net.satellite(X_Mouth, X_Ear)
    other = co2_net.satellite(X_Ear)
    mouth, ear = one.plugins.values()
    ear.plugin.send({"data": "ear"})
    mouth.plugin.send({"data": "mouth"})
    assert [message["data"] for message in ear.received] == ["mouth"]
    assert [message["data"] for message in other.received] == ["ear", "mouth"]
    assert ear.received[0]["client_address"] == ("10.0.0.3", 2004)


def test_channels_select(co2_net):
    stage = co2_net.satellite(X_Stage)
    co2_net.send({"data": 1, "channel": "stage.left"})
    co2_net.send({"data": 2, "channel": "stage"})
    co2_net.send({"data": 3})
    assert [message["data"] for message in stage.received] == [1]
    assert assert_received(co2_net, data=[1])["channel"] == "seen"


def test_what_cannot_travel_is_refused(co2_net):
    mouth = co2_net.satellite(X_Mouth).plugin
    for message, kind in (
        ({"data": object()}, errors.ValueRefused),
        ({"date": 1}, errors.MessageError),
        ({"data": "x" * 800_000}, errors.TooBig),
    ):
        with pytest.raises(kind):
            mouth.send(message)
    assert co2_net.received == []


def test_a_big_message_and_many_arrive(co2_net):
    mouth, ear = co2_net.satellite(X_Mouth), co2_net.satellite(X_Ear)
    mouth.plugin.send({"data": "x" * 500_000})
    for number in range(5000):
        mouth.plugin.send({"data": number})
    assert [message["data"] for message in ear.received[1:]] == list(range(5000))


def test_a_dead_letter_must_be_expected(co2_net):
    ear = co2_net.satellite(X_Ear)
    co2_net.send({"data": "break", "channel": "x"})
    co2_net.send({"data": "go on"})
    failure = co2_net.expect_failure(ValueError, "broken")
    assert failure.message == {**failure.message, "data": "break", "channel": "x"}
    assert failure.message["host_id"].startswith("test@")
    assert ear.received[-1]["data"] == "go on"
    with pytest.raises(AssertionError, match="no plugin has failed with Exception"):
        co2_net.expect_failure()


def test_an_unexpected_one_fails_at_the_end(co2_clock, tmp_path):
    net = Network(co2_clock, tmp_path)
    net.satellite(X_Ear)
    net.send({"data": "break"})
    with pytest.raises(
        AssertionError, match=r"X_Ear: receive with \{'data': 'break'.*ValueError: broken"
    ) as caught:
        net.close()
    assert isinstance(caught.value.__cause__, ValueError)


def test_methods_are_called_by_name(co2_net):
    satellite = co2_net.satellite(X_Methods)
    assert co2_net.call("tests.test_network.double", {"number": 4}) == 8
    assert co2_net.call("tests.test_network.raw", (1,), channel="x") == {"channel": "x", "data": [1]}
    with pytest.raises(errors.BadParams, match="number"):
        co2_net.call("tests.test_network.double", {"numbr": 4})
    with pytest.raises(errors.PluginFailed, match="ValueError: broken") as caught:
        co2_net.call("tests.test_network.break")
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(errors.NoSuchMethod):
        co2_net.call("tests.test_network.nothing")
    with pytest.raises(errors.UnknownHost):
        co2_net.call("tests.test_network.raw", host_id="nobody@1.1.1.1:1")
    co2_net.satellite(X_Methods)
    with pytest.raises(errors.Ambiguous, match="s2@"):
        co2_net.call("tests.test_network.double", {"number": 4})
    assert co2_net.call("tests.test_network.double", {"number": 4}, host_id=satellite.host_id) == 8


def test_plugins_call_each_other(co2_net):
    satellite = co2_net.satellite(X_Methods)
    inner = co2_net.satellite(X_Inner)
    assert co2_net.call("tests.test_network.outer", 5) == [5, "inner"]
    assert satellite.plugin.call("tests.test_network.inner", 6) == [6, "inner"]
    names = [row["host_id"] for row in inner.plugin.call("relay.get_satellites")]
    assert names == [satellite.host_id, inner.host_id]
    with pytest.raises(errors.PluginFailed, match="calls itself"):
        co2_net.call("tests.test_network.self")
    satellite.disconnect()
    with pytest.raises(errors.PeerError):
        satellite.plugin.call("tests.test_network.inner", 6)


def test_a_call_in_a_circle_is_not_answered(co2_net):
    co2_net.satellite(X_Methods)
    co2_net.satellite(X_Back)
    with pytest.raises(errors.PluginFailed, match="CallTimeout"):
        co2_net.call("tests.test_network.outer", 5)


class X_Kit(plugin.Co2Plugin):
    class Config(msgspec.Struct):
        step: int = 1

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.told: list[str] = []
        self.timer = self.every(1, self.tick)

    def tick(self):
        self.store["count"] = self.store.get("count", 0) + self.config.step
        self.send({"data": self.store["count"]})
        if self.store["count"] == 40:
            raise RuntimeError("forty")

    def joined(self, host):
        self.told.append(f"+{host.host_id.partition('@')[0]}")

    def left(self, host):
        self.told.append(f"-{host.host_id.partition('@')[0]}")


def test_timers_go_by_the_clock(co2_net, co2_clock):
    services = co2_net.satellite(X_Kit, config={"step": 10})
    co2_clock.advance(0.9)
    assert services.sent == []
    co2_clock.advance(2.5)
    assert [message["data"] for message in services.sent] == [10, 20, 30]
    co2_clock.advance(1)
    co2_net.expect_failure(RuntimeError, "forty")
    services.plugin.timer.cancel()
    co2_clock.advance(100)
    assert len(services.sent) == 4
    with pytest.raises(ValueError, match="cannot go back"):
        co2_clock.advance(-1)


def test_the_store_outlives_the_satellite(co2_net, co2_clock):
    first = co2_net.satellite(X_Kit, name="pi")
    co2_clock.advance(3)
    first.stop()
    co2_clock.advance(3)
    assert [message["data"] for message in first.sent] == [1, 2, 3]
    with pytest.raises(errors.NotRunning):
        first.plugin.send({"data": 1})
    again = co2_net.satellite(X_Kit, name="pi")
    assert dict(again.plugin.store) == {"count": 3}


def test_who_is_there(co2_net):
    services = co2_net.satellite(X_Kit)
    other = co2_net.satellite(X_Methods, name="other")
    assert [(host.host_id, host.own) for host in services.plugin.hosts()] == [
        (services.host_id, True),
        (other.host_id, False),
    ]
    assert "tests.test_network.double" in services.plugin.hosts()[1].methods
    other.stop()
    assert services.plugin.told == ["+other", "-other"]


@pytest.mark.co2_config({"plugin": {"tests": {"step": 5}}})
def test_the_marker_configures(co2_net, co2_clock):
    services = co2_net.satellite(X_Kit)
    assert services.plugin.config.step == 5
    assert co2_net.satellite(X_Kit, config={"step": 7}).plugin.config.step == 7
    with pytest.raises(errors.ConfigError, match="did you mean 'step'"):
        co2_net.satellite(X_Kit, config={"stap": 7})


def test_a_link_that_is_cut_loses_nothing_and_flush_says_so(co2_net):
    mouth, ear = co2_net.satellite(X_Mouth), co2_net.satellite(X_Ear)
    mouth.disconnect()
    mouth.plugin.send({"data": 1})
    mouth.plugin.send({"data": "live", "channel": "meter"})
    with pytest.raises(errors.FlushTimeout):
        mouth.plugin.flush()
    assert ear.received == []
    mouth.connect()
    mouth.plugin.flush()
    assert [message["data"] for message in ear.received] == [1]
    mouth.plugin.send({"data": "live", "channel": "meter"})
    assert ear.received[-1]["data"] == "live"


def test_gaps_are_told(co2_net):
    ear = co2_net.satellite(X_Ear, connected=False)
    ear.connect()
    ear.disconnect()
    co2_net.send({"data": 1})
    co2_net.forget_log()
    ear.connect()
    ear.gap("an earthquake")
    assert [gap["reason"] for gap in ear.gaps] == ["retention", "an earthquake"]
    assert "gap: messages are missing: an earthquake" in ear.logged
    co2_net.send({"data": 2})
    assert [message["data"] for message in ear.received] == [2]


class X_Durable(plugin.Co2Plugin):
    durable = True

    def receive(self, data_dict):
        self.log("got %s", data_dict["data"])


def test_durable_plugins_and_their_siblings(co2_net):
    satellite = co2_net.satellite(X_Durable, X_Mouth)
    durable, mouth = satellite.plugins.values()
    mouth.plugin.send({"data": 1})
    durable.plugin.send({"data": 2})
    assert durable.logged == ["got 1"]


class X_Echo(plugin.Co2Plugin):
    def receive(self, data_dict):
        self.send({"data": data_dict["data"]})


def test_an_echo_without_end_is_told(co2_clock, tmp_path):
    net = Network(co2_clock, tmp_path)
    net.satellite(X_Echo)
    net.satellite(X_Echo)
    with pytest.raises(AssertionError, match="keep answering each other"):
        net.send({"data": 1})


class X_Async(plugin.Co2Plugin):
    async def receive(self, data_dict):
        await asyncio.sleep(0)
        self.task = asyncio.create_task(self.later(data_dict["data"]))

    async def later(self, data):
        answer = await self.call_async("tests.test_network.inner", data)
        self.send({"data": answer})


def test_coroutines(co2_net):
    co2_net.satellite(X_Inner)
    co2_net.satellite(X_Async)
    co2_net.send({"data": 1})
    assert_received(co2_net, data=[1, "inner"])


class X_Thread(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.go = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        self.go.wait(10)
        for number in range(100):
            self.send({"data": number})

    def __exit__(self, *exc_info):
        self.go.set()
        self.thread.join(10)
        self.send({"data": "over"})


def test_threads_of_plugins_send_too(co2_net):
    ear = co2_net.satellite(X_Ear)
    threads = [co2_net.satellite(X_Thread).plugin for _ in range(3)]
    for one in threads:
        one.go.set()
    for number in range(100):
        co2_net.send({"data": number})
    for one in threads:
        one.thread.join(10)
    co2_net.settle()
    assert len(ear.received) == 400
    for name in ("s2", "s3", "s4"):
        co2_net.satellites[name].stop()
    assert [message["data"] for message in ear.received[-3:]] == ["over"] * 3


def test_an_assertion_shows_what_did_come(co2_net):
    mouth = co2_net.satellite(X_Mouth)
    with pytest.raises(AssertionError, match="there was none at all"):
        assert_received(co2_net, data=3, timeout=0)
    mouth.plugin.send({"data": 4, "channel": "x"})
    with pytest.raises(AssertionError, match=r"no message with data=3.*\n  \{'data': 4, 'channel': 'x'"):
        assert_received(co2_net, data=3, timeout=0)
    assert assert_sent(mouth, channel="x") == {"data": 4, "channel": "x"}


def test_folders_files_and_names(co2_net, tmp_path):
    write_package(
        tmp_path,
        "ham",
        init="import dataclasses\nConfig = dataclasses.make_dataclass('Config', [('a', int, 1)])",
        spam="class X_Spam(plugin.Co2Plugin):\n    def x_a(self, data_dict): return self.config.a",
    )
    (tmp_path / "solo.py").write_text(
        "from co2 import plugin\nclass X_Solo(plugin.Co2Plugin):\n    def x_b(self, data_dict): return self.name"
    )
    satellite = co2_net.satellite(tmp_path / "ham", tmp_path / "solo.py", "example", config={"ham": {"a": 3}})
    assert list(satellite.plugins) == ["ham.spam.X_Spam", "solo.solo.X_Solo", "example.example.X_Example"]
    assert co2_net.call("ham.spam.a") == 3
    assert co2_net.call("solo.solo.b") == "solo.solo.X_Solo"
    with pytest.raises(LookupError, match="carries 3 plugins"):
        _ = satellite.plugin


class X_NoSuper(plugin.Co2Plugin):
    def __init__(self, var_dict):
        pass


class X_Wrong(plugin.Co2Plugin):
    def receive(self, one, two):  # type: ignore[override]
        pass


class X_Bang(plugin.Co2Plugin):
    def __init__(self, var_dict):
        raise KeyError("bang")


@pytest.mark.parametrize(
    ("source", "kind", "text"),
    [
        (X_NoSuper, TypeError, "super"),
        (X_Wrong, LoadFailure, "test_network.py.*receive"),
        (X_Bang, KeyError, "bang"),
        ("examlpe", ValueError, "no plugin package 'examlpe'"),
        (Path("nowhere"), ValueError, "nowhere"),
    ],
)
def test_what_a_satellite_would_refuse_is_refused(co2_net: Network, source: Any, kind: Any, text: str) -> None:
    with pytest.raises(kind, match=text):
        co2_net.satellite(source)
    assert co2_net.satellites == {}
