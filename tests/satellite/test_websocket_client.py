"""Opening a link: what answers is a relay of co2, or is refused in words, and nothing is left open."""

import asyncio
import base64
import gc
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from co2.errors import Unreachable
from co2.protocol.wire.link_frames import SUBPROTOCOL
from co2.protocol.wire.websocket import accept_key
from co2.satellite.websocket_client import MAX_ANSWER, dial
from co2.server.link.websocket_transport import joined
from tests.server.link.test_websocket_transport import Owner, until
from tests.server.running import LOOPS

GOOD = {
    "Upgrade": "websocket",
    "Connection": "upgrade",
    "Sec-WebSocket-Accept": "{key}",
    "Sec-WebSocket-Protocol": SUBPROTOCOL,
}


def answer(status: str = "HTTP/1.1 101 Switching Protocols", **changes: str) -> str:
    """A relay's answer, with some headers changed; one that is changed to nothing is left out."""
    headers = GOOD | {name.replace("_", "-"): value for name, value in changes.items()}
    return "\r\n".join([status, *(f"{name}: {value}" for name, value in headers.items() if value), "", ""])


class Server:
    """Answers everybody with the same text.

    Attributes:
        text: the answer; ``{key}`` becomes the right one.
        stays: whether the connection stays open behind it.
        requests: heads that came.
        gone: how many connections the other side has closed.
    """

    def __init__(self, text: str, stays: bool = True) -> None:
        self.text = text
        self.stays = stays
        self.requests: list[str] = []
        self.gone = 0
        self.port = 0

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            key = re.search(r"Sec-WebSocket-Key: (\S+)", head)
            assert key is not None
            assert len(base64.b64decode(key[1])) == 16
            writer.write(self.text.replace("{key}", accept_key(key[1])).encode("latin-1"))
            if self.stays:
                while await reader.read(1000):
                    pass
        except ConnectionError:
            pass
        self.gone += 1
        writer.close()

    async def dial(self, *addresses: str) -> Any:
        return await dial(f"http://127.0.0.1:{self.port}", addresses or ("127.0.0.1",))


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    def run_on_loop(test: Callable[[Server], Awaitable[None]], text: str, stays: bool = True) -> None:
        async def main() -> None:
            unhandled: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
            async with Server(text, stays) as server:
                await test(server)
            gc.collect()  # futures whose error nobody has read tell it then
            assert unhandled == []

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main())

    return run_on_loop


def test_a_relay_is_asked_as_the_rfc_says_and_its_first_words_are_not_lost(run: Callable[..., None]) -> None:
    said = b"".join(joined([b"ham"])).decode("latin-1")

    async def test(server: Server) -> None:
        wire, rest = await server.dial()
        owner = Owner()
        wire.carry(owner, rest)
        await until(lambda: owner.frames == [b"ham"])
        wire.abort()
        await until(lambda: owner.why)
        request = server.requests[0].split("\r\n")
        assert request[0] == "GET /link HTTP/1.1"
        assert f"Host: 127.0.0.1:{server.port}" in request
        assert f"Sec-WebSocket-Protocol: {SUBPROTOCOL}" in request
        assert "Sec-WebSocket-Version: 13" in request

    run(test, answer() + said)


def test_each_handshake_has_another_key(run: Callable[..., None]) -> None:
    async def test(server: Server) -> None:
        for _ in range(2):
            wire, _rest = await server.dial()
            wire.carry(owner := Owner())
            wire.abort()
            await until(lambda owner=owner: owner.why)
        assert server.requests[0] != server.requests[1]

    run(test, answer())


NO_RELAYS = {
    "another status": (answer("HTTP/1.1 200 OK"), r"not a co2 relay \(HTTP 200\)"),
    "a refusal": (answer("HTTP/1.1 426 Upgrade Required"), r"not a co2 relay \(HTTP 426\)"),
    "a status in words": (answer("HTTP/1.1 ok"), r"not a co2 relay \(HTTP ok\)"),
    "no status": (answer("HTTP/1.1"), r"not a co2 relay \(HTTP \?\)"),
    "no HTTP": (answer("SSH-2.0-OpenSSH 101"), r"not a co2 relay \(HTTP \?\)"),
    "nothing but an end": ("\r\n\r\n", r"not a co2 relay \(HTTP \?\)"),
    "bytes": ("\x00\xff\x80\r\n\r\n", r"not a co2 relay \(HTTP \?\)"),
    "another's key": (answer(Sec_WebSocket_Accept=accept_key("another")), "does not speak WebSocket"),
    "no key": (answer(Sec_WebSocket_Accept=""), "does not speak WebSocket"),
    "another protocol": (answer(Sec_WebSocket_Protocol="co2.link.2"), rf"does not speak {SUBPROTOCOL}"),
    "no protocol": (answer(Sec_WebSocket_Protocol=""), rf"does not speak {SUBPROTOCOL}"),
    "too many headers": (answer(**{f"X-{number}": "y" for number in range(200)}), "not a co2 relay: got more"),
    "a head that is too long": ("HTTP/1.1 101 " + "x" * (MAX_ANSWER + 1), "not a co2 relay"),
    "a head without an end": (answer(X="y" * MAX_ANSWER)[:-4], "not a co2 relay"),
}


@pytest.mark.parametrize("what", NO_RELAYS)
def test_what_is_no_relay_is_refused_and_closed(run: Callable[..., None], what: str) -> None:
    text, words = NO_RELAYS[what]

    async def test(server: Server) -> None:
        with pytest.raises(Unreachable, match=words):
            await server.dial()
        await until(lambda: server.gone == 1)

    run(test, text)


@pytest.mark.parametrize("text", ["", "HTTP/1.1 101 Switching Protocols\r\n"])
def test_who_closes_instead_of_answering_is_not_there(run: Callable[..., None], text: str) -> None:
    async def test(server: Server) -> None:
        with pytest.raises(ConnectionError):
            await server.dial()

    run(test, text, stays=False)


def test_who_closes_right_after_the_answer_is_found_out_at_once(run: Callable[..., None]) -> None:
    async def test(server: Server) -> None:
        try:
            wire, rest = await server.dial()
        except ConnectionError:
            return
        wire.carry(owner := Owner(), rest)
        await until(lambda: owner.why)

    run(test, answer(), stays=False)


def test_silence_is_the_callers_to_end_and_leaves_nothing_open(run: Callable[..., None]) -> None:
    async def test(server: Server) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await server.dial()
        await until(lambda: server.gone == 1)

    run(test, "HTTP/1.1 101 Switching Protocols\r\n")


def test_addresses_are_tried_in_their_order(run: Callable[..., None]) -> None:
    async def test(server: Server) -> None:
        wire, rest = await server.dial("127.0.0.3", "127.0.0.2", "127.0.0.1")
        assert wire.address == ("127.0.0.1", server.port)
        wire.carry(owner := Owner(), rest)
        wire.abort()
        await until(lambda: owner.why)
        with pytest.raises(ConnectionRefusedError):
            await server.dial("127.0.0.2", "127.0.0.3")
        assert len(server.requests) == 1
        with pytest.raises(Unreachable, match="not resolve to an address"):
            await dial("http://nobody:2003", [])

    run(test, answer())
