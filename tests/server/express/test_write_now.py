"""Writing at once says how much has gone, and never waits."""

import os
import socket

import pytest

from co2.server.express import write_now as module
from co2.server.express.write_now import SMALL, write_now


@pytest.fixture(params=["compiled", "not compiled"], autouse=True)
def _compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "not compiled":
        monkeypatch.setattr(module, "_IS_COMPILED", False)


def test_all_pieces_arrive_in_order() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        for pieces in ([b"ham"], [b"ham", b"", b"spam"], [b"x"] * 100, [bytes(SMALL // 4)] * 3):
            size = sum(map(len, pieces))
            assert write_now(ours.fileno(), pieces) == size
            got = b""
            while len(got) < size:
                got += theirs.recv(size)
            assert got == b"".join(pieces)


@pytest.mark.parametrize("size", [100, SMALL + 1])
def test_a_full_socket_takes_nothing_and_nobody_waits(size: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        pieces = [bytes(size)]
        sent = 0
        while written := write_now(ours.fileno(), pieces):
            sent += written
        assert write_now(ours.fileno(), pieces) == 0
        got = 0
        theirs.settimeout(5)
        while got < sent:
            got += len(theirs.recv(2**20))
        assert write_now(ours.fileno(), pieces) == size


@pytest.mark.parametrize("size", [100, SMALL + 1])
def test_a_broken_socket_takes_nothing_and_sends_no_signal(size: int) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        theirs.close()
        assert write_now(ours.fileno(), [bytes(size)]) == 0
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    assert write_now(descriptor, [bytes(size)]) == 0
