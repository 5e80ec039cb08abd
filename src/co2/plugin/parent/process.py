"""A plugin host at its parent: frames in and out, its end, and ways to end it."""

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
"""Bytes of one read from a child."""

_DRAIN = 0.5
"""Seconds to read the rest from a child that has ended; programs it started may keep its pipes open."""

_TELL_EVERY = 5.0
"""Seconds between two lines about suppressed log lines."""

_DUMP = 0.3
"""Seconds for a child to write its stacks."""

_logger = logging.getLogger("co2.plugins")

OnFrame = Callable[[ChildFrame], None]


def _ignore(_what: object) -> None:
    """Do nothing, in place of a callback after the end."""


class _SocketPair(asyncio.BufferedProtocol):
    """The parent's end of the socket pair.

    Attributes:
        unsent: bytes that the child has not read yet.
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
                _logger.exception("a frame of a plugin host could not be processed")

    def resume_writing(self) -> None:
        self.unsent.go_on()

    def forget(self) -> None:
        self._on_frame, self._on_garbage = _ignore, _ignore

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


class Child(ABC):
    """A plugin host, as a process or as threads.

    Attributes:
        pid: of the process; None for threads.
        words: progress words of its plugins.
        exited: done when it has ended; its result is the cause, in words.
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
        """Descriptor of the parent's end while whole frames can bypass the transport, else -1."""
        transport, link = self._transport, self._link
        if transport is None or link is None or transport.is_closing() or link.unsent.waits:
            return -1
        return self._descriptor if link.is_between else -1

    def take_ahead(self, data: bytes, more: bool = False) -> None:
        """Handle bytes that were read without the transport."""
        if self._link is not None:
            self._link.take(data)

    def written_ahead(self, data: bytes) -> None:
        """Record bytes that were written without the transport; the next sends leave them out."""
        self._ahead = data

    def left_ahead(self) -> int:
        """Return how many of these bytes are still to be left out."""
        return len(self._ahead)

    def break_off(self, why: str) -> None:
        """End the child: its state no longer matches its parent's."""
        _logger.error("a plugin host is stopped: %s", why)
        self.kill()

    @abstractmethod
    async def start(self) -> None:
        """Start the child."""

    def send(self, frame: HostFrame) -> None:
        """Send a frame; do nothing if the child has ended."""
        transport, link = self._transport, self._link
        if transport is None or link is None or transport.is_closing():
            return
        data = encode_frame(frame)
        if ahead := self._ahead:
            if ahead.startswith(data):
                self._ahead = ahead[len(data) :]  # the rest belongs to the next frames
                return
            if not data.startswith(ahead):
                return  # the forecast was wrong; break_off() ends the child for this
            data, self._ahead = data[len(ahead) :], b""
        if not link.unsent.waits:
            # Not through the transport, which would write only at the end of the loop's turn. A write fails if the
            # socket is full or broken; the transport notices a broken socket too.
            with contextlib.suppress(OSError):
                data = data[os.write(self._descriptor, data) :]
        if data:
            link.unsent.add((data,))

    @abstractmethod
    def kill(self) -> None:
        """End the child at once."""

    async def where(self, folder: str) -> str:
        """Return where the child hangs: ``file:line in function``, '' if unknown."""
        return ""

    def tick(self) -> None:  # noqa: B027 - threads have nothing to look after
        """Do regular work; called several times a second."""

    async def end(self) -> None:
        """Read the rest from an ended child, and close the transport."""
        if self._link is not None:
            await asyncio.wait([self._link.closed], timeout=_DRAIN)
        if self._transport is not None:
            self._transport.close()

    def forget(self) -> None:
        """Drop all references from and to the child: it is not used any more.

        Cycles are collected very rarely, and a link has a big buffer.
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
        _logger.error("a plugin host sent a malformed frame: %s", problem)
        self.kill()

    def _ended(self, how: str) -> None:
        if not self.exited.done():
            self.exited.set_result(how)


class _Process(asyncio.SubprocessProtocol):
    """The pipes of a plugin host's process, and its end.

    Args:
        outputs: by file descriptor of the child.
        exited: called with the exit status once the process has ended, even before it is known to be started.

    Attributes:
        drained: done when all pipes are closed.
    """

    def __init__(self, outputs: dict[int, ProcessOutput], exited: Callable[[int | None], None]) -> None:
        self.drained = asyncio.get_running_loop().create_future()
        self._outputs = outputs
        self._open = set(outputs)
        self._exited = exited
        self._transport: asyncio.SubprocessTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._outputs[fd].feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open and not self.drained.done():
            self.drained.set_result(None)

    def process_exited(self) -> None:
        self._exited(self._transport.get_returncode())


class ProcessChild(Child):
    """A plugin host in a process of its own.

    Args:
        on_frame: called with each of its frames.
        logger: for its output.
        env: names of environment variables that it gets besides the common ones.
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
            OSError: the system refuses a process or a socket.
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
        """Kill the whole session of the child."""
        if not self.exited.done():
            self._kill_session()

    async def where(self, folder: str) -> str:
        """Make faulthandler write all stacks to stderr, and thus to debug.log; return the innermost place."""
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
        """Report suppressed log lines, once the budget has room for a line."""
        now = asyncio.get_running_loop().time()
        if (
            (self._budget.lines or self._budget.bytes)
            and not self._budget.spent
            and now >= self._told_at + _TELL_EVERY
        ):
            self._told_at = now
            self._budget.tell(self._logger)

    async def end(self) -> None:
        """End all programs that the child has left in its session, too."""
        self._kill_session()
        await super().end()
        await asyncio.wait([self._protocol.drained, self.exited], timeout=_DRAIN)
        self._process.close()
        for output in self._outputs.values():
            output.close()
        self._budget.tell(self._logger)

    def forget(self) -> None:
        """Unmap the progress words, too."""
        super().forget()
        if self.pid is not None:
            self.words.close()
            del self._process, self._protocol

    def _kill_session(self) -> None:
        # The child leads its session, so its group has the child's pid; a group with members keeps the system from
        # reusing its number.
        assert self.pid is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _process_exited(self, code: int | None) -> None:
        if code == -signal.SIGXCPU:
            self._ended("has used up its CPU seconds (SIGXCPU)")
        elif code is not None and code < 0:
            with contextlib.suppress(ValueError):
                self._ended(f"was killed by {signal.Signals(-code).name}")
        self._ended(f"ended with exit status {code}")


class ThreadChild(Child):
    """A plugin host in threads of this process, for tests and tiny boards. A thread that hangs cannot be ended.

    Args:
        on_frame: called with each of its frames.
    """

    async def start(self) -> None:
        """Start its threads."""
        from co2.plugin.child.host import PluginHost  # rarely needed, and a twentieth of a satellite's start time

        ours, theirs = socket.socketpair()
        self.words = ProgressWords()
        loop = asyncio.get_running_loop()
        host = PluginHost(theirs, self.words, broken=lambda: _shut(theirs))

        def run() -> None:
            host.run()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._ended, "ended")

        await self._connect(ours)
        threading.Thread(target=run, name="co2-plugin-host", daemon=True).start()

    def kill(self) -> None:
        """Abandon the threads: plugins get no more messages; ``__exit__`` runs if they ever return."""
        if self._transport is not None:
            self._transport.close()
        self._ended("was abandoned")


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def make_child(isolation: str, on_frame: OnFrame, logger: logging.Logger, env: Sequence[str] = ()) -> Child:
    """Create a child that is not started yet; ``isolation`` is ``process`` or ``thread``."""
    return ThreadChild(on_frame) if isolation == "thread" else ProcessChild(on_frame, logger, env)
