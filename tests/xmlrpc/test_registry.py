"""The table of methods, and what is told about it."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from co2.errors import BadParams, BadRequest, InternalError, NoSuchMethod
from co2.xmlrpc import introspection
from co2.xmlrpc.introspection import MAX_ANSWERS, MAX_MULTICALL, add_introspection
from co2.xmlrpc.registry import Caller, RegisteredMethod, Registry
from co2.xmlrpc.writer import LazyArray, Written, write_value

CALLER = Caller("127.0.0.1", 5)


def handler(params: Sequence[Any], caller: Caller) -> Any:
    return [list(params), caller.address]


async def later(params: Sequence[Any], caller: Caller) -> Any:
    await asyncio.sleep(0)
    return handler(params, caller)


def broken(_params: Sequence[Any], _caller: Caller) -> Any:
    raise KeyError("canary")


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    add_introspection(made, lambda _caller: {"role": "relay"})
    made.add("now", handler, help="  Does it.\n\n    More.\n    ", signatures=[["array"]], aliases=("ham.now",))
    made.add("later", later, help="", signatures=[["array"]])
    made.add("broken", broken, help="", signatures=[["array"]])
    return made


def dispatch(registry: Registry, method: str, *params: Any) -> Any:
    return asyncio.run(registry.dispatch(method, list(params), CALLER))


@pytest.mark.parametrize("name", ["now", "ham.now", "later"])
def test_plain_functions_and_coroutines(registry: Registry, name: str) -> None:
    assert dispatch(registry, name, 1, "x") == [[1, "x"], "127.0.0.1"]


@pytest.mark.parametrize("name", ["", "NOW", "now ", "no", "__class__", "now.__class__", "_table", "dispatch"])
def test_dispatch_is_an_exact_look_up(registry: Registry, name: str) -> None:
    with pytest.raises(NoSuchMethod):
        dispatch(registry, name)
    with pytest.raises(NoSuchMethod):
        registry.entry(name)


@pytest.mark.parametrize("names", [("now", "x"), ("x", "now"), ("", "x"), ("x", "a b"), ("x" * 129, "x")])
def test_adding_is_all_or_nothing(registry: Registry, names: tuple[str, str]) -> None:
    before = registry.names()
    with pytest.raises(ValueError, match="name"):
        registry.add(names[0], handler, help="", signatures=[], aliases=names[1:])
    assert registry.names() == before


def test_removing(registry: Registry) -> None:
    registry.remove("now")
    assert "now" not in registry.names()
    assert "ham.now" in registry.names()
    with pytest.raises(NoSuchMethod):
        registry.remove("now")


def test_groups_are_replaced_whole(registry: Registry) -> None:
    entry = RegisteredMethod(handler, "", [["any"]])
    registry.replace_group("plugins", {"a.b.c": entry, "a.b.d": entry})
    registry.replace_group("plugins", {"a.b.d": entry})
    assert "a.b.c" not in registry.names()
    assert dispatch(registry, "a.b.d") == [[], "127.0.0.1"]
    for taken in ("now", "ping"):
        with pytest.raises(ValueError, match=taken):
            registry.replace_group("plugins", {"a.b.e": entry, taken: entry})
    with pytest.raises(ValueError, match=r"a\.b\.d"):
        registry.replace_group("others", {"a.b.d": entry})
    assert "a.b.e" not in registry.names()
    registry.replace_group("plugins", {})
    assert "a.b.d" not in registry.names()


def test_help_is_a_docstring_without_its_indentation(registry: Registry) -> None:
    assert dispatch(registry, "system.methodHelp", "now") == "Does it.\n\nMore."
    assert dispatch(registry, "web.get_method_help", {"data": "ham.now"}) == "Does it.\n\nMore."
    assert dispatch(registry, "co2.get_method_signature", {"data": "now"}) == [["array"]]


def test_a_method_without_a_schema_of_its_own_has_that_of_its_signatures(registry: Registry) -> None:
    found = dispatch(registry, "co2.get_method_schema", {"data": "now"})
    assert found == {
        "name": "now",
        "summary": "Does it.",
        "help": "Does it.\n\nMore.",
        "parameters": {},
        "result": {"type": "array"},
        "danger": "",
    }
    for name, parameters, result in (
        ("co2.get_method_help", {"anyOf": [{"type": "string"}, {"type": "object"}]}, {"type": "string"}),
        ("system.multicall", {"type": "array"}, {"type": "array"}),
        ("ping", {"type": "object"}, {"type": "boolean"}),
        ("test", {}, {}),
    ):
        found = dispatch(registry, "co2.get_method_schema", name)
        assert (found["parameters"], found["result"]) == (parameters, result), name


def test_a_method_may_have_a_schema_of_its_own(registry: Registry) -> None:
    async def describe() -> dict[str, Any]:
        return {"parameters": {"type": "object"}, "result": {}, "danger": "look"}

    entry = RegisteredMethod(lambda _params, _caller: None, "Looks.\nAround.", [["any", "struct"]], describe)
    registry.replace_group("plugins", {"a.b.look": entry})
    found = dispatch(registry, "co2.get_method_schema", "a.b.look")
    assert (found["name"], found["summary"], found["danger"]) == ("a.b.look", "Looks.", "look")
    assert found["parameters"] == {"type": "object"}
    [[inside]] = dispatch(
        registry, "system.multicall", [{"methodName": "co2.get_method_schema", "params": ["a.b.look"]}]
    )
    assert b"Looks." in inside.xml
    with pytest.raises(NoSuchMethod):
        dispatch(registry, "co2.get_method_schema", "a.b.nope")


@pytest.mark.parametrize("params", [(), (1,), ("",), ("x" * 129,), ({},), ({"data": 1},), ("now", "now")])
def test_help_wants_a_name(registry: Registry, params: tuple[Any, ...]) -> None:
    for name in ("system.methodHelp", "system.methodSignature", "co2.get_method_schema"):
        with pytest.raises(BadParams):
            dispatch(registry, name, *params)


@pytest.mark.parametrize(
    "name", ["ping", "web.ping", "co2.get_method_names", "co2.get_properties", "system.getCapabilities"]
)
def test_methods_without_an_argument_ignore_a_dict(registry: Registry, name: str) -> None:
    assert dispatch(registry, name) == dispatch(registry, name, {"data": 1})
    for params in ((1,), ({}, {}), ([],)):
        with pytest.raises(BadParams):
            dispatch(registry, name, *params)


def test_test_gives_its_argument(registry: Registry) -> None:
    assert dispatch(registry, "test", None) is None
    for params in ((), (1, 2)):
        with pytest.raises(BadParams):
            dispatch(registry, "test", *params)


def multicall(registry: Registry, *calls: Any) -> list[Any]:
    found: list[Any] = dispatch(registry, "system.multicall", list(calls))
    return found


def test_multicall_answers_each_in_order(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "co2.calls"):
        answers = multicall(
            registry,
            {"methodName": "ping", "params": []},
            {"methodName": "later", "params": [1]},
            {"methodName": "no.such", "params": []},
            {"methodName": "broken", "params": []},
            {"methodName": "system.multicall", "params": [[]]},
            {"methodName": 1},
            {"methodName": "ping", "params": {}},
            "ping",
        )
    assert [isinstance(answer, list) for answer in answers] == [True] * 2 + [False] * 6
    assert isinstance(answers[1][0], Written)
    codes = [answer["faultCode"] for answer in answers[2:]]
    assert codes == [NoSuchMethod.code, InternalError.code] + [BadRequest.code] * 4
    assert "canary" not in str(answers)
    assert "canary" in caplog.text
    assert "in broken" in caplog.text, "the method, not the one that called it"


def test_as_many_calls_as_allowed_are_made_and_others_have_turns_between_them(registry: Registry) -> None:
    order: list[str] = []

    def noted(_params: Sequence[Any], _caller: Caller) -> bool:
        order.append("call")
        return True

    async def other() -> None:
        while len(order) < 2 * MAX_MULTICALL:
            order.append("other")
            await asyncio.sleep(0)

    async def test() -> list[Any]:
        beside = asyncio.create_task(other())
        calls = [{"methodName": "noted"}] * MAX_MULTICALL
        answers = await registry.dispatch("system.multicall", [calls], CALLER)
        beside.cancel()
        return list(answers)

    registry.add("noted", noted, help="", signatures=[])
    answers = asyncio.run(test())
    assert len(answers) == MAX_MULTICALL
    assert order[:6] == ["call", "other"] * 3


def test_every_method_of_a_host_has_help_and_ping_says_true(registry: Registry) -> None:
    ours = set(registry.names()) - {"now", "ham.now", "later", "broken"}
    assert [name for name in sorted(ours) if len(registry.entry(name).help) < 20] == []
    assert dispatch(registry, "ping") is True


def test_multicall_keeps_a_result_that_cannot_be_written_to_its_own_call(registry: Registry) -> None:
    registry.add("odd", lambda _params, _caller: object(), help="", signatures=[])
    answers = multicall(registry, {"methodName": "odd"}, {"methodName": "ping"})
    assert answers[0]["faultCode"] == InternalError.code
    assert isinstance(answers[1], list)


@pytest.mark.parametrize(
    "params", [(), ({},), ([], []), ([{"methodName": "ping"}] * (MAX_MULTICALL + 1),), ("ping",)]
)
def test_multicall_wants_one_array_of_at_most_64(registry: Registry, params: tuple[Any, ...]) -> None:
    with pytest.raises(BadParams):
        dispatch(registry, "system.multicall", *params)


def test_multicall_refuses_what_comes_after_too_many_bytes_of_answers(registry: Registry) -> None:
    called = []

    def big(_params: Any, _caller: Any) -> str:
        called.append(1)
        return "x" * (MAX_ANSWERS // 2)

    registry.add("big", big, help="", signatures=[])
    answers = multicall(registry, *[{"methodName": "big"}] * 5)
    assert [isinstance(answer, list) for answer in answers] == [True, True, False, False, False]
    assert answers[2]["faultCode"] == BadRequest.code
    assert len(called) == 2


@pytest.mark.parametrize(("missing", "answered"), [(0, False), (1, True)])
def test_multicall_calls_nothing_more_when_the_answers_are_as_long_as_allowed(
    registry: Registry, missing: int, answered: bool
) -> None:
    text = "x" * (MAX_ANSWERS - len(write_value("")) - missing)
    registry.add("big", lambda _params, _caller: text, help="", signatures=[])
    answers = multicall(registry, {"methodName": "big"}, {"methodName": "now"})
    assert isinstance(answers[0], list)
    assert isinstance(answers[1], list) == answered


def test_long_results_of_many_multicalls_are_bounded_together(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introspection, "MAX_RESULTS", 100_000)
    monkeypatch.setattr(introspection, "FREE_RESULTS", 1_000)
    registry.add("long", lambda _params, _caller: "x" * 20_000, help="", signatures=[])
    ends = [multicall(registry, {"methodName": "now"}, {"methodName": "long"}) for _ in range(20)]
    assert [isinstance(answer[1], list) for answer in ends] == [True] * 5 + [False] * 15
    assert all(isinstance(answer[0], list) for answer in ends), "a short result is answered in any case"
    assert ends[5][1]["faultCode"] == BadRequest.code
    assert "try again" in ends[5][1]["faultString"]
    ends.clear()
    assert isinstance(multicall(registry, {"methodName": "long"})[0], list)


def test_one_long_result_of_many_multicalls_is_encoded_at_a_time(registry: Registry) -> None:
    under_way = most = 0

    class Long(LazyArray):
        def __iter__(self) -> Iterator[Any]:
            nonlocal under_way, most
            for number in range(10_000):
                if number == 5_000:
                    under_way += 1
                    most = max(most, under_way)
                yield number
            under_way -= 1

    registry.add("long", lambda _params, _caller: Long(), help="", signatures=[])

    async def many() -> list[Any]:
        calls = [{"methodName": "long"}]
        return await asyncio.gather(*(registry.dispatch("system.multicall", [calls], CALLER) for _ in range(5)))

    answers = asyncio.run(many())
    assert [answer[0][0].xml for answer in answers] == [write_value(list(range(10_000)))] * 5
    assert most == 1


@pytest.mark.parametrize(
    ("caller", "local"),
    [
        (Caller("127.0.0.1", 5), True),
        (Caller("::1", 5), True),
        (Caller("10.0.0.1", 5), False),
        (Caller("", 0), False),
        (Caller("127.0.0.1", 5, relayed=True), False),
        (Caller("127.0.0.1", 5, proxied=True), False),
    ],
)
def test_only_who_calls_from_this_machine_itself_is_local(caller: Caller, local: bool) -> None:
    assert caller.is_local == local


def test_a_method_that_is_not_in_the_table_may_be_elsewhere(registry: Registry) -> None:
    registry.elsewhere = lambda name, params, caller: [name, params, caller.port]
    assert "a.b.c" not in registry
    assert dispatch(registry, "a.b.c", 1) == ["a.b.c", [1], 5]
    assert "now" in registry
    assert dispatch(registry, "now", 1) == [[1], "127.0.0.1"]
