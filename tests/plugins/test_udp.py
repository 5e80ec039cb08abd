"""UDP with real sockets: what comes in, who gets what, how long, and what is answered."""

import json
import random
import socket

import pytest

from co2.errors import ConfigError, OutboxFull
from co2.plugin import Co2Plugin
from co2.plugins.udp import peers, udp
from co2.plugins.udp.peers import ERRORS_TO_ALL, MAX_PEERS, MAX_REMEMBERED, ErrorLimit
from co2.plugins.udp.settings import listening_socket
from co2.testing import assert_received
from tests.harness import wait_for


class X_Mouth(Co2Plugin):
    """Only sends."""


class Board:
    """A microcontroller: a UDP socket."""

    def __init__(self, to):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_535)  # macOS sends no more than 9,216
        self.socket.settimeout(10)
        self.to = to
        self.name = f"127.0.0.1:{self.socket.getsockname()[1]}"

    def say(self, *lines):
        self.raw("\n".join(json.dumps(line) for line in lines).encode())

    def raw(self, datagram):
        self.socket.sendto(datagram, self.to)

    def hear(self):
        return [json.loads(line) for line in self.socket.recv(65536).splitlines()]

    def subscribe(self, *patterns):
        self.say({"subscribe": patterns})
        assert self.hear() == [{"subscribed": len(patterns)}]

    def settle(self, token):
        """Wait until all that it has said is done, and read what it is told."""
        self.say({"ping": ["settle", token]})
        while {"pong": ["settle", token]} not in self.hear():
            """It is something else."""

    def hears_nothing(self):
        """Nothing is under way: what it asks now is answered first."""
        token = random.random()
        self.say({"ping": token})
        assert self.hear() == [{"pong": token}]


@pytest.fixture
def relay(co2_net):
    return co2_net.relay.load("udp", config={"port": 0})


@pytest.fixture
def boards(relay):
    made = []

    def make():
        made.append(Board(relay.plugin.address))
        return made[-1]

    yield make
    for board in made:
        board.socket.close()


def test_a_line_is_a_message_of_the_network(co2_net, relay, boards):
    board = boards()
    board.say({"data": [1, {"a": None}], "channel": "stage.left", "unit": "dB", "host_id": "forged"}, {"data": 2})
    message = assert_received(co2_net, data=2)
    assert (message["udp"], message["host_id"], "channel" in message) == (board.name, relay.host_id, False)
    message = assert_received(co2_net, channel="stage.left")
    assert (message["data"], message["unit"], message["udp"]) == ([1, {"a": None}], "dB", board.name)
    assert message["host_id"] == relay.host_id
    assert co2_net.call("udp.udp.status")["counts"]["in"] == 2


def test_who_has_subscribed_gets_messages_as_lines(co2_net, boards):
    mouth, board = co2_net.satellite(X_Mouth), boards()
    board.subscribe("stage.*", "lab.>")
    for channel in ("stage.left", "stage.a.b", "other", "lab.a.b"):
        mouth.plugin.send({"data": [channel, b"\xff", float("nan")], "channel": channel, "unit": "dB"})
    mouth.plugin.send({"data": "no channel"})
    for channel in ("stage.left", "lab.a.b"):
        wanted = {"data": [channel, "/w==", None], "channel": channel, "unit": "dB", "host_id": mouth.host_id}
        assert board.hear() == [wanted]
    board.hears_nothing()
    assert [message.get("channel") for message in co2_net.received[1:4]] == ["stage.a.b", "other", "lab.a.b"]


def test_what_one_sends_the_others_get(co2_net, relay, boards):
    one, two, three = boards(), boards(), boards()
    for board in (one, two, three):
        board.subscribe(">")
    three.subscribe()
    one.say({"data": 1, "channel": "a"})
    assert two.hear() == [{"data": 1, "channel": "a", "udp": one.name, "host_id": relay.host_id}]
    one.hears_nothing()
    three.hears_nothing()
    assert_received(co2_net, data=1)


def test_a_subscription_ends_after_its_lease_and_any_datagram_renews_it(co2_net, relay, boards, monkeypatch):
    mouth, one, two = co2_net.satellite(X_Mouth), boards(), boards()
    monkeypatch.setattr(udp, "LOOK_INTERVAL", 0.01)
    monkeypatch.setattr(udp, "LEASE", 3600)
    two.subscribe("a")
    monkeypatch.setattr(udp, "LEASE", 0.05)
    one.subscribe("a")
    wait_for(lambda: len(relay.plugin.x_status({})["subscribers"]) == 1)
    mouth.plugin.send({"data": 1, "channel": "a"})
    assert two.hear()[0]["data"] == 1
    one.hears_nothing()
    monkeypatch.setattr(udp, "LEASE", 5000)
    two.say({"data": "still here"})
    assert_received(co2_net, data="still here")
    (row,) = relay.plugin.x_status({})["subscribers"]
    assert row["address"] == two.name and row["patterns"] == ["a"] and 4900 < row["seconds"] <= 5000


def test_there_is_room_for_so_many(relay, boards, monkeypatch):
    monkeypatch.setattr(peers, "MAX_PEERS", 2)
    first, second, third = boards(), boards(), boards()
    first.subscribe("a")
    second.subscribe("a")
    third.say({"subscribe": ["a"]})
    assert third.hear() == [{"error": f"{MAX_PEERS} addresses have already subscribed"}]
    second.subscribe("b")
    first.subscribe()
    third.subscribe("a")


def test_a_ping_is_answered_and_answers_of_one_datagram_come_in_one(boards):
    board = boards()
    board.say({"ping": 1}, {"subscribe": ["a"]}, {"ping": {"b": [2]}})
    assert board.hear() == [{"pong": 1}, {"subscribed": 1}, {"pong": {"b": [2]}}]


def test_garbage_is_counted_logged_once_and_answered_now_and_then(co2_net, relay, boards):
    board = boards()
    for _ in range(300):
        board.raw(b"\xff garbage")
    board.raw(b" " * 20_000)
    board.say(*[{"data": 1}] * 65)
    board.hear()
    wait_for(lambda: relay.plugin.counts["malformed"] == 302)
    assert len([line for line in relay.logged if "JSON" in line and "so far" in line]) == 1
    wait_for(lambda: len(co2_net.received) == 64)
    board.say({"ping": 1})
    heard = board.hear()
    while heard != [{"pong": 1}]:  # more than a second may have gone by on a slow machine
        assert set(heard[0]) == {"error"} and len(heard) == 1
        heard = board.hear()
    assert relay.plugin.counts["out"] < 30


def test_errors_are_told_seldom():
    limit = ErrorLimit()
    assert [limit.allows(("a", 1), now) for now in (5.0, 5.5, 5.99, 6.0)] == [True, False, False, True]
    assert [limit.allows(("b", port), 10.0) for port in range(2 * ERRORS_TO_ALL)].count(True) == ERRORS_TO_ALL
    for second in range(MAX_REMEMBERED):
        assert limit.allows(("c", second), 20.0 + second)
    assert len(limit._told) == MAX_REMEMBERED


def test_what_the_network_does_not_take_is_told(relay, boards, monkeypatch):
    board = boards()
    board.say({"data": 1, "channel": "x" * 300})
    (told,) = board.hear()
    assert "a channel has at most 256 bytes" in told["error"]
    wait_for(lambda: relay.plugin.counts["refused"] == 1)

    def full(_message):
        raise OutboxFull(5.0)

    monkeypatch.setattr(relay.plugin, "send", full)
    board.say({"data": 1})
    wait_for(lambda: relay.plugin.counts["refused"] == 2)
    board.settle(1)


def test_a_number_out_of_range_is_told_whole(relay, boards):
    board = boards()
    board.say({"data": 2**70})
    assert board.hear() == [
        {
            "error": "1180591620717411303424 is out of range: integers must be from -9223372036854775808 to "
            "18446744073709551615; send it as text, in quotes"
        }
    ]
    wait_for(lambda: relay.plugin.counts["malformed"] == 1)


def test_what_is_too_long_for_a_datagram_passes_and_is_counted(co2_net, relay, boards):
    mouth, board = co2_net.satellite(X_Mouth), boards()
    board.subscribe("a")
    mouth.plugin.send({"data": "x" * 10_000, "channel": "a"})
    assert_received(co2_net, channel="a")
    assert relay.plugin.x_status({})["counts"]["unsendable"] == 1
    board.hears_nothing()


def test_an_address_that_nothing_can_be_sent_to_is_counted(co2_net, relay, boards, monkeypatch):
    mouth, board = co2_net.satellite(X_Mouth), boards()
    board.subscribe("a")

    class Broken:
        """Sends nothing; the plugin's thread goes on waiting for what comes."""

        def __init__(self, sound):
            self._sound = sound

        def __getattr__(self, name):
            return getattr(self._sound, name)

        def sendto(self, *_args):
            raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(udp, "LOOK_INTERVAL", 0.001)
    monkeypatch.setattr(relay.plugin, "_socket", Broken(relay.plugin._socket))
    mouth.plugin.send({"data": 1, "channel": "a"})
    assert "Network is unreachable" in relay.plugin.x_status({})["last_error"]
    assert_received(co2_net, data=1)


def test_subscriptions_outlive_new_code(co2_net, relay, boards):
    board = boards()
    board.subscribe("a.>")
    value, port = relay.plugin.handover(), relay.plugin.address[1]
    relay.stop()
    co2_net.relay.load("udp", config={"port": port})
    relay.plugin.takeover(value)
    co2_net.send({"data": 1, "channel": "a.b"})
    assert board.hear()[0]["data"] == 1


def test_the_socket_and_the_thread_end(relay):
    thread, address = relay.plugin._reader, relay.plugin.address
    relay.stop()
    assert not thread.is_alive()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(address)


def test_a_wrong_configuration_is_refused(co2_net):
    for table in ({"port": 70_000}, {"host": 7}, {"prot": 1}):
        with pytest.raises(ConfigError):
            co2_net.relay.load(udp.X_Udp, config=table)


def test_what_cannot_be_listened_on_is_told(relay):
    with pytest.raises(OSError, match="cannot find") as unknown:
        listening_socket("no..host", 0)
    with pytest.raises(OSError, match=r"cannot use UDP 127\.0\.0\.1") as taken:
        listening_socket("127.0.0.1", relay.plugin.address[1])
    assert taken.value.errno and not unknown.value.errno


def test_a_fuzz_of_datagrams_leaves_it_well(co2_net, relay, boards):
    chance = random.Random(2013)
    board = boards()
    seeds = [
        b'{"data":1,"channel":"a.b"}',
        b'{"subscribe":["stage.*",">"]}',
        b'{"ping":[1,"x"]}',
        b"{}\n[]\n7",
    ]
    for number in range(2000):
        datagram = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(datagram) + 1)
            datagram[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
        if not number % 100:
            datagram = bytearray(chance.randbytes(9000))
        board.raw(bytes(datagram))
        if not number % 50:
            board.settle(number)  # so that none is lost on its way
    board.say({"data": "the last one", "channel": "end"})
    assert_received(co2_net, timeout=20, channel="end")
    assert relay.plugin._reader.is_alive()
    assert relay.plugin.counts["malformed"] > 100 and relay.plugin.counts["in"] > 100
