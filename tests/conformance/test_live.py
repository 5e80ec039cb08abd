"""Each statement of docs/reference/json.md about ``/live``, against a real relay."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from co2.relay.live_viewers import MAX_VIEWERS
from co2.server.door.live_frames import SUBPROTOCOL
from tests.harness import HostProcess, running, wait_for, write_plugin

HAM = """
import time
from co2 import plugin

class X_Spam(plugin.Co2Plugin):
    live = ["meter.>"]

    def x_add(self, data_dict):
        return sum(data_dict["data"])

    def x_slow(self, data_dict):
        time.sleep(data_dict["data"])
        return "slow"

    def x_send(self, data_dict):
        for one in data_dict["data"]:
            self.send(one)
"""


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    base = tmp_path_factory.mktemp("live")
    write_plugin(base / "satellite", "ham", spam=HAM)
    with (
        running(base / "relay", "relay") as relay,
        running(base / "satellite", "satellite", "--relay", relay.url),
        relay.proxy() as proxy,
    ):
        rows: Any = proxy.relay.get_satellites
        wait_for(lambda: any("ham.spam.add" in row["methods"] for row in rows({})), "the plugin is known")
        yield relay


class View:
    """A viewer."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.messages: list[dict[str, Any]] = []
        self.others: list[dict[str, Any]] = []

    async def tell(self, **frame: Any) -> None:
        await self.socket.send_str(json.dumps(frame))

    async def ask(self, ref: Any, **frame: Any) -> dict[str, Any]:
        await self.tell(**frame, ref=ref)
        return await self.until(lambda frame: frame.get("ref") == ref)

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while True:
                got = await self.socket.receive()
                assert got.type is aiohttp.WSMsgType.TEXT, got
                frame = json.loads(got.data)
                self.messages += frame.get("messages", ())
                if "messages" not in frame:
                    self.others.append(frame)
                if condition(frame):
                    return frame

    async def get(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many messages, and return them."""
        if len(self.messages) < count:
            await self.until(lambda _frame: len(self.messages) >= count)
        got, self.messages = self.messages[:count], self.messages[count:]
        return got


@contextlib.asynccontextmanager
async def viewing(relay: HostProcess, channels: Any = (), **headers: str) -> AsyncIterator[View]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{relay.url}/live", protocols=[SUBPROTOCOL], headers=headers) as socket,
    ):
        assert socket.protocol == SUBPROTOCOL
        view = View(socket)
        hello = await view.until(lambda frame: "hello" in frame)
        assert hello["hello"]["host_id"] == relay.host_id
        if channels is None or channels:
            channels = None if channels is None else list(channels)
            answer = await view.ask("want", want={"channels": channels})
            assert answer["result"]["position"] >= hello["hello"]["position"]
        yield view


def run(work: Awaitable[None]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(main())


def test_messages_come_to_those_who_want_them(relay: HostProcess) -> None:
    async def test() -> None:
        async with (
            viewing(relay, ["stage.>"]) as stage,
            viewing(relay, None) as everything,
            viewing(relay) as none,
        ):
            sent = [
                {"channel": "stage.a", "data": 1},
                {"channel": "light.b", "data": {"$b": "aGFt"}},
                {"data": 3},
                {"channel": "stage.c.d", "data": 4},
            ]
            answer = await none.ask(1, send=sent)
            position = answer["result"]["position"]
            got = await stage.get(2)
            assert [one["data"] for one in got] == [1, 4]
            got[1].pop("at", None)
            assert got[1] == {
                "position": position, "host_id": "addr-127-0-0-1@127.0.0.1:0", "plugin": "",
                "channel": "stage.c.d", "data": 4,
            }  # fmt: skip
            assert [one["data"] for one in await everything.get(4)] == [1, {"$b": "aGFt"}, 3, 4]
            assert none.messages == []

    run(test())


def test_messages_of_plugins_and_live_ones(relay: HostProcess) -> None:
    async def test() -> None:
        async with viewing(relay, ["mine", "meter.>"]) as view:
            sent = [{"channel": "mine", "data": 1}, {"channel": "meter.x", "data": 2}]
            assert (await view.ask(1, call="ham.spam.send", data=sent))["result"] is None
            got = {one["channel"]: one for one in await view.get(2)}
            assert got["mine"]["plugin"] == got["meter.x"]["plugin"] == "ham.spam.X_Spam"
            assert got["meter.x"]["live"] is True
            assert abs(got["meter.x"]["at"] - time.time()) < 60
            assert "position" not in got["meter.x"]
            answer = await view.ask(2, send={"channel": "meter.y", "data": 3, "live": True})
            assert answer["result"] == {"position": None}
            (told,) = await view.get(1)
            assert (told["data"], abs(told["at"] - time.time()) < 60) == (3, True)

    run(test())


def test_many_messages_keep_their_order(relay: HostProcess) -> None:
    async def test() -> None:
        async with viewing(relay, ["many"]) as view, viewing(relay) as sender:
            for start in range(0, 10_000, 250):
                await sender.tell(send=[{"channel": "many", "data": start + number} for number in range(250)])
            assert [one["data"] for one in await view.get(10_000)] == [*range(10_000)]

    run(test())


def test_calls_are_answered_beside_one_another(relay: HostProcess) -> None:
    async def test() -> None:
        async with viewing(relay) as view:
            await view.tell(call="ham.spam.slow", data=1.0, ref="slow")
            assert (await view.ask(1, call="ping"))["result"] is True
            assert not any(frame.get("ref") == "slow" for frame in view.others)
            assert (await view.until(lambda frame: frame.get("ref") == "slow"))["result"] == "slow"
            assert (await view.ask(2, call="ham.spam.add", data=[40, 2]))["result"] == 42

    run(test())


@pytest.mark.parametrize(
    ("frame", "code", "says"),
    [
        ('{"call":"ham.spam.ad","ref":1}', -32601, "did you mean 'ham.spam.add'"),
        ('{"call":"ham.spam.add","data":"a","ref":1}', 1008, "TypeError"),
        ('{"call":"relay.fetch","ref":1}', -32600, "GET /api/log"),
        ('{"call":1,"ref":1}', -32602, "'call'"),
        ('{"call":"ping","host":1,"ref":1}', -32602, "'host'"),
        ('{"call":"ping","host":"nobody","ref":1}', 1003, "nobody"),
        ('{"send":{"dat":1},"ref":1}', -32602, "'data' is mandatory"),
        ('{"send":[],"ref":1}', -32602, "'send'"),
        ('{"want":[],"ref":1}', -32602, "'want'"),
        ('{"want":{"channels":["a..b"]},"ref":1}', -32602, "'channels'"),
        ('{"want":{"channels":"a"},"ref":1}', -32602, "'channels'"),
        ('{"want":{},"where":1,"ref":1}', -32602, "unknown key 'where'"),
        ('{"want":{},"send":{"data":1},"ref":1}', -32602, "exactly one"),
        ('{"ref":1}', -32602, "exactly one"),
        ('{"call":"ping","ref":1.5}', -32602, "'ref'"),
        ("[]", -32602, "a frame must be"),
        ("{", -32700, "not JSON"),
        ('{"call":"ping","call":"ping","ref":1}', -32700, "the same key twice"),
        ("[" * 100 + "]" * 100, -32602, "nested too deep"),
    ],
)
def test_a_frame_that_fails_is_answered_and_the_viewer_stays(
    relay: HostProcess, frame: str, code: int, says: str
) -> None:
    async def test() -> None:
        async with viewing(relay) as view:
            await view.socket.send_str(frame)
            answer = await view.until(lambda frame: "error" in frame)
            assert answer["error"]["code"] == code
            assert says in answer["error"]["text"]
            if '"ref":1}' in frame and code != -32700:
                assert answer["ref"] == 1
            else:
                assert "ref" not in answer
            assert (await view.ask(2, call="ping"))["result"] is True

    run(test())


def test_a_result_nobody_wants_to_know_is_not_told(relay: HostProcess) -> None:
    async def test() -> None:
        async with viewing(relay) as view:
            await view.tell(send={"data": 1})
            await view.tell(call="ping")
            assert (await view.ask(1, call="ping"))["result"] is True
            assert [frame for frame in view.others if "result" in frame] == [{"result": True, "ref": 1}]

    run(test())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
        ({"Sec-WebSocket-Protocol": "co2.link.1"}, 426),
    ],
)
def test_web_pages_of_others_see_nothing(relay: HostProcess, headers: dict[str, str], status: int) -> None:
    async def test() -> None:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                protocols = () if "Sec-WebSocket-Protocol" in headers else (SUBPROTOCOL,)
                await session.ws_connect(f"{relay.url}/live", protocols=protocols, headers=headers)
            assert caught.value.status == status

    run(test())


def test_our_own_page_is_let_in(relay: HostProcess) -> None:
    async def test() -> None:
        async with viewing(relay, Origin=relay.url):
            pass

    run(test())


def test_there_are_only_so_many_viewers(relay: HostProcess) -> None:
    async def test() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(MAX_VIEWERS):
                await stack.enter_async_context(viewing(relay))
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with viewing(relay):
                    pass
            assert caught.value.status == 503
        for _ in range(100):
            try:
                async with viewing(relay):
                    return
            except aiohttp.WSServerHandshakeError:
                await asyncio.sleep(0.05)
        raise AssertionError("the places are not free again")

    run(test())


def test_a_viewer_learns_how_far_it_has_got_though_nothing_came_that_it_wants(relay: HostProcess) -> None:
    async def test() -> None:
        async with viewing(relay, ["wanted"]) as view, viewing(relay) as other:
            sent = [
                (await other.ask(one, send={"channel": "unwanted", "data": 1}))["result"]["position"]
                for one in range(2)
            ]
            await view.until(lambda frame: frame.get("position", 0) >= sent[-1])
            assert view.messages == []
            assert not [frame for frame in other.others if "position" in frame], "it wants nothing"

    run(test())


def test_who_does_not_read_misses_messages_and_is_told_how_many(relay: HostProcess) -> None:
    big = "x" * 40_000

    async def test() -> None:
        async with viewing(relay, ["big"]) as view, viewing(relay) as sender:
            transport: Any = view.socket._response.connection.transport  # type: ignore[union-attr]
            transport.pause_reading()
            sent = 0
            for _ in range(100):  # 40 MB: more than sockets hold
                await sender.ask(sent, send=[{"channel": "big", "data": [big, sent + one]} for one in range(10)])
                sent += 10
            transport.resume_reading()
            skipped = (await view.until(lambda frame: "skipped" in frame))["skipped"]
            got = len(view.messages)
            assert 0 < skipped < sent
            assert [one["data"][1] for one in view.messages] == [*range(got)]
            await sender.ask("last", send={"channel": "big", "data": [big, sent]})
            await view.until(lambda _frame: view.messages[-1]["data"][1] == sent)
            # What came behind the number follows without a hole.
            assert [one["data"][1] for one in view.messages[got:]] == [*range(got + skipped, sent + 1)]

    run(test())


def test_a_relay_that_stops_closes_its_viewers(tmp_path: Path) -> None:
    with running(tmp_path, "relay") as relay:

        async def test() -> None:
            async with viewing(relay, None) as view:
                await asyncio.to_thread(relay.stop)
                got = await view.socket.receive()
                assert got.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING)

        run(test())
