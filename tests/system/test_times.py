"""When a message came: a plugin that asks is told, and so is whoever reads the log."""

import itertools
import time
from pathlib import Path
from typing import Any

from tests.harness import HostProcess, running, wait_for, write_plugin
from tests.system.test_wrong_clock import clock_in, set_clock

METRONOME = '''
import time
from co2 import plugin

class X_Metronome(plugin.Co2Plugin):
    def x_go(self, data_dict):
        """Send so many messages, one each 10 ms, each with the time at which it was sent, and how late it was."""
        due = time.monotonic()
        for number in range(data_dict["data"]):
            while time.monotonic() < due:
                time.sleep(max(0, due - time.monotonic()))
            self.send({"data": [number, time.time(), time.monotonic() - due]})
            due += 0.01
'''

LISTENER = """
from co2 import plugin

class X_Timed(plugin.Co2Plugin):
    times = True

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.heard = []

    def receive(self, data_dict):
        self.heard.append([data_dict["at"], data_dict["data"]])

    def x_heard(self, data_dict):
        return self.heard

class X_Plain(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.keys = set()

    def receive(self, data_dict):
        self.keys |= data_dict.keys()

    def x_keys(self, data_dict):
        return sorted(self.keys)
"""


def heard(host: HostProcess) -> list[Any]:
    """Return what the plugin that asks for times has heard: the relay's time, and the message."""
    with host.proxy() as proxy:
        found: list[Any] = proxy.ear.mod.heard({"data": 0})
    return found


def errors_of_spacing(rows: list[Any]) -> list[float]:
    """Return by how much the time between two messages differs from that between their sends, sorted."""
    return sorted(
        abs((later[0] - earlier[0]) - (later[1][1] - earlier[1][1])) for earlier, later in itertools.pairwise(rows)
    )


def test_a_plugin_that_asks_is_told_when_the_relay_got_a_message(tmp_path: Path) -> None:
    write_plugin(tmp_path / "from", "beat", mod=METRONOME)
    write_plugin(tmp_path / "to", "ear", mod=LISTENER)
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "from", "satellite", "--relay", relay.url) as sender,
        running(tmp_path / "to", "satellite", "--relay", relay.url) as receiver,
        relay.proxy() as proxy,
    ):
        wait_for(lambda: sum(row["kind"] == "co2" for row in proxy.relay.get_satellites()) == 2)
        me = proxy.relay.register({})
        began = time.time()
        with sender.proxy() as sending:
            sending.beat.mod.go({"data": 1000})
        wait_for(lambda: len(heard(receiver)) == 1000)
        rows = heard(receiver)
        assert [number for _, (number, *_) in rows] == list(range(1000))
        wrong = [row for row in rows if not began <= row[1][1] <= row[0] + 0.001 <= time.time() + 0.001]
        assert not wrong
        # On a busy machine a message waits for a processor now and then, as its sender does.
        waits = sorted(late for _, (*_, late) in rows)[989]
        assert errors_of_spacing(rows)[989] <= max(0.002, 6 * waits), "99 of 100 spacings are right within 2 ms"
        logged = proxy.relay.fetch({"host_id": me["host_id"], "after": me["position"], "max": 1000})
        told = [[message["at"], message["data"]] for message in logged["messages"]]
        assert told == heard(receiver)[: len(told)], "the log has the same times"
        with receiver.proxy() as asking:
            keys = asking.ear.mod.keys({"data": 0})
        assert keys == ["client_address", "data", "host_id"], "who does not ask is not told"


def test_a_message_of_a_sibling_has_the_time_of_the_satellite(tmp_path: Path) -> None:
    for name, code in (("beat", METRONOME), ("ear", LISTENER)):
        write_plugin(tmp_path / "both", name, mod=code)
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "both", "satellite", "--relay", relay.url) as host,
        host.proxy() as proxy,
    ):
        began = time.time()
        proxy.beat.mod.go({"data": 100})
        wait_for(lambda: len(heard(host)) == 100)
        rows = heard(host)
        assert all(began <= sent <= at + 0.001 <= time.time() + 0.001 for at, (_, sent, _) in rows)
        assert proxy.co2.get_properties()["counters"]["express_failed"] == 0


def test_a_clock_that_is_set_back_changes_neither_order_nor_durations_and_is_told(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    set_clock(clock, "+0d")
    with (
        running(tmp_path / "relay", "relay", env=clock_in(clock)) as relay,
        relay.proxy() as proxy,
    ):
        me = proxy.relay.register({})
        other = proxy.relay.register({})["host_id"]

        def send(number: int) -> float:
            proxy.relay.relay({"host_id": other, "data": number})
            return time.monotonic()

        def fetched() -> dict[str, Any]:
            asked = {"host_id": me["host_id"], "after": me["position"], "max": 1000}
            answer: dict[str, Any] = proxy.relay.fetch(asked)
            return answer

        sent = [send(0)]
        assert "clock_jumps" not in fetched()
        set_clock(clock, "-1h")
        wait_for(lambda: [*map(send, [1])] and "clock_jumps" in fetched(), "the jump is told")
        sent += [send(2), send(3)]
        answer = fetched()
        [jump] = answer["clock_jumps"]
        assert abs(jump["seconds"] + 3600) < 5
        positions = [message["position"] for message in answer["messages"]]
        assert positions[0] <= jump["position"] < positions[-1], "it says where"
        times = [message["at"] for message in answer["messages"]]
        assert times == sorted(times)
        assert abs((times[-1] - times[0]) - (sent[-1] - sent[0])) < 1
