"""The express in real hosts: small frames pass it, and nothing but their latency tells.

That what it writes is what would have been written is compared in each host, frame by frame: ``express_failed``
counts what is not. Everything that other tests here do with real hosts runs with it too.
"""

import random
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from co2.server.express import loop as express
from tests.harness import HostProcess, running, wait_for, write_plugin
from tests.needs import needs

pytestmark = needs(express.AVAILABLE, "the express is not compiled here (gcc, Python's headers; then make venv)")

SPAM = '''
import random, threading, time
from co2 import plugin


class X_Spam(plugin.Co2Plugin):
    """Sends numbers with pauses between them; keeps the numbers that others send."""

    {attributes}

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.got = []
        self.sent = 0
        self.stopped = False
        self.working = threading.Lock()

    def receive(self, data_dict):
        self.got.append([data_dict["host_id"].split("@")[0], *data_dict["data"], data_dict.get("repeat", False)])

    def x_begin(self, data_dict):
        """data: {{'count': …, 'pause': seconds, 'burst': most at a time, 'channels': […]}}."""
        threading.Thread(target=self._work, args=(data_dict["data"],), daemon=True).start()
        return True

    def _work(self, wanted):
        with self.working:  # the one before may be in the middle of a burst
            self._send_all(wanted)

    def _send_all(self, wanted):
        dice = random.Random(self.sent)
        end = self.sent + wanted["count"]
        while self.sent < end and not self.stopped:
            for _ in range(dice.randint(1, wanted["burst"])):
                message = {{"data": [type(self).__name__, self.sent, "x" * dice.choice((1, 40, 300, 3000))]}}
                if (channel := dice.choice(wanted["channels"])):
                    message["channel"] = channel
                self.send(message)
                self.sent += 1
            time.sleep(dice.uniform(0, 2 * wanted["pause"]))

    def x_stop(self, data_dict):
        self.stopped = True
        return self.sent

    def x_sent(self, data_dict):
        return self.sent

    def x_got(self, data_dict):
        """The numbers from data on, without their padding."""
        return [[origin, who, number, repeat] for origin, who, number, _, repeat in self.got[data_dict["data"]:]]
'''


def spam(attributes: str = "") -> str:
    return SPAM.format(attributes=attributes)


def origin(host: HostProcess) -> str:
    return host.host_id.partition("@")[0]


def counters(host: HostProcess) -> dict[str, int]:
    with host.proxy() as proxy:
        found: dict[str, int] = proxy.co2.get_properties()["counters"]
        return found


@contextmanager
def network(
    folder: Path, *names: str, code: str = "", relay_plugin: str = "", **env: str
) -> Iterator[tuple[HostProcess, list[HostProcess]]]:
    with ExitStack() as stack:
        plugins: tuple[str, ...] = ()
        if relay_plugin:
            write_plugin(folder / "relay", "gate", gate=relay_plugin)
            plugins = ("--plugin", "gate")
        relay = stack.enter_context(running(folder / "relay", "relay", *plugins, env=env))
        satellites = []
        for name in names:
            write_plugin(folder / name, "ham", spam=code or spam())
            args = ("--relay", relay.url)
            satellites.append(stack.enter_context(running(folder / name, "satellite", *args, env=env)))
        for satellite in satellites:
            wait_for(lambda one=satellite: counters(one) and registered(one), "linked")  # type: ignore[misc]
        yield relay, satellites


def registered(host: HostProcess) -> bool:
    with host.proxy() as proxy:
        return bool(proxy.co2.get_properties()["registered"])


def begin(host: HostProcess, count: int, pause: float, burst: int = 1, channels: tuple[str, ...] = ("",)) -> None:
    with host.proxy() as proxy:
        wanted = {"count": count, "pause": pause, "burst": burst, "channels": list(channels)}
        proxy.ham.spam.begin({"data": wanted})


def sent(host: HostProcess) -> int:
    with host.proxy() as proxy:
        return int(proxy.ham.spam.sent({"data": None}))


def got(host: HostProcess) -> list[Any]:
    with host.proxy() as proxy:
        found: list[Any] = proxy.ham.spam.got({"data": 0})
        return found


def by_origin(rows: list[Any]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for origin, _, number, _ in rows:
        numbers.setdefault(origin, []).append(number)
    return numbers


def all_have_all(satellites: list[HostProcess]) -> Callable[[], bool]:
    """Whether every satellite has all that the others have sent, each once and in order."""

    def look() -> bool:
        counts = {origin(one): sent(one) for one in satellites}
        for one in satellites:
            wanted = {who: [*range(count)] for who, count in counts.items() if who != origin(one) and count}
            if by_origin(got(one)) != wanted:
                return False
        return True

    return look


def nothing_failed(*hosts: HostProcess) -> None:
    for host in hosts:
        assert counters(host)["express_failed"] == 0, host.log()


def test_single_messages_take_the_express_through_all_three_hosts(tmp_path: Path) -> None:
    with network(tmp_path, "one", "two") as (relay, (one, two)):
        begin(one, 300, 0.003)
        wait_for(lambda: sent(one) == 300, "sent")
        wait_for(all_have_all([one, two]), "all of them, once, in order")
        for host in (relay, one, two):
            assert counters(host)["express"] > 100
        nothing_failed(relay, one, two)


ECHO = '''
from co2 import plugin


class X_Echo(plugin.Co2Plugin):
    """Sends back what comes; keeps it too."""

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.got = []

    def receive(self, data_dict):
        self.got.append(data_dict["data"])
        if {answers}:
            self.send({{"data": data_dict["data"]}})

    def x_ask(self, data_dict):
        self.send({{"data": data_dict["data"]}})

    def x_got(self, data_dict):
        return self.got
'''


def test_answers_take_it_too_though_the_numbers_of_what_comes_jump_over_them(tmp_path: Path) -> None:
    with ExitStack() as stack:
        relay = stack.enter_context(running(tmp_path / "relay", "relay"))
        satellites = []
        for name, answers in (("asks", False), ("answers", True)):
            write_plugin(tmp_path / name, "ham", echo=ECHO.format(answers=answers))
            satellites.append(stack.enter_context(running(tmp_path / name, "satellite", "--relay", relay.url)))
        asks, answers_ = satellites
        wait_for(lambda: all(registered(satellite) for satellite in satellites), "linked")
        with asks.proxy() as proxy:
            for number in range(100):
                proxy.ham.echo.ask({"data": number})
                time.sleep(0.01)  # they are to come alone: a call that asks for the answer would be in its way
            wait_for(lambda: proxy.ham.echo.got({"data": None}) == [*range(100)], "the answers")
        # Of 200. Where the calls are made they are in the way of answers; its own messages alone are 100.
        for host, least in ((relay, 120), (answers_, 120), (asks, 100)):
            assert counters(host)["express"] > least, host.log()
        nothing_failed(relay, *satellites)


GATE = '''
from co2 import plugin


class X_Gate(plugin.Co2RelayPlugin):
    """Every message passes it."""

    def relay(self, data_dict):
        {does}
        return data_dict
'''


@pytest.mark.parametrize("does", ["pass", 'data_dict["seen"] = True'], ids=["looks", "changes"])
def test_single_messages_take_it_through_a_relay_plugin_and_behind_it(tmp_path: Path, does: str) -> None:
    with network(tmp_path, "one", "two", relay_plugin=GATE.format(does=does)) as (relay, (one, two)):
        begin(one, 300, 0.003)
        wait_for(lambda: sent(one) == 300, "sent")
        wait_for(all_have_all([one, two]), "all of them, once, in order")
        assert counters(relay)["express"] > 100, "to the plugin, and its answers to the link"
        nothing_failed(relay, one, two)


@pytest.mark.parametrize(
    "does",
    [
        'if data_dict["data"][1] % 3 == 0: data_dict["seen"] = True',
        'if data_dict["data"][1] % 5 == 0: __import__("time").sleep(0.004)',
        'if data_dict["data"][1] % 7 == 0: data_dict["channel"] = "another"',
        'if data_dict["data"][1] % 9 == 8: raise ValueError',
    ],
    ids=["changes some", "is slow", "moves some to another channel", "fails"],
)
def test_many_senders_through_a_relay_plugin_that_does_not_do_the_same_with_all(tmp_path: Path, does: str) -> None:
    with network(tmp_path, "one", "two", "three", relay_plugin=GATE.format(does=does)) as (relay, satellites):
        for index, satellite in enumerate(satellites):
            begin(satellite, 300, 0.002 * (index + 1), 1 + 4 * index, ("stage.left", "stage.right", ""))
        wait_for(lambda: all(sent(one) >= 300 for one in satellites), "sent")
        wait_for(all_have_all(satellites), "all of them, once, in order")
        nothing_failed(relay, *satellites)


def test_what_a_relay_plugin_drops_does_not_come_and_all_else_does(tmp_path: Path) -> None:
    drops = GATE.format(does='if data_dict["data"][1] % 4 == 0: return None')
    with network(tmp_path, "one", "two", relay_plugin=drops) as (relay, (one, two)):
        begin(one, 400, 0.002, 3)
        wait_for(lambda: sent(one) >= 400, "sent")
        wanted = [number for number in range(sent(one)) if number % 4]
        wait_for(lambda: by_origin(got(two)) == {origin(one): wanted}, "what is left, once, in order")
        assert counters(relay)["express"] > 50
        nothing_failed(relay, one, two)


def test_without_it_all_is_the_same(tmp_path: Path) -> None:
    with network(tmp_path, "one", "two", CO2_EXPRESS="false") as (relay, (one, two)):
        begin(one, 100, 0.001)
        wait_for(lambda: sent(one) == 100, "sent")
        wait_for(all_have_all([one, two]), "all of them, once, in order")
        assert [counters(host)["express"] for host in (relay, one, two)] == [0, 0, 0]


@pytest.mark.parametrize("channels", [("",), ("stage.left", "stage.right", "")])
def test_many_senders_siblings_channels_and_bursts_at_once(tmp_path: Path, channels: tuple[str, ...]) -> None:
    with network(tmp_path, "one", "two", "three") as (relay, satellites):
        for index, satellite in enumerate(satellites):
            begin(satellite, 600, 0.001 * (index + 1), 1 + 9 * index, channels)
        wait_for(lambda: all(sent(one) >= 600 for one in satellites), "sent")
        wait_for(all_have_all(satellites), "all of them, once, in order")
        assert sum(counters(host)["express"] for host in (relay, *satellites)) > 100
        nothing_failed(relay, *satellites)


def test_live_messages_among_the_others_of_one_sender(tmp_path: Path) -> None:
    with network(tmp_path, "one", "two", code=spam('live = ("meter.*",)')) as (relay, (one, two)):
        for turn in range(4):
            begin(one, 100, 0.004, 3, ("", "meter.a"))
            wait_for(lambda: sent(one) >= 100 * (turn + 1), "sent")  # noqa: B023
        nothing_failed(relay, one, two)
        assert counters(relay)["express"] > 20
        with two.proxy() as proxy:
            rows = proxy.ham.spam.got({"data": 0})
        numbers = [row[2] for row in rows]
        assert len(numbers) == len(set(numbers))


def test_calls_pages_and_xml_rpc_senders_in_between(tmp_path: Path) -> None:
    with network(tmp_path, "one", "two") as (relay, (one, two)), relay.proxy() as proxy:
        begin(one, 1000, 0.001)
        member = proxy.relay.register({})
        host_id, after, foreign = member["host_id"], member["position"], 0
        while sent(one) < 1000:
            proxy.relay.relay({"host_id": host_id, "data": ["foreign", foreign, ""]})
            foreign += 1
            after = proxy.relay.fetch({"host_id": host_id, "after": after, "max": 50, "wait": 0})["next"]
            assert proxy.method_call({"method_name": "ham.spam.sent", "data": None, "host_id": one.host_id}) >= 0
        wait_for(
            lambda: by_origin(got(two)) == {origin(one): [*range(1000)], host_id.split("@")[0]: [*range(foreign)]},
            "all of them, once, in order",
        )
        assert counters(relay)["express"] > 50
        nothing_failed(relay, one, two)


def test_a_durable_receiver_and_a_live_one_get_all(tmp_path: Path) -> None:
    with network(tmp_path, "one", "two", code=spam("durable = True")) as (relay, (one, two)):
        write_plugin(tmp_path / "three", "ham", spam=spam())
        with running(tmp_path / "three", "satellite", "--relay", relay.url) as three:
            wait_for(lambda: registered(three), "linked")
            begin(one, 500, 0.001)
            wait_for(lambda: sent(one) == 500, "sent")
            for receiver in (two, three):
                wait_for(lambda to=receiver: by_origin(got(to)) == {origin(one): [*range(500)]}, "all")  # type: ignore[misc]
            nothing_failed(relay, one, two, three)


@pytest.mark.parametrize("seed", range(2))
def test_kills_of_the_relay_and_of_plugin_hosts_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    with ExitStack() as stack:
        relay = stack.enter_context(running(tmp_path / "relay", "relay"))
        satellites = []
        for name in ("one", "two"):
            write_plugin(tmp_path / name, "ham", spam=spam())
            satellites.append(stack.enter_context(running(tmp_path / name, "satellite", "--relay", relay.url)))
        one, two = satellites
        wait_for(lambda: all(registered(satellite) for satellite in satellites), "linked")
        begin(one, 1_000_000, 0.001)  # until it is told to stop, however long the relay takes to come back
        for _ in range(4):
            before = sent(one)
            wait_for(lambda at=before: sent(one) > at + 200, "sending")  # type: ignore[misc]
            port = relay.port
            relay.kill()
            time.sleep(dice.uniform(0, 0.2))  # it is away for a while
            relay = stack.enter_context(running(tmp_path / "relay", "relay", "--port", str(port)))
        with one.proxy() as proxy:
            proxy.ham.spam.stop({"data": None})
        wait_for(all_have_all([one, two]), "all of them, once, in order")
        assert counters(one)["express"] > 100
        assert counters(two)["express"] > 100
        nothing_failed(relay, one, two)


def test_what_it_has_done_is_on_the_metrics_page_too(tmp_path: Path) -> None:
    with running(tmp_path, "relay") as relay:
        page = urllib.request.urlopen(f"{relay.url}/metrics").read().decode()
        assert 'co2_events_total{kind="express"} 0.0' in page
        assert 'co2_events_total{kind="express_failed"} 0.0' in page
