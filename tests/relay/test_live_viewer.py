"""A viewer that does not read: it gets no more, then the number of what it missed, and is closed in the end."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from co2.exact_json.messages import SentMessage
from co2.protocol.wire.websocket import POLICY
from co2.relay import live_viewer
from co2.relay.live_viewer import CAUGHT_UP, MAX_BEHIND, MAX_WAITING, Viewer
from co2.relay.long_turns import LONG
from co2.relay.message_methods import MessageMethods
from co2.server.door.common import CommonRoutes
from co2.server.door.long_json import LongJson
from co2.server.link.websocket_transport import WebSocketTransport
from co2.server.rpc.answer_turns import AnswerTurns
from co2.xmlrpc.registry import Caller


class Wire:
    """A WebSocket of which the test says how much waits."""

    def __init__(self) -> None:
        self.buffered = 0
        self.told: list[Any] = []
        self.closed: list[int] = []
        self.is_held = False

    def write(self, pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        assert data[0] == 0x81  # one text frame
        start = 2 if data[1] < 126 else 4 if data[1] == 126 else 10
        self.told.append(json.loads(data[start:]))

    def read_behind(self) -> None:
        pass

    def pause_reading(self) -> None:
        self.is_held = True

    def resume_reading(self) -> None:
        self.is_held = False

    def close(self, code: int, why: str) -> None:
        self.closed.append(code)


class Routes:
    """Methods that end when the test says so."""

    def __init__(self, turns: AnswerTurns) -> None:
        self.long = LongJson(turns)
        self.go_on = asyncio.Event()
        self.called = 0

    async def call_method(self, method: str, data: Any, host: str | None, caller: Caller) -> Any:
        self.called += 1
        await self.go_on.wait()
        return data


class Messages:
    """Takes messages; long ones only when the test says so."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.sent: list[int] = []

    async def send(self, messages: Sequence[SentMessage], _caller: Caller) -> int:
        if len(messages[0].packed) > LONG:
            await self.go_on.wait()
        self.sent.append(len(messages[0].packed))
        await asyncio.sleep(0)
        return len(self.sent)


def run(test: Callable[[Viewer, Wire, Routes], Any], messages: Messages | None = None) -> None:
    async def main() -> None:
        turns = AnswerTurns(asyncio.get_running_loop())
        wire, routes = Wire(), Routes(turns)
        viewer = Viewer(
            cast(WebSocketTransport, wire),
            Caller("127.0.0.1", 5),
            routes=cast(CommonRoutes, routes),
            messages=cast(MessageMethods, messages),
            turns=turns,
            position=lambda: 7,
            ended=lambda _viewer: None,
        )
        async with asyncio.timeout(20):
            await test(viewer, wire, routes)
        viewer.ended("")
        routes.long.close()

    asyncio.run(main())


def test_it_is_told_how_many_messages_it_missed() -> None:
    async def test(viewer: Viewer, wire: Wire, _routes: Routes) -> None:
        viewer.give(b'{"messages":[1]}', 1)
        wire.buffered = MAX_BEHIND + 1
        viewer.give(b'{"messages":[2,3]}', 2)
        viewer.miss(5)
        wire.buffered = CAUGHT_UP + 1  # not yet
        viewer.give(b'{"messages":[4]}', 1)
        wire.buffered = CAUGHT_UP
        viewer.give(b'{"messages":[5]}', 1)
        viewer.miss(3)
        assert wire.told == [{"messages": [1]}, {"skipped": 8}, {"messages": [5]}, {"skipped": 3}]

    run(test)


def test_it_is_told_although_no_further_message_comes() -> None:
    async def test(viewer: Viewer, wire: Wire, _routes: Routes) -> None:
        wire.buffered = MAX_BEHIND + 1
        viewer.give(b'{"messages":[1]}', 1)
        viewer.look()
        assert wire.told == []
        wire.buffered = 0
        viewer.look()
        assert wire.told == [{"skipped": 1}]

    run(test)


def test_it_is_closed_once_it_has_been_behind_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(live_viewer, "monotonic", lambda: now[0])

    async def test(viewer: Viewer, wire: Wire, _routes: Routes) -> None:
        wire.buffered = MAX_BEHIND + 1
        viewer.look()
        now[0] += live_viewer.SLOW
        viewer.look()
        assert wire.closed == []
        now[0] += 0.1
        viewer.look()
        assert wire.closed == [POLICY]

    run(test)


def test_nothing_is_read_while_much_waits() -> None:
    async def test(viewer: Viewer, wire: Wire, routes: Routes) -> None:
        frames: list[bytes | memoryview] = [
            json.dumps({"call": "a", "data": number, "ref": number}).encode() for number in range(200)
        ]
        viewer.received(frames)
        assert wire.is_held
        while routes.called < live_viewer.MAX_UNDER_WAY:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert routes.called == live_viewer.MAX_UNDER_WAY
        assert wire.is_held
        routes.go_on.set()
        while len(wire.told) < 200:
            await asyncio.sleep(0.01)
        assert [one["ref"] for one in wire.told] == [*range(200)]
        assert not wire.is_held

    run(test)


def test_nothing_is_handled_while_it_does_not_read_its_answers() -> None:
    async def test(viewer: Viewer, wire: Wire, routes: Routes) -> None:
        routes.go_on.set()
        wire.buffered = MAX_BEHIND + 1
        viewer.received([b'{"call":"a","ref":1}'] * (MAX_WAITING + 2))
        await asyncio.sleep(2 * live_viewer.LOOK)
        assert routes.called == 0
        assert wire.is_held
        wire.buffered = 0
        while len(wire.told) < MAX_WAITING + 2:
            await asyncio.sleep(0.01)

    run(test)


def test_what_it_sends_behind_a_long_message_comes_behind_it() -> None:
    messages = Messages()

    async def test(viewer: Viewer, wire: Wire, _routes: Routes) -> None:
        def frame(size: int, ref: int) -> bytes:
            return json.dumps({"send": {"channel": "a", "data": "x" * size}, "ref": ref}).encode()

        viewer.received([frame(0, 0), frame(LONG, 1), frame(100, 2), frame(200, 3)])
        while not messages.sent:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(messages.sent) == 1
        messages.go_on.set()
        viewer.received([frame(300, 4)])
        while len(wire.told) < 5:
            await asyncio.sleep(0.001)
        assert [one["ref"] for one in wire.told] == [0, 1, 2, 3, 4]
        assert [size > LONG for size in messages.sent] == [False, True, False, False, False]
        viewer.received([frame(0, 5)])
        while len(wire.told) < 6:
            await asyncio.sleep(0.001)

    run(test, messages)
