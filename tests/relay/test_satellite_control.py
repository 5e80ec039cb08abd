"""The relay's requests to satellites: who is meant, one at a time to each, what their errors become."""

import asyncio
from typing import Any

import pytest

from co2.errors import (
    Ambiguous,
    CallTimeout,
    NoSuchMethod,
    NotCallable,
    ParseError,
    PeerError,
    RemoteFault,
    UnknownHost,
    Unreachable,
)
from co2.host_id import HostId
from co2.protocol.relay.away import AwayBook
from co2.protocol.relay.names import NameBook
from co2.protocol.wire.relay_requests import RELOAD, RelayRequest
from co2.relay import satellite_control
from co2.relay.host_lookup import linked_member
from co2.relay.members import Members
from co2.relay.satellite_control import MAX_TO_ONE, MAX_UNDER_WAY, SatelliteControl
from tests.relay.linked import Relay, Satellite, network, until


class Calls:
    """Answers for satellites, when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.at_once = self.most_at_once = 0
        self.answer: Any = {"lines": [], "more": False}
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def ask(self, _peer: Any, request: RelayRequest, argument: dict[str, Any], asker: str) -> Any:
        self.asked.append((request.name, argument, asker))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.go_on.wait()
        finally:
            self.at_once -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def members(*origins: str) -> Members:
    table = Members(100)
    for origin in origins:
        member = table.add(HostId(origin, "10.0.0.7", 2004), "co2", 0, 0.0, resume=False)
        member.peer = object()  # type: ignore[assignment]  # only whether there is one matters here
    return table


def named(*origins: str) -> NameBook:
    names = NameBook()
    for origin in origins:
        names.give(origin, "")
    return names


def control(calls: Calls, *origins: str) -> SatelliteControl:
    return SatelliteControl(members(*origins), AwayBook(), named(*origins), calls)  # type: ignore[arg-type]


def test_a_host_is_named_by_its_host_id_or_a_unique_beginning() -> None:
    table = members("ham-1234", "ham-5678", "eggs-999")
    names = named("ham-1234", "ham-5678", "eggs-999", "foreign")
    names.give("eggs-999", "foyer-pi")
    for name in ("eggs-999@10.0.0.7:2004", "eggs-999@elsewhere:1", "eggs-999", "eggs", "foyer-pi", "foyer"):
        assert linked_member(table, AwayBook(), names, name).host_id.origin == "eggs-999"
    for name in ("egg", "x", "ham-9", "nobody@10.0.0.7:1"):
        with pytest.raises(UnknownHost, match=r"no satellite|no host"):
            linked_member(table, AwayBook(), names, name)
    with pytest.raises(
        Ambiguous, match=r"host-ham-1234 \(ham-1234\), host-ham-5678 \(ham-5678\); type more of one"
    ):
        linked_member(table, AwayBook(), names, "ham-")
    table.add(HostId("foreign", "10.0.0.8", 1), "notified", 0, 0.0, resume=False)
    with pytest.raises(NotCallable, match="no link"):
        linked_member(table, AwayBook(), names, "foreign")


def test_one_that_is_away_is_told_so() -> None:
    book = AwayBook()
    book.joined(HostId("gone-123", "10.0.0.7", 2004), [], [], {})
    book.left("gone-123", stopped=True, ago=0.0)
    with pytest.raises(Unreachable, match="was stopped at"):
        linked_member(members("here-123"), book, named("here-123"), "gone-123")
    with pytest.raises(Unreachable, match=r"host-gone-123 \(gone-123@10.0.0.7:2004\) was stopped at"):
        linked_member(members("here-123"), book, named("here-123", "gone-123"), "gone")


def test_one_at_a_time_to_each_and_a_bounded_number() -> None:
    async def run() -> None:
        calls = Calls()
        origins = [f"host-{number:03}" for number in range(MAX_UNDER_WAY)]
        asks = control(calls, *origins)
        calls.go_on.clear()
        first = origins[0]
        told = [asyncio.ensure_future(asks.log(first, "ham", 0, 9, "me")) for _ in range(MAX_TO_ONE)]
        await until(lambda: calls.asked)
        with pytest.raises(Unreachable, match=f"{MAX_TO_ONE} requests to it wait"):
            await asks.log(first, "ham", 0, 9, "me")
        for origin in origins[1 : MAX_UNDER_WAY - MAX_TO_ONE + 1]:
            told.append(asyncio.ensure_future(asks.log(origin, "ham", 0, 9, "me")))
        await until(lambda: calls.at_once == MAX_UNDER_WAY - MAX_TO_ONE + 1)
        with pytest.raises(Unreachable, match=f"{MAX_UNDER_WAY} requests to satellites wait"):
            await asks.log(origins[-1], "ham", 0, 9, "me")
        calls.go_on.set()
        await asyncio.gather(*told)
        assert calls.most_at_once == MAX_UNDER_WAY - MAX_TO_ONE + 1
        assert len(calls.asked) == len(told)
        await asks.log(origins[-1], "ham", 0, 9, "me")

    asyncio.run(run())


def test_who_waits_too_long_for_another_request_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    short = RelayRequest("log", controls=False, timeout=0.02)
    monkeypatch.setattr(satellite_control, "GET_LOG", short)

    async def run() -> None:
        calls = Calls()
        asks = control(calls, "host-1")
        calls.go_on.clear()
        first = asyncio.ensure_future(asks.reload("host-1", "ham", "me"))
        await until(lambda: calls.asked)
        with pytest.raises(CallTimeout, match="where another request is under way"):
            await asks.log("host-1", "ham", 0, 9, "me")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        calls.go_on.set()
        await asks.log("host-1", "ham", 0, 9, "me")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (RemoteFault(NoSuchMethod.code, "no such method: 'log'"), NotCallable, "cannot be managed through"),
        (RemoteFault(1012, "no"), RemoteFault, "host-1@10.0.0.7:2004: no"),
        (Unreachable("its link has ended"), Unreachable, "its link has ended"),
    ],
)
def test_errors_name_the_satellite(error: PeerError, kind: type[PeerError], text: str) -> None:
    async def run() -> None:
        calls = Calls()
        calls.answer = error
        asks = control(calls, "host-1")
        with pytest.raises(kind) as caught:
            await asks.log("host-1", "ham", 0, 9, "me")
        assert text in str(caught.value)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("packages", {"packages": [{"name": "x"}]}),
        ("packages", {"packages": [{"name": "x" * 65, "state": "running"}]}),
        ("packages", {"packages": [{"name": "x", "state": "y", "slowest": float("inf")}]}),
        ("packages", {"packages": [{"name": "x", "state": "y", "uses": {str(n): 1.0 for n in range(33)}}]}),
        ("packages", {"packages": [{"name": "x", "state": "y"}] * 201}),
        ("dead_letters", {"letters": [{"id": "1"}]}),
        ("reload", "done"),
        ("drop_dead_letters", -1),
        ("drop_dead_letters", "7"),
        ("repeat_dead_letter", 1),
    ],
    ids=lambda value: str(value)[:40],
)
def test_answers_of_another_form_are_refused(name: str, found: Any) -> None:
    async def run() -> None:
        calls = Calls()
        calls.answer = found
        asks = control(calls, "host-1")
        member = "host-1"
        asked = {
            "packages": lambda: asks.packages(member, "", "me"),
            "dead_letters": lambda: asks.dead_letters(member, None, 0, 9, "me"),
            "reload": lambda: asks.reload(member, "ham", "me"),
            "drop_dead_letters": lambda: asks.drop_dead_letters(member, 1, None, "me"),
            "repeat_dead_letter": lambda: asks.repeat_dead_letter(member, 1, "me"),
        }[name]
        with pytest.raises(ParseError, match=f"not an answer to {name}"):
            await asked()

    asyncio.run(run())


def test_a_request_has_an_asker_and_a_call_has_none() -> None:
    async def scenario(relay: Relay, *_satellites: Satellite) -> None:
        peer = (await until(lambda: relay.present))[0]
        calls = relay.links.calls
        asked = await calls.ask(peer, RELOAD, {"package": "x"}, "me" * 100)
        assert asked == {"method": "reload", "argument": {"package": "x"}, "asker": "me" * 64}
        passed_on = await calls.call(peer, "reload", {"package": "x", "asker": "me"}, 5.0)
        assert passed_on == {"method": "reload", "argument": {"package": "x", "asker": "me"}}

    network(scenario, "ham")
