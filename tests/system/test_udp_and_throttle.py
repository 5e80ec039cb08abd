"""The bundled relay plugins in a real relay, in a chain, through a reload."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.harness import RECORDER, HostProcess, running, wait_for, write_plugin


@pytest.fixture
def board() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(20)
        yield sock


def address_of(relay: HostProcess) -> tuple[str, int]:
    host, _, port = relay.call("udp.udp.status")["listen"].rpartition(":")
    return host, int(port)


def said(sock: socket.socket, to: tuple[str, int], *lines: Any) -> None:
    sock.sendto("\n".join(map(json.dumps, lines)).encode(), to)


def heard(sock: socket.socket) -> Any:
    return json.loads(sock.recv(65536))


def test_a_board_on_a_relay_that_throttles(tmp_path: Any, board: socket.socket) -> None:
    folder = tmp_path / "relay"
    folder.mkdir()
    (folder / "co2.toml").write_text("[plugin.udp]\nport = 0\n[plugin.throttle]\nrate = 5\n")
    write_plugin(tmp_path / "one", "recorder", recorder=RECORDER)
    with (
        running(folder, "relay", "--plugin", "udp", "--plugin", "throttle") as relay,
        running(tmp_path / "one", "satellite", "--relay", relay.url) as one,
    ):
        file = one.folder / "received.jsonl"

        def received() -> list[dict[str, Any]]:
            return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

        def last() -> Any:
            return received()[-1]["data"] if received() else None

        to = address_of(relay)
        said(board, to, {"data": "first", "channel": "board.hello"})
        wait_for(lambda: last() == "first", "the first message of the board")
        assert received()[-1]["udp"] == f"127.0.0.1:{board.getsockname()[1]}"
        assert received()[-1]["host_id"] == relay.host_id

        # udp is before throttle: the board hears all, the satellite what is let through, and the last for certain.
        said(board, to, {"subscribe": ["fader"]})
        assert heard(board) == {"subscribed": 1}
        for number in range(50):
            said(board, to, {"data": number, "channel": "board.fader"})
        wait_for(lambda: last() == 49, "the last value")
        seen = [message["data"] for message in received() if message.get("channel") == "board.fader"]
        assert seen[0] == 0 and seen == sorted(seen) and len(seen) < 20
        assert one.call("recorder.recorder.send", {"data": "light", "channel": "fader"}) is True
        message = heard(board)
        assert (message["data"], message["host_id"]) == ("light", one.host_id)

        # New code: the port is the same one only where it is given; subscriptions go with it.
        (folder / "co2.toml").write_text(f"[plugin.udp]\nport = {to[1]}\n[plugin.throttle]\nrate = 2\n")
        for number in (1, 2, 3):
            said(board, to, {"data": f"before {number}", "channel": "board.knob"})
        wait_for(lambda: relay.call("throttle.throttle.status")["kept"] or last() == "before 3", "what is kept")
        with relay.proxy() as proxy:
            proxy.co2.plugin.reload({"data": "throttle"})
            proxy.co2.plugin.reload({"data": "udp"})
        wait_for(lambda: last() == "before 3", "what was kept")
        assert relay.call("throttle.throttle.status")["rate"] == 2
        assert [row["patterns"] for row in relay.call("udp.udp.status")["subscribers"]] == [["fader"]]
        assert one.call("recorder.recorder.send", {"data": "again", "channel": "fader"}) is True
        assert heard(board)["data"] == "again"
        said(board, to, {"data": "end", "channel": "board.end"})
        wait_for(lambda: last() == "end", "the end")
        seen = [message["data"] for message in received()]
        assert len(seen) == len({*seen}), "nothing comes twice"
        with relay.proxy() as proxy:
            rows = {row["name"]: row["transit"] for row in proxy.co2.get_properties()["plugins"]}
        assert rows["throttle"]["dropped"] > 30 and not rows["throttle"]["passed_by"]


FLOOD = '''
from co2 import plugin

class X_Flood(plugin.Co2Plugin):
    """Sends many values on many channels."""

    def x_flood(self, count: int, channels: int):
        for number in range(count):
            self.send({"channel": f"flood.{number % channels}", "data": number})
        self.flush(60)
        return True
'''

LAST = '''
from co2 import plugin

class X_Last(plugin.Co2Plugin):
    """Knows the last value of each channel, and which came after a later one."""

    channels = ("flood.*",)

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.last, self.late, self.count = {}, [], 0

    def receive(self, data_dict):
        channel, number = data_dict["channel"], data_dict["data"]
        self.count += 1
        if number <= self.last.get(channel, -1):
            self.late.append([channel, self.last[channel], number])
        self.last[channel] = number

    def x_known(self, data_dict):
        return {"last": self.last, "late": self.late[:20], "count": self.count}
'''


def test_under_load_and_through_reloads_the_last_values_arrive_in_order(tmp_path: Any) -> None:
    folder = tmp_path / "relay"
    folder.mkdir()
    (folder / "co2.toml").write_text("[plugin.throttle]\nrate = 20\n")
    write_plugin(tmp_path / "one", "flood", flood=FLOOD)
    write_plugin(tmp_path / "two", "last", last=LAST)
    channels, count = 50, 100_000
    with (
        running(folder, "relay", "--plugin", "throttle") as relay,
        running(tmp_path / "one", "satellite", "--relay", relay.url) as one,
        running(tmp_path / "two", "satellite", "--relay", relay.url) as two,
    ):
        wait_for(lambda: len(relay.call("relay.get_satellites")) == 2, "both satellites")
        with ThreadPoolExecutor(1) as pool, relay.proxy() as proxy:
            flood = pool.submit(one.call, "flood.flood.flood", {"count": count, "channels": channels})
            loads = 1
            while not flood.done() or loads < 4:
                proxy.co2.plugin.reload({"data": "throttle"})
                loads += 1
            assert flood.result() is True
        wanted = {f"flood.{number % channels}": number for number in range(count - channels, count)}
        wait_for(lambda: two.call("last.last.known")["last"] == wanted, "the last value of every channel")
        known = two.call("last.last.known")
        assert known["late"] == []
        assert channels * 2 <= known["count"] < count / 4
        with relay.proxy() as proxy:
            (row,) = proxy.co2.get_properties()["plugins"]
        assert row["load"] == loads and row["transit"]["passed_by"] == 0, row
