"""What somebody else passes on: no hop makes a stranger a member, or one of the host's own machine."""

import asyncio
import contextlib
import secrets
import socket
import threading
import xmlrpc.client
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from co2.protocol.wire.link_frames import (
    SUBPROTOCOL,
    Call,
    Goodbye,
    Result,
    Welcome,
    decode_relay_frame,
    encode_link_frame,
)
from co2.server.http.gate import own_names
from co2.values import pack_value, unpack_value
from co2.xmlrpc.reader import read_call, read_response
from co2.xmlrpc.writer import write_response, write_value
from tests.attacks.conftest import Target
from tests.attacks.hosts import running
from tests.attacks.raw import call_body, exchange, request
from tests.attacks.test_link import hello
from tests.harness import RECORDER, HostProcess, Proxy, wait_for, write_plugin

NOT_PASSED_ON = ["register", "unregister", "relay", "fetch"]


def fault(call: Any, *params: Any) -> tuple[int, str]:
    with pytest.raises(xmlrpc.client.Fault) as caught:
        call(*params)
    return caught.value.faultCode, caught.value.faultString


@pytest.fixture
def relay(real_hosts: dict[str, Target]) -> Iterator[Proxy]:
    with Proxy(f"http://127.0.0.1:{real_hosts['relay'].port}") as proxy:
        yield proxy


@pytest.fixture
def satellite(real_hosts: dict[str, Target]) -> Iterator[Proxy]:
    with Proxy(f"http://127.0.0.1:{real_hosts['satellite'].port}") as proxy:
        yield proxy


class Server:
    """A foreign member that says yes to everything, and writes down what it is asked.

    Attributes:
        asked: (method, parameters, headers) of each call.
    """

    def __init__(self, *names: str) -> None:
        self.asked: list[tuple[str, list[Any], dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                call = read_call(self.rfile.read(int(self.headers["Content-Length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append((call.method, call.params, headers))
                value: Any = list(names) if call.method == "system.listMethods" else True
                body = write_response(write_value(value))
                self.send_response(200)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.asked]

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@contextlib.contextmanager
def member(relay: Proxy, *names: str) -> Iterator[tuple[Server, str]]:
    """A foreign member with these methods; gives it and its host_id, once the relay knows them."""
    server = Server(*names)
    told: Any = relay.relay.register({"port": server.port})
    try:
        rows: Any = relay.relay.get_satellites
        wait_for(
            lambda: any(row["host_id"] == told["host_id"] and row["methods"] == [*names] for row in rows()),
            "the relay knows its methods",
        )
        yield server, told["host_id"]
    finally:
        relay.relay.unregister({"host_id": told["host_id"]})
        server.close()


def over_a_link(port: int, method: str, argument: Any) -> Result:
    """Call a method of the relay as a raw member does over its link."""

    async def attack() -> Result:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{port}/link", protocols=[SUBPROTOCOL]) as link,
        ):
            await link.send_bytes(hello(origin=f"hopper-{secrets.token_hex(4)}"))
            while True:
                frame = decode_relay_frame((await link.receive(10)).data)
                assert not isinstance(frame, Goodbye), frame
                if isinstance(frame, Welcome):
                    await link.send_bytes(encode_link_frame(Call(1, method, pack_value(argument), 5.0)))
                if isinstance(frame, Result):
                    return frame

    return asyncio.run(attack())


# ---- towards the relay ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NOT_PASSED_ON)
def test_a_satellite_passes_on_no_method_of_the_relay(
    real_hosts: dict[str, Target], relay: Proxy, satellite: Proxy, name: str
) -> None:
    """Its address is the satellite's: the relay would take it for the asker's, and call back there."""
    before = len(relay.relay.get_satellites())
    claim = {"method_name": f"relay.{name}", "port": real_hosts["satellite"].port, "data": 1}
    for more in ({}, {"host_id": relay.co2.get_properties()["host_id"]}):
        code, text = fault(satellite.method_call, {**claim, **more})
        assert code == 1012, text
        assert "at the relay itself" in text
    [answer] = satellite.system.multicall([{"methodName": "web.method_call", "params": [claim]}])
    assert answer["faultCode"] == 1012
    assert len(relay.relay.get_satellites()) == before


@pytest.mark.parametrize("name", NOT_PASSED_ON)
@pytest.mark.parametrize("way", ["as it is", "method_call", "system.multicall"])
def test_the_relay_does_not_do_it_for_a_link_either(
    real_hosts: dict[str, Target], relay: Proxy, name: str, way: str
) -> None:
    target = real_hosts["relay"]
    claim: Any
    method, claim = f"relay.{name}", {"host_id": "hopped@127.0.0.1:22", "port": 22, "data": 1}
    if way == "method_call":
        del claim["host_id"]
        method, claim = way, {"method_name": method, **claim}
    elif way == "system.multicall":
        method, claim = way, [{"methodName": method, "params": [claim]}]
    result = over_a_link(target.port, method, claim)
    code = unpack_value(result.value)[0]["faultCode"] if way == "system.multicall" else result.code
    assert code == 1012, result
    assert not any(row["host_id"].endswith(":22") for row in relay.relay.get_satellites())


def test_what_everybody_may_ask_is_still_passed_on(
    real_hosts: dict[str, Target], relay: Proxy, satellite: Proxy
) -> None:
    result = over_a_link(real_hosts["relay"].port, "relay.get_satellites", {})
    assert result.code == 0
    assert unpack_value(result.value)
    own = relay.co2.get_properties()["host_id"]
    there = satellite.method_call({"method_name": "co2.get_properties", "host_id": own, "data": None})
    assert there["role"] == "relay"


@pytest.mark.parametrize(
    "name", ["relay.get_satellites", "co2.no_such", "system.shutdown", "web.x", "notify", "plain"]
)
def test_a_satellite_looks_elsewhere_for_methods_of_plugins_only(
    relay: Proxy, satellite: Proxy, name: str
) -> None:
    """Also where a member says that it has such a method."""
    with member(relay, "co2.no_such", "system.shutdown", "web.x", "notify") as (server, _):
        for host in (relay, satellite):
            if name == "relay.get_satellites" and host is relay:
                continue
            code, _text = fault(host.method_call, {"method_name": name, "data": 1})
            assert code in (-32601, -32602, 1002, 1012)
        assert set(server.methods()) <= {"system.listMethods"}


# ---- from the relay ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["co2.plugin.load", "co2.plugin.get_log", "co2.x", "relay.register", "system.shutdown", "web.ping", "notify"],
)
def test_a_member_without_a_link_is_asked_for_its_own_methods_only(relay: Proxy, name: str) -> None:
    with member(relay, "double", name) as (server, host_id):
        code, text = fault(relay.method_call, {"method_name": name, "host_id": host_id, "data": 1})
        assert code == 1012, text
        assert relay.method_call({"method_name": "double", "host_id": host_id, "data": 1}) is True
        assert (
            relay.method_call({"method_name": "system.methodHelp", "host_id": host_id, "data": "double"}) is True
        )
        assert set(server.methods()) == {"system.listMethods", "double", "system.methodHelp"}


def test_the_relay_says_that_it_calls_for_others(relay: Proxy) -> None:
    with member(relay, "double") as (server, host_id):
        relay.method_call({"method_name": "double", "host_id": host_id, "data": 1})
        relay.relay.relay({"host_id": "someone@127.0.0.1:0", "data": 1})
        wait_for(lambda: "notify" in server.methods(), "a message")
        assert {headers["x-co2-relayed"] for _, _, headers in server.asked} == {"1"}


@pytest.mark.parametrize(
    "header",
    [
        "X-Co2-Relayed: 1",
        "Forwarded: for=203.0.113.7",
        "X-Forwarded-For: 203.0.113.7",
        "x-forwarded-proto: https",
        "X-Real-IP: 203.0.113.7",
        "Via: 1.1 proxy",
        "CF-Connecting-IP: 203.0.113.7",
    ],
)
def test_who_is_passed_on_is_not_at_the_own_machine(real_hosts: dict[str, Target], header: str) -> None:
    asked = call_body("co2.plugin.get_log", {"package": "recorder"})
    port = real_hosts["satellite"].port
    for more, code in (((), 0), ((header,), 1012)):
        reply = exchange(port, request(asked, *more, "Connection: close"))
        assert reply is not None
        if code:
            with pytest.raises(Exception, match="own machine") as caught:
                read_response(reply.body)
            assert getattr(caught.value, "code", 0) == code
        else:
            assert isinstance(read_response(reply.body), list)
    button = request(
        b"", header, "Origin: http://127.0.0.1", first="POST /plugins/reload?package=recorder HTTP/1.1"
    )
    reply = exchange(port, button)
    assert reply is not None
    assert reply.status == 403


@pytest.mark.parametrize("header", ["X-Co2-Relayed: 1", "X-Forwarded-For: 203.0.113.7"])
def test_nobody_registers_a_port_of_whoever_passes_it_on(real_hosts: dict[str, Target], header: str) -> None:
    port = real_hosts["relay"].port
    reply = exchange(port, request(call_body("relay.register", {"port": 22}), header, "Connection: close"))
    assert reply is not None
    with pytest.raises(Exception, match=r"relay\.register|register without") as caught:
        read_response(reply.body)
    assert getattr(caught.value, "code", 0) == 1012


# ---- names over loopback -------------------------------------------------------------------------------

NAME = next(name for name in sorted(own_names()) if name.endswith(".local"))


@pytest.mark.parametrize("host", [NAME, "10.9.8.7"])
def test_a_name_that_the_network_answers_for_is_no_way_to_this_machine(
    real_hosts: dict[str, Target], host: str
) -> None:
    """A page of <name>.local is loaded from an attacker, then the name is bent to 127.0.0.1."""
    port = real_hosts["satellite"].port
    origin = f"Origin: http://{host}:{port}"
    press = "POST /plugins/reload?package=recorder HTTP/1.1"
    for data in (
        request(b"", origin, first=press, host=f"{host}:{port}"),
        request(call_body("co2.get_properties"), origin, host=f"{host}:{port}"),
        request(b"", first="GET / HTTP/1.1", host=f"{host}:{port}"),
        request(b"", origin, "Upgrade: websocket", first="GET /link HTTP/1.1", host=f"{host}:{port}"),
    ):
        reply = exchange(port, data)
        assert reply is not None
        assert reply.status in (421, 404), data  # a satellite has no link to open
        assert reply.status == 421 or b"/link" in data


def test_a_program_may_use_the_name(real_hosts: dict[str, Target]) -> None:
    """Debian has the machine's name at 127.0.1.1, and a browser would have said Origin."""
    for target in real_hosts.values():
        reply = exchange(
            target.port, request(call_body("ping"), "Connection: close", host=f"{NAME}:{target.port}")
        )
        assert reply is not None
        assert read_response(reply.body) is True


def test_a_page_of_an_allowed_name_has_no_buttons(tmp_path: Path) -> None:
    write_plugin(tmp_path / "satellite", "recorder", rec=RECORDER)
    (tmp_path / "satellite" / "co2.toml").write_text('[satellite]\nallowed_hosts = ["stage.example"]\n')
    with running(tmp_path / "satellite", "satellite", "--relay", "http://127.0.0.1:9") as host:
        for name, status in (("stage.example", 403), ("localhost", 303)):
            data = request(
                b"",
                f"Origin: http://{name}",
                first="POST /plugins/reload?package=recorder HTTP/1.1",
                host=name,
            )
            reply = exchange(host.port, data)
            assert reply is not None
            assert reply.status == status
            page = exchange(host.port, request(b"", first="GET /plugins HTTP/1.1", host=name))
            assert page is not None
            assert (b"<button>" in page.body) is (name == "localhost")


# ---- notify --------------------------------------------------------------------------------------------


def test_nobody_puts_messages_in_at_a_satellite(real_hosts: dict[str, Target], satellite: Proxy) -> None:
    message = {"host_id": "victim@127.0.0.1:5", "data": "forged"}
    code, text = fault(satellite.notify, message)
    assert code == 1002
    assert "link" in text


def test_notify_is_for_whoever_asks_for_it_and_while_there_is_no_link(tmp_path: Path) -> None:
    def came(host: HostProcess) -> str:
        path = host.folder / "received.jsonl"
        return path.read_text() if path.exists() else ""

    message = {"host_id": "someone@127.0.0.1:5", "data": "by hand"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for name in ("off", "on"):
        write_plugin(tmp_path / name, "recorder", rec=RECORDER)
    (tmp_path / "on" / "co2.toml").write_text("[satellite]\naccept_notify = true\n")
    with (
        running(tmp_path / "off", "satellite", "--relay", f"http://127.0.0.1:{port}") as off,
        running(tmp_path / "on", "satellite", "--relay", f"http://127.0.0.1:{port}") as on,
        off.proxy() as to_off,
        on.proxy() as to_on,
    ):
        code, text = fault(to_off.notify, message)
        assert (code, "accept_notify = true" in text) == (1002, True)
        assert to_on.notify(message) is True
        wait_for(lambda: "by hand" in came(on), "the message")
        with running(tmp_path / "relay", "relay", "--port", str(port)):
            wait_for(lambda: to_on.co2.get_properties()["registered"], "the link", 40)
            code, text = fault(to_on.notify, {**message, "data": "forged"})
            assert (code, "has a link" in text) == (1002, True)
