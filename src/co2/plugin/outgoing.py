"""The way out of a plugin host: what plugins send, and what the host wants to know, to one socket.

``publish`` appends to a bounded queue; one thread writes it out in big frames. When nothing is queued and
the last write is a little while ago, the sender writes the socket itself: that saves a change of threads, and
what it wrote outlives the process.
"""

import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from co2.errors import NotRunning, OutboxFull
from co2.protocol.frames import Applied, ChildFrame, Publish, Record, encode_frame

__all__ = ["MAX_BATCH_BYTES", "MAX_BATCH_MESSAGES", "MAX_QUEUED", "MAX_RECORDS", "Outgoing"]

MAX_QUEUED = 4 * 1024 * 1024
"""Bytes of messages that wait to be written; then senders wait."""

MAX_BATCH_BYTES = 1024 * 1024
MAX_BATCH_MESSAGES = 2048
"""Bounds of one Publish frame."""

MAX_RECORDS = 1000
"""Lines for the log that wait to be written; further ones are counted."""

_OVERHEAD = 64
"""Bytes that a queued message takes besides itself, roughly."""

_CONTROL_BATCH = 16
"""Control frames in one write."""

_DIRECT_AFTER = 50e-6
"""Seconds since the last write after which a sender writes by itself; quicker ones make bigger frames."""


class Outgoing:
    """Frames waiting for the socket.

    Args:
        sock: to the host, blocking.
        applied: gives the Applied frame of now, None when it says nothing new. Asked right before a write.
        broken: called once when the socket cannot be written any more.
    """

    def __init__(
        self, sock: socket.socket, applied: Callable[[], Applied | None], broken: Callable[[], None]
    ) -> None:
        self.waited = 0
        self._sock = sock
        self._applied = applied
        self._broken = broken
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._messages: deque[tuple[str, bytes]] = deque()
        self._queued = 0
        self._control: deque[ChildFrame] = deque()
        self._records = 0
        self._lost_records = 0
        self._report = False
        self._rest = b""
        self._writing = False
        self._last_write = 0.0
        self._open = False
        self._held = False
        self._closing = False
        self._thread = threading.Thread(target=self._write_all, name="co2-writer", daemon=True)
        self._thread.start()

    def publish(self, name: str, packed: bytes, timeout: float) -> None:
        """Queue a message of this plugin; wait for room at most ``timeout`` seconds.

        Raises:
            OutboxFull: no room came.
            NotRunning: the host stops.
        """
        with self._lock:
            if self._closing:
                raise NotRunning(f"{name} has stopped, so it cannot send")
            if self._queued > MAX_QUEUED:
                self._wait_for_room(name, timeout)
            if self._idle():
                self._last_write = time.monotonic()
                self._write_now(encode_frame(Publish(name, [packed])))
                return
            self._messages.append((name, packed))
            self._queued += len(packed) + _OVERHEAD
            self._work.notify()

    def frame(self, frame: ChildFrame) -> None:
        """Queue a frame that goes before all messages."""
        with self._lock:
            self._control.append(frame)
            self._work.notify()

    def record(self, source: str, level: int, text: str) -> None:
        """Queue a line for the log; beyond a bound only count it."""
        with self._lock:
            if self._records >= MAX_RECORDS:
                self._lost_records += 1
                return
            self._records += 1
            self._control.append(Record(source, level, text))
            self._work.notify()

    def report(self) -> None:
        """Say soon what has been applied."""
        with self._lock:
            self._report = True
            self._work.notify()

    def start(self) -> None:
        """Let messages out: the package is loaded everywhere."""
        with self._lock:
            self._open = True
            self._work.notify()

    def flow(self, is_open: bool) -> None:
        """Hold messages back, or let them go again."""
        with self._lock:
            self._held = not is_open
            self._work.notify()

    def close(self, timeout: float) -> None:
        """Take no more messages, write what waits, within ``timeout`` seconds."""
        with self._lock:
            self._closing = True
            self._held = False
            self._work.notify()
            self._room.notify_all()
        self._thread.join(timeout)

    def _idle(self) -> bool:
        return (
            self._open
            and not (self._held or self._messages or self._control or self._rest or self._writing)
            and time.monotonic() - self._last_write > _DIRECT_AFTER
        )

    def _wait_for_room(self, name: str, timeout: float) -> None:
        self.waited += 1
        self._report = True
        self._work.notify()
        deadline = time.monotonic() + timeout
        while self._queued > MAX_QUEUED:
            left = deadline - time.monotonic()
            if left <= 0:
                raise OutboxFull(timeout)
            self._room.wait(left)
            if self._closing:
                raise NotRunning(f"{name} has stopped, so it cannot send")

    def _write_now(self, data: bytes) -> None:
        """Write what the socket takes at once, leave the rest to the thread."""
        try:
            written = self._sock.send(data, socket.MSG_DONTWAIT)
        except OSError:
            written = 0  # full; or broken, which the thread finds out too
        if written < len(data):
            self._rest = data[written:]
            self._work.notify()

    def _write_all(self) -> None:
        try:
            while data := self._next():
                self._sock.sendall(data)
                with self._lock:
                    self._writing = False
        except (BrokenPipeError, ConnectionResetError):
            # The satellite is gone. The reading side sees it too, and ends in good order.
            with self._lock:
                self._closing = True
                self._room.notify_all()
        except BaseException:
            # Memory is out, or a plugin has closed our socket: nothing can be said any more.
            self._broken()

    def _next(self) -> bytes:
        """Wait for something to write; b'' when all is written and the host stops."""
        with self._lock:
            while True:
                if data := self._take():
                    self._writing = True
                    self._last_write = time.monotonic()
                    return data
                if self._closing:
                    return b""
                self._work.wait()

    def _take(self) -> bytes:
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        parts: list[bytes] = []
        if self._report:
            self._report = False
            if (applied := self._applied()) is not None:
                parts.append(encode_frame(applied))
        while self._control and len(parts) < _CONTROL_BATCH:
            parts.append(encode_frame(self._next_control()))
        if not parts and self._messages and self._open and not self._held:
            parts.append(encode_frame(self._next_batch()))
            self._room.notify_all()
        return b"".join(parts)

    def _next_control(self) -> ChildFrame:
        frame = self._control.popleft()
        if isinstance(frame, Record):
            self._records -= 1
            if not self._records and self._lost_records:
                text = f"{self._lost_records} lines were not logged: they came too fast"
                self._lost_records = 0
                self._control.append(Record("", 30, text))
                self._records = 1
        return frame

    def _next_batch(self) -> Publish:
        name, packed = self._messages.popleft()
        batch = [packed]
        size = len(packed)
        self._queued -= len(packed) + _OVERHEAD
        while self._messages and len(batch) < MAX_BATCH_MESSAGES:
            next_name, packed = self._messages[0]
            size += len(packed)
            if next_name != name or size > MAX_BATCH_BYTES:
                break
            self._messages.popleft()
            self._queued -= len(packed) + _OVERHEAD
            batch.append(packed)
        return Publish(name, batch)
