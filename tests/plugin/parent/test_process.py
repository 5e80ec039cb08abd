"""A plugin host that the machine does not let us start leaves nothing behind."""

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import pytest

from co2.plugin.parent.process import ProcessChild, ThreadChild
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.plugin_frames.frames import (
    Applied,
    Checked,
    Deliver,
    Exited,
    Flow,
    Flush,
    Goodbye,
    Load,
    Loaded,
    Make,
    Start,
    encode_frame,
)
from co2.protocol.wire.plugin_frames.lifecycle import Stop
from co2.values import pack
from tests.plugin.support import PATIENCE, write_package

OPEN = Path("/proc/self/fd")


def descriptors() -> int:
    return len([*OPEN.iterdir()])


@pytest.mark.skipif(not OPEN.is_dir(), reason="counts open files in /proc")
def test_where_there_are_no_more_files_none_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more() -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    async def scenario() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socketpair", no_more)
            before = descriptors()
            for _ in range(3):
                with pytest.raises(OSError, match="Too many open files"):
                    await ProcessChild(lambda frame: None, logging.getLogger("co2.plugins")).start()
            assert descriptors() == before

    asyncio.run(scenario())


def test_where_the_system_refuses_such_buffers_a_child_starts_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on macOS, over kern.ipc.maxsockbuf."""
    refused: set[int] = set()

    class Small(socket.socket):
        def setsockopt(self, _level: int, option: int, *_value: object) -> NoReturn:
            refused.add(option)
            raise OSError(errno.ENOBUFS, "No buffer space available")

    make_pair = socket.socketpair

    async def scenario() -> None:
        came: list[object] = []
        child = ProcessChild(came.append, logging.getLogger("co2.plugins"))
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socketpair", lambda: [Small(fileno=end.detach()) for end in make_pair()])
            await child.start()
        try:
            child.send(Stop(1.0))
            assert await asyncio.wait_for(child.exited, PATIENCE) == "ended with exit status 0"
        finally:
            child.kill()
            await child.end()
        assert came == [Goodbye()]

    asyncio.run(scenario())
    assert refused == {socket.SO_SNDBUF, socket.SO_RCVBUF}


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="waits for a process without taking its status")
def test_a_child_that_ends_before_its_pipes_are_connected_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the machine had killed it at once, while the event loop was busy."""

    async def scenario() -> None:
        child = ProcessChild(lambda frame: None, logging.getLogger("co2.plugins"))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", shutil.which("false"))
            loop = asyncio.get_running_loop()
            loop.call_soon(os.waitid, os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # until the child has ended
            await child.start()
        assert await asyncio.wait_for(child.exited, PATIENCE) == "ended with exit status 1"
        await child.end()

    asyncio.run(scenario())


SLOW = """
import time
class X_Ham(plugin.Co2Plugin):
    def receive(self, data_dict):
        time.sleep(data_dict["data"])
    def __exit__(self):
        time.sleep(self.config.get("exit", 0))
"""


@pytest.mark.parametrize(
    ("received", "exited", "end"),
    [
        pytest.param(0, 0, Exited, id="all has ended"),
        pytest.param(0, 60, Exited, id="an __exit__ goes on, which does no more harm"),
        pytest.param(60, 0, Goodbye, id="a receive goes on, and its progress would count as the next plugin's"),
    ],
)
def test_code_is_kept_only_where_no_old_call_goes_on(
    tmp_path: Path, received: float, exited: float, end: type[object]
) -> None:
    write_package(tmp_path, "ham", spam=SLOW)

    async def scenario() -> None:
        came: list[object] = []
        child = ProcessChild(came.append, logging.getLogger("co2.plugins"))

        async def until(kind: type[object] | tuple[type[object], ...]) -> object:
            async with asyncio.timeout(PATIENCE):
                while not (found := [frame for frame in came if isinstance(frame, kind)]):
                    await asyncio.sleep(0.005)
            return found[0]

        await child.start()
        try:
            child.send(Load("ham", str(tmp_path), {}, {"exit": exited}, 1.0))
            await until(Checked)
            child.send(Make())
            await until(Loaded)
            child.send(Start())
            batch = make_batch([pack({"data": received})])
            child.send(Deliver(1, 0, 0, "a@1.2.3.4:5", ("1.2.3.4", 5), batch))
            if received:
                while not child.words.message(0) % 2:
                    await asyncio.sleep(0.005)
            else:
                await until(Applied)
            child.send(Stop(0.1, keep=True))
            assert isinstance(await until((Exited, Goodbye)), end)
        finally:
            child.kill()
            await child.end()

    asyncio.run(scenario())


class Kept(ThreadChild):
    """A child whose other end is in our hands."""

    def __init__(self) -> None:
        self.came: list[object] = []
        super().__init__(self.came.append)
        self.killed = False

    async def start(self) -> None:
        ours, self.other = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        self.other.setblocking(False)
        await self._connect(ours)

    def kill(self) -> None:
        self.killed = True


def with_child(test: Callable[[Kept], Awaitable[None]]) -> None:
    async def scenario() -> None:
        child = Kept()
        await child.start()
        try:
            await test(child)
        finally:
            await child.end()
            child.other.close()

    asyncio.run(scenario())


def test_what_a_child_was_sent_ahead_is_left_out_and_the_rest_is_sent() -> None:
    async def test(child: Kept) -> None:
        whole = encode_frame(Flow(True, "why"))
        for cut in range(len(whole) + 1):
            child.written_ahead(whole[:cut])
            child.send(Flow(True, "why"))
            assert not child.left_ahead()
            if cut < len(whole):
                assert child.other.recv(1000) == whole[cut:]
        with pytest.raises(BlockingIOError):
            child.other.recv(1000)

    with_child(test)


def test_of_several_frames_that_a_child_was_sent_ahead_each_is_left_out() -> None:
    async def test(child: Kept) -> None:
        frames = [Flow(True, why) for why in ("one", "two", "three")]
        child.written_ahead(b"".join(map(encode_frame, frames[:2])))
        left = []
        for frame in frames:
            child.send(frame)
            left.append(child.left_ahead())
        assert left == [len(encode_frame(frames[1])), 0, 0]
        assert child.other.recv(1000) == encode_frame(frames[2])

    with_child(test)


def test_what_differs_from_what_a_child_was_sent_ahead_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    async def test(child: Kept) -> None:
        child.written_ahead(b"something else")
        child.send(Flow(True, "why"))
        assert child.left_ahead()
        with pytest.raises(BlockingIOError):
            child.other.recv(1000)
        child.break_off("it differs")
        assert child.killed
        assert "a plugin host is stopped: it differs" in caplog.text

    with_child(test)


def test_frames_pass_a_child_by_only_between_frames_and_where_nothing_waits() -> None:
    async def test(child: Kept) -> None:
        assert child.descriptor >= 0
        frame = encode_frame(Flush(1, 2.0))
        child.take_ahead(frame[:3])
        assert child.descriptor == -1
        child.take_ahead(frame[3:])
        assert child.came == [Flush(1, 2.0)] and child.descriptor >= 0
        for _ in range(100):
            child.send(Flow(True, "x" * 10_000))
        assert child.descriptor == -1
        assert child._transport is not None
        while child._transport.get_write_buffer_size():
            with contextlib.suppress(BlockingIOError):
                child.other.recv(1_000_000)
            await asyncio.sleep(0)
        assert child.descriptor >= 0

    with_child(test)
