"""Writing at once says how much has gone, and never waits."""

import os
import socket

import pytest

from co2.server.express.write_now import MAX_PIECES, WriteNow, portable, write_now
from tests.needs import needs

LONG = 64 * 1024
"""Bytes up to which the interpreter is not released."""

either = pytest.mark.parametrize(
    "write", [pytest.param(write_now, id="chosen"), pytest.param(portable, id="portable")]
)


@either
def test_all_pieces_arrive_in_order(write: WriteNow) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        for pieces in ([b"ham"], [b"ham", b"", b"spam"], [b"x"] * MAX_PIECES, [bytes(LONG // 4)] * 3):
            size = sum(map(len, pieces))
            assert write(ours.fileno(), pieces) == size
            got = b""
            while len(got) < size:
                got += theirs.recv(size)
            assert got == b"".join(pieces)


@either
@pytest.mark.parametrize("size", [100, LONG + 1])
def test_a_full_socket_takes_nothing_and_nobody_waits(write: WriteNow, size: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        pieces = [bytes(size)]
        sent = 0
        while written := write(ours.fileno(), pieces):
            sent += written
        assert write(ours.fileno(), pieces) == 0
        got = 0
        theirs.settimeout(5)
        while got < sent:
            got += len(theirs.recv(2**20))
        assert write(ours.fileno(), pieces) == size


@either
@pytest.mark.parametrize("size", [100, LONG + 1])
def test_a_broken_socket_takes_nothing_and_sends_no_signal(write: WriteNow, size: int) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        theirs.close()
        assert write(ours.fileno(), [bytes(size)]) == 0
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    assert write(descriptor, [bytes(size)]) == 0


@needs(write_now is not portable, "the express is not compiled here (gcc, Python's headers; then make venv)")
def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="too many pieces"):
        write_now(0, [b""] * (MAX_PIECES + 1))
    for pieces in (["text"], (b"ham",)):
        with pytest.raises(TypeError):
            write_now(0, pieces)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        write_now("0", [b"ham"])  # type: ignore[arg-type]
