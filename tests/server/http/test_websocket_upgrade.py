"""What asks for a link and is none is refused with what was expected, and no link is made of it."""

import pytest

from co2.protocol.wire.link_frames import SUBPROTOCOL
from co2.server.link.websocket_transport import TransportOwner, WebSocketTransport
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
