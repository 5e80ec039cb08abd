"""A plugin host as its parent sees it: frames in and out, an end, and means to bring that about."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import cast

from co2.errors import BadRequest
from co2.logs import LineBudget
from co2.plugin.child.progress import ProgressWords, make_progress_file
from co2.plugin.packages.environment import environment_of
from co2.plugin.parent.process_output import BURST, RATE, ProcessOutput
from co2.protocol.wire.plugin_frames.frames import ChildFrame, FrameReader, HostFrame, encode_frame
from co2.unsent import Unsent

__all__ = ["Child", "ProcessChild", "ThreadChild", "make_child"]

SOCKET_BUFFER = 1024 * 1024

READ_SIZE = 256 * 1024
"""Bytes that are read from a child at once."""

_DRAIN = 0.5
"""Seconds to read what a child that has ended left behind; programs it started may keep its pipes open."""

_TELL_EVERY = 5.0
"""Seconds between two lines about what was left out of the log."""

_DUMP = 0.3
"""Seconds for a child to write where it hangs."""

_logger = logging.getLogger("co2.plugins")

OnFrame = Callable[[ChildFrame], None]


def _ignore(_what: object) -> None:
    """Takes the place of what is called when there is news."""


class _SocketPair(asyncio.BufferedProtocol):
    """Our end of the socket pair.

    Attributes:
        unsent: what the child has not read yet.
    """

    unsent: Unsent

    def __init__(self, on_frame: OnFrame, on_garbage: Callable[[str], None]) -> None:
        self.closed = asyncio.get_running_loop().create_future()
        self._reader = FrameReader("child")
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._on_frame = on_frame
        self._on_garbage = on_garbage

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.unsent = Unsent(cast(asyncio.Transport, transport))
        self.unsent.begin()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.take(self._buffer[:nbytes])

    @property
    def is_between(self) -> bool:
        return self._reader.is_between

    def take(self, data: bytes | memoryview) -> None:
        try:
            frames = self._reader.feed(data)
        except BadRequest as error:
            self._on_garbage(str(error))
            return
        for frame in frames:
            try:
                self._on_frame(frame)
            except Exception:
                _logger.exception("a frame of a plugin host could not be handled")

    def resume_writing(self) -> None:
        self.unsent.go_on()

    def forget(self) -> None:
        self._on_frame, self._on_garbage = _ignore, _ignore

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


class Child(ABC):
    """What process and thread have in common.

    Attributes:
        pid: of the process; None for threads.
        words: where each plugin stands.
        exited: done when it has ended; tells how, in words.
        can_kill: whether :meth:`kill` really ends it.
    """

    can_kill = False

    def __init__(self, on_frame: OnFrame) -> None:
        self.pid: int | None = None
        self.words: ProgressWords
        self.exited: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._on_frame = on_frame
        self._transport: asyncio.Transport | None = None
        self._descriptor = -1
        self._link: _SocketPair | None = None
        self._ahead = b""

    @property
    def descriptor(self) -> int:
        """Of our end of the socket pair, as long as whole frames can come and go past the transport; else -1."""
        transport, link = self._transport, self._link
        if transport is None or link is None or transport.is_closing() or link.unsent.waits:
            return -1
        return self._descriptor if link.is_between else -1

    def take_ahead(self, data: bytes, more: bool = False) -> None:
        """Take bytes as they have come, past the transport."""
        if self._link is not None:
            self._link.take(data)

    def written_ahead(self, data: bytes) -> None:
        """Learn what has been written already, past the transport: it is left out of what is sent next."""
        self._ahead = data

    def left_ahead(self) -> int:
        """Say how many bytes of that have not been left out yet."""
        return len(self._ahead)

    def break_off(self, why: str) -> None:
        """End it: what it has got, or was not given, is not what its parent knows of."""
        _logger.error("a plugin host is ended: %s", why)
        self.kill()

    @abstractmethod
    async def start(self) -> None:
        """Start it."""

    def send(self, frame: HostFrame) -> None:
        """Send a frame; one that has ended does not mind."""
        transport, link = self._transport, self._link
        if transport is None or link is None or transport.is_closing():
            return
        data = encode_frame(frame)
        if ahead := self._ahead:
            if ahead.startswith(data):
                self._ahead = ahead[len(data) :]  # the rest of it is of the frames that come next
                return
            if not data.startswith(ahead):
                return  # the child ends for it
            data, self._ahead = data[len(ahead) :], b""
        if not link.unsent.waits:
            # Past the transport, which would write at the end of its loop's turn. What fails is full; or broken,
            # which the transport finds out too.
            with contextlib.suppress(OSError):
                data = data[os.write(self._descriptor, data) :]
        if data:
            link.unsent.add((data,))

    @abstractmethod
    def kill(self) -> None:
        """End it at once."""

    async def where(self, folder: str) -> str:
        """Ask where it hangs: ``file:line in function``, '' where that cannot be told."""
        return ""

    def tick(self) -> None:  # noqa: B027 - threads have nothing to look after
        """Called now and then."""

    async def end(self) -> None:
        """Read what an ended child left behind, and let go of everything."""
        if self._link is not None:
            await asyncio.wait([self._link.closed], timeout=_DRAIN)
        if self._transport is not None:
            self._transport.close()

    def forget(self) -> None:
        """Let go of the words, too, and of all that leads back to here: nobody looks at it any more.

        Hosts look for what only holds itself very rarely, and a link has a big buffer.
        """
        if self._link is not None:
            self._link.forget()
        self._link = self._transport = None
        self._on_frame = _ignore

    async def _connect(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        transport, link = await loop.create_unix_connection(
            lambda: _SocketPair(self._on_frame, self._garbage), sock=sock
        )
        self._transport = transport
        self._descriptor = sock.fileno()
        self._link = link

    def _garbage(self, problem: str) -> None:
        _logger.error("a plugin host sent what is no frame: %s", problem)
        self.kill()

    def _ended(self, how: str) -> None:
        if not self.exited.done():
            self.exited.set_result(how)


class _Process(asyncio.SubprocessProtocol):
    def __init__(self, outputs: dict[int, ProcessOutput], exited: Callable[[], None]) -> None:
        self.drained = asyncio.get_running_loop().create_future()
        self._outputs = outputs
        self._open = set(outputs)
        self._exited = exited

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._outputs[fd].feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open and not self.drained.done():
            self.drained.set_result(None)

    def process_exited(self) -> None:
        self._exited()


class ProcessChild(Child):
    """A plugin host in a process of its own.

    Args:
        on_frame: takes its frames.
        logger: for what it prints.
        env: names of variables that it gets beside those that all get.
    """

    can_kill = True

    def __init__(self, on_frame: OnFrame, logger: logging.Logger, env: Sequence[str] = ()) -> None:
        super().__init__(on_frame)
        self._env = env
        self._logger = logger
        self._budget = LineBudget(RATE, BURST)
        self._told_at = -_TELL_EVERY
        self._errors = ProcessOutput(logger, logging.WARNING, self._budget)
        self._outputs = {1: ProcessOutput(logger, logging.INFO, self._budget), 2: self._errors}
        self._process: asyncio.SubprocessTransport
        self._protocol: _Process

    async def start(self) -> None:
        """Start the process.

        Raises:
            OSError: the machine does not let us.
        """
        loop = asyncio.get_running_loop()
        progress_fd = make_progress_file()
        try:
            ours, theirs = socket.socketpair()
        except OSError:
            os.close(progress_fd)
            raise
        try:
            for sock in (ours, theirs):
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    # Linux gives as much as it may; macOS refuses what is over kern.ipc.maxsockbuf.
                    with contextlib.suppress(OSError):
                        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
            self.words = ProgressWords(progress_fd)
            fds = (theirs.fileno(), progress_fd)
            self._process, self._protocol = await loop.subprocess_exec(
                lambda: _Process(self._outputs, self._process_exited),
                # -P: the current folder must not shadow installed modules
                *(sys.executable, "-P", "-m", "co2.plugin.child.host", *map(str, fds)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=fds,
                start_new_session=True,
                env={**environment_of(os.environ, self._env), "MALLOC_ARENA_MAX": "2"},
            )
            self.pid = self._process.get_pid()
            await self._connect(ours)
        except BaseException:
            ours.close()
            if self.pid is not None:
                self._kill_session()
                self._process.close()
            raise
        finally:
            theirs.close()
            os.close(progress_fd)

    def kill(self) -> None:
        """Kill the whole session that was made for it."""
        if not self.exited.done():
            self._kill_session()

    async def where(self, folder: str) -> str:
        """Have faulthandler write all stacks to its stderr, which also brings them into debug.log."""
        from co2.plugin.parent.process_output import innermost_place

        self._errors.expect_dump()
        with contextlib.suppress(OSError):
            self._process.send_signal(signal.SIGUSR2)
        deadline = asyncio.get_running_loop().time() + _DUMP
        while not (place := innermost_place(self._errors.tail, folder)):
            if self.exited.done() or asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.01)
        return place

    def tick(self) -> None:
        """Tell what was left out of the log, once there is room for a line."""
        now = asyncio.get_running_loop().time()
        if (
            (self._budget.lines or self._budget.bytes)
            and not self._budget.spent
            and now >= self._told_at + _TELL_EVERY
        ):
            self._told_at = now
            self._budget.tell(self._logger)

    async def end(self) -> None:
        """Also end what the child has started and left behind in its session."""
        self._kill_session()
        await super().end()
        await asyncio.wait([self._protocol.drained, self.exited], timeout=_DRAIN)
        self._process.close()
        for output in self._outputs.values():
            output.close()
        self._budget.tell(self._logger)

    def forget(self) -> None:
        """Unmap the words, too."""
        super().forget()
        if self.pid is not None:
            self.words.close()
            del self._process, self._protocol

    def _kill_session(self) -> None:
        # The session was made for this child, so its group has the child's pid; a group with members keeps
        # its number from being given to anybody else.
        assert self.pid is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _process_exited(self) -> None:
        code = self._process.get_returncode()
        if code == -signal.SIGXCPU:
            self._ended("has used up its CPU seconds (SIGXCPU)")
        elif code is not None and code < 0:
            with contextlib.suppress(ValueError):
                self._ended(f"was killed by {signal.Signals(-code).name}")
        self._ended(f"ended with exit status {code}")


class ThreadChild(Child):
    """A plugin host in threads of this process: for tests and tiny boards. Nothing can end one that hangs.

    Args:
        on_frame: takes its frames.
    """

    async def start(self) -> None:
        """Start its threads."""
        from co2.plugin.child.host import PluginHost  # a twentieth of a host's start, and few need it here

        ours, theirs = socket.socketpair()
        self.words = ProgressWords()
        loop = asyncio.get_running_loop()
        host = PluginHost(theirs, self.words, broken=lambda: _shut(theirs))

        def run() -> None:
            host.run()
            with contextlib.suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(self._ended, "ended")

        await self._connect(ours)
        threading.Thread(target=run, name="co2-plugin-host", daemon=True).start()

    def kill(self) -> None:
        """Leave it behind: its plugins get no more messages, their ``__exit__`` is called if they ever return."""
        if self._transport is not None:
            self._transport.close()
        self._ended("left behind")


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def make_child(isolation: str, on_frame: OnFrame, logger: logging.Logger, env: Sequence[str] = ()) -> Child:
    """Make a child that is not started yet; ``isolation`` is ``process`` or ``thread``."""
    return ThreadChild(on_frame) if isolation == "thread" else ProcessChild(on_frame, logger, env)
