"""The routes that every host has: calls here and elsewhere, the list of methods, the host itself."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from co2.errors import BadRequest, NoSuchMethod, ParseError, PeerError
from co2.server.door import common
from co2.server.door.answers import DoorRequest
from co2.server.door.common import NAMES_TOLD, CommonRoutes
from co2.server.door.routes import ROUTES
from co2.server.rpc.answer_turns import AnswerTurns
from co2.server.rpc.method_call import MethodCalls
from co2.xmlrpc.registry import Caller, Registry
from co2.xmlrpc.writer import WrittenValue, write_value

CALLER = Caller("10.0.0.7", 1)
ME = "me@10.0.0.1:2004"
SPAM = "spam@10.0.0.8:2004"


class Host:
    """A host with the methods ``ham`` and ``co2.own``; it notes where calls go."""

    def __init__(self, elsewhere: Sequence[tuple[str, Sequence[str]]] = ()) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.others = elsewhere
        registry = Registry()
        registry.add("ham", self._ham, help="Cook.", signatures=[["string", "struct"]])
        registry.add("co2.own", self._ham, help="", signatures=[])
        self.routes = CommonRoutes(
            MethodCalls(registry, lambda word: word, lambda host: host == ME, self._pass_on),
            registry,
            host_id=lambda: ME,
            elsewhere=self._elsewhere,
            properties=lambda here: {"here": here},
            turns=AnswerTurns(asyncio.get_running_loop()),
        )

    def _ham(self, params: Sequence[Any], caller: Caller) -> Any:
        self.calls.append(("here", params, caller.over_json))
        return WrittenValue(write_value("written"), "written") if params == [{"data": "long"}] else "here"

    async def _pass_on(self, host: str | None, method: str, argument: dict[str, Any], caller: Caller) -> Any:
        self.calls.append((host, method, argument, caller.over_json))
        return WrittenValue(write_value("elsewhere"), "elsewhere")

    def _elsewhere(self) -> Iterator[tuple[str, Sequence[str]]]:
        yield from self.others

    async def asked(self, path: str, rest: str = "", body: bytes = b"", **query: str) -> Any:
        """Return the answer of a route, as the one who has asked reads it."""
        route = next(one for one in ROUTES if one.path == path)
        answer = await self.routes.handlers()[path](DoorRequest(route, rest, query, body, False, CALLER))
        assert answer.status == 200
        assert answer.body.endswith(b"\n")
        return json.loads(answer.body)

    async def call(self, method: str, body: bytes = b"", **query: str) -> Any:
        return (await self.asked("/api/call/", method, body, **query))["result"]


@pytest.mark.parametrize(
    ("method", "body", "query", "result", "call"),
    [
        ("ham", b"1", {}, "here", ("here", [{"data": 1}], True)),
        ("ham", b"", {}, "here", ("here", [{"data": None}], True)),
        ("ham", b" \n", {}, "here", ("here", [{"data": None}], True)),
        ("ham", b'{"a": 1}', {}, "here", ("here", [{"data": {"a": 1}}], True)),
        ("ham", b'"long"', {}, "written", ("here", [{"data": "long"}], True)),
        ("ham", b"1", {"host": ME}, "here", ("here", [{"data": 1}], True)),
        ("ham", b"1", {"host": SPAM}, "elsewhere", (SPAM, "ham", {"data": 1}, True)),
        ("spam", b"1", {}, "elsewhere", (None, "spam", {"data": 1}, True)),
        ("co2.own", b'{"a": 1}', {}, "here", ("here", [{"a": 1}], True)),
        ("co2.own", b"[1]", {}, "here", ("here", [{"data": [1]}], True)),
        ("co2.far", b'{"a": 1}', {"host": SPAM}, "elsewhere", (SPAM, "co2.far", {"a": 1}, True)),
    ],
)
def test_a_call_goes_where_the_method_is_with_what_it_takes(
    method: str, body: bytes, query: dict[str, str], result: str, call: tuple[Any, ...]
) -> None:
    async def test() -> None:
        host = Host()
        assert await host.call(method, body, **query) == result
        assert host.calls == [call]

    asyncio.run(test())


@pytest.mark.parametrize(
    ("method", "body", "error", "text"),
    [
        ("a b", b"1", NoSuchMethod, "a b"),
        ("", b"1", NoSuchMethod, "method"),
        ("ham", b"{", ParseError, "JSON"),
        (
            "relay.relay",
            b"1",
            BadRequest,
            "^relay.relay is for members that speak XML-RPC; in JSON use POST /api/send$",
        ),
        ("method_call", b"1", BadRequest, "in JSON use POST /api/call/METHOD"),
    ],
)
def test_calls_that_reach_nobody(method: str, body: bytes, error: type[PeerError], text: str) -> None:
    async def test() -> None:
        host = Host()
        with pytest.raises(error, match=text):
            await host.call(method, body)
        assert host.calls == []

    asyncio.run(test())


def test_methods_here_and_elsewhere_are_in_order_each_with_all_its_hosts() -> None:
    async def test() -> None:
        told = await Host([("a@b:1", ["spam", "ham"]), ("c@d:1", ["spam"])]).asked("/api/methods")
        assert told == {
            "methods": [
                {"name": "co2.own", "hosts": [ME], "help": "", "signatures": []},
                {"name": "ham", "hosts": [ME, "a@b:1"], "help": "Cook.", "signatures": [["string", "struct"]]},
                {"name": "spam", "hosts": ["a@b:1", "c@d:1"]},
            ],
            "left_out": 0,
        }

    asyncio.run(test())


OWN = len("hamCook.") + len("co2.own") + 2 * 64
"""What the methods of the host itself take of the room for names."""


@pytest.mark.parametrize(
    ("room", "told", "left_out"),
    [
        (OWN, [], 6),
        (OWN + 1, ["a0"], 5),  # names of one host are told as a whole
        (OWN + 66, ["a0"], 5),
        (OWN + 67, ["a0", "a1", "a2"], 3),
        (OWN + 3 * 66, ["a0", "a1", "a2"], 3),
        (OWN + 3 * 66 + 1, ["a0", "a1", "a2"], 2),
        (OWN + 3 * 66 + 64, ["a0", "a1", "a2"], 2),  # a name that is there already takes room for the host only
        (OWN + 3 * 66 + 65, ["a0", "a1", "a2"], 0),
    ],
)
def test_names_beyond_the_room_for_them_are_counted(
    monkeypatch: pytest.MonkeyPatch, room: int, told: list[str], left_out: int
) -> None:
    monkeypatch.setattr(common, "NAMES_TOLD", room)

    async def test() -> None:
        others = [("a@b:1", ["a0"]), ("c@d:1", ["a1", "a2"]), ("e@f:1", ["a0"]), ("g@h:1", ["a1", "a2"])]
        found = await Host(others).asked("/api/methods")
        assert [row["name"] for row in found["methods"] if row["name"].startswith("a")] == told
        assert found["left_out"] == left_out

    asyncio.run(test())


def test_there_is_room_for_thousands_of_names() -> None:
    async def test() -> None:
        names = [f"method_{number:05}" for number in range(NAMES_TOLD // (12 + 64) - 10)]
        found = await Host([("a@b:1", names)]).asked("/api/methods")
        assert len(found["methods"]) == 2 + len(names)
        assert found["left_out"] == 0

    asyncio.run(test())


def test_the_host_itself_as_its_owner_sees_it_or_another() -> None:
    async def test() -> None:
        host = Host()
        route = next(one for one in ROUTES if one.path == "/api/status")
        for caller, here in ((CALLER, False), (Caller("127.0.0.1", 1), True)):
            answer = await host.routes.status(DoorRequest(route, "", {}, b"", False, caller))
            assert answer.body == b'{"here":%b}\n' % (b"true" if here else b"false")

    asyncio.run(test())
