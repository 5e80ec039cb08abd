"""A link by hand: says whatever it is told to, reads or does not, and answers no more than pings."""

import asyncio
import base64
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TypeVar

from co2.protocol.wire.link_frames import (
    SUBPROTOCOL,
    Hello,
    Subscription,
    Welcome,
    decode_relay_frame,
    encode_link_frame,
)
from co2.protocol.wire.websocket import PING, PONG, WebSocketReader, control_frame
from co2.server.link.websocket_transport import joined

__all__ = ["RawLink", "handshake", "linked"]

Frame = TypeVar("Frame")

PATIENCE = 20.0
"""Seconds that a frame may take."""


def handshake() -> bytes:
    """The request that opens a link."""
    lines = (
        "GET /link HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class RawLink:
    """One link.

    Attributes:
        reader, writer: of its connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._socket = WebSocketReader(2**22, masked=False)
        self._frames: list[Any] = []

    @classmethod
    async def open(cls, port: int, source: str = "127.0.0.1") -> "RawLink":
        """Open a link, and say nothing."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0), limit=2**20)
        writer.write(handshake())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        return cls(reader, writer)

    @classmethod
    async def joined_as(cls, port: int, origin: str, source: str = "127.0.0.1", **changes: Any) -> "RawLink":
        """Open a link, say Hello, and wait for the Welcome.

        Args:
            port: of the relay.
            origin: to join as.
            source: address to come from.
            changes: of the Hello.
        """
        link = await cls.open(port, source)
        link.say(cls.hello(origin, **changes))
        await link.next(Welcome)
        return link

    @staticmethod
    def hello(origin: str, **changes: Any) -> bytes:
        """Return a Hello; ``changes`` are of its fields."""
        fields = {
            "host_id": f"{origin}@127.0.0.1:9", "log_id": "", "run": "", "subscriptions": [Subscription("p")],
            "outbox": [(7, 1)], "methods": [], "plugins": [],
        }  # fmt: skip
        return encode_link_frame(Hello(**{**fields, **changes}))

    def say(self, *frames: bytes) -> None:
        """Write frames."""
        self.writer.writelines(joined([*frames], masked=True))

    async def told(self, *frames: bytes) -> None:
        """Write frames, as far as the relay reads them."""
        self.say(*frames)
        await self.writer.drain()

    async def next(self, kind: type[Frame]) -> Frame:
        """Read on until a frame of this kind.

        Raises:
            EOFError: the link has ended.
        """
        async with asyncio.timeout(PATIENCE):
            while True:
                while self._frames:
                    frame = self._frames.pop(0)
                    if isinstance(frame, kind):
                        return frame
                self._frames += await self.more()

    async def more(self) -> list[Any]:
        """Read what comes next.

        Raises:
            EOFError: the link has ended.
        """
        data = await self.reader.read(2**18)
        if not data:
            raise EOFError
        frames = [decode_relay_frame(bytes(frame)) for frame in self._socket.feed(data, sys.maxsize)]
        control, self._socket.control = self._socket.control, []
        for opcode, payload in control:
            if opcode == PING:
                self.writer.write(control_frame(PONG, payload, True))
        return frames

    def abort(self) -> None:
        """End it at once."""
        self.writer.transport.abort()
        self.writer.close()

    async def ended(self) -> bytes:
        """Wait for the relay to end it; give what came before."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""
            finally:
                self.writer.close()


@contextlib.contextmanager
def linked(port: int, origin: str, source: str, *methods: str) -> Iterator[None]:
    """Join as somebody who claims methods and answers nothing; at the end the connection is cut.

    Args:
        port: of the relay.
        origin: to join as.
        source: address to come from.
        methods: names.
    """
    with asyncio.Runner() as runner:
        link = runner.run(RawLink.joined_as(port, origin, source, methods=[*methods], subscriptions=[]))

        async def end() -> None:
            link.abort()

        try:
            yield
        finally:
            runner.run(end())
