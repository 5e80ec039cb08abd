"""Reading and controlling a satellite through its relay: only a person at the relay's machine, and no hostile
satellite does harm with its answers.
"""

import asyncio
import json
import secrets
import socket
import xmlrpc.client
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from co2.errors import RemoteFault
from co2.protocol.wire.link_frames import Call, Goodbye, Result, encode_link_frame
from co2.protocol.wire.relay_requests import MAX_ANSWER, REQUESTS
from co2.values import MAX_MESSAGE_SIZE, pack_value, unpack_value
from co2.xmlrpc.reader import read_response
from tests.attacks.conftest import Target
from tests.attacks.hosts import running
from tests.attacks.raw import call_body, exchange, read_reply, request, send
from tests.attacks.raw_link import RawLink
from tests.harness import HostProcess, Proxy, wait_for, write_plugin
from tests.needs import other_address

METHODS: dict[str, dict[str, Any]] = {
    "get_packages": {},
    "get_log": {"package": "recorder"},
    "get_dead_letters": {},
    "reload": {"package": "recorder"},
    "repeat_dead_letter": {"id": 1},
    "drop_dead_letters": {"up_to": 1},
}
"""The relay's methods, with an argument that would be right."""

ARGUMENTS: dict[str, dict[str, Any]] = {
    "packages": {},
    "log": {"package": "recorder"},
    "dead_letters": {},
    "reload": {"package": "recorder"},
    "repeat_dead_letter": {"id": 1},
    "drop_dead_letters": {"up_to": 1},
}
"""What the relay asks satellites, with an argument that would be right."""


def code_of(call: Any, *params: Any) -> tuple[int, str]:
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


def loads(satellite: Proxy) -> int:
    """Return the number of the load that runs: each reload counts."""
    (row,) = satellite.co2.get_properties()["plugins"]
    return int(row["load"])


def test_every_method_and_every_request_is_tried_here(relay: Proxy) -> None:
    names = {name.rpartition(".")[2] for name in relay.system.listMethods() if name.startswith("relay.satellite.")}
    assert names == set(METHODS)
    assert set(REQUESTS) == set(ARGUMENTS)


def test_a_person_at_the_relay_s_machine_may(relay: Proxy, satellite: Proxy) -> None:
    host = satellite.co2.get_properties()["host_id"].partition("@")[0]
    (row,) = relay.relay.satellite.get_packages({"host": host})["packages"]
    assert (row["name"], row["state"]) == ("recorder", "running")
    before = loads(satellite)
    assert relay.relay.satellite.reload({"host": host, "package": "recorder"})["load"] == before + 1
    assert loads(satellite) == before + 1


@pytest.mark.parametrize("name", METHODS)
def test_no_hop_through_a_satellite(relay: Proxy, satellite: Proxy, name: str) -> None:
    own = satellite.co2.get_properties()["host_id"]
    before = loads(satellite)
    asked = {"method_name": f"relay.satellite.{name}", "host": own, "data": 1, **METHODS[name]}
    for more in ({}, {"host_id": relay.co2.get_properties()["host_id"]}):
        code, text = code_of(satellite.method_call, {**asked, **more})
        assert (code, "at the relay itself" in text) == (1012, True)
    [answer] = satellite.system.multicall([{"methodName": "method_call", "params": [asked]}])
    assert answer["faultCode"] == 1012
    code, _ = code_of(getattr(satellite.relay.satellite, name), {"host": own, **METHODS[name]})
    assert code == -32601
    assert loads(satellite) == before


@pytest.mark.parametrize("name", ARGUMENTS)
def test_no_call_of_any_kind_makes_a_request_of_the_relay(
    real_hosts: dict[str, Target], relay: Proxy, satellite: Proxy, name: str
) -> None:
    """Neither the names of requests nor an asker that a member claims get through."""
    own, before = satellite.co2.get_properties()["host_id"], loads(satellite)
    argument = {"data": 1, "asker": "127.0.0.1:1", **ARGUMENTS[name]}
    for host in (relay, satellite):
        code, text = code_of(host.method_call, {"method_name": name, "host_id": own, **argument})
        assert code == -32601, text
        code, text = code_of(getattr(host, name), argument)
        assert code == -32601, text
    message = {"method_name": name, "asker": "x", "data": argument}
    relay.relay.relay({"host_id": "someone@127.0.0.1:0", **message})

    async def attack() -> list[Result]:
        link = await RawLink.joined_as(real_hosts["relay"].port, f"hopper-{secrets.token_hex(4)}")
        asked = {"method_name": name, "host_id": own, **argument}
        calls = [
            ("method_call", asked),
            (name, argument),
            *((f"relay.satellite.{known}", {"host": own, **METHODS[known]}) for known in METHODS),
        ]
        results = []
        for number, (method, given) in enumerate(calls, 1):
            link.say(encode_link_frame(Call(number, method, pack_value(given), 5.0, "127.0.0.1:4711")))
            results.append(await link.next(Result))
        link.abort()
        return results

    passed_on, unknown, *denied = asyncio.run(attack())
    assert (passed_on.code, unknown.code) == (-32601, -32601)
    assert [result.code for result in denied] == [1012] * len(METHODS)
    assert loads(satellite) == before


@pytest.mark.parametrize("name", METHODS)
def test_the_json_door_is_no_way_around(real_hosts: dict[str, Target], satellite: Proxy, name: str) -> None:
    own, before = satellite.co2.get_properties()["host_id"], loads(satellite)
    first = f"POST /api/call/relay.satellite.{name}"
    body = json.dumps({"host": own, **METHODS[name]}).encode()
    relay, hop = real_hosts["relay"].port, real_hosts["satellite"].port
    for port, line, headers in (
        (relay, first, ("X-Forwarded-For: 127.0.0.1",)),
        (relay, first, ("X-Co2-Relayed: 1",)),
        (relay, first, ("Origin: http://evil.example",)),
        (hop, first, ()),
        (hop, f"{first}?host={own}", ()),
        (relay, f"{first}?host={own}", ()),
    ):
        asked = request(body, "Content-Type: application/json", *headers, first=f"{line} HTTP/1.1")
        reply = exchange(port, asked)
        assert reply is not None
        assert reply.status in (403, 404), reply.body
    assert loads(satellite) == before


@pytest.mark.parametrize("header", ["X-Co2-Relayed: 1", "X-Forwarded-For: 127.0.0.1", "Via: 1.1 proxy"])
@pytest.mark.parametrize("name", METHODS)
def test_nothing_that_is_passed_on(real_hosts: dict[str, Target], name: str, header: str) -> None:
    asked = call_body(f"relay.satellite.{name}", {"host": "x", **METHODS[name]})
    reply = exchange(real_hosts["relay"].port, request(asked, header))
    assert reply is not None
    assert b"<int>1012</int>" in reply.body or b"<i4>1012</i4>" in reply.body


def test_nobody_at_another_address(tmp_path: Path) -> None:
    with other_address() as address, running(tmp_path, "relay", "--bind", "0.0.0.0") as relay:
        for name, argument in METHODS.items():
            asked = request(call_body(f"relay.satellite.{name}", {"host": "x", **argument}))
            with socket.create_connection((address, relay.port), 10, (address, 0)) as sock:
                send(sock, asked)
                reply = read_reply(sock)
            assert reply is not None
            with pytest.raises(RemoteFault, match="only from the relay's own machine") as caught:
                read_response(reply.body)
            assert caught.value.code == 1012


PLUGIN = '''
from co2 import plugin

class X_Hop(plugin.{base}):
    """Calls what it is told to."""

    def x_hop(self, data_dict):
        return self.call(data_dict["method"], data_dict["data"], **data_dict["more"])
'''


def test_no_plugin_neither_of_the_relay_nor_of_a_satellite(tmp_path: Path) -> None:
    write_plugin(tmp_path / "relay", "hopr", hop=PLUGIN.format(base="Co2RelayPlugin"))
    write_plugin(tmp_path / "satellite", "hops", hop=PLUGIN.format(base="Co2Plugin"))
    with (
        running(tmp_path / "relay", "relay", "--plugin", "hopr") as relay,
        running(tmp_path / "satellite", "satellite", "--relay", relay.url) as satellite,
    ):
        wait_for(lambda: "linked to" in satellite.log(), "it is linked")
        for method in ("hopr.hop.hop", "hops.hop.hop"):
            for name, argument in METHODS.items():
                told = {"host": satellite.host_id.partition("@")[0], **argument, "package": "hops"}
                asked = {"method": f"relay.satellite.{name}", "data": None, "more": told}
                with relay.proxy() as proxy:
                    wait_for(lambda method=method: has(proxy, method), "the method is known")
                    code, text = code_of(proxy.method_call, {"method_name": method, **asked})
                assert (code, "only from the relay's own machine" in text) == (1008, True), text
        with satellite.proxy() as proxy:
            assert [row["load"] for row in proxy.co2.get_properties()["plugins"]] == [1]


def has(proxy: Proxy, method: str) -> bool:
    """Return whether somebody has a method."""
    rows = proxy.relay.get_satellites({})
    return method in proxy.system.listMethods() or any(method in row["methods"] for row in rows)


@pytest.mark.parametrize(
    ("managed", "denied"),
    [("false", set(METHODS)), ('"read"', {"reload", "repeat_dead_letter", "drop_dead_letters"})],
)
def test_the_satellite_decides_too(tmp_path: Path, managed: str, denied: set[str]) -> None:
    folder = tmp_path / "satellite"
    write_plugin(folder, "recorder", rec="from co2 import plugin\nclass X_R(plugin.Co2Plugin):\n    pass\n")
    (folder / "co2.toml").write_text(f"[satellite]\nmanaged = {managed}\n")
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(folder, "satellite", "--relay", relay.url) as satellite,
        relay.proxy() as proxy,
    ):
        wait_for(lambda: "linked to" in satellite.log(), "it is linked")
        host = satellite.host_id.partition("@")[0]
        refused = set()
        for name, argument in METHODS.items():
            try:
                getattr(proxy.relay.satellite, name)({"host": host, **argument})
            except xmlrpc.client.Fault as fault:
                if fault.faultCode == 1012:
                    refused.add(name)
                    assert f"managed = {managed} in the satellite's co2.toml" in fault.faultString
                    assert host in fault.faultString
        assert refused == denied
        with satellite.proxy() as own:
            assert [row["load"] for row in own.co2.get_properties()["plugins"]] == [1]
        assert "refused to 127.0.0.1:" in satellite.log()


# ---- a hostile satellite ---------------------------------------------------------------------------------


Answer = Callable[[Call], list[bytes]]


def against(relay: HostProcess, answer: Answer, *asks: tuple[str, dict[str, Any]]) -> list[Any]:
    """Join as a satellite that answers as it is told to; return what the relay told the person for each ask."""

    async def attack() -> list[Any]:
        origin = f"evil-{secrets.token_hex(4)}"
        link = await RawLink.joined_as(relay.port, origin)

        async def serve() -> None:
            while True:
                call = await link.next(Call)
                link.say(*answer(call))

        serving = asyncio.ensure_future(serve())

        def ask(name: str, argument: dict[str, Any]) -> Any:
            with relay.proxy(20) as proxy:
                try:
                    return getattr(proxy.relay.satellite, name)({"host": origin, **argument})
                except xmlrpc.client.Fault as fault:
                    return fault

        try:
            with ThreadPoolExecutor(16) as pool:
                loop = asyncio.get_running_loop()
                return await asyncio.gather(*(loop.run_in_executor(pool, ask, *one) for one in asks))
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            link.abort()

    return asyncio.run(attack())


def value(call: Call, found: Any) -> list[bytes]:
    return [encode_link_frame(Result(call.call_id, pack_value(found)))]


LINE = {"number": 1, "at": 1.0, "level": "INFO", "source": "x", "text": "y"}


@pytest.mark.parametrize(
    "found",
    [
        None,
        7,
        [],
        {"lines": "x"},
        {"lines": [LINE | {"number": -1}]},
        {"lines": [LINE | {"at": float("nan")}]},
        {"lines": [LINE | {"at": 1e300}]},
        {"lines": [LINE | {"text": b"x"}]},
        {"lines": [LINE | {"text": "x" * 100_000}]},
        {"lines": [LINE] * 501},
        {"lines": [LINE | {"level": "x" * 65}]},
        {"lines": [LINE], "more": "yes"},
    ],
    ids=str,
)
def test_an_answer_of_another_form_is_refused(tmp_path: Path, found: Any) -> None:
    with running(tmp_path, "relay") as relay:
        (told,) = against(relay, lambda call: value(call, found), ("get_log", {"package": "x"}))
        assert isinstance(told, xmlrpc.client.Fault)
        assert told.faultCode == -32700
        assert "not an answer to log" in told.faultString


def test_keys_that_a_newer_satellite_may_add_are_left_out(tmp_path: Path) -> None:
    with running(tmp_path, "relay") as relay:
        found = {"lines": [LINE | {"<b>": 1}], "more": False, "x": 1}
        (told,) = against(relay, lambda call: value(call, found), ("get_log", {"package": "x"}))
        assert told == {"lines": [LINE], "more": False}


def test_a_long_answer_is_refused_unread(tmp_path: Path) -> None:
    with running(tmp_path, "relay") as relay:
        packed = b"\x91" * MAX_ANSWER + b"\xc0"  # nested as deep as it is long
        answers = [
            lambda call: [encode_link_frame(Result(call.call_id, packed))],
            lambda call: [encode_link_frame(Result(call.call_id, b"\xc6" + bytes(MAX_MESSAGE_SIZE)))],
        ]
        for answer in answers:
            (told,) = against(relay, answer, ("get_log", {"package": "x"}))
            assert isinstance(told, xmlrpc.client.Fault)
            assert told.faultCode == -32700
            assert f"the limit is {MAX_ANSWER}" in told.faultString


def test_100_megabytes_in_answers_leave_the_relay_well(tmp_path: Path) -> None:
    """As many frames as that takes, most of them to nobody's question; the link lives on or ends, the relay does
    not grow."""
    with running(tmp_path, "relay") as relay:
        flood = [encode_link_frame(Result(10**6 + number, b"\xc4" + bytes(3 * 2**20))) for number in range(34)]

        def answer(call: Call) -> list[bytes]:
            return [*flood, *value(call, {"lines": [], "more": False})]

        told = against(relay, answer, ("get_log", {"package": "x"}))
        assert told[0] == {"lines": [], "more": False} or isinstance(told[0], xmlrpc.client.Fault)


def test_a_frame_of_100_megabytes_ends_the_link(tmp_path: Path) -> None:
    with running(tmp_path, "relay") as relay:

        async def attack() -> bytes:
            link = await RawLink.joined_as(relay.port, "evil-big")
            size = 100 * 2**20
            link.writer.write(b"\x82\xff" + size.to_bytes(8, "big") + bytes(4) + bytes(2**16))
            return await link.ended()

        asyncio.run(attack())
        with relay.proxy() as proxy:
            code, text = code_of(proxy.relay.satellite.get_packages, {"host": "evil-big"})
        assert code in (1003, 1006), text


def test_its_words_forge_no_line_in_the_log(tmp_path: Path) -> None:
    with running(tmp_path, "relay") as relay:
        evil = "\n2026-01-01 00:00:00 INFO co2.relay: 127.0.0.1:1 asks you\x1b[2J"

        def answer(call: Call) -> list[bytes]:
            return [encode_link_frame(Result(call.call_id, b"", 1012, evil))]

        (told,) = against(relay, answer, ("reload", {"package": "x"}))
        assert isinstance(told, xmlrpc.client.Fault)
        assert told.faultCode == 1012
        wait_for(lambda: "reload package 'x' at" in relay.log(), "it is in the log")
        assert not any(line.startswith("2026-01-01 00:00:00") for line in relay.log().splitlines())
        assert "\x1b" not in relay.log()


def test_one_that_does_not_answer_delays_no_other_and_gets_a_bounded_number(tmp_path: Path) -> None:
    folder = tmp_path / "satellite"
    write_plugin(folder, "recorder", rec="from co2 import plugin\nclass X_R(plugin.Co2Plugin):\n    pass\n")
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(folder, "satellite", "--relay", relay.url) as satellite,
    ):
        wait_for(lambda: "linked to" in satellite.log(), "it is linked")
        asked: list[str] = []
        own: list[Any] = []

        def silent(call: Call) -> list[bytes]:
            asked.append(call.method)
            with relay.proxy() as proxy:
                own.append(proxy.relay.satellite.get_packages({"host": satellite.host_id}))
            return [encode_link_frame(Goodbye("stopping", ""))]

        told = against(relay, silent, *[("get_packages", {})] * 10)
        assert asked == ["packages"], "one at a time"
        assert own[0]["packages"][0]["name"] == "recorder"
        texts = [str(one.faultString) for one in told]
        assert sum("requests to it wait already" in text for text in texts) == 2, texts
        assert all(one.faultCode == 1006 for one in told)


def test_what_a_satellite_gets_names_who_asks(tmp_path: Path) -> None:
    with running(tmp_path, "relay") as relay:
        calls: list[Call] = []

        def answer(call: Call) -> list[bytes]:
            calls.append(call)
            return value(call, True)

        (told,) = against(relay, answer, ("repeat_dead_letter", {"id": 3}))
        assert told is True
        assert calls[0].asker.startswith("127.0.0.1:")
        assert unpack_value(calls[0].argument) == {"id": 3}


def test_its_names_are_no_markup_on_the_relay_s_pages(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"

    def answer(call: Call) -> list[bytes]:
        plugins = [{"name": evil, "text": evil, "help": evil}]
        package = {"name": evil[:64], "state": evil[:64], "last_error": evil, "plugins": plugins}
        return value(call, {"packages": [package], "more": False})

    with running(tmp_path, "relay") as relay:

        async def attack() -> bytes:
            link = await RawLink.joined_as(relay.port, "evil-page")
            loop = asyncio.get_running_loop()
            page = request(b"", first="GET /satellites/evil-page/ HTTP/1.1")
            asked = loop.run_in_executor(None, exchange, relay.port, page)
            link.say(*answer(await link.next(Call)))
            reply = await asked
            link.abort()
            assert reply is not None
            assert reply.status == 200
            return reply.body

        body = asyncio.run(attack())
        assert b"<script" not in body
        assert b"<img src=x" not in body
        assert b"{{7*7}}" in body


@pytest.mark.parametrize(
    "button", ["reload?package=recorder", "repeat?package=recorder&id=1", "drop?package=recorder&up_to=9"]
)
@pytest.mark.parametrize("origin", ["", "Origin: http://evil.example", "Origin: null"])
def test_no_web_page_presses_a_button(
    real_hosts: dict[str, Target], satellite: Proxy, button: str, origin: str
) -> None:
    host, before = satellite.co2.get_properties()["host_id"].partition("@")[0], loads(satellite)
    data = request(b"", *([origin] if origin else []), first=f"POST /satellites/{host}/{button} HTTP/1.1")
    reply = exchange(real_hosts["relay"].port, data)
    assert reply is not None
    assert reply.status == 403
    assert loads(satellite) == before


@pytest.mark.parametrize("header", ["X-Co2-Relayed: 1", "X-Forwarded-For: 127.0.0.1"])
@pytest.mark.parametrize("page", ["", "log?package=recorder", "letters?package=recorder"])
def test_a_page_of_a_satellite_is_not_for_whoever_is_passed_on(
    real_hosts: dict[str, Target], satellite: Proxy, page: str, header: str
) -> None:
    host = satellite.co2.get_properties()["host_id"].partition("@")[0]
    for headers, status in (((), 200), ((header,), 403)):
        asked = request(b"", *headers, first=f"GET /satellites/{host}/{page} HTTP/1.1")
        reply = exchange(real_hosts["relay"].port, asked)
        assert reply is not None
        assert reply.status == status
