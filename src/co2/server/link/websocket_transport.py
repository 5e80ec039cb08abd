"""One side of a link's WebSocket, at relay or satellite: frames in both directions, pings, an orderly close.

Received frames are passed up within the transport's own call, and sent ones are written to the socket at once:
there is no task, no queue and no turn of the event loop between a received frame and those that result from it.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from typing import Protocol

from co2.host_id import normal_ip
from co2.protocol.wire.websocket import (
    CLOSE,
    MAX_CONTROLS,
    MAX_MESSAGES,
    NORMAL,
    PING,
    POLICY,
    PONG,
    WebSocketReader,
    close_words,
    control_frame,
    message_head,
)
from co2.server.express.fair_selector import put_behind, put_first
from co2.server.express.transports import has_unread, let_go
from co2.server.express.write_now import MAX_PIECES, write_now
from co2.server.link.unfinished import Unfinished
from co2.unsent import Unsent

__all__ = [
    "CLOSE_TIMEOUT",
    "MAX_BUFFERED",
    "MAX_UNREAD",
    "PING_INTERVAL",
    "TransportOwner",
    "WebSocketTransport",
    "joined",
]

MAX_BUFFERED = 4 * 1024 * 1024
"""Bytes that wait for the other side before the owner must pause; at a quarter of it, it may resume."""

MAX_UNREAD = 16 * MAX_BUFFERED
"""Bytes that wait for the other side at most: it may send requests and read none of the answers."""

PING_INTERVAL = 10.0
"""Seconds of silence after which the other side is pinged; after as many again without a word it is dead.

A side that reads the bytes that wait for it is not silent; a side whose bytes we do not read cannot be judged.
"""

CLOSE_TIMEOUT = 1.0
"""Seconds that the other side has to close its side once ours is closed."""

JOINED = 4 * 1024
"""Bytes of messages that are copied into one piece; larger ones are written in pieces."""

FREE_UNFINISHED = 16 * 1024
"""Bytes of an incomplete frame up to which it does not count in the budget of all links."""

_ASKED = 2
_DEAD = 4
"""Checks, two per interval, without anything new until the other side is pinged, and given up."""


READ_SIZE = 256 * 1024
"""Bytes that are read at once."""

MANY_FRAMES = 64
"""Frames in one read above which less is read at once: a sender of many small ones takes turns with others."""

SMALL_READ = 8 * 1024
"""Bytes that are read at once then."""

_buffers = threading.local()


class TransportOwner(Protocol):
    """The user of a transport."""

    def received(self, frames: list[bytes | memoryview], more: bool = False) -> None:
        """Process frames that arrived together; they are invalid when this returns.

        With ``more``, frames have also arrived on other connections, and their results are already written: they
        are processed right after these, and nothing else may be written before.
        """

    def filled(self) -> None:
        """Pause: more than :data:`MAX_BUFFERED` bytes wait for the other side."""

    def drained(self) -> None:
        """Resume: there is room again."""

    def ended(self, why: str) -> None:
        """Note that the connection is lost. Called once, as the last call."""


class WebSocketTransport(asyncio.BufferedProtocol):
    """One side of a connection that has become a WebSocket.

    Args:
        transport: its transport, used only by this object from now on.
        is_client: whether we have opened it.
        max_frame: bytes of one message; see :meth:`allow`.
        unfinished: budget for the incomplete frames of all links.
        is_text: whether its messages are text; else they are binary.

    Attributes:
        address: (ip, port) of the other side.
        is_client: whether we have opened it: then what we write is masked.
        is_full: more than :data:`MAX_BUFFERED` bytes wait for the other side.
        is_held: nothing is read for now.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        is_client: bool,
        max_frame: int,
        unfinished: Unfinished | None = None,
        is_text: bool = False,
    ) -> None:
        peer = transport.get_extra_info("peername") or ("0.0.0.0", 0)  # noqa: S104 - gone already, a label only
        self.address = (normal_ip(str(peer[0])), int(peer[1]))
        self.is_full = False
        self.is_held = False
        self.is_client = is_client
        self._reader = WebSocketReader(max_frame, masked=not is_client, is_text=is_text)
        self._transport = transport
        self._unsent = Unsent(transport)
        self._buffer = _read_buffer()
        self._unfinished = unfinished
        self._is_counted = False
        self._controls = 0
        self._controls_since = 0.0
        sock = transport.get_extra_info("socket")
        # Encrypted data must pass through the transport.
        is_plain = sock is not None and transport.get_extra_info("ssl_object") is None and os.name == "posix"
        self._descriptor = sock.fileno() if is_plain else -1
        self._owner: TransportOwner | None = None
        self._loop = asyncio.get_running_loop()
        self._silent = 0
        self._asked_at = 0.0
        self._given = 0
        self._drained = 0
        self._closing = self._is_lost = False
        self._why = ""
        self._timer: asyncio.TimerHandle | None = None
        self._ahead = b""
        self._continuation: asyncio.Handle | None = None

    @property
    def buffered(self) -> int:
        """Bytes that wait for the other side."""
        return self._unsent.size

    @property
    def silence(self) -> float:
        """Seconds without received bytes, in steps of half an interval; the first of these does not count."""
        return max(0, self._silent - 1) * PING_INTERVAL / 2

    @property
    def unanswered(self) -> float:
        """Seconds since a ping without an answer; 0 if there is none, or if nothing is read for now."""
        if self.is_held or self._silent < _ASKED or not self._asked_at:
            return 0.0
        return self._loop.time() - self._asked_at

    @property
    def has_unread(self) -> bool:
        """Whether bytes have arrived that there was no time to read."""
        return has_unread(self._descriptor)

    def carry(self, owner: TransportOwner, rest: bytes = b"") -> None:
        """Start using the connection.

        Args:
            owner: gets all calls.
            rest: bytes that have arrived already.
        """
        self._owner = owner
        self._transport.set_protocol(self)
        self._unsent.begin()
        self._timer = self._loop.call_later(PING_INTERVAL / 2, self._check_silence)
        if rest:
            self._process(rest)

    def allow(self, max_frame: int) -> None:
        """Accept messages of up to ``max_frame`` bytes from now on."""
        self._reader.max_size = max_frame

    def read_less(self) -> None:
        """Read less at once, until frames are large again."""
        self._buffer = _read_buffer()[:SMALL_READ]

    def read_first(self) -> None:
        """Read this connection before those of the second rank: see :mod:`co2.server.express.fair_selector`."""
        put_first(self._loop, self._descriptor)

    def read_behind(self) -> None:
        """Read this connection when there is time for it."""
        put_behind(self._loop, self._descriptor)

    def release(self) -> None:
        """Make no more calls to the owner."""
        self._owner = None

    # ---- what the transport tells ----------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next bytes: a small one while links together hold much that is not parsed."""
        if self._unfinished is not None and self._unfinished.is_scarce:
            return self._buffer[:SMALL_READ]
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Process received bytes."""
        self._process(self._buffer[:nbytes])

    def _process(self, data: bytes | memoryview, more: bool = False, most: int = MAX_MESSAGES) -> None:
        self._silent = 0
        began = self._loop.time()
        reader = self._reader
        frames = reader.feed(data, most)
        if len(frames) > MANY_FRAMES:
            self.read_less()
        elif data and len(self._buffer) == SMALL_READ and (not frames or len(data) < SMALL_READ):
            self._buffer = _read_buffer()
        if frames and not self._closing and self._owner is not None:
            self._owner.received(frames, more)
        if reader.control:
            control, reader.control = reader.control, []
            self._process_control(control)
        if reader.error is not None:
            self.close(reader.error.close_code, str(reader.error))
        if self._is_counted or reader.held > FREE_UNFINISHED:
            self._count_unfinished(is_new=bool(frames))
        if reader.is_cut_short and not self.is_held and self._continuation is None:
            self._transport.pause_reading()
            self._continuation = self._loop.call_later(self._loop.time() - began, self._continue)

    def _continue(self) -> None:
        """Process more of the last read, which had many messages, and then read on.

        Between two parts other work is done for as long as a part took, as for frames that wait for their turn.
        """
        self._continuation = None
        if self.is_held or self._is_lost:
            return
        self._process(b"")
        if not (self._reader.is_cut_short or self.is_held or self._transport.is_closing()):
            self._transport.resume_reading()

    def _count_unfinished(self, *, is_new: bool) -> None:
        """Report the bytes of an incomplete frame; one that begins now is younger than those of other links."""
        if self._unfinished is None:
            return
        held = self._reader.held
        self._is_counted = held > FREE_UNFINISHED
        if is_new or not self._is_counted:
            self._unfinished.release(self)
        if self._is_counted:
            self._unfinished.hold(self, self.address[0], held)

    def resume_writing(self) -> None:
        """Write on: the transport's buffer is empty."""
        self._unsent.go_on()
        if self.is_full and self._unsent.size <= MAX_BUFFERED // 4:
            self.is_full = False
            if self._owner is not None:
                self._owner.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end to the owner, and stop."""
        try:
            if self._reader.is_cut_short and not self.is_held:
                self._process(b"")  # what is behind that has not been acknowledged, and is sent again
        finally:
            self._end(exc)

    def _end(self, exc: Exception | None) -> None:
        self.read_first()
        let_go(self._transport)
        self._descriptor = -1
        self._is_lost = True
        if self._unfinished is not None:
            self._unfinished.release(self)
        if self._timer is not None:
            self._timer.cancel()
        owner, self._owner = self._owner, None
        if owner is not None:
            text = os.strerror(exc.errno).lower() if isinstance(exc, OSError) and exc.errno else ""
            owner.ended(self._why or text or "the connection was closed")

    # ---- past the transport (server/express/ways.py) -----------------------------------------------------

    @property
    def read_descriptor(self) -> int:
        """Of the socket, while what comes next is the beginning of a message; else -1."""
        if self._closing or self.is_held or not self._is_open or not self._reader.is_between:
            return -1
        return self._descriptor

    @property
    def write_descriptor(self) -> int:
        """Of the socket, while nothing waits to be written; else -1."""
        if self._closing or not self._is_open or self._unsent.waits:
            return -1
        return self._descriptor

    @property
    def _is_open(self) -> bool:
        return self._owner is not None and not self._transport.is_closing()

    def take_ahead(self, data: bytes, more: bool = False) -> None:
        """Process received bytes; with ``more``, others came in elsewhere and are processed right after these."""
        # Results of all of them may be written already, and nothing else may come in between.
        self._process(data, more, sys.maxsize)

    def written_ahead(self, data: bytes) -> None:
        """Note bytes that are already written: they are left out of the next write."""
        self._ahead = data

    def left_ahead(self) -> int:
        """Return how many of these bytes have not been left out yet."""
        return len(self._ahead)

    def break_off(self, why: str) -> None:
        """End the connection at once."""
        self._why = self._why or why
        self.abort()

    # ---- what the owner asks ---------------------------------------------------------------------------

    def write(self, messages: list[bytes]) -> None:
        """Write the result of :func:`joined`."""
        transport = self._transport
        if self._closing or transport.is_closing():
            return
        if self._ahead:
            data, ahead = b"".join(messages), self._ahead
            if ahead.startswith(data):
                self._ahead = ahead[len(data) :]  # the rest belongs to the next frames
                return
            if not data.startswith(ahead):
                return  # the connection is ended for it
            messages, self._ahead = [data[len(ahead) :]], b""
        if self._descriptor < 0 or self._unsent.waits:
            self._keep(messages)
            return
        if len(messages) > MAX_PIECES:
            messages = [b"".join(messages)]
        # Not through the transport, which would write at the end of the loop's turn; it notices a broken one too.
        written = write_now(self._descriptor, messages)
        for index, data in enumerate(messages):
            if written < len(data):
                self._keep([memoryview(data)[written:], *messages[index + 1 :]])
                return
            written -= len(data)

    def _keep(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Queue pieces until the other side has read the bytes before them."""
        self._given += sum(map(len, pieces))
        self._unsent.add(pieces)
        size = self._unsent.size
        if size > MAX_UNREAD:
            self._why = self._why or f"it left {MAX_UNREAD} bytes unread"
            self._transport.abort()
        elif size > MAX_BUFFERED and not self.is_full:
            self.is_full = True
            if self._owner is not None:
                self._owner.filled()

    def pause_reading(self) -> None:
        """Stop reading for now."""
        if not self.is_held and not self._closing and not self._transport.is_closing():
            self.is_held = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading."""
        if self.is_held:
            self.is_held = False
            if self._reader.is_cut_short:
                self._continuation = self._continuation or self._loop.call_soon(self._continue)
            elif not self._transport.is_closing():
                self._transport.resume_reading()

    def close(self, code: int = NORMAL, why: str = "") -> None:
        """Close in good order: written bytes still arrive, received ones are ignored."""
        if self._closing:
            return
        if not self._transport.is_closing():
            self._keep((control_frame(CLOSE, code.to_bytes(2, "big"), self.is_client),))
        self._begin_to_close(why)

    def abort(self) -> None:
        """Close at once; bytes that the other side has not read are lost."""
        if not self._is_lost:  # asyncio's transport fails then, if it was still writing after close()
            self._transport.abort()

    # ---- control ---------------------------------------------------------------------------------------

    def _process_control(self, control: list[tuple[int, bytes]]) -> None:
        now = self._loop.time()
        if now - self._controls_since >= 1.0:
            self._controls, self._controls_since = 0, now
        self._controls += len(control)
        if self._controls > MAX_CONTROLS:
            self.close(POLICY, f"more than {MAX_CONTROLS} control frames a second")
        pings = [payload for opcode, payload in control if opcode == PING]
        # A side that does not read gets no Pong behind the unread bytes.
        if pings and not self._closing and not self.is_full and not self._transport.is_closing():
            self._keep((control_frame(PONG, pings[-1], self.is_client),))  # the last is enough: RFC 6455, 5.5.3
        if control[-1][0] == CLOSE:  # nothing is read after it
            self._why = self._why or close_words(control[-1][1])
            self.close()
            self._unsent.close()  # both sides have sent Close

    def _begin_to_close(self, why: str) -> None:
        self._closing = True
        self._why = self._why or why
        self.resume_reading()  # otherwise the other side's Close would not arrive
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(CLOSE_TIMEOUT, self._transport.abort)

    def _check_silence(self) -> None:
        """Check twice per interval: ping a silent side, end the connection of one that does not answer."""
        self._silent += 1
        if self._is_read():
            self._silent = 0
        elif self.is_held or (self._silent >= _DEAD and self.has_unread):
            self._silent = min(self._silent, _ASKED)  # so that our pings at least go out
        if self._silent >= _DEAD:
            self._why = f"no answer for {2 * PING_INTERVAL:g} s"
            self._transport.abort()
            return
        if self._silent == _ASKED:
            self._asked_at = self._loop.time()
        if self._silent >= _ASKED and not self._unsent.waits:
            self._keep((control_frame(PING, b"", self.is_client),))
        self._timer = self._loop.call_later(PING_INTERVAL / 2, self._check_silence)

    def _is_read(self) -> bool:
        """Return whether the other side has read some of the waiting bytes since the last check."""
        waiting = self._unsent.size
        before, self._drained = self._drained, self._given - waiting
        return waiting > 0 and before < self._drained


def joined(frames: list[bytes], masked: bool = False, is_text: bool = False) -> list[bytes]:
    """Return frames as WebSocket messages, in few pieces.

    Args:
        frames: to write.
        masked: whether a client writes them.
        is_text: whether they are text.
    """
    if len(frames) == 1 and len(frames[0]) <= JOINED:
        return [message_head(len(frames[0]), masked, is_text) + frames[0]]
    messages: list[bytes] = []
    for data in frames:
        messages += (message_head(len(data), masked, is_text), data)
    return [b"".join(messages)] if sum(map(len, messages)) <= JOINED else messages


def _read_buffer() -> memoryview:
    """Return the buffer for received bytes: all transports of a loop share one, each empties it at once."""
    buffer: memoryview | None = getattr(_buffers, "buffer", None)
    if buffer is None:
        buffer = _buffers.buffer = memoryview(bytearray(READ_SIZE))
    return buffer
