"""That the look at hosts after an attack finds those that are not well: else all attacks would pass."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.conftest import Target
from tests.attacks.hosts import MAX_GROWTH, Attacked, guard, running
from tests.harness import wait_for

PONG = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nConnection: close\r\nContent-Length: 106\r\n\r\n"
    b"<methodResponse><params><param><value><boolean>1</boolean></value></param></params></methodResponse>      "
)


@pytest.fixture
def slow() -> Iterator[tuple[int, list[float]]]:
    """A port whose pings are answered after so many seconds each; at once where none are left."""
    waits: list[float] = []
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                with sock:
                    sock.recv(2**16)
                    ended.wait(waits.pop(0) if waits else 0)
                    sock.sendall(PONG)

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1], waits
        ended.set()
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_host_that_has_grown_is_not_well(target: Target) -> None:
    host = Attacked("the host", target.port, os.getpid())
    host.check(MAX_GROWTH)
    held = bytearray(os.urandom(1)) * (MAX_GROWTH + 2**24)
    with pytest.raises(AssertionError, match=r"the host grew by \d+ MiB; the bound is 64 MiB"):
        host.check(MAX_GROWTH)
    host.check(2 * MAX_GROWTH)
    del held


def test_a_host_that_is_slow_twice_is_not_well(slow: tuple[int, list[float]]) -> None:
    port, waits = slow
    host = Attacked("the host", port, os.getpid())
    waits += [1.1]
    host.check(MAX_GROWTH)
    waits += [1.1, 1.1]
    with pytest.raises(AssertionError, match=r"the host took 1\.\d s and 1\.\d s for a ping"):
        host.check(MAX_GROWTH)


def test_a_host_that_an_attack_has_ended_is_not_well(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="has ended with SIGKILL under attack"),
        running(tmp_path, "relay") as host,
    ):
        host.process.kill()
        wait_for(lambda: host.process.poll() is not None, "its end")


def test_hosts_are_looked_at_while_they_are_there_and_before_they_are_stopped(tmp_path: Path) -> None:
    before = guard.checks
    guard.check()
    others = guard.checks - before
    with running(tmp_path, "relay"):
        guard.check()
        assert guard.checks == before + 2 * others + 1
    assert guard.checks == before + 2 * others + 2
    guard.check()
    assert guard.checks == before + 3 * others + 2
