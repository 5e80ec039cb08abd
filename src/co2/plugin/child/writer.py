"""The output of a plugin host: messages of plugins, and reports to the host, to one socket.

Messages wait in the queues of their plugins (``send_queue.py``). One thread writes them in large frames; if few
messages wait it sleeps a moment first, so that the next frame is large. A sender itself writes a message after a
pause, and a frame that has become full: that saves a change of threads, finds the encoded bytes still in the
processor's cache, and written messages outlive the process.

Frames are written in the order in which they were cut: a thread that cuts holds the lock, and sets ``writing``
until the frame is written.
"""

import errno
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from co2.errors import NotRunning, OutboxFull
from co2.plugin.child.send_queue import FULL, MAX_QUEUED, QueuedEntry, SendQueue, size_of
from co2.plugin.child.speedups import Sleeper
from co2.protocol.wire.batch import MAX_BATCH_MESSAGES
from co2.protocol.wire.plugin_frames.frames import (
    Applied,
    ChildFrame,
    DeadLetter,
    Record,
    encode_frame,
    text_for_frame,
)

__all__ = ["MAX_LETTERS", "MAX_LETTER_BYTES", "MAX_RECORDS", "MAX_WRITE", "Writer"]

MAX_RECORDS = 1000
"""Lines for the log that wait to be written; further ones are only counted."""

MAX_LETTERS = 1000
MAX_LETTER_BYTES = 4 * 1024 * 1024
"""Dead letters that wait to be written, and the bytes of their messages; further ones are only counted."""

MAX_WRITE = 512 * 1024
"""Bytes after which no further frame joins a write."""

_CONTROL_BATCH = 16
"""Control frames in one write."""

_DIRECT_AFTER = 50e-6
"""Seconds since the last write after which a sender writes itself; at a faster rate frames grow larger."""

_NAP = 200e-6
"""Seconds that the writer waits for a larger frame, if not even one full frame waits."""

_LINGER = 2e-3
"""Seconds after a sender has written full frames itself, in which the writer leaves the next ones to it too."""

_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN, errno.ENOTCONN, errno.EPROTOTYPE)
"""Errors of a socket whose other side is gone; the last two on macOS, while it is closing."""

_PAUSE_MS = 5
"""Milliseconds that a sender with a full frame waits for the socket; then the writer takes the frame over."""


class Writer(Sleeper):
    """Frames waiting for the socket.

    Args:
        sock: to the host; does not block from here on.
        applied: returns the current Applied frame, None if unchanged. Called right before a write.
        broken: called once when the socket cannot be written any more.

    Attributes:
        waited: calls of ``send`` that had to wait for room.
        unkept: dead letters for which there was no room.
        asleep: the writer waits only for messages: a sender that appends one calls :meth:`attend`.
    """

    def __init__(
        self, sock: socket.socket, applied: Callable[[], Applied | None], broken: Callable[[], None]
    ) -> None:
        self.waited = 0
        self.unkept = 0
        self.asleep = False
        # Permanently, not by a flag per call: macOS honours MSG_DONTWAIT only for receiving, and would block.
        sock.setblocking(False)
        self._sock = sock
        self._applied = applied
        self._broken = broken
        self._poll = select.poll()
        self._poll.register(sock, select.POLLOUT)
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._queues: deque[SendQueue] = deque()
        self._measured = 0
        self._control: deque[ChildFrame] = deque()
        self._records = 0
        self._lost_records = 0
        self._letters = self._letter_bytes = 0
        self._report = False
        self._rest = b""
        self._writing = False
        self._wrote_messages = False
        self._last_write = self._last_full = 0.0
        self._open = False
        self._held = self._retired = False
        self._why_held = ""
        self._closing = False
        self._ended = False
        self._thread = threading.Thread(target=self._write_all, name="co2-writer", daemon=True)
        self._thread.start()

    def join(self, queue: SendQueue) -> None:
        """Add a plugin's queue."""
        with self._lock:
            if self._closing:
                queue.close()
            if self._retired:
                self._open = self._retired = False
                self._queues = deque(old for old in self._queues if old.entries)  # of plugins that have exited
            self._queues.append(queue)

    def add(self, queue: SendQueue, entry: QueuedEntry, timeout: float) -> None:
        """Append a message that must be measured, or for which there is no room; or a flush.

        Waits for room at most ``timeout`` seconds.

        Raises:
            OutboxFull: no room came.
            NotRunning: the plugin has stopped.
        """
        with self._lock:
            if not queue.limit:
                raise NotRunning(f"{queue.name} has stopped, so it cannot send")
            if self._is_full(queue):
                self._wait_for_room(queue, timeout)
            queue.entries.append(entry)
            self._measured += size_of(entry)
            if len(queue.entries) > queue.alert and self._may_write():
                self._write_full(queue)
        if self.asleep:
            self.attend()

    def attend(self) -> None:
        """Write messages appended while the writer slept, or wake it.

        Raises:
            NotRunning: nobody writes any more: the last message was not sent.
        """
        with self._lock:
            if self._ended:
                raise NotRunning("the plugin host has stopped, so its plugins cannot send")
            if not self.asleep:
                return
            now = time.monotonic()
            if (
                self._control
                or self._report
                or not self._may_write()
                or now - self._last_write <= _DIRECT_AFTER
                or not self._write_now(now)
            ):
                self._wake()

    def frame(self, frame: ChildFrame) -> None:
        """Queue a frame that goes before all messages."""
        with self._lock:
            self._control.append(frame)
            self._wake()

    def answer(self, frame: ChildFrame) -> None:
        """Write a frame at once if nothing else is being written; else it goes before all messages."""
        with self._lock:
            if self._control or self._writing or self._rest:
                self._control.append(frame)
            else:
                self._rest = self._sent(encode_frame(frame))
                if not self._rest:
                    return
            self._wake()

    def record(self, source: str, level: int, text: str) -> None:
        """Queue a line for the log; beyond a limit only count it."""
        with self._lock:
            if self._records >= MAX_RECORDS:
                self._lost_records += 1
                return
            self._records += 1
            self._control.append(Record(source, level, text_for_frame(text)))
            self._wake()

    def dead_letter(self, letter: DeadLetter) -> None:
        """Queue a message that its plugin did not accept; beyond a limit only count it."""
        with self._lock:
            size = len(letter.message)
            if self._letters >= MAX_LETTERS or self._letter_bytes + size > MAX_LETTER_BYTES:
                self.unkept += 1
                self._report = True
            else:
                self._letters += 1
                self._letter_bytes += size
                self._control.append(letter)
            self._wake()

    def report(self) -> None:
        """Report soon which messages have been applied."""
        with self._lock:
            self._report = True
            self._wake()

    def start(self) -> None:
        """Start sending messages: the package is loaded everywhere."""
        with self._lock:
            self._open = True
            self._wake()

    def flow(self, is_open: bool, why: str = "") -> None:
        """Hold messages, or send them again; ``why`` is for senders that find no room meanwhile."""
        with self._lock:
            self._why_held = why
            self._held = not (is_open or self._retired)
            self._wake()

    def retire(self, timeout: float) -> None:
        """Accept no more messages of the present plugins, and write the waiting ones, within ``timeout`` seconds.

        When other plugins :meth:`join` afterwards, their messages are held until :meth:`start`.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            self._retired, self._held = True, False
            for queue in self._queues:
                queue.close()
            self._wake()
            self._room.notify_all()
            while self._open and self._waiting() and (left := deadline - time.monotonic()) > 0:
                self._room.wait(left)

    def close(self, timeout: float) -> None:
        """Accept no more messages, write the waiting ones, within ``timeout`` seconds."""
        with self._lock:
            self._held = False
            self._close_queues()
        self._thread.join(timeout)

    # with the lock

    def _wake(self) -> None:
        self.asleep = False
        self._work.notify()

    def _close_queues(self) -> None:
        self._closing = True
        for queue in self._queues:
            queue.close()
        self._wake()
        self._room.notify_all()

    def _is_full(self, queue: SendQueue) -> bool:
        return self._measured > MAX_QUEUED or len(queue.entries) >= queue.limit

    def _wait_for_room(self, queue: SendQueue, timeout: float) -> None:
        self.waited += 1
        self._report = True
        self._wake()
        deadline = time.monotonic() + timeout
        while self._is_full(queue):
            left = deadline - time.monotonic()
            if left <= 0:
                raise OutboxFull(timeout, self._why_full())
            self._room.wait(left)
            if not queue.limit:
                raise NotRunning(f"{queue.name} has stopped, so it cannot send")

    def _why_full(self) -> str:
        if not self._open:
            return "messages sent before the package is loaded wait until it is"
        if self._held:
            return self._why_held or "the outbox is full"
        return "this package sends messages faster than the host accepts them"

    def _may_write(self) -> bool:
        """Return whether a sender may write now: messages are allowed, and no write is unfinished."""
        return self._open and not self._held and not self._writing and not self._rest

    def _write_now(self, now: float) -> bool:
        """Write what the socket accepts at once; return whether that was all."""
        queues = self._queues
        is_alone = len(queues) == 1
        data = (is_alone and queues[0].cut_lone()) or self._messages()
        if not data:
            return True  # another thread was quicker
        self._last_write = now
        self._rest = self._sent(data)
        if self._retired:
            self._room.notify_all()  # a thread waits for all of it to be written
        return not self._rest and not (queues[0].entries if is_alone else self._waiting())

    def _write_full(self, queue: SendQueue) -> None:
        """Write full frames of a queue, waiting a moment for the socket; the writer takes the rest over."""
        while len(queue.entries) >= MAX_BATCH_MESSAGES and self._may_write():
            parts = []
            while len(queue.entries) >= MAX_BATCH_MESSAGES:
                frame, freed = queue.cut()
                self._measured -= freed
                parts.append(encode_frame(frame))
            self._rest = self._sent(b"".join(parts))
            if self._rest:
                self._rest = self._sent_patiently()
        self._last_write = self._last_full = time.monotonic()
        self._room.notify_all()
        if self._rest:
            queue.alert = queue.limit
        if self._rest or self._control or self._report or self._closing:
            self._wake()

    def _sent(self, data: bytes) -> bytes:
        """Write as much as the socket accepts at once; return the rest."""
        try:
            sent = self._sock.send(data)
            return data[sent:] if sent < len(data) else b""
        except OSError:
            return data  # full; or broken, which the thread notices too

    def _sent_patiently(self) -> bytes:
        """Wait for the socket, without the lock, and write the rest; return the bytes that are still left."""
        rest, self._rest, self._writing = self._rest, b"", True
        self._lock.release()
        try:
            while rest and self._poll.poll(_PAUSE_MS):
                before, rest = len(rest), self._sent(rest)
                if len(rest) == before:
                    break  # broken
        finally:
            self._lock.acquire()
            self._writing = False
        return rest

    def _next_bytes(self, lingers: bool) -> bytes:
        if self._writing:
            return b""  # a sender is writing, and will wake us
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
        if self._open and not self._held and not lingers and (messages := self._messages()):
            self._wrote_messages = True
            parts.append(messages)
        return b"".join(parts)

    def _messages(self) -> bytes:
        """Cut frames, the queues in turns. A remainder behind a full frame may become a full frame too."""
        parts: list[bytes] = []
        given: set[str] = set()
        size = idle = 0
        while size < MAX_WRITE and idle < len(self._queues):
            queue = self._queues[0]
            self._queues.rotate(-1)
            if len(queue.entries) < (MAX_BATCH_MESSAGES if queue.name in given else 1):
                idle += 1
                continue
            idle = 0
            given.add(queue.name)
            frame, freed = queue.cut()
            self._measured -= freed
            if len(queue.entries) < MAX_BATCH_MESSAGES and queue.limit:
                queue.alert = FULL - 1
            parts.append(encode_frame(frame))
            size += len(parts[-1])
        if parts:
            self._room.notify_all()
        return b"".join(parts)

    def _waiting(self) -> int:
        return sum(len(queue.entries) for queue in self._queues)

    def _next_control(self) -> ChildFrame:
        frame = self._control.popleft()
        if isinstance(frame, Record):
            self._records -= 1
            if not self._records and self._lost_records:
                text = f"{self._lost_records} lines were not logged: too many in a short time"
                self._lost_records = 0
                self._control.append(Record("", 30, text))
                self._records = 1
        elif isinstance(frame, DeadLetter):
            self._letters -= 1
            self._letter_bytes -= len(frame.message)
        return frame

    # the writer's thread

    def _write_all(self) -> None:
        try:
            while data := self._next():
                self._send_all(data)
                self._writing = False
                if self._wrote_messages and self._waiting() < MAX_BATCH_MESSAGES:
                    time.sleep(_NAP)
        except BaseException as error:
            if not isinstance(error, OSError) or error.errno not in _GONE:
                # Out of memory, or a plugin has closed our socket: nothing can be reported any more.
                self._broken()
                return
            # The satellite is gone. The reading side notices too, and ends in good order.
            with self._lock:
                self._close_queues()
                self._end()

    def _send_all(self, data: bytes) -> None:
        """Write all of the data. No other thread writes, or polls, meanwhile: ``_writing`` is set."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                self._poll.poll()

    def _next(self) -> bytes:
        """Wait for something to write; return b'' when all is written and the host stops."""
        with self._lock:
            self._wrote_messages = False
            while True:
                lingers = not self._closing and time.monotonic() - self._last_full < _LINGER
                # First the flag, then the look: a message appended after the look sees the flag.
                self.asleep = self._closing or (self._open and not self._held and not lingers)
                if data := self._next_bytes(lingers):
                    self.asleep = False
                    self._writing = True
                    self._last_write = time.monotonic()
                    return data
                if self._closing and not self._writing:
                    self._end()
                    return b""
                self._work.wait(_LINGER if lingers else None)

    def _end(self) -> None:
        self._ended = self.asleep = True
