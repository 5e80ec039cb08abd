"""What asks for a link and is none is refused with what was expected, and no link is made of it."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from co2.protocol.wire.link_frames import SUBPROTOCOL
from co2.protocol.wire.websocket import accept_key
from co2.server.http.refused import Refused
from co2.server.http.request_head import RequestHead
from co2.server.http.websocket_upgrade import WebSocketEndpoint, WebSocketUpgrade, link_endpoint
from co2.server.link.websocket_transport import TransportOwner, WebSocketTransport
from co2.xmlrpc.registry import Caller
from tests.attacks.raw import Reply, connected, read_reply
from tests.server.running import running

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": f"other, {SUBPROTOCOL}",
}


class Links:
    """Ends each link at once, and counts them."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, wire: WebSocketTransport) -> TransportOwner:
        self.made += 1
        raise ConnectionError("no more than the handshake is looked at")


def reply_to(headers: dict[str, str], links: Links) -> Reply:
    with running("asyncio", links=links) as server, connected(server.port) as sock:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        sock.sendall(f"GET /link HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n".encode())
        reply = read_reply(sock)
        assert reply is not None
        return reply


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, None) for name in HANDSHAKE),
        ("Upgrade", "h2c"),
        ("Connection", "close"),
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZQ=="),
        ("Sec-WebSocket-Key", "not base64!"),
        ("Sec-WebSocket-Key", "dGhlIHNh bXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Protocol", "other"),
    ],
)
def test_a_request_for_a_link_that_is_no_handshake_is_refused(name: str, value: str | None) -> None:
    headers = {**HANDSHAKE, name: value}
    links = Links()
    reply = reply_to({one: text for one, text in headers.items() if text is not None}, links)
    assert reply.status == 426
    assert reply.headers["sec-websocket-protocol"] == SUBPROTOCOL
    assert links.made == 0


CALLER = Caller("10.0.0.7", 4321)
HEAD = cast(
    RequestHead,
    type("Head", (), {"path": "/link", "headers": {name.lower(): value for name, value in HANDSHAKE.items()}})(),
)


class Transport:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_aborted = False
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        self.sent += data

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def abort(self) -> None:
        self.is_aborted = True
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self.is_aborted

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default

    def __getattr__(self, _name: str) -> Callable[..., Any]:
        return lambda *_args, **_more: 0


class Owner:
    """Keeps what came, and why it ended."""

    def __init__(self, wire: WebSocketTransport) -> None:
        self.wire = wire
        self.frames: list[bytes] = []
        self.why: list[str] = []

    def received(self, frames: list[bytes | memoryview], more: bool = False) -> None:
        self.frames += map(bytes, frames)

    def filled(self) -> None: ...

    def drained(self) -> None: ...

    def ended(self, why: str) -> None:
        self.why.append(why)


class Upgrade:
    """WebSockets of one endpoint, whose owners it keeps."""

    def __init__(self, check_room: Callable[[Caller], None] = lambda _caller: None) -> None:
        self.owners: list[Owner] = []
        self.callers: list[Caller] = []
        self.upgrade = WebSocketUpgrade(
            [
                WebSocketEndpoint(
                    path="/link",
                    subprotocol=SUBPROTOCOL,
                    max_frame=1000,
                    handler=self._own,
                    check_room=check_room,
                )
            ],
            10_000,
        )

    def _own(self, wire: WebSocketTransport, caller: Caller) -> TransportOwner:
        self.owners.append(Owner(wire))
        self.callers.append(caller)
        return self.owners[-1]

    def admit(self, transport: Transport, rest: bytes = b"") -> int:
        return self.upgrade.admit(cast(asyncio.Transport, transport), HEAD, CALLER, rest)


MASKED = b"\x82\x83\x00\x00\x00\x00ham"
"""A message as a client sends it: masked."""


def test_a_handshake_is_answered_and_what_came_behind_it_is_the_first_message() -> None:
    async def test() -> None:
        made, transport = Upgrade(), Transport()
        made.upgrade.check(HEAD, CALLER)
        assert made.admit(transport, MASKED) == 101
        head, end, rest = transport.sent.partition(b"\r\n\r\n")
        assert head.decode().split("\r\n") == [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: upgrade",
            f"Sec-WebSocket-Accept: {accept_key(HANDSHAKE['Sec-WebSocket-Key'])}",
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
        ]
        assert (end, rest) == (b"\r\n\r\n", b"")
        (owner,) = made.owners
        assert made.callers == [CALLER]
        assert owner.frames == [b"ham"]
        assert transport.protocol is owner.wire
        await made.upgrade.stop()

    asyncio.run(test())


def test_the_end_of_the_server_aborts_all_and_admits_none() -> None:
    async def test() -> None:
        made, transports = Upgrade(), [Transport() for _ in range(3)]
        for transport in transports[:2]:
            assert made.admit(transport) == 101
        await made.upgrade.stop()
        assert [transport.is_aborted for transport in transports[:2]] == [True, True]
        assert [len(owner.why) for owner in made.owners] == [1, 1]
        late = transports[2]
        late.protocol = asyncio.Protocol()
        assert made.admit(late) == 503
        assert late.is_aborted
        assert late.sent == b""
        assert len(made.owners) == 2

    asyncio.run(test())


def test_where_there_is_no_room_a_handshake_is_refused() -> None:
    async def test() -> None:
        asked: list[Caller] = []

        def check_room(caller: Caller) -> None:
            asked.append(caller)
            raise Refused(503, "no room")

        made = Upgrade(check_room)
        with pytest.raises(Refused, match="no room"):
            made.upgrade.check(HEAD, CALLER)
        assert asked == [CALLER]
        assert "/link" in made.upgrade
        assert "/other" not in made.upgrade

    asyncio.run(test())


def test_a_link_is_given_to_who_carries_links() -> None:
    wires: list[object] = []
    endpoint = link_endpoint(lambda wire: cast(TransportOwner, wires.append(wire)))
    endpoint.handler(cast(WebSocketTransport, "a wire"), CALLER)
    assert wires == ["a wire"]
    assert not endpoint.is_text
