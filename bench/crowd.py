"""A process that plays many satellites on one relay: real links without anything behind them.

It speaks the link's protocol on bare sockets: handshake, Hello, Welcome, Deliver, pings. What comes is counted by
link and not decoded, so that one process can be thousands of satellites and costs less than the relay.

Takes ``["join", n]`` and ``["state"]`` as JSON lines on stdin, answers each with how things are.
"""

import base64
import json
import os
import resource
import secrets
import select
import socket
import sys
import time

from co2.protocol.wire.link_frames import (
    SUBPROTOCOL,
    Hello,
    Subscription,
    Welcome,
    decode_relay_frame,
    encode_link_frame,
)

__all__ = ["MASK", "JoinedLink", "client_message", "hello", "join", "raise_file_limit"]

AT_ONCE = 8
"""Links of one process that are on their way; a relay takes 32 newcomers of one address."""

PER_ADDRESS = 64
"""Links that come from one address of the loopback before the next one is used."""

READ = 512 * 1024

MASK = bytes(4)
"""Clients must mask; with zeros it costs nothing."""

DELIVER = b"\xa7Deliver"
GOODBYE = b"\xa7Goodbye"
GAP = b"\xa3Gap"


def raise_file_limit() -> int:
    """Allow this process as many files as it may allow itself; return how many that is."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def client_message(data: bytes, kind: int = 2) -> bytes:
    """Write a masked WebSocket message (RFC 6455, 5.2)."""
    size = len(data)
    if size < 126:
        return bytes((0x80 | kind, 0x80 | size)) + MASK + data
    if size < 65_536:
        return bytes((0x80 | kind, 0xFE)) + size.to_bytes(2, "big") + MASK + data
    return bytes((0x80 | kind, 0xFF)) + size.to_bytes(8, "big") + MASK + data


def handshake(host: str) -> bytes:
    """Write the request that opens a link."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET /link HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    ).encode()


def hello(address: str, *, epoch: int = 0, receives: bool = True) -> bytes:
    """Write the Hello of a satellite with one plugin package, as large as a real one's."""
    package = "crowd"
    return encode_link_frame(
        Hello(
            f"{secrets.token_hex(8)}@{address}:2004",
            "",
            "",
            [Subscription(package)] if receives else [],
            [(epoch, 1)] if epoch else [],
            [f"{package}.member.count"],
            [f"{package}.member.X_Member"],
        )
    )


class JoinedLink:
    """One link.

    Attributes:
        frames: Deliver frames that have come.
        state: ``calling``, ``greeted`` (it waits for Welcome), ``open`` or ``ended``.
    """

    __slots__ = ("address", "frames", "rest", "socket", "state")

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.socket = sock
        self.address = address
        self.state = "calling"
        self.rest = b""
        self.frames = 0


def join(relay: tuple[str, int], address: str) -> JoinedLink:
    """Open a connection and ask for the link; what comes back is for :meth:`Crowd.read`."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, 0))
    sock.connect(relay)  # on the loopback that does not wait for the relay
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(handshake(f"{relay[0]}:{relay[1]}"))
    return JoinedLink(sock, address)


class Crowd:
    """Many links and one epoll.

    Args:
        relay: its address.
        number: of this process, so that each has addresses of its own.
    """

    def __init__(self, relay: tuple[str, int], number: int) -> None:
        self._relay = relay
        self._number = number
        self._poll = select.epoll()
        self._links: dict[int, JoinedLink] = {}
        self._made = 0
        self._open = 0
        self._wanted = 0
        self._calling = 0
        self._frames = 0
        self._last = 0
        self._faults: list[str] = []
        self._buffer = memoryview(bytearray(READ))
        self._poll.register(0, select.EPOLLIN)

    def run(self) -> None:
        """Serve commands until the end of stdin."""
        while True:
            for number, _ in self._poll.poll(1.0):
                if number:
                    self._read(self._links[number])
                elif not self._command():
                    return

    def _command(self) -> bool:
        text = sys.stdin.readline()
        if not text:
            return False
        do, *given = json.loads(text)
        if do == "join":
            self._wanted += given[0]
            self._call_more()
        self._answer()
        return True

    def _answer(self) -> None:
        by_link = [link.frames for link in self._links.values()]
        print(
            json.dumps(
                {
                    "open": self._open,
                    "frames": self._frames,
                    "fewest": min(by_link, default=0),
                    "most": max(by_link, default=0),
                    "last": self._last,
                    "faults": self._faults[:5],
                }
            ),
            flush=True,
        )

    def _call_more(self) -> None:
        while self._calling < AT_ONCE and self._made < self._wanted:
            block = self._made // PER_ADDRESS
            link = join(self._relay, f"127.{self._number + 1}.{block // 200}.{block % 200 + 1}")
            self._made += 1
            self._calling += 1
            self._links[link.socket.fileno()] = link
            self._poll.register(link.socket.fileno(), select.EPOLLIN)

    def _read(self, link: JoinedLink) -> None:
        try:
            size = link.socket.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(link, str(error))
            return
        if not size:
            self._lost(link, "the relay closed it")
            return
        data: bytes | memoryview = self._buffer[:size]
        if link.rest:
            data = link.rest + bytes(data)
            link.rest = b""
        if link.state == "calling":
            data = self._greeted(link, bytes(data))
        link.rest = bytes(data[self._taken(link, data) :])

    def _greeted(self, link: JoinedLink, data: bytes) -> bytes:
        """Take the answer to the handshake, say Hello."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            link.rest = data
            return b""
        if not data.startswith(b"HTTP/1.1 101 "):
            self._lost(link, data[:200].decode("latin-1"))
            return b""
        link.state = "greeted"
        link.socket.sendall(client_message(hello(link.address)))
        return data[end + 4 :]

    def _taken(self, link: JoinedLink, data: bytes | memoryview) -> int:
        """Take the whole messages at the front of the data; return how many bytes they are."""
        at, total, frames = 0, len(data), 0
        while total - at >= 2:
            size, body = data[at + 1], at + 2
            if size == 126:
                size, body = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, body = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if body + size > total:
                break
            if data[body + 1 : body + 9] == DELIVER:
                frames += 1
            else:
                self._other(link, data[at], bytes(data[body : body + size]))
            at = body + size
        if frames:
            link.frames += frames
            self._frames += frames
            self._last = time.monotonic_ns()
        return at

    def _other(self, link: JoinedLink, head: int, body: bytes) -> None:
        if head == 0x89:
            link.socket.sendall(client_message(body, kind=10))
        elif link.state == "greeted":
            frame = decode_relay_frame(body)
            if isinstance(frame, Welcome):
                link.state = "open"
                self._open += 1
                self._calling -= 1
                self._call_more()
            else:
                self._faults.append(repr(frame))
        elif body[1:9] == GOODBYE or body[1:5] == GAP:
            self._faults.append(repr(decode_relay_frame(body)))

    def _lost(self, link: JoinedLink, why: str) -> None:
        self._open -= link.state == "open"
        link.state = "ended"
        self._faults.append(why)
        self._poll.unregister(link.socket.fileno())
        del self._links[link.socket.fileno()]
        link.socket.close()


if __name__ == "__main__":
    raise_file_limit()
    host, port, me = sys.argv[1:]
    Crowd((host, int(port)), int(me)).run()
