"""Each statement of docs/reference/json.md, against real hosts."""

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from co2.exact_json.reader import read
from co2.server.door.routes import ROUTES
from tests.harness import RECORDER, HostProcess, running, wait_for, write_plugin

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "json.md"

HAM = """
import time
from co2 import plugin

class X_Spam(plugin.Co2Plugin):
    live = ["meter.>"]

    def x_add(self, data_dict):
        "Add numbers."
        return sum(data_dict["data"])

    def x_same(self, data_dict):
        return data_dict["data"]

    def x_long(self, data_dict):
        return ["x" * 50] * data_dict["data"]

    def x_send(self, data_dict):
        self.send(data_dict["data"])
"""


class Hosts:
    """A relay and a satellite with plugins."""

    def __init__(self, relay: HostProcess, satellite: HostProcess) -> None:
        self.relay = relay
        self.satellite = satellite

    def received(self) -> list[dict[str, Any]]:
        path = self.satellite.folder / "received.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    base = tmp_path_factory.mktemp("json")
    write_plugin(base / "satellite", "ham", spam=HAM)
    write_plugin(base / "satellite", "recorder", rec=RECORDER)
    with (
        running(base / "relay", "relay") as relay,
        running(base / "satellite", "satellite", "--relay", relay.url) as satellite,
        relay.proxy() as proxy,
    ):
        rows: Any = proxy.relay.get_satellites
        wait_for(lambda: any("recorder.rec.send" in row["methods"] for row in rows({})), "the plugins are known")
        yield Hosts(relay, satellite)


def ask(host: HostProcess, path: str, body: Any = None, *, kind: str = "application/json") -> tuple[int, Any]:
    """Return status and value of an answer; a body that is not bytes is sent as JSON."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if data is None else {"Content-Type": kind}
    request = urllib.request.Request(f"{host.url}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=40) as answer:
            return answer.status, read(answer.read(), 10**6)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def lines(host: HostProcess, query: str = "") -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{host.url}/api/log{query}", timeout=40) as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson; charset=utf-8"
        return [json.loads(line) for line in answer]


def test_a_message_arrives_at_plugins_and_in_the_log(hosts: Hosts) -> None:
    status, answer = ask(hosts.relay, "/api/send", {"channel": "stage.one", "data": {"$b": "aGFt"}, "ham": 1})
    assert (status, [*answer]) == (200, ["position"])
    wait_for(lambda: any(one.get("channel") == "stage.one" for one in hosts.received()), "the message")
    (got,) = (one for one in hosts.received() if one.get("channel") == "stage.one")
    assert (got["data"], got["ham"], got["host_id"]) == ("b'ham'", 1, "addr-127-0-0-1@127.0.0.1:0")
    (line,) = lines(hosts.relay, f"?from={answer['position']}&to={answer['position']}")
    line.pop("at", None)
    assert line == {
        "position": answer["position"],
        "host_id": "addr-127-0-0-1@127.0.0.1:0",
        "plugin": "",
        "channel": "stage.one",
        "data": {"$b": "aGFt"},
        "ham": 1,
    }


def test_several_messages_keep_their_order(hosts: Hosts) -> None:
    many = [{"channel": "order", "data": number} for number in range(2048)]
    for body, kind in (
        (many, "application/json"),
        ("\n".join(map(json.dumps, many)).encode() + b"\n\n", "application/x-ndjson"),
        ("\r\n".join(map(json.dumps, many)).encode(), "application/jsonl"),
    ):
        status, answer = ask(hosts.relay, "/api/send", body, kind=kind)
        assert (status, answer["count"]) == (200, 2048)
        read_back = lines(hosts.relay, f"?from={answer['position'] - 2047}&channel=order")
        assert [line["data"] for line in read_back] == [*range(2048)]
    wait_for(lambda: sum(one.get("channel") == "order" for one in hosts.received()) == 3 * 2048, "all of them")
    assert [one["data"] for one in hosts.received() if one.get("channel") == "order"] == [*range(2048)] * 3


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b'[{"data":1},{"dat":2}]', "application/json", "message 2: the key 'data' is mandatory"),
        (b'{"data":1}\n\n{"data":\n', "application/x-ndjson", "line 3: not JSON"),
        (b'{"data":1,"data":2}', "application/json", "the same key twice"),
        (b'{"data":1}{"data":2}', "application/json", "not JSON"),
        (b"[]", "application/json", "no message"),
        (b"\n\n", "application/x-ndjson", "no message"),
        (b'{"data":1}\n' * 2049, "application/x-ndjson", "more than 2048 messages"),
        (b'{"data":1,"host_id":"x"}', "application/json", "'host_id' is the relay's"),
        (b'{"data":1,"live":true}', "application/json", "a live message needs a channel"),
    ],
)
def test_of_a_malformed_body_nothing_is_sent(hosts: Hosts, body: bytes, kind: str, says: str) -> None:
    before = lines(hosts.relay)[-1:]
    status, answer = ask(hosts.relay, "/api/send", body, kind=kind)
    assert status == 400
    assert says in answer["error"]["text"]
    assert lines(hosts.relay)[-1:] == before


def test_a_live_message_reaches_plugins_and_is_in_no_log(hosts: Hosts) -> None:
    body = [{"channel": "meter.x", "data": 1, "live": True}, {"channel": "meter.x", "data": 2, "live": True}]
    wait_for(
        lambda: (
            ask(hosts.relay, "/api/send", body) == (200, {"position": None, "count": 2})
            and [one for one in hosts.received() if one.get("channel") == "meter.x"]
        ),
        "live messages",
    )
    assert lines(hosts.relay, "?channel=meter.%3E") == []
    status, answer = ask(hosts.relay, "/api/send", [{"channel": "a", "data": 3, "live": True}, {"data": 4}])
    assert (status, answer["count"]) == (200, 2)
    assert lines(hosts.relay, f"?from={answer['position']}")[0]["data"] == 4


def test_calls(hosts: Hosts) -> None:
    for host in (hosts.relay, hosts.satellite):
        assert ask(host, "/api/call/ham.spam.add", [40, 2]) == (200, {"result": 42})
        assert ask(host, f"/api/call/ping?host={hosts.satellite.host_id}", b"") == (200, {"result": True})
    assert ask(hosts.relay, "/api/call/ham.spam.same", b"") == (200, {"result": None})
    exact = {"$m": [[1, {"$f": "nan"}], [{"$b": "aGFt"}, {"$t": "2026-12-01T08:00:00Z"}]]}
    request = urllib.request.Request(
        f"{hosts.relay.url}/api/call/ham.spam.same",
        json.dumps(exact).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=40) as answer:
        assert json.loads(answer.read()) == {"result": exact}
    status, found = ask(hosts.relay, "/api/call/ham.spam.long", 10_000)
    assert (status, len(found["result"])) == (200, 10_000)


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "says"),
    [
        ("/api/call/ham.spam.ad", 1, 404, -32601, "did you mean 'ham.spam.add'?"),
        ("/api/call/ham%00", 1, 404, -32601, "no such method"),
        ("/api/call/__class__", 1, 404, -32601, "no such method"),
        ("/api/call/ping?host=nobody@127.0.0.1:1", 1, 404, 1003, "not registered"),
        ("/api/call/ping?host=nobody", 1, 404, 1003, "nobody"),
        ("/api/call/ping?host=", 1, 400, -32602, "host"),
        ("/api/call/ham.spam.add", "a", 502, 1008, "TypeError"),
        ("/api/call/relay.fetch", 1, 400, -32600, "GET /api/log"),
        ("/api/call/relay.relay", 1, 400, -32600, "POST /api/send"),
        ("/api/call/system.multicall", 1, 400, -32600, "several requests"),
        ("/api/call/method_call", 1, 400, -32600, "?host=HOST"),
        ("/api/call/ham.spam.add", b"[", 400, -32700, "not JSON"),
        ("/api/log?form=1", None, 400, -32602, "unknown key 'form'"),
        ("/api/hosts?maxx=1", None, 400, -32602, "unknown key 'maxx'"),
        ("/api/why", None, 400, -32602, "key 'position'"),
        ("/api/why?position=1", None, 400, -32602, "key 'position'"),
        ("/api/why?position=9999999999999999999", None, 400, -32602, "no message 9999999999999999999 yet"),
        ("/api/why?position=2&form=1", None, 400, -32602, "unknown key 'form'"),
    ],
)
def test_errors(hosts: Hosts, path: str, body: Any, status: int, code: int, says: str) -> None:
    found, answer = ask(hosts.relay, path, body)
    assert (found, answer["error"]["code"]) == (status, code)
    assert says in answer["error"]["text"]


def test_what_is_for_users_of_the_machine_is_so_over_json_too(hosts: Hosts) -> None:
    """Nobody gets at it through a proxy or another host."""
    for headers, status in (({}, 200), ({"X-Forwarded-For": "192.0.2.1"}, 403), ({"X-Co2-Relayed": "1"}, 403)):
        request = urllib.request.Request(
            f"{hosts.satellite.url}/api/call/co2.plugin.get_log",
            b'{"package":"ham","max":1}',
            {"Content-Type": "application/json", **headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=40) as answer:
                assert answer.status == status
        except urllib.error.HTTPError as error:
            assert (error.code, json.loads(error.read())["error"]["code"]) == (status, 1012)
            continue
    request = urllib.request.Request(
        f"{hosts.relay.url}/api/send", b'{"data":1}', {"Content-Type": "application/json", "X-Co2-Relayed": "1"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=40)
    with caught.value:
        assert caught.value.code == 403


def test_what_is_seen(hosts: Hosts) -> None:
    _, found = ask(hosts.relay, "/api/hosts")
    assert found["relay"] == hosts.relay.host_id
    assert [row["host_id"] for row in found["hosts"]] == [hosts.satellite.host_id]
    assert ask(hosts.relay, f"/api/hosts?after={found['hosts'][0]['host_id']}")[1]["hosts"] == []
    assert ask(hosts.relay, "/api/hosts?max=1&names=0")[1]["hosts"][0]["methods"] == []
    assert [row["host_id"] for row in ask(hosts.satellite, "/api/hosts")[1]["hosts"]] == [hosts.satellite.host_id]
    for host in (hosts.relay, hosts.satellite):
        methods = {row["name"]: row for row in ask(host, "/api/methods")[1]["methods"]}
        assert methods["ham.spam.add"]["hosts"] == [hosts.satellite.host_id]
        assert methods["ping"]["help"]
        _, status = ask(host, "/api/status")
        assert (status["host_id"], status["role"]) == (host.host_id, host.role)
    assert {row["name"]: row for row in ask(hosts.satellite, "/api/methods")[1]["methods"]}["ham.spam.add"][
        "help"
    ].startswith("Add numbers.")


def test_a_satellite_says_where_the_routes_of_a_relay_are(hosts: Hosts) -> None:
    for path, body in (("/api/send", {"data": 1}), ("/api/log", None)):
        status, answer = ask(hosts.satellite, path, body)
        assert (status, answer["error"]["code"]) == (404, -32601)
        assert hosts.relay.url in answer["error"]["text"]


def test_messages_of_plugins_in_the_log(hosts: Hosts) -> None:
    ask(hosts.relay, "/api/call/ham.spam.send", {"channel": "mine", "data": 1, "position": 3, "at": "x"})
    found = wait_for(lambda: lines(hosts.relay, "?channel=mine"), "the message")
    assert (found[0]["plugin"], found[0]["host_id"]) == ("ham.spam.X_Spam", hosts.satellite.host_id)
    assert found[0]["keys"] == {"position": 3, "at": "x"}


def test_the_log_begins_at_a_time(hosts: Hosts) -> None:
    position = ask(hosts.relay, "/api/send", {"channel": "now", "data": 1})[1]["position"]
    (line,) = lines(hosts.relay, "?from=-1m&channel=now")
    assert (line["position"], abs(line["at"] - time.time()) < 60) == (position, True)
    assert lines(hosts.relay, "?from=-0s") == []


def test_who_follows_gets_what_comes(hosts: Hosts) -> None:
    with socket.create_connection(("127.0.0.1", hosts.relay.port), timeout=20) as sock:
        sock.sendall(b"GET /api/log?follow=1&channel=new HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        stream = sock.makefile("rb")
        while stream.readline() != b"\r\n":
            pass
        for number in range(3):
            ask(hosts.relay, "/api/send", [{"channel": "other", "data": 1}, {"channel": "new", "data": number}])
            size = int(stream.readline(), 16)
            assert json.loads(stream.read(size))["data"] == number
            assert stream.readline() == b"\r\n"
        stream.close()


def test_a_reader_of_the_log_that_reads_nothing_holds_nothing_up(hosts: Hosts) -> None:
    long = "x" * 100_000
    for _ in range(20):
        ask(hosts.relay, "/api/send", [{"channel": "long", "data": long}] * 9)
    with socket.create_connection(("127.0.0.1", hosts.relay.port), timeout=20) as sock:
        sock.sendall(b"GET /api/log?channel=long HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert sock.recv(1)
        began = time.monotonic()
        assert ask(hosts.relay, "/api/call/ham.spam.add", [1, 2])[0] == 200
        assert time.monotonic() - began < 2
    assert len(lines(hosts.relay, "?channel=long")) == 180


def test_the_page_has_every_route_with_its_verb() -> None:
    for route in ROUTES:
        path = f"{route.path}METHOD" if route.is_prefix else route.path
        places = "relay" if route.of_relay else "relay, satellite"
        row = next(
            line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{route.method} {path}` |")
        )
        assert row.split(" | ")[1] == route.verb
        assert row.endswith(f"| {places} |")
