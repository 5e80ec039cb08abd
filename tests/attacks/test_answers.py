"""Answers of members without a link: long, deep, full of attributes; nobody else waits for them."""

import contextlib
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from co2.xmlrpc.answers import BRIEF, RESULT
from tests.attacks.hosts import running
from tests.attacks.raw import call_body, connected, read_reply, request
from tests.attacks.test_identity import OK_XML
from tests.harness import HostProcess, Proxy, wait_for

LONGEST_WAIT = 0.75
"""Seconds that a ping may take meanwhile, on two cores that do other things too: it took up to 0.33 there. Each
such answer stopped the event loop for 1.5 to 3.2 s when all of it was parsed there."""

MAX_GROWTH = 160 * 2**20


def answer(xml: bytes) -> bytes:
    body = b"<methodResponse><params><param>" + xml + b"</param></params></methodResponse>"
    return OK_XML + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def array(item: bytes, size: int) -> bytes:
    return b"<value><array><data>" + item * (size // len(item)) + b"</data></array></value>"


STRUCTS = b"<value><struct><member><name>a</name><value><int>1</int></value></member></struct></value>"


class Watch:
    """Pings a host all the time over a connection of its own, and knows how long it had to wait at most."""

    def __init__(self, port: int) -> None:
        self.longest = 0.0
        self.pings = 0
        self._ending = threading.Event()
        self._port = port
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        ping = request(call_body("ping"))
        with connected(self._port) as sock:
            while not self._ending.is_set():
                start = time.monotonic()
                sock.sendall(ping)
                assert read_reply(sock) is not None
                self.longest = max(self.longest, time.monotonic() - start)
                self.pings += 1


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[HostProcess]:
    with running(tmp_path, "relay") as host:
        yield host


@pytest.fixture
def proxy(relay: HostProcess) -> Iterator[Proxy]:
    with relay.proxy() as found:
        yield found


class Server(socketserver.ThreadingTCPServer):
    """Answers every call with the same bytes, as long as somebody reads them."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, sent: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sent = sent


class _Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            length = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split()[1])
            self.rfile.read(length)
            self.connection.sendall(self.server.sent)


@contextlib.contextmanager
def hostile(proxy: Proxy, sent: bytes) -> Iterator[str]:
    """A member whose every answer is this one; gives its host_id."""
    with Server(sent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            told: Any = proxy.relay.register({"port": server.server_address[1]})
            yield told["host_id"]
        finally:
            server.shutdown()
            thread.join()


BEYOND = {
    "32 MiB of structs": array(STRUCTS, 32 * 2**20),
    "two million attributes": b"<value %b></value>" % b" ".join(b"a%d=''" % n for n in range(2_000_000)),
    "8 MiB of values": array(b"<value/>", 8 * 2**20),
    "one value too many for a true": array(b"<value/>", 8 * BRIEF.values),
}


@pytest.mark.parametrize("what", BEYOND)
def test_who_answers_notify_too_long_holds_up_nobody_and_goes(relay: HostProcess, proxy: Proxy, what: str) -> None:
    process = psutil.Process(relay.pid)
    before = process.memory_info().rss
    with hostile(proxy, answer(BEYOND[what])) as host_id, Watch(relay.port) as watch:
        proxy.relay.relay({"host_id": "someone@127.0.0.1:0", "data": 1})
        gone = f"({host_id}) dropped: 3 of its answers were too long"
        wait_for(lambda: gone in relay.log(), "it is dropped", 30)
        assert host_id not in [row["host_id"] for row in proxy.relay.get_satellites()]
        grown = process.memory_info().rss - before
    assert watch.longest < LONGEST_WAIT, f"a ping took {watch.longest:.3f} s of {watch.pings}"
    assert grown < MAX_GROWTH, f"the relay grew by {grown / 2**20:.0f} MiB"


WITHIN = {
    "as many values as may be": array(STRUCTS, min(RESULT.size - 1000, len(STRUCTS) * (RESULT.values // 2 - 1))),
    "empty structs": array(b"<value><struct/></value>", 24 * (RESULT.values - 1)),
    "lines": b"<value><string>%b</string></value>" % (b"\n" * (RESULT.size - 1000)),
    "a tag of 8 MiB": b"<value %b></value>" % b" ".join(b"a%d=''" % n for n in range(700_000)),
    "a comment of 8 MiB": b"<value><!--%b--></value>" % (b"x" * (RESULT.size - 1000)),
    "attributes everywhere": array(b"<value a='' b=''/>", 18 * (RESULT.values - 1)),
}


def call(port: int, host_id: str) -> tuple[int, bytes]:
    """Call a method of a member; give the length of what came back, and its beginning.

    Parsed is nothing: this process is the one that pings.
    """
    asked = {"method_name": "double", "host_id": host_id, "data": 1}
    start, size = b"", 0
    with connected(port) as sock:
        sock.settimeout(60)
        sock.sendall(request(call_body("method_call", asked), "Connection: close"))
        buffer = bytearray(2**20)
        with contextlib.suppress(ConnectionError):
            while got := sock.recv_into(buffer):
                size += got
                if len(start) < 2000:
                    start += bytes(buffer[:got])[:2000]
    return size, start


@pytest.mark.parametrize("what", WITHIN)
def test_nobody_waits_while_a_long_result_is_read(relay: HostProcess, proxy: Proxy, what: str) -> None:
    sent = answer(WITHIN[what])
    refused = any(word in what for word in ("tag", "comment", "attributes"))
    with hostile(proxy, sent) as host_id, hostile(proxy, answer(b"<value/>")) as honest:
        call(relay.port, honest)  # the first call of all imports what it needs
        with Watch(relay.port) as watch:
            for _ in range(3):
                size, start = call(relay.port, host_id)
                assert (b"<int>-32700</int>" in start) is refused, start
                assert refused or size > 2**20
    assert watch.longest < LONGEST_WAIT, f"a ping took {watch.longest:.3f} s of {watch.pings}"


@pytest.mark.may_grow(256, "MAX_UNDER_WAY of answers, each as bytes, as values and as the answer that is written")
def test_many_long_results_at_once_are_bounded_together(relay: HostProcess, proxy: Proxy) -> None:
    """Twenty callers of 8 MiB each, and one who asks an honest member for a little."""
    sent = answer(b"<value><string>%b</string></value>" % (b"x" * (RESULT.size - 1000)))
    process = psutil.Process(relay.pid)
    with (
        hostile(proxy, sent) as host_id,
        hostile(proxy, answer(b"<value><string>honest</string></value>")) as honest,
    ):
        call(relay.port, honest)
        before, grown = process.memory_info().rss, 0
        with Watch(relay.port) as watch:
            threads = [threading.Thread(target=call, args=(relay.port, host_id)) for _ in range(20)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                assert b"honest" in call(relay.port, honest)[1]
                grown = max(grown, process.memory_info().rss - before)
            for thread in threads:
                thread.join()
    assert watch.longest < LONGEST_WAIT, f"a ping took {watch.longest:.3f} s of {watch.pings}"
    assert grown < 256 * 2**20, f"the relay grew by {grown / 2**20:.0f} MiB"
