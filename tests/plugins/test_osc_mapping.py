"""OSC messages ↔ data_dicts, channel names, the configuration."""

import errno
import os
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given

from co2.plugin import Channels
from co2.plugins.osc.addresses import (
    address_of,
    channel_of,
    is_own,
    listening_socket,
    read_host_port,
    resolve,
)
from co2.plugins.osc.holders import holder_of
from co2.plugins.osc.mapping import MAX_HELD_BUNDLES, Assembler, from_data_dict, to_data_dicts
from co2.plugins.osc.packets import OscBundle, OscMessage, Unsendable
from co2.plugins.osc.settings import OscSettings, read_settings
from co2.values import pack, unpack
from tests.plugins.test_osc_packets import messages, packets


def through_the_network(dicts, host_id="1@127.0.0.1:2004"):
    """What receive gets of what was given to send."""
    return [unpack(pack(data_dict)) | {"host_id": host_id} for data_dict in dicts]


def one(data_dict, prefix=""):
    [message] = from_data_dict(data_dict, prefix)
    return message


def test_a_message():
    message = OscMessage("/stage/fader1", "ifsb", [3, 0.5, "nih", b"\0\1"])
    assert to_data_dicts(message, source="127.0.0.1:7000", bundle_id=1) == [
        {
            "channel": "stage.fader1",
            "data": [3, 0.5, "nih", b"\0\1"],
            "osc": {"address": "/stage/fader1", "types": "ifsb", "from": "127.0.0.1:7000"},
        }
    ]


@given(messages)
def test_a_message_crosses_the_network_unchanged(message):
    [received] = through_the_network(to_data_dicts(message, source="h:1", bundle_id=1))
    assert one(received) == message


def leaves(packet, time=None):
    if isinstance(packet, OscMessage):
        return [(packet, time)]
    return [leaf for element in packet.elements for leaf in leaves(element, packet.time)]


@given(packets)
def test_a_bundle_crosses_the_network_with_order_times_and_unity(packet):
    assembler = Assembler()
    found = []
    for received in through_the_network(to_data_dicts(packet, source="h:1", bundle_id=7)):
        found += assembler.add(received, from_data_dict(received), True)
    if not leaves(packet):
        assert found == []
        return
    [arrived] = found
    assert leaves(arrived) == leaves(packet)
    if isinstance(packet, OscBundle):
        assert arrived.time == packet.time


def test_a_bundle_that_lost_its_last_message_goes_out_with_the_next():
    assembler = Assembler()
    first = OscBundle((5, 0), (OscMessage("/a", "i", [1]), OscMessage("/b", "i", [2]), OscMessage("/c", "i", [3])))
    cut = through_the_network(to_data_dicts(first, source="h:1", bundle_id=1))[:2]
    second = through_the_network(
        to_data_dicts(OscBundle((6, 0), (OscMessage("/d", "", []),)), source="h:1", bundle_id=2)
    )
    found = [packet for d in cut + second for packet in assembler.add(d, from_data_dict(d), True)]
    assert found == [OscBundle((5, 0), first.elements[:2]), OscBundle((6, 0), (OscMessage("/d", "", []),))]


def test_bundles_of_many_senders_do_not_pile_up():
    assembler = Assembler()
    bundle = OscBundle((5, 0), (OscMessage("/a", "i", [1]), OscMessage("/b", "i", [2])))
    found = []
    for number in range(MAX_HELD_BUNDLES * 3):
        [begun, _] = through_the_network(to_data_dicts(bundle, source="h:1", bundle_id=1), f"{number}@127.0.0.1:1")
        found += assembler.add(begun, from_data_dict(begun), True)
    assert len(found) == MAX_HELD_BUNDLES * 2


def test_unwanted_messages_of_a_bundle_are_left_out():
    assembler = Assembler()
    bundle = OscBundle((5, 0), (OscMessage("/a", "i", [1]), OscMessage("/b", "i", [2])))
    a, b = through_the_network(to_data_dicts(bundle, source="h:1", bundle_id=1))
    assert assembler.add(a, from_data_dict(a), True) == []
    assert assembler.add(b, [], False) == [OscBundle((5, 0), (OscMessage("/a", "i", [1]),))]


@pytest.mark.parametrize(
    "osc",
    [
        None,
        "nonsense",
        {"bundle": 3},
        {"bundle": {"id": "x", "index": 0, "count": 1}},
        {"types": 5, "address": 6},
        {"types": "zz", "address": "no/slash"},
        {"bundle": {"id": 1, "index": 0, "count": 1, "time": [-1, 2**40]}, "time": "soon"},
    ],
)
def test_nonsense_from_other_hosts_is_survived(osc):
    data_dict = {"channel": "a.b", "data": [1], "osc": osc}
    [packet] = Assembler().add(data_dict, from_data_dict(data_dict), True)
    assert leaves(packet)[0][0] == OscMessage("/a/b", "i", [1])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (2, OscMessage("/x", "i", [2])),
        (None, OscMessage("/x", "", [])),
        ([], OscMessage("/x", "", [])),
        ([1, 2.5, "shrubbery"], OscMessage("/x", "ifs", [1, 2.5, "shrubbery"])),
        ("nih", OscMessage("/x", "s", ["nih"])),
    ],
)
def test_a_plain_data_dict(data, message):
    assert one({"channel": "x", "data": data}) == message


def test_a_dictionary_becomes_a_message_for_each_entry():
    found = from_data_dict({"channel": "lab", "data": {"cpu": 3, "net": {"in": 7, "a.b/c d": [1, 2]}}})
    assert found == [
        OscMessage("/lab/cpu", "i", [3]),
        OscMessage("/lab/net/in", "i", [7]),
        OscMessage("/lab/net/a_b_c_d", "ii", [1, 2]),
    ]
    deep: dict = {}
    for _ in range(20):
        deep = {"a": deep}
    with pytest.raises(Unsendable):
        from_data_dict({"channel": "x", "data": deep})


def test_a_plugin_that_moved_the_message_or_changed_the_data():
    osc = {"address": "/old/name", "types": "i"}
    assert one({"channel": "old.name", "data": [1], "osc": osc}) == OscMessage("/old/name", "i", [1])
    assert one({"channel": "new.name", "data": [1.5], "osc": osc}) == OscMessage("/new/name", "f", [1.5])


def test_prefix_goes_on_and_off():
    [data_dict] = to_data_dicts(OscMessage("/fader1", "i", [1]), source="h:1", bundle_id=1, prefix="stage.left")
    assert data_dict["channel"] == "stage.left.fader1"
    assert one(data_dict, "stage.left").address == "/fader1"
    assert one(data_dict).address == "/stage/left/fader1"
    assert one({"channel": "stage.leftover", "data": 1}, "stage.left").address == "/stage/leftover"


@pytest.mark.parametrize(
    ("address", "channel"),
    [("/stage/fader1", "stage.fader1"), ("/", ""), ("//a//b", "a.b"), ("/ä", "ä"), ("/a/*", "a.*")],
)
def test_channel_of(address, channel):
    assert channel_of(address) == channel


def test_address_of_a_channel_has_nothing_that_osc_forbids():
    assert address_of("a b.c#d,e\0f..g") == "/a_b/c_d_e_f/g"


@pytest.mark.parametrize(
    "text", ["", "9000", ":9000", "host:", "host:x", "host:70000", "::1:9000", "h:²", 9000, None]
)
def test_what_is_no_host_and_port(text):
    with pytest.raises(ValueError, match=r"listen: .*host:port"):
        read_host_port(text, "listen")


def test_host_and_port():
    assert read_host_port("127.0.0.1:9000", "listen") == ("127.0.0.1", 9000)
    assert read_host_port("[::1]:9000", "listen") == ("::1", 9000)


def test_settings():
    assert read_settings({}) == read_settings({"receive": []}) == OscSettings()
    assert read_settings({"receive": "a.*"}) == OscSettings(receive=Channels(("a.*",)))
    assert read_settings({"send_to": "desk:7000", "send": ["a.*", "b.>"], "prefix": "x"}) == OscSettings(
        send_to=(("desk", 7000),), send=Channels(("a.*", "b.>")), prefix="x"
    )


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"sendto": "a:1"}, "did you mean 'send_to'"),
        ({"zzz": 1}, "the keys are listen"),
        ({"send_to": 7000}, "list of strings"),
        ({"send_to": ["desk"]}, "host:port"),
        ({"listen": 9000}, "host:port"),
        ({"prefix": "a..b"}, "prefix"),
        ({"prefix": 5}, "prefix"),
        ({"receive": [5]}, "receive: found 5, expected text"),
        ({"send": "a..b"}, "send: not a channel pattern: 'a..b'"),
    ],
)
def test_settings_that_are_wrong(config, text):
    with pytest.raises(ValueError, match=text):
        read_settings(config)


def test_sockets():
    with listening_socket("127.0.0.1", 0) as sock, pytest.raises(OSError) as caught:
        listening_socket(*sock.getsockname())
    port = int(re.search(r":(\d+) is taken", str(caught.value))[1])
    holder = f"process {os.getpid()} \\(.+\\)" if Path("/proc/net/udp").exists() else "another program"
    assert re.fullmatch(
        f"listen: UDP 127.0.0.1:{port} is taken by {holder}: stop that one, or set another port in co2.toml: "
        f'listen = "127.0.0.1:{port + 1}" under \\[plugin.osc\\]',
        str(caught.value),
    )
    assert holder_of(port) == "", "it is closed"
    with pytest.raises(OSError, match=r"listen: cannot use UDP 192\.0\.2\.1:9000: .*\[plugin.osc\] in co2.toml"):
        listening_socket("192.0.2.1", 9000)
    with pytest.raises(OSError, match="listen: cannot find"):
        listening_socket("no..host", 9000)
    assert resolve("no..host", 1, socket.AF_INET) is None
    assert resolve("127.0.0.1", 7000, socket.AF_INET) == ("127.0.0.1", 7000)


def test_the_longest_datagram_goes_out_where_few_bytes_do_by_default(monkeypatch):
    """macOS sends no datagram longer than the send buffer, 9,216 bytes by default."""

    class AsOnMac(socket.socket):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)  # Linux doubles it

        def sendto(self, data, *more):
            if len(data) > self.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF):
                raise OSError(errno.EMSGSIZE, "Message too long")
            return super().sendto(data, *more)

    monkeypatch.setattr(socket, "socket", AsOnMac)
    with listening_socket("127.0.0.1", 0) as sock:
        assert sock.sendto(bytes(65_507), sock.getsockname()) == 65_507


def test_a_bridge_knows_its_own_socket():
    with listening_socket("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        assert is_own(("127.0.0.1", port), sock)
        assert not is_own(("127.0.0.1", port + 1), sock)
    with listening_socket("0.0.0.0", 0) as sock:
        port = sock.getsockname()[1]
        assert is_own(("127.0.0.1", port), sock)
        assert not is_own(("192.0.2.1", port), sock)
