"""``method_call``: which host a call goes to, with which argument, and what is never passed on."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from co2.errors import BadParams, BadRequest, Denied, NoSuchMethod
from co2.host_id import HostId
from co2.protocol.wire.host_names import MAX_METHOD_NAME
from co2.server.rpc.method_call import MethodCalls, check_foreign, is_reserved
from co2.xmlrpc.registry import Caller, Registry
from co2.xmlrpc.writer import WrittenValue, write_value

ME = HostId("me", "10.0.0.1", 2004)
CALLER = Caller("10.0.0.7", 1)


class Calls:
    """A host with the method ``ham``; it writes down where calls go, and knows one other host by its name."""

    def __init__(self) -> None:
        self.here: list[tuple[Sequence[Any], Caller]] = []
        self.elsewhere: list[tuple[str | None, str, dict[str, Any], Caller]] = []
        registry = Registry()
        registry.add("ham", self._ham, help="", signatures=[])
        known = {"foyer-pi": str(ME), "stage-pi": "spam@10.0.0.8:2004"}
        self.methods = MethodCalls(
            registry, lambda word: known.get(word, word), lambda host: host == str(ME), self._pass_on
        )

    def _ham(self, params: Sequence[Any], caller: Caller) -> str:
        self.here.append((params, caller))
        return "here"

    async def _pass_on(self, host: str | None, method: str, argument: dict[str, Any], caller: Caller) -> Any:
        self.elsewhere.append((host, method, argument, caller))
        return WrittenValue(write_value("elsewhere"), "elsewhere")

    def call(self, **argument: Any) -> Any:
        return asyncio.run(self.methods.method_call([argument], CALLER))


@pytest.mark.parametrize("host_id", [{}, {"host_id": str(ME)}, {"host_id": "foyer-pi"}])
def test_a_method_that_is_here_is_called_here_for_the_same_caller(host_id: dict[str, str]) -> None:
    calls = Calls()
    assert calls.call(method_name="ham", data=1, more=2, **host_id) == "here"
    assert calls.call(method_name="ham", **host_id) == "here"
    assert calls.here == [([{"data": 1, "more": 2}], CALLER), ([], CALLER)]
    assert calls.elsewhere == []


def test_with_the_host_id_of_another_the_call_is_passed_on_also_if_the_method_is_here() -> None:
    calls = Calls()
    assert calls.call(method_name="ham", host_id="spam@10.0.0.8:2004", data=1).value == "elsewhere"
    assert calls.elsewhere == [("spam@10.0.0.8:2004", "ham", {"data": 1}, CALLER)]
    assert calls.here == []


@pytest.mark.parametrize(("host", "meant"), [("stage-pi", "spam@10.0.0.8:2004"), ("bar", "bar")])
def test_a_host_is_given_by_its_name_too(host: str, meant: str) -> None:
    """What this host does not know, as a satellite, its relay may."""
    calls = Calls()
    assert calls.call(method_name="ham", host_id=host, data=1).value == "elsewhere"
    assert calls.elsewhere == [(meant, "ham", {"data": 1}, CALLER)]


@pytest.mark.parametrize("host", ["the bar", "a.b", "x" * 65, "<b>", "bar\n", 5, ""])
def test_what_is_neither_a_host_id_nor_a_name_is_refused(host: Any) -> None:
    calls = Calls()
    with pytest.raises(BadParams, match="key 'host_id'"):
        calls.call(method_name="ham", host_id=host, data=1)
    assert (calls.here, calls.elsewhere) == ([], [])


def test_without_a_host_id_a_method_that_is_not_here_is_called_where_it_is() -> None:
    calls = Calls()
    assert calls.call(method_name="eggs", data=1).value == "elsewhere"
    assert calls.elsewhere == [(None, "eggs", {"data": 1}, CALLER)]


def test_with_our_own_host_id_a_method_that_is_not_here_is_nowhere() -> None:
    calls = Calls()
    with pytest.raises(NoSuchMethod, match="eggs"):
        calls.call(method_name="eggs", host_id=str(ME))
    assert calls.elsewhere == []


@pytest.mark.parametrize("method", ["method_call", "web.method_call", "system.multicall"])
@pytest.mark.parametrize("host_id", [{}, {"host_id": str(ME)}, {"host_id": "spam@10.0.0.8:2004"}])
def test_a_call_cannot_nest(method: str, host_id: dict[str, str]) -> None:
    calls = Calls()
    with pytest.raises(BadRequest, match=f"{method} cannot be called through method_call"):
        calls.call(method_name=method, **host_id)
    assert (calls.here, calls.elsewhere) == ([], [])


@pytest.mark.parametrize(
    "argument",
    [
        {},
        {"method_name": ""},
        {"method_name": 7},
        {"method_name": "x" * (MAX_METHOD_NAME + 1)},
        {"method_name": "ham", "host_id": None},
        {"method_name": "ham", "host_id": ""},
        {"method_name": "ham", "host_id": "spam@nowhere"},
    ],
)
def test_an_argument_of_another_form_is_refused(argument: dict[str, Any]) -> None:
    calls = Calls()
    with pytest.raises(BadParams):
        calls.call(**argument)
    assert (calls.here, calls.elsewhere) == ([], [])


def test_a_plugin_calls_as_this_machine_and_gets_the_value() -> None:
    calls = Calls()

    async def ask() -> list[Any]:
        return [
            await calls.methods.for_plugin("ham", "", {"data": 1, "host_id": "mine", "method_name": "mine"}),
            await calls.methods.for_plugin("ham", "spam@10.0.0.8:2004", {"data": 2}),
        ]

    assert asyncio.run(ask()) == ["here", "elsewhere"]
    [(params, caller)] = calls.here
    assert (params, caller.is_local) == ([{"data": 1}], True), "what it calls is not what its argument says"
    [(host_id, method, argument, caller)] = calls.elsewhere
    assert (str(host_id), method, argument) == ("spam@10.0.0.8:2004", "ham", {"data": 2})
    assert caller.is_local


@pytest.mark.parametrize(
    ("method", "reserved", "passed_on"),
    [
        ("ham.spam.eggs", False, True),
        ("co2", False, True),
        ("relayed", False, True),
        ("web.ham", True, False),
        ("co2.plugin.load", True, False),
        ("relay.relay", True, False),
        ("system.multicall", True, False),
        ("method_call", True, False),
        ("notify", True, False),
        ("ping", True, True),
        ("test", True, True),
        ("system.listMethods", True, True),
    ],
)
def test_methods_of_hosts_themselves_are_not_looked_up_and_only_harmless_ones_are_passed_on(
    method: str, reserved: bool, passed_on: bool
) -> None:
    assert is_reserved(method) is reserved
    if passed_on:
        check_foreign(method)
    else:
        with pytest.raises(Denied, match=f"{method} is not forwarded"):
            check_foreign(method)
