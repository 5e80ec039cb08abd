"""A server that answers with prepared bytes, whatever it is asked."""

import contextlib
import socket
import threading
from collections.abc import Iterator


class Hostile:
    """Answers every request of every connection with the same bytes.

    Args:
        answer: what it sends, or None to say nothing.
        close: whether it closes the connection then.
        ip: where it listens.
    """

    def __init__(self, answer: bytes | None, close: bool, ip: str) -> None:
        self.requests: list[bytes] = []
        self._answer = answer
        self._close = close
        is_v6 = ":" in ip
        self._listening = socket.create_server((ip, 0), family=socket.AF_INET6 if is_v6 else socket.AF_INET)
        self._open: list[socket.socket] = []
        self.url = f"http://{f'[{ip}]' if is_v6 else ip}:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(sock)
            self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
            self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while self._read_request(sock):
                if self._answer is not None:
                    sock.sendall(self._answer)
                    if self._close:
                        sock.shutdown(socket.SHUT_WR)

    def _read_request(self, sock: socket.socket) -> bool:
        data = b""
        while b"</methodCall>" not in data:
            got = sock.recv(65536)
            if not got:
                return False
            data += got
        self.requests.append(data)
        return True


@contextlib.contextmanager
def hostile(answer: bytes | None, close: bool = False, ip: str = "127.0.0.1") -> Iterator[Hostile]:
    """A hostile server for the time of a ``with``."""
    server = Hostile(answer, close, ip)
    try:
        yield server
    finally:
        server.stop()


def http(body: bytes, *headers: str, status: str = "200 OK", content_type: str = "text/xml") -> bytes:
    """An answer with a proper length, unless a header says otherwise."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    if not any(header.startswith(("Content-Length", "Transfer-Encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
