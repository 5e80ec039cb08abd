"""The bridge with real UDP sockets, and with liblo's own tools at both ends."""

import shutil
import socket
import subprocess
import threading

import pytest
from hypothesis import HealthCheck, given, settings

from co2.plugins.osc import addresses, osc
from co2.plugins.osc.addresses import read_host_port
from co2.plugins.osc.osc import X_Osc
from co2.plugins.osc.packets import OscBundle, OscMessage, build, parse
from co2.testing import assert_received
from tests.harness import wait_for
from tests.needs import needs
from tests.plugins.carry import carried
from tests.plugins.test_osc_packets import packets

HOST_KEYS = {"host_id": "1@127.0.0.1:2004", "client_address": ("127.0.0.1", 4567)}


@pytest.fixture
def engine():
    """An OSC program: a UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        yield sock


def name(sock):
    return f"127.0.0.1:{sock.getsockname()[1]}"


def bridge(engine, **config):
    return carried(X_Osc, listen="127.0.0.1:0", send_to=[name(engine)], **config)


def test_both_ways_on_one_socket(engine):
    with bridge(engine) as plugin:
        engine.sendto(build(OscMessage("/stage/fader1", "ifsb", [3, 0.1, "nih", b"\0\1"])), plugin.address)
        [message] = wait_for(lambda: plugin.sent)
        assert message["channel"] == "stage.fader1"
        assert message["data"] == [3, pytest.approx(0.1), "nih", b"\0\1"]
        assert message["osc"] == {"address": "/stage/fader1", "types": "ifsb", "from": name(engine)}
        plugin.receive({**message, **HOST_KEYS})
        datagram, source = engine.recvfrom(65536)
        assert parse(datagram) == OscMessage("/stage/fader1", "ifsb", message["data"])
        assert source == plugin.address


def test_from_one_osc_program_through_the_network_to_another(co2_net, engine):
    config = {"listen": "127.0.0.1:0", "send_to": [name(engine)]}
    left, right = co2_net.satellite("osc", config=config), co2_net.satellite("osc", config=config)
    engine.sendto(build(OscMessage("/stage/fader1", "if", [3, 0.5])), left.plugin.address)
    message = assert_received(right, channel="stage.fader1", data=[3, 0.5])
    assert message["osc"]["from"] == name(engine)
    assert parse(engine.recvfrom(65536)[0]) == OscMessage("/stage/fader1", "if", [3, 0.5])
    co2_net.send({"channel": "stage.light", "data": "on"})
    heard = [engine.recvfrom(65536) for _ in range(2)]
    assert {parse(datagram).address for datagram, _ in heard} == {"/stage/light"}
    assert {source for _, source in heard} == {left.plugin.address, right.plugin.address}
    assert co2_net.call("osc.osc.status", host_id=right.host_id)["counts"]["out"] == 2


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(packets)
def test_a_packet_goes_through_two_bridges_unchanged(engine, packet):
    if isinstance(packet, OscBundle) and not any(True for _ in messages_in(packet)):
        return
    with bridge(engine) as sender, bridge(engine, send=["*", ">"]) as receiver:
        engine.sendto(build(packet), sender.address)
        wait_for(lambda: sender.counts["in"] == len(list(messages_in(packet))))
        if any(not message["channel"] for message in sender.sent):
            return  # an address without a name is nobody's channel
        for message in sender.sent:
            receiver.receive({**message, **HOST_KEYS})
        arrived = parse(engine.recv(65536))
        assert list(messages_in(arrived)) == list(messages_in(packet))


def messages_in(packet):
    if isinstance(packet, OscMessage):
        yield packet
    else:
        for element in packet.elements:
            yield from messages_in(element)


def test_only_what_is_selected_goes_out(engine):
    with bridge(engine, send=["stage.*"]) as plugin:
        for channel in ("sysinfo.pi", "stage", "stage.a.b", "stage.fader1"):
            plugin.receive({"channel": channel, "data": channel, **HOST_KEYS})
        plugin.receive({"data": "without a channel", **HOST_KEYS})
        assert parse(engine.recv(65536)) == OscMessage("/stage/fader1", "s", ["stage.fader1"])
        assert plugin.x_status({})["counts"]["out"] == 1


def test_only_what_is_selected_comes_in(engine):
    with bridge(engine, receive=["in.>"], prefix="in.desk") as plugin:
        engine.sendto(build(OscMessage("/a", "i", [1])), plugin.address)
        wait_for(lambda: plugin.sent)
        assert plugin.sent[0]["channel"] == "in.desk.a"
    with bridge(engine, receive=["b"]) as plugin:
        for address in ("/a", "/b"):
            engine.sendto(build(OscMessage(address, "", [])), plugin.address)
        wait_for(lambda: plugin.sent)
        assert [message["channel"] for message in plugin.sent] == ["b"]
        assert plugin.counts["in_filtered"] == 1


def test_a_flood_of_malformed_packets_is_counted_and_logged_once(engine):
    with bridge(engine) as plugin:
        for _ in range(200):
            engine.sendto(b"#bundle\0" + bytes(8) + b"\xff\xff\xff\xfc", plugin.address)
        engine.sendto(build(OscMessage("/alive", "", [])), plugin.address)
        wait_for(lambda: plugin.sent)
        assert plugin.x_status({})["counts"]["malformed"] == 200
        assert len([line for line in plugin.logged if "not OSC" in line]) == 1
        assert name(engine) in plugin.x_status({})["last_error"]


def test_when_the_network_says_no_the_bridge_stays(engine):
    with bridge(engine) as plugin:
        plugin.refuse = TimeoutError("the outbox had no room for 5 s")
        engine.sendto(build(OscMessage("/a", "", [])), plugin.address)
        wait_for(lambda: plugin.counts["refused"] == 1)
        plugin.refuse = None
        engine.sendto(build(OscMessage("/b", "", [])), plugin.address)
        wait_for(lambda: plugin.sent)
        assert any("no room" in line for line in plugin.logged)


def test_what_osc_has_no_type_for_is_counted(engine):
    with bridge(engine) as plugin:
        plugin.receive({"channel": "a", "data": 2**64, **HOST_KEYS})
        plugin.receive({"channel": "a", "data": bytes(70_000), **HOST_KEYS})
        assert plugin.x_status({})["counts"]["unsendable"] == 2


def test_x_send_sends_whatever_the_channel(engine):
    with bridge(engine, send=["nothing"]) as plugin:
        assert plugin.x_send({"channel": "stage.fader1", "data": [1, 0.5]}) == 1
        assert parse(engine.recv(65536)) == OscMessage("/stage/fader1", "if", [1, 0.5])


def test_an_unknown_destination_is_told_and_does_not_stop_the_others(engine):
    with carried(X_Osc, listen="127.0.0.1:0", send_to=["no..host:1", name(engine)]) as plugin:
        plugin.receive({"channel": "a", "data": 1, **HOST_KEYS})
        assert parse(engine.recv(65536)).address == "/a"
        assert plugin.counts["send_errors"] == 1
        assert "no..host" in plugin.last_error


def test_a_name_that_is_looked_up_for_long_delays_neither_the_start_nor_what_comes_in(engine, monkeypatch):
    looked_up, answered = threading.Event(), threading.Event()

    def slow(host, port, family):
        if host == "127.0.0.1":
            return resolve(host, port, family)
        looked_up.set()
        answered.wait(30)
        return ("127.0.0.1", port)

    resolve = addresses.resolve
    monkeypatch.setattr(addresses, "resolve", slow)
    monkeypatch.setattr(osc, "FIRST_LOOK_UP", 0.01)
    with carried(X_Osc, listen="127.0.0.1:0", send_to=[f"slow.invalid:{engine.getsockname()[1]}"]) as plugin:
        try:
            assert looked_up.wait(10)
            engine.sendto(build(OscMessage("/a", "i", [1])), plugin.address)
            wait_for(lambda: plugin.sent, "it comes in", 10)
        finally:
            answered.set()
        wait_for(lambda: all(plugin._destinations.values()), "the name is known", 10)
        plugin.receive({"channel": "b", "data": 2, **HOST_KEYS})
        assert parse(engine.recv(65536)).address == "/b"


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_an_ipv6_address_is_written_as_the_configuration_wants_it():
    try:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with sock, carried(X_Osc, listen="[::1]:0", send_to=[f"[::1]:{sock.getsockname()[1]}"]) as plugin:
        status = plugin.x_status({})
        assert read_host_port(status["listen"], "listen")[0] == "::1"
        assert status["send_to"] == [f"[::1]:{sock.getsockname()[1]}"]
        sock.sendto(build(OscMessage("/a", "i", [1])), plugin.address)
        [message] = wait_for(lambda: plugin.sent)
        assert message["osc"]["from"] == f"[::1]:{sock.getsockname()[1]}"


def test_a_bridge_does_not_send_to_itself():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        own = name(probe)
    with carried(X_Osc, listen=own, send_to=[own]) as plugin:
        plugin.receive({"channel": "a", "data": 1, **HOST_KEYS})
        assert plugin.counts["out"] == 0
        assert "itself" in plugin.last_error


def test_a_configuration_that_is_wrong_fails_and_leaves_nothing_open(engine):
    for config in ({"lisen": "127.0.0.1:0"}, {"send": ["a..b"]}, {"listen": name(engine)}):
        with pytest.raises((ValueError, OSError)), carried(X_Osc, **config):
            pass


def test_the_socket_and_the_thread_end(engine):
    with bridge(engine) as plugin:
        thread = plugin._reader
    assert not thread.is_alive()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(plugin.address)


@needs(shutil.which("oscsend"), "liblo-tools are not installed; make peers does that")
def test_oscsend_comes_in(engine):
    with bridge(engine) as plugin:
        port = str(plugin.address[1])
        values = ["-7", "0.815", "two words", str(2**40), "0.1"]
        subprocess.run(["oscsend", "127.0.0.1", port, "/stage/x", "ifsThd", *values], check=True)
        [message] = wait_for(lambda: plugin.sent)
        assert message["osc"]["types"] == "ifsThd"
        assert message["data"] == [-7, pytest.approx(0.815, abs=1e-7), "two words", True, 2**40, 0.1]


@needs(shutil.which("oscdump"), "liblo-tools are not installed; make peers does that")
def test_oscdump_understands_what_goes_out():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    dump = subprocess.Popen(["oscdump", "-L", str(port)], stdout=subprocess.PIPE, text=True)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(dump.stdout.readline, "")), daemon=True)
    reader.start()
    try:
        with carried(X_Osc, listen="127.0.0.1:0", send_to=[f"127.0.0.1:{port}"]) as plugin:
            data = [-7, 0.815, "two words", b"\x01\xff", True, None, 2**40]

            def heard():
                plugin.receive({"channel": "stage.x", "data": data, **HOST_KEYS})
                return lines

            wait_for(heard, "oscdump printing")
    finally:
        dump.terminate()
        dump.wait(10)
        reader.join(10)
        dump.stdout.close()
    assert '/stage/x ifsbTNh -7 0.815000 "two words" [2b 0x1 0xff] #T Nil 1099511627776' in lines[0]
