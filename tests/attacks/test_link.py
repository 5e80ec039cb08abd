"""Rows 51 and 57 to 59 of the catalogue: what a hostile satellite says on its link; and that others stay unharmed.

Each attack is tried on the state machine, and on a real relay over a real WebSocket.
"""

import asyncio
import socket
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import aiohttp
import msgspec
import pytest

from co2.protocol.wire import close_reasons
from co2.protocol.wire.link_frames import (
    SUBPROTOCOL,
    Applied,
    Call,
    Publish,
    Replay,
    Subscription,
    decode_relay_frame,
    encode_link_frame,
)
from tests.attacks.conftest import Target
from tests.attacks.raw import ping_within
from tests.protocol.network import Network, batch_of

ONE = batch_of("hostile")
U64 = 2**64 - 1


def hello(first: int = 1, epoch: int = 7, origin: str = "mallory", **changes: Any) -> bytes:
    fields = ["Hello", f"{origin}@127.0.0.1:6666", "", "", [Subscription("p")], [(epoch, first)], [], []]
    names = ["", "host_id", "log_id", "run", "subscriptions", "outbox", "methods", "plugins"]
    for name, value in changes.items():
        fields[names.index(name)] = value
    return msgspec.msgpack.encode(fields)


def publish(seq: int, epoch: int = 7) -> bytes:
    return msgspec.msgpack.encode(["Publish", epoch, seq, "p", "p.m.X", [""], crc32(ONE), ONE])


@dataclass
class Attack:
    """Frames, the last of which must end the link.

    Attributes:
        row: of the catalogue, and what it is.
        frames: as they are sent.
        reason: of the Goodbye.
        then: a frame that a new link of the same satellite says after Hello, and that is taken.
    """

    row: str
    frames: list[bytes]
    reason: str
    then: bytes = field(default_factory=lambda: publish(1))


ATTACKS = [
    Attack("51 a number far ahead", [hello(), publish(2**61)], close_reasons.OUT_OF_ORDER),
    Attack("51 number 2**63", [hello(), publish(2**63)], close_reasons.GARBAGE),
    Attack("51 the highest number", [hello(), publish(U64)], close_reasons.GARBAGE),
    Attack("51 a run that goes on at the highest number", [hello(U64)], close_reasons.GARBAGE),
    Attack("51 a run that goes on at 2**63", [hello(2**63)], close_reasons.GARBAGE),
    Attack("51 a run that goes on at 0", [hello(0)], close_reasons.GARBAGE),
    Attack("51 an epoch that was not announced", [hello(), publish(1, epoch=8)], close_reasons.OUT_OF_ORDER),
    Attack("51 the highest epoch", [hello(epoch=U64)], close_reasons.GARBAGE),
    Attack("51 ten thousand runs", [hello(outbox=[(n, 1) for n in range(10_000)])], close_reasons.GARBAGE),
    Attack("57 an array of 2**32 items", [hello(), b"\xdd\xff\xff\xff\xff"], close_reasons.GARBAGE),
    Attack("57 a batch of 2**32 messages",
           [hello(), encode_link_frame(Publish(7, 1, "p", "x", [""], crc32(b"\xdd\xff\xff\xff\xff"),
                                               b"\xdd\xff\xff\xff\xff"))], close_reasons.GARBAGE),
    Attack("57 a name of a megabyte", [hello(), msgspec.msgpack.encode(
        ["Publish", 7, 1, "p" * 2**20, "x", [""], crc32(ONE), ONE])], close_reasons.GARBAGE),
    Attack("57 ten thousand channels", [hello(), msgspec.msgpack.encode(
        ["Publish", 7, 1, "p", "x", [str(n) for n in range(10_000)], crc32(ONE), ONE])], close_reasons.GARBAGE),
    Attack("58 data before Hello", [publish(1)], close_reasons.OUT_OF_PLACE),
    Attack("58 Hello twice", [hello(), hello()], close_reasons.OUT_OF_PLACE),
    Attack("58 an unknown frame", [hello(), msgspec.msgpack.encode(["Poke", 1])], close_reasons.GARBAGE),
    Attack("58 a frame of the relay's", [hello(), msgspec.msgpack.encode(["Ack", 7, 1])], close_reasons.GARBAGE),
    Attack("59 a replay from where nothing ever was",
           [hello(), encode_link_frame(Replay("p", 2**61, 1))], close_reasons.GARBAGE),
    Attack("59 a replay from the highest position",
           [hello(), msgspec.msgpack.encode(["Replay", "p", U64, 1])], close_reasons.GARBAGE),
    Attack("59 a replay from before the beginning",
           [hello(), msgspec.msgpack.encode(["Replay", "p", -1, 1])], close_reasons.GARBAGE),
    Attack("59 done with what never was",
           [hello(), encode_link_frame(Applied({"p": 2**61}))], close_reasons.GARBAGE),
    Attack("59 done with the highest position",
           [hello(), msgspec.msgpack.encode(["Applied", {"p": U64}])], close_reasons.GARBAGE),
    Attack("59 a subscription from the highest position",
           [hello(subscriptions=[("p", U64, None, True)])], close_reasons.GARBAGE),
    Attack("a call that waits for NaN seconds",
           [hello(), encode_link_frame(Call(1, "ping", b"\x80", float("nan")))], close_reasons.GARBAGE),
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.row)
def test_the_state_machine_ends_the_link_and_nothing_else(attack: Attack) -> None:
    net = Network()
    spam = net.satellite("spam", "b")
    peer = net.relay.opened(("127.0.0.1", 1))
    for data in attack.frames:
        assert peer.state != "closed"
        net.relay.receive(peer, data)
    assert peer.state == "closed"
    assert decode_relay_frame(peer.taken()[-1]).reason == attack.reason
    assert net.log.entries == []
    again = net.relay.opened(("127.0.0.1", 1))
    net.relay.receive(again, hello())
    net.relay.receive(again, attack.then)
    net.run()
    assert again.state == "open"
    assert spam.got == {"b": ["hostile"]}


class Witness:
    """A satellite that means well."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def said(self, frames: list[bytes]) -> tuple[str, list[Any]]:
        """Say frames on a new link; give the reason of the Goodbye that ends it, and what came before."""
        got: list[Any] = []
        async with self._session.ws_connect(self._url, protocols=(SUBPROTOCOL,)) as link:
            first, *rest = frames
            await link.send_bytes(first)
            async for message in link:
                frame = decode_relay_frame(message.data)
                got.append(frame)
                if type(frame).__name__ == "Goodbye":
                    return frame.reason, got
                if type(frame).__name__ == "Ack":
                    return "", got
                for data in rest:  # after the Welcome
                    await link.send_bytes(data)
                rest = []
        return "no goodbye", got


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.row)
def test_a_real_relay_ends_the_link_and_nothing_else(attack: Attack, real_hosts: dict[str, Target]) -> None:
    relay = real_hosts["relay"]
    # Each attacker is somebody else: who takes over too often is refused for that.
    origin = f"mallory{ATTACKS.index(attack)}"
    frames = [data.replace(b"\xb6mallory@", bytes((0xB6 + len(origin) - 7,)) + origin.encode() + b"@")
              for data in attack.frames]  # fmt: skip

    async def run() -> None:
        async with aiohttp.ClientSession() as session, asyncio.timeout(20):
            url = f"http://127.0.0.1:{relay.port}/link"
            witness = Witness(session, url)
            async with session.ws_connect(url, protocols=(SUBPROTOCOL,)) as bystander:
                await bystander.send_bytes(hello(origin=f"by{origin}"))
                await bystander.receive()
                assert (await witness.said(frames))[0] == attack.reason
                reason, got = await witness.said([hello(origin=origin), attack.then])
                assert (reason, got[-1].seq) == ("", 1)
                while type(frame := decode_relay_frame((await bystander.receive()).data)).__name__ != "Deliver":
                    pass
                assert frame.batch == ONE

    asyncio.run(run())
    ping_within(relay.port, 1)


@pytest.mark.parametrize("protocol", ["co2.link.2", "chat", ""])
def test_row_58_another_version_is_refused_before_anything_is_said(
    protocol: str, real_hosts: dict[str, Target]
) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{real_hosts['relay'].port}/link"
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(url, protocols=(protocol,) if protocol else ())
            assert caught.value.status == 426

    asyncio.run(run())


@pytest.mark.parametrize("size", [2**32, 2**63 - 1, 4 * 2**20 + 1])
def test_row_57_a_message_of_4_gib_is_refused_at_its_head(size: int, real_hosts: dict[str, Target]) -> None:
    relay = real_hosts["relay"]
    with socket.create_connection(("127.0.0.1", relay.port), 10) as sock:
        sock.sendall(
            f"GET /link HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode()
        )
        answer = sock.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 101")
        sock.sendall(b"\x82\xff" + size.to_bytes(8, "big") + bytes(4))
        sock.settimeout(10)
        rest = b""
        while data := sock.recv(65_536):
            rest += data
        assert rest[:1] in (b"\x88", b"")  # a Close, or nothing but the end
    ping_within(relay.port, 1)
