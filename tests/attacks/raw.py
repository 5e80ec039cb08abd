"""Raw sockets, and what came back over them."""

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from co2.xmlrpc.reader import read_response
from co2.xmlrpc.writer import write_call, write_value

PATIENCE = 15.0
"""Seconds that an answer may take before a test fails."""


@dataclass
class Reply:
    """One answer.

    Attributes:
        closed: whether the server closed the connection after it.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool = field(default=False)


@contextlib.contextmanager
def connected(port: int, source: str = "127.0.0.1", **options: int) -> Iterator[socket.socket]:
    """A connection to the target for the time of a ``with``."""
    with socket.socket() as sock:
        for name, value in options.items():
            sock.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        sock.settimeout(PATIENCE)
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", port))
        yield sock


def send(sock: socket.socket, data: bytes) -> None:
    """Send what the server takes; it may have answered and closed already."""
    with contextlib.suppress(ConnectionError):
        sock.sendall(data)


def read_reply(sock: socket.socket) -> Reply | None:
    """Read one answer; None where the server closes without one."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while b"\r\n\r\n" not in data:
            got = sock.recv(65536)
            if not got:
                break
            data += got
    if not data:
        return None
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", 0))
    while len(body) < length:
        got = sock.recv(65536)
        assert got, "the answer ends too early"
        body += got
    return Reply(int(first.split()[1]), headers, body)


def exchange(port: int, data: bytes, end: bool = False) -> Reply | None:
    """Send bytes over a connection of their own, give the answer and whether the connection was closed.

    Args:
        port: of the target.
        data: to be sent.
        end: whether nothing more comes after that, said by closing our direction.
    """
    with connected(port) as sock:
        send(sock, data)
        if end:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        reply = read_reply(sock)
        if reply is not None:
            reply.closed = is_closed(sock, PATIENCE if reply.headers.get("connection") == "close" else 0.05)
        return reply


def is_closed(sock: socket.socket, timeout: float) -> bool:
    """Tell whether the server closes the connection within that many seconds."""
    sock.settimeout(timeout)
    try:
        return sock.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    finally:
        sock.settimeout(PATIENCE)


def request(
    body: bytes = b"", *headers: str, first: str = "POST /RPC2 HTTP/1.1", host: str = "127.0.0.1"
) -> bytes:
    """A request; Host, Content-Type and Content-Length are added where ``headers`` has none."""
    given = {header.partition(":")[0].strip().lower() for header in headers}
    lines = [first, *headers]
    for name, value in (("Host", host), ("Content-Type", "text/xml"), ("Content-Length", str(len(body)))):
        if name.lower() not in given and not (name == "Content-Length" and "transfer-encoding" in given):
            lines.append(f"{name}: {value}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def call_body(method: str, *params: Any) -> bytes:
    """A methodCall as our writer writes it."""
    return write_call(method, [write_value(param) for param in params])


def call(port: int, method: str, *params: Any) -> Any:
    """Call a method over a connection of its own."""
    reply = exchange(port, request(call_body(method, *params), "Connection: close"))
    assert reply is not None
    return read_response(reply.body)


def ping_within(port: int, seconds: float) -> None:
    """Fail unless a new connection gets its ping answered in time."""
    start = time.monotonic()
    assert call(port, "ping") is True
    assert time.monotonic() - start < seconds, "ping took too long"
