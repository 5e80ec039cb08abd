"""Every row of the open protocol's table, through nothing but the standard library's client."""

import threading
import time
import xmlrpc.client
from collections.abc import Iterator
from typing import Any
from xmlrpc.server import SimpleXMLRPCServer

import pytest

from tests.conformance.conftest import Network, lines
from tests.harness import HostProcess, Proxy, wait_for


@pytest.fixture(params=["relay", "satellite"])
def host(request: pytest.FixtureRequest, network: Network) -> HostProcess:
    return network.relay if request.param == "relay" else network.a


@pytest.fixture
def both(host: HostProcess) -> Iterator[Proxy]:
    """Either role: rows that both have are tested on both."""
    with host.proxy() as proxy:
        yield proxy


def fault(code: int) -> Any:
    class Context:
        text = ""

        def __enter__(self) -> "Context":
            return self

        def __exit__(self, _kind: Any, error: Any, _traceback: Any) -> bool:
            assert isinstance(error, xmlrpc.client.Fault), f"no fault, but {error!r}"
            assert error.faultCode == code, error
            self.text = error.faultString
            return True

    return Context()


# ---- both roles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ping", "web.ping"])
@pytest.mark.parametrize("params", [(), ({},), ({"data": 1},)])
def test_ping(both: Proxy, name: str, params: tuple[Any, ...]) -> None:
    assert getattr(both, name)(*params) is True


@pytest.mark.parametrize("name", ["co2.get_method_names", "system.listMethods", "web.get_method_names"])
def test_method_names_hold_every_alias(both: Proxy, name: str) -> None:
    names = getattr(both, name)()
    assert {"ping", "web.ping", "test", "web.test", "method_call", "web.method_call", "system.multicall"} <= set(
        names
    )
    assert {"co2.get_properties", "system.getCapabilities", "system.methodHelp", "web.get_method_help"} <= set(
        names
    )
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["co2.get_method_help", "system.methodHelp", "web.get_method_help"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_method_help_gives_docstrings(network: Network, name: str, wrapped: bool) -> None:
    argument: Any = {"data": "ham.spam.add"} if wrapped else "ham.spam.add"
    with network.a.proxy() as proxy:
        assert getattr(proxy, name)(argument) == "Add two numbers."


@pytest.mark.parametrize(
    "name", ["co2.get_method_signature", "system.methodSignature", "web.get_method_signature"]
)
def test_method_signature_comes_from_type_hints(network: Network, name: str) -> None:
    with network.a.proxy() as proxy:
        assert getattr(proxy, name)("ham.spam.add") == [["int", "struct"]]


def test_every_method_has_help_and_a_signature(both: Proxy) -> None:
    for name in both.system.listMethods():
        if name.startswith(("relay.", "co2.", "system.", "web.")):
            assert both.system.methodHelp(name), name
        assert both.system.methodSignature(name), name


def test_help_for_an_unknown_method_is_a_fault(both: Proxy) -> None:
    with fault(-32601):
        both.system.methodHelp("no.such")


def test_properties(both: Proxy, host: HostProcess) -> None:
    told = both.co2.get_properties()
    assert told["role"] == host.ready_line.split()[1]
    assert told["host_id"] == host.host_id
    assert {"version", "uptime", "software", "hardware", "plugins", "limits"} <= set(told)


@pytest.mark.parametrize("name", ["test", "web.test"])
@pytest.mark.parametrize("value", [1, "x", [1, [2]], {"a": None}, b"\x00\xff", 2.5, True, -(2**31)])
def test_test_gives_its_argument_unchanged(both: Proxy, name: str, value: Any) -> None:
    assert getattr(both, name)(value) == value


@pytest.mark.parametrize("name", ["method_call", "web.method_call"])
def test_method_call_calls_by_name(both: Proxy, name: str) -> None:
    assert getattr(both, name)({"method_name": "test", "data": [1]}) == {"data": [1]}


def test_method_call_of_an_unknown_method(both: Proxy) -> None:
    with fault(-32601):
        both.method_call({"method_name": "no.such", "data": 1})


def test_method_call_does_not_nest(both: Proxy) -> None:
    with fault(-32600):
        both.method_call({"method_name": "method_call", "data": 1})


def test_method_call_with_host_id_is_passed_on(network: Network, both: Proxy) -> None:
    call = {"method_name": "ham.spam.add", "data": [2, 3], "host_id": network.a.host_id}
    assert both.method_call(call) == 5


def test_method_call_finds_the_one_host_that_has_the_method(network: Network) -> None:
    for caller in (network.relay, network.b):
        with caller.proxy() as proxy:
            assert proxy.method_call({"method_name": "ham.spam.add", "data": [2, 3]}) == 5


def test_method_call_to_an_unknown_host(both: Proxy) -> None:
    with fault(1003):
        both.method_call({"method_name": "ping", "data": 1, "host_id": "nobody@127.0.0.1:1"})


def test_multicall(both: Proxy) -> None:
    results = both.system.multicall(
        [{"methodName": "ping", "params": []}, {"methodName": "no.such", "params": []}]
    )
    assert results[0] == [True]
    assert results[1]["faultCode"] == -32601


def test_multicall_does_not_nest_and_is_limited(both: Proxy) -> None:
    nested = both.system.multicall([{"methodName": "system.multicall", "params": [[]]}])
    assert nested[0]["faultCode"] == -32600
    with fault(-32602):
        both.system.multicall([{"methodName": "ping", "params": []}] * 65)


def test_capabilities(both: Proxy) -> None:
    assert "xmlrpc" in both.system.getCapabilities()


def test_both_paths_serve(host: HostProcess) -> None:
    for path in ("/", "/RPC2"):
        with xmlrpc.client.ServerProxy(host.url + path) as proxy:
            assert proxy.ping() is True


# ---- relay ---------------------------------------------------------------------------------------------


def test_register_gives_host_id_and_position(proxy: Proxy) -> None:
    reply = proxy.relay.register({})
    assert reply["host_id"].endswith("@127.0.0.1:0")
    assert isinstance(reply["position"], int)
    assert proxy.relay.unregister({"host_id": reply["host_id"]}) is True


def test_who_said_goodbye_is_gone_at_once(proxy: Proxy) -> None:
    host_id = proxy.relay.register({})["host_id"]
    assert host_id in [row["host_id"] for row in proxy.relay.get_satellites()]
    proxy.relay.unregister({"host_id": host_id})
    assert host_id not in [row["host_id"] for row in proxy.relay.get_satellites()]
    with fault(1003):
        proxy.relay.unregister({"host_id": host_id})


def test_a_known_host_id_resumes_where_it_was(proxy: Proxy) -> None:
    me = proxy.relay.register({"host_id": "resumer@127.0.0.1:0"})
    proxy.relay.relay({"host_id": "other@127.0.0.1:0", "data": 1})
    again = proxy.relay.register({"host_id": "resumer@127.0.0.1:0"})
    assert again["position"] == me["position"]
    fetched = proxy.relay.fetch({"host_id": me["host_id"], "after": again["position"]})
    assert [m["data"] for m in fetched["messages"]] == [1]
    proxy.relay.unregister({"host_id": me["host_id"]})


def test_relay_gives_positions_that_count_up(proxy: Proxy) -> None:
    first, second = (proxy.relay.relay({"host_id": "c@127.0.0.1:0", "data": n}) for n in range(2))
    assert second > first


def test_relay_with_an_id_gives_a_repeat_the_first_position(proxy: Proxy) -> None:
    call = {"host_id": "d@127.0.0.1:0", "data": 1, "id": "once"}
    assert proxy.relay.relay(call) == proxy.relay.relay(call)
    assert proxy.relay.relay({**call, "id": "twice"}) != proxy.relay.relay(call)


@pytest.mark.parametrize("bad", ["", "x" * 65, 7, None])
def test_relay_refuses_other_ids(proxy: Proxy, bad: Any) -> None:
    with fault(-32602) as caught:
        proxy.relay.relay({"host_id": "d@127.0.0.1:0", "data": 1, "id": bad})
    assert "'id'" in caught.text


def test_relay_refuses_a_message_without_data(proxy: Proxy) -> None:
    with fault(-32602) as caught:
        proxy.relay.relay({"host_id": "d@127.0.0.1:0", "date": 1})
    assert "data" in caught.text


def test_fetch_waits_for_the_next_message(proxy: Proxy, network: Network) -> None:
    me = proxy.relay.register({})
    answers: list[Any] = []

    def fetch() -> None:
        with network.relay.proxy() as own:
            answers.append(own.relay.fetch({"host_id": me["host_id"], "after": me["position"], "wait": 20}))

    waiting = threading.Thread(target=fetch)
    waiting.start()
    proxy.relay.relay({"host_id": "e@127.0.0.1:0", "data": "late", "extra": 1})
    waiting.join(10)
    message = answers[0]["messages"][0]
    assert (message["data"], message["extra"], message["host_id"]) == ("late", 1, "e@127.0.0.1:0")
    assert message["client_address"][0] == "127.0.0.1"
    assert message["position"] == answers[0]["next"]
    proxy.relay.unregister({"host_id": me["host_id"]})


def test_fetch_gives_an_empty_answer_when_the_wait_is_over(proxy: Proxy) -> None:
    me = proxy.relay.register({})
    start = time.monotonic()
    answer = proxy.relay.fetch({"host_id": me["host_id"], "after": me["position"], "wait": 0.3})
    assert answer["messages"] == []
    assert 0.2 < time.monotonic() - start < 10
    proxy.relay.unregister({"host_id": me["host_id"]})


def test_fetch_leaves_own_messages_out(proxy: Proxy) -> None:
    me = proxy.relay.register({})
    proxy.relay.relay({"host_id": me["host_id"], "data": "mine"})
    proxy.relay.relay({"host_id": "f@127.0.0.1:0", "data": "theirs"})
    answer = proxy.relay.fetch({"host_id": me["host_id"], "after": me["position"]})
    assert [m["data"] for m in answer["messages"]] == ["theirs"]
    proxy.relay.unregister({"host_id": me["host_id"]})


def test_fetch_reads_again_from_any_earlier_position(proxy: Proxy) -> None:
    me = proxy.relay.register({})
    for number in range(5):
        proxy.relay.relay({"host_id": "g@127.0.0.1:0", "data": number})
    arguments = {"host_id": me["host_id"], "after": me["position"], "max": 3}
    first = proxy.relay.fetch(arguments)
    assert [m["data"] for m in first["messages"]] == [0, 1, 2]
    second = proxy.relay.fetch({**arguments, "after": first["next"]})
    assert [m["data"] for m in second["messages"]] == [3, 4]
    assert proxy.relay.fetch(arguments)["messages"] == first["messages"]
    oldest = proxy.relay.fetch({**arguments, "after": 0, "max": 1})
    assert oldest["gaps"] == []
    assert oldest["messages"][0]["position"] <= first["messages"][0]["position"]
    proxy.relay.unregister({"host_id": me["host_id"]})


def test_fetch_tells_a_gap_for_a_position_of_another_log(proxy: Proxy) -> None:
    me = proxy.relay.register({})
    answer = proxy.relay.fetch({"host_id": me["host_id"], "after": 10**9})
    assert answer["gaps"][0]["reason"] == "log replaced"
    proxy.relay.unregister({"host_id": me["host_id"]})


@pytest.mark.parametrize(
    ("key", "value"),
    [("after", -1), ("after", "1"), ("max", 0), ("max", 1001), ("wait", 26), ("wait", -1), ("wait", True)],
)
def test_fetch_names_the_key_that_is_wrong(proxy: Proxy, key: str, value: Any) -> None:
    me = proxy.relay.register({})
    with fault(-32602) as caught:
        proxy.relay.fetch({"host_id": me["host_id"], key: value})
    assert f"'{key}'" in caught.text
    proxy.relay.unregister({"host_id": me["host_id"]})


def test_fetch_by_a_stranger(proxy: Proxy) -> None:
    with fault(1003):
        proxy.relay.fetch({"host_id": "stranger@127.0.0.1:0", "after": 0})


def test_get_satellites_lists_the_connected_ones(network: Network, proxy: Proxy) -> None:
    rows = {row["host_id"]: row for row in proxy.relay.get_satellites()}
    row = rows[network.a.host_id]
    assert "ham.spam.call_me" in row["methods"]
    assert "ham.spam.X_Spam" in row["plugins"]
    assert row["age"] > 0
    assert row["state"] in {"new", "ok"}
    assert row["kind"] == "co2"


class Foreign:
    """A foreign satellite with a port, written with the standard library alone."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.server = SimpleXMLRPCServer(
            ("127.0.0.1", 0), logRequests=False, allow_none=True, use_builtin_types=True
        )
        self.server.register_introspection_functions()
        self.server.register_function(self.notify, "notify")  # type: ignore[arg-type]
        self.server.register_function(lambda argument: argument["data"] * 2, "double")
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()

    def notify(self, message: dict[str, Any]) -> bool:
        self.got.append(message)
        return True

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    satellite = Foreign()
    yield satellite
    satellite.close()


def test_with_a_port_the_relay_calls_notify(network: Network, proxy: Proxy, foreign: Foreign, token: str) -> None:
    me = proxy.relay.register({"port": foreign.port})
    assert me["host_id"].endswith(f"@127.0.0.1:{foreign.port}")
    keys = {"channel": "a.b", "position": "mine"}
    network.call("ham.spam.send", [token, keys])
    message = wait_for(lambda: next((m for m in foreign.got if m["data"] == token), None))
    assert message["host_id"] == network.a.host_id
    assert message["channel"] == "a.b"
    assert isinstance(message["position"], int)
    assert message["keys"] == {"position": "mine"}
    proxy.relay.unregister({"host_id": me["host_id"]})


def test_methods_of_a_foreign_satellite_are_known_and_called(
    network: Network, proxy: Proxy, foreign: Foreign
) -> None:
    me = proxy.relay.register({"port": foreign.port})
    wait_for(
        lambda: (
            "double" in next(r for r in proxy.relay.get_satellites() if r["host_id"] == me["host_id"])["methods"]
        )
    )
    with network.a.proxy() as satellite:
        assert satellite.method_call({"method_name": "double", "data": 21, "host_id": me["host_id"]}) == 42
    proxy.relay.unregister({"host_id": me["host_id"]})


def test_a_host_without_a_port_cannot_be_called(proxy: Proxy) -> None:
    me = proxy.relay.register({})
    with fault(1005):
        proxy.method_call({"method_name": "ping", "data": 1, "host_id": me["host_id"]})
    proxy.relay.unregister({"host_id": me["host_id"]})


@pytest.mark.parametrize("port", [-1, 65536, "80", True, 1.5])
def test_register_refuses_what_is_no_port(proxy: Proxy, port: Any) -> None:
    with fault(-32602) as caught:
        proxy.relay.register({"port": port})
    assert "'port'" in caught.text


# ---- satellite -----------------------------------------------------------------------------------------


def test_notify_takes_plain_messages_and_is_true(notified: HostProcess, token: str) -> None:
    with notified.proxy() as proxy:
        message = {"host_id": "z@127.0.0.1:1", "client_address": ["127.0.0.1", 5], "data": token, "extra": b"\x01"}
        assert proxy.notify(message) is True
    spam = notified.folder / "spam.jsonl"
    got = wait_for(lambda: next((m for m in lines(spam) if m["data"] == token), None))
    assert got["client_address"] == ["127.0.0.1", 5]
    assert got["host_id"] == "z@127.0.0.1:1"


def test_notify_refuses_what_is_no_message(notified: HostProcess) -> None:
    with notified.proxy() as proxy:
        for message in ({}, {"data": 1}, {"host_id": "x", "data": 1}, {"host_id": "z@127.0.0.1:1"}):
            with fault(-32602):
                proxy.notify(message)


def test_notify_is_closed_while_there_is_a_link(network: Network) -> None:
    with network.a.proxy() as proxy, fault(1002):
        proxy.notify({"host_id": "z@127.0.0.1:1", "data": 1})


def test_plugin_methods_are_called_by_their_name(network: Network) -> None:
    assert network.call("ham.spam.add", [40, 2]) == 42


@pytest.mark.parametrize(
    "name",
    ["__class__.__init__", "plugin.os.system", "ham.spam.x_add", "ham.spam.not_exposed", "ham.spam", "_", "a.b.c"],
)
def test_dispatch_is_an_exact_look_up(both: Proxy, name: str) -> None:
    with fault(-32601):
        getattr(both, name)({"data": 1})
