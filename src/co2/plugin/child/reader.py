"""The input of a plugin host: frames from the socket, read by one thread at a time.

Most packages have one receiving plugin; then that plugin's own thread reads: a message costs no change of threads.
While the plugin is busy a stand-in reads, so that calls, answers and the end get through; it also reads for
packages with several receivers.
"""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from co2.errors import BadRequest
from co2.plugin.child.speedups import listen
from co2.plugin.child.wakeup import Wakeup
from co2.protocol.wire.plugin_frames.frames import Deliver, FrameReader, Transit

__all__ = ["READ_SIZE", "TICK", "ReadingPlugin", "SocketReader"]

READ_SIZE = 256 * 1024
"""Bytes that are read at once: few enough that their processing takes milliseconds."""

TICK = 0.01
"""Seconds after which the stand-in reads for a busy plugin."""


_MESSAGES = (Deliver, Transit)
"""Frames for the plugin whose thread reads, if one does: it is the only one that gets any."""


class ReadingPlugin(Protocol):
    """The plugin whose thread reads.

    Attributes:
        idle: it waits; :meth:`SocketReader.wait` ends that.
    """

    idle: bool

    def wake(self) -> None:
        """Wake the plugin's thread: there may be work."""

    def tell_progress(self) -> None:
        """Report the plugin's progress, if it has changed."""


class SocketReader:
    """Reads the socket.

    Args:
        sock: to the satellite; blocking or not.
        take: called with each frame.
        garbage: called with the problem of an invalid frame; nothing is read after it.
        broken: called when reading cannot continue for lack of memory.
        ended: called once, when nothing more comes.

    Attributes:
        polling: the plugin waits in here: :meth:`wake` wakes it.
    """

    def __init__(
        self,
        sock: socket.socket,
        take: Callable[[Any], None],
        *,
        garbage: Callable[[str], None],
        broken: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._take = take
        self._garbage = garbage
        self._broken = broken
        self._on_end = ended
        self._ended = False
        self.polling = False
        self._reader = FrameReader("host")
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._role = threading.Lock()
        self._reads = 0
        self._plugin: ReadingPlugin | None = None
        self._wakes, self._wake = socket.socketpair()
        self._changes, self._change = socket.socketpair()
        for end in (self._wakes, self._wake, self._changes, self._change):
            end.setblocking(False)
        self._descriptor = sock.fileno()
        self._socket = select.poll()
        self._socket.register(sock, select.POLLIN)
        self._stand_in_rests = False
        self._stand_in_wakeup = Wakeup()
        self._stand_in = threading.Thread(target=self._stand_in_run, name="co2-reader", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._stand_in.start()

    def join(self, timeout: float) -> None:
        """Wait for the end, at most ``timeout`` seconds, and close the wakeup sockets."""
        self._stand_in_wakeup.ring()
        self._stand_in.join(timeout)
        if not self._stand_in.is_alive():
            for end in (self._wakes, self._wake, self._changes, self._change):
                end.close()

    def set_plugin(self, plugin: ReadingPlugin | None) -> None:
        """Set the plugin whose thread reads from now on; None for the stand-in."""
        self._plugin = plugin
        self._stand_in_wakeup.ring()
        with contextlib.suppress(OSError):  # the stand-in may be reading
            self._change.send(b"\0")

    # ---- the plugin's thread ------------------------------------------------------------------------

    def wait(
        self, something: Callable[[], bool], accept: Callable[[Deliver | Transit], None], otherwise: Wakeup
    ) -> None:
        """Read, or wait for :meth:`wake`; or for a wakeup while another thread reads.

        Args:
            something: returns whether there is work already.
            accept: takes messages.
            otherwise: rung when there is work.
        """
        plugin = self._plugin
        if plugin is None or not self._role.acquire(blocking=False):
            otherwise.wait()
            return
        self.polling = True  # first the flag, then the look: work that comes after the look sees the flag
        try:
            if not something():
                self._hear(self._wakes, accept)
        finally:
            self.polling = False
            self._role.release()
        # First the flag, then the look: a stand-in that begins to rest after the look sees a busy plugin.
        plugin.idle = False
        if self._stand_in_rests:
            self._stand_in_rests = False
            self._stand_in_wakeup.ring()

    def wake(self) -> None:
        """Wake the plugin if it waits in here; from any other thread."""
        with contextlib.suppress(OSError):
            self._wake.send(b"\0")

    # ---- reading, with the role ------------------------------------------------------------------------

    def _hear(self, wakeup: socket.socket, accept: Callable[[Deliver | Transit], None]) -> None:
        """Wait for bytes, or for a wakeup, and process them.

        It polls. A blocking ``recv`` would also wake, needlessly, each time the other side has read some bytes.
        """
        try:
            size = listen(self._descriptor, wakeup.fileno(), self._buffer)
        except OSError:
            size = 0  # the satellite is gone, as if it had closed its side
        self.polling = False
        if size >= 0:
            self._take_bytes(size, accept)
            return
        with contextlib.suppress(OSError):  # it was the wakeup; or only a signal
            wakeup.recv(4096)

    def _read(self) -> None:
        """Read the available bytes."""
        try:
            size = self._sock.recv_into(self._buffer)
        except BlockingIOError:
            return  # poll was wrong, as after a signal
        except OSError:
            size = 0  # the satellite is gone, as if it had closed its side
        self._take_bytes(size, self._take)

    def _take_bytes(self, size: int, accept: Callable[[Deliver | Transit], None]) -> None:
        """Process the bytes in the buffer; none means the end."""
        self._reads += 1
        try:
            if size:
                for frame in self._reader.feed(self._buffer[:size]):
                    if type(frame) in _MESSAGES:
                        accept(frame)
                    else:
                        self._take(frame)
                return
        except BadRequest as error:
            self._garbage(str(error))
        except BaseException:
            # Out of memory in the one place that must not miss a byte: restart from a known state.
            self._broken()
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._plugin = None
        self._on_end()

    # ---- the stand-in's thread -------------------------------------------------------------------------

    def _stand_in_run(self) -> None:
        while not self._ended:
            plugin = self._plugin
            if plugin is None:
                with self._role:
                    self._hear(self._changes, self._take)
            else:
                self._stand_by(plugin)

    def _stand_by(self, plugin: ReadingPlugin) -> None:
        """Check at intervals whether the plugin has read, and read while it does not."""
        while plugin is self._plugin and not self._ended:
            reads = self._reads
            time.sleep(TICK)
            if not plugin.idle:
                if reads == self._reads:
                    self._read_for(plugin)
            elif not self._role.locked():
                # The plugin's thread asked for the role while another thread had it. Now the role is free.
                plugin.wake()
            elif reads == self._reads:
                plugin.tell_progress()
                self._stand_in_rests = True
                if plugin.idle and reads == self._reads:
                    self._stand_in_wakeup.wait()
                self._stand_in_rests = False

    def _read_for(self, plugin: ReadingPlugin) -> None:
        """Read as long as the plugin is busy."""
        with self._role:
            while not plugin.idle and not self._ended and plugin is self._plugin:
                if self._socket.poll(TICK * 1000):
                    self._read()
        plugin.wake()
