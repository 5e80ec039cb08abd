"""A process with two satellites: one sends frames, the other hears them and so tells when more may come.

The hearer joins last, and so is the last one that the relay writes a frame to: no more than so many
frames are on their way to everybody at any time, however many everybody is.

Takes ``[seconds, most frames, most on their way]`` as JSON lines on stdin, answers with [frames, begun, ended], in
nanoseconds. Its arguments are the relay's address, its port, and how many messages a frame holds.
"""

import json
import secrets
import selectors
import sys
import time
import zlib
from collections.abc import Iterator

import msgspec

from bench.crowd import client_message, hello, join
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.link_frames import (
    Ack,
    Deliver,
    Goodbye,
    Publish,
    Welcome,
    decode_relay_frame,
    encode_link_frame,
)

PLUGIN = "crowd.sender.X_Sender"

PATIENCE = 60.0


class Talker:
    """One link, read and written as it goes."""

    def __init__(self, relay: tuple[str, int], address: str, epoch: int, receives: bool) -> None:
        self.socket = join(relay, address).socket
        self._data = b""
        self.wait()
        while b"\r\n\r\n" not in self._data:
            self.fill()
        self._data = self._data.split(b"\r\n\r\n", 1)[1]
        self.send(hello(address, epoch=epoch, receives=receives))
        while not any(isinstance(frame, Welcome) for frame in self.frames()):
            self.wait()
            self.fill()

    def send(self, data: bytes) -> None:
        """Write a frame."""
        self.socket.setblocking(True)
        self.socket.sendall(client_message(data))
        self.socket.setblocking(False)

    def wait(self) -> None:
        """Wait until there is something to read."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            if not selector.select(PATIENCE):
                raise SystemExit("bench: the relay says nothing")

    def fill(self) -> None:
        """Read what there is."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        if not data:
            raise SystemExit("bench: the relay closed a link")
        self._data += data

    def frames(self) -> Iterator[object]:
        """Yield the frames that have come; pings are answered."""
        while len(data := self._data) >= 2:
            size, body = data[1], 2
            if size == 126:
                size, body = int.from_bytes(data[2:4], "big"), 4
            elif size == 127:
                size, body = int.from_bytes(data[2:10], "big"), 10
            if len(data) < body + size:
                return
            self._data = data[body + size :]
            if data[0] == 0x89:
                self.socket.sendall(client_message(data[body : body + size], kind=10))
            elif data[0] == 0x82:
                frame = decode_relay_frame(data[body : body + size])
                if isinstance(frame, Goodbye):
                    raise SystemExit(f"bench: the relay ended a link: {frame}")
                yield frame


class Sender:
    """Both of them."""

    def __init__(self, relay: tuple[str, int], messages: int) -> None:
        self._epoch = secrets.randbits(62)
        self._messages = messages
        self._sent = self._acked = self._heard = 0
        self._out = Talker(relay, "127.0.0.2", self._epoch, False)
        self._ear = Talker(relay, "127.0.0.3", 0, True)
        self._selector = selectors.DefaultSelector()
        for link in (self._out, self._ear):
            self._selector.register(link.socket, selectors.EVENT_READ, link)
        self._selector.register(sys.stdin, selectors.EVENT_READ, None)

    def serve(self) -> None:
        """Serve commands until the end of stdin; in between, answer pings."""
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    self._take(key.data)
                elif text := sys.stdin.readline():
                    print(json.dumps(self._run(*json.loads(text))), flush=True)
                else:
                    return

    def _run(self, seconds: float, most: int, window: int) -> list[int]:
        """Send for so long, at most so many; wait until all of it is acknowledged."""
        begun, before = time.monotonic_ns(), self._sent
        while time.monotonic_ns() - begun < seconds * 1e9 and self._sent - before < most:
            while self._sent - self._heard < window and self._sent - before < most:
                self._publish()
            self._wait()
        while self._acked < self._sent:
            self._wait()
        return [self._sent - before, begun, time.monotonic_ns()]

    def _publish(self) -> None:
        batch = make_batch([msgspec.msgpack.encode({"data": [self._sent, "shrubbery", 0.815]})] * self._messages)
        first = self._sent * self._messages + 1
        self._out.send(
            encode_link_frame(Publish(self._epoch, first, "crowd", PLUGIN, [""], zlib.crc32(batch), batch))
        )
        self._sent += 1

    def _wait(self) -> None:
        ready = self._selector.select(PATIENCE)
        if not ready:
            raise SystemExit("bench: the relay says nothing")
        for key, _ in ready:
            if key.data is not None:
                self._take(key.data)

    def _take(self, link: Talker) -> None:
        link.fill()
        for frame in link.frames():
            if isinstance(frame, Ack):
                self._acked = frame.seq // self._messages
            elif isinstance(frame, Deliver) and frame.plugin == PLUGIN:
                self._heard += 1


if __name__ == "__main__":
    sender = Sender((sys.argv[1], int(sys.argv[2])), int(sys.argv[3]))
    print("ready", flush=True)
    sender.serve()
