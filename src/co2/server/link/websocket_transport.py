"""One end of a link's WebSocket, relay's or satellite's: frames up and down, pings, an end in good order.

What comes in is handed up within the transport's own call, and what goes out is written to the socket at once: no
task, no queue, no turn of the event loop stands between a frame that comes and the frames that it becomes.
"""

import asyncio
import os
import threading
from collections.abc import Sequence
from typing import Protocol

from co2.host_id import normal_ip
from co2.protocol.wire.frame_template import Outline
from co2.protocol.wire.websocket import (
    CLOSE,
    MAX_CONTROLS,
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
from co2.server.express.loop import FROM_CLIENT, FROM_SERVER, Way
from co2.server.express.transports import has_unread, let_go
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
"""Bytes that wait for the other side before the owner is told to pause; at a quarter of it, to resume."""

MAX_UNREAD = 16 * MAX_BUFFERED
"""Bytes that wait for the other side at most: answers to what it asks, though it reads none of them."""

PING_INTERVAL = 10.0
"""Seconds of silence within which the other side is pinged; as long again without a word, and it is dead.

Who reads what waits for it is not silent, and who is not read has no chance to speak, or has spoken already.
"""

CLOSE_TIMEOUT = 1.0
"""Seconds that the other side has to close its end, once ours is closed."""

JOINED = 4 * 1024
"""Bytes of messages that are copied together; more go as they are."""

FREE_UNFINISHED = 16 * 1024
"""Bytes of a frame that is not complete up to which it is not counted among those of all links."""

MAX_PIECES = 512
"""Pieces that the system takes in one call; more are joined."""

_ASKED = 2
_DEAD = 4
"""Looks, two in an interval, that find nothing new until the other side is asked, and given up."""


READ_SIZE = 256 * 1024
"""Bytes that are read at once."""

MANY_FRAMES = 64
"""Frames that came at once above which less is read at once: who sends many small ones takes turns with others."""

SMALL_READ = 8 * 1024
"""Bytes that are read at once then."""

_buffers = threading.local()


class TransportOwner(Protocol):
    """Who uses a wire."""

    def received(self, frames: list[bytes | memoryview], more: bool = False) -> None:
        """Take frames that have come at the same time; they are gone when this returns.

        With ``more`` others have come too, on other connections, and what they become is written already: they are
        taken right behind, and nothing else is to be written before.
        """

    def filled(self) -> None:
        """More than :data:`MAX_BUFFERED` bytes wait for the other side."""

    def drained(self) -> None:
        """There is room again."""

    def ended(self, why: str) -> None:
        """The connection is gone. Called once, and nothing after it."""


class WebSocketTransport(asyncio.BufferedProtocol):
    """One end of a connection that has become a WebSocket.

    Args:
        transport: its transport; becomes this wire's own.
        is_client: whether we have opened it.
        max_frame: bytes of one message; see :meth:`allow`.
        unfinished: what all wires hold of frames that are not complete.

    Attributes:
        address: (ip, port) of the other side.
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
    ) -> None:
        peer = transport.get_extra_info("peername") or ("0.0.0.0", 0)  # noqa: S104 - gone already, a label only
        self.address = (normal_ip(str(peer[0])), int(peer[1]))
        self.is_full = False
        self.is_held = False
        self._masks = is_client
        self._reader = WebSocketReader(max_frame, masked=not is_client)
        self._transport = transport
        self._unsent = Unsent(transport)
        self._buffer = _read_buffer()
        self._unfinished = unfinished
        self._is_counted = False
        self._controls = 0
        self._controls_since = 0.0
        sock = transport.get_extra_info("socket")
        # What is encrypted has to pass through the transport.
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

    @property
    def buffered(self) -> int:
        """Bytes that wait for the other side."""
        return self._unsent.size

    @property
    def silence(self) -> float:
        """Seconds for which nothing has come, in steps of half an interval; the first of these is no silence."""
        return max(0, self._silent - 1) * PING_INTERVAL / 2

    @property
    def unanswered(self) -> float:
        """Seconds for which a ping has had no answer; 0 where there is none."""
        return self._loop.time() - self._asked_at if self._silent >= _ASKED and self._asked_at else 0.0

    @property
    def has_unread(self) -> bool:
        """Whether something has come that there was no time to read."""
        return has_unread(self._descriptor)

    def carry(self, owner: TransportOwner, rest: bytes = b"") -> None:
        """Begin.

        Args:
            owner: who is told of everything.
            rest: bytes that have come already.
        """
        self._owner = owner
        self._transport.set_protocol(self)
        self._unsent.begin()
        self._timer = self._loop.call_later(PING_INTERVAL / 2, self._look)
        if rest:
            self._take(rest)

    def allow(self, max_frame: int) -> None:
        """Take messages of so many bytes from now on."""
        self._reader.max_size = max_frame

    def read_less(self) -> None:
        """Read less at once, until what comes is large again."""
        self._buffer = _read_buffer()[:SMALL_READ]

    def read_first(self) -> None:
        """Read what comes here before what comes to those behind: see :mod:`co2.server.express.fair_selector`."""
        put_first(self._loop, self._descriptor)

    def read_behind(self) -> None:
        """What comes here is read where there is time for it."""
        put_behind(self._loop, self._descriptor)

    def release(self) -> None:
        """The owner wants to hear no more of it."""
        self._owner = None

    # ---- what the transport tells ----------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where the next bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes as they come."""
        self._take(self._buffer[:nbytes])

    def _take(self, data: bytes | memoryview, more: bool = False) -> None:
        self._silent = 0
        reader = self._reader
        frames = reader.feed(data)
        if len(frames) > MANY_FRAMES:
            self.read_less()
        elif len(self._buffer) == SMALL_READ and (not frames or len(data) < SMALL_READ):
            self._buffer = _read_buffer()
        if frames and not self._closing and self._owner is not None:
            self._owner.received(frames, more)
        if reader.control:
            control, reader.control = reader.control, []
            self._take_control(control)
        if reader.error is not None:
            self.close(reader.error.close_code, str(reader.error))
        if self._is_counted or reader.held > FREE_UNFINISHED:
            self._count_unfinished(is_new=bool(frames))

    def _count_unfinished(self, *, is_new: bool) -> None:
        """Tell what this link holds of a frame; one that begins now is younger than those of other links."""
        if self._unfinished is None:
            return
        held = self._reader.held
        self._is_counted = held > FREE_UNFINISHED
        if is_new or not self._is_counted:
            self._unfinished.release(self)
        if self._is_counted:
            self._unfinished.hold(self, self.address[0], held)

    def resume_writing(self) -> None:
        """The transport holds nothing any more."""
        self._unsent.go_on()
        if self.is_full and self._unsent.size <= MAX_BUFFERED // 4:
            self.is_full = False
            if self._owner is not None:
                self._owner.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, and stop."""
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

    # ---- the express (express.py) ------------------------------------------------------------------------

    def way_in(self, outline: Outline) -> Way | None:
        """Say how a frame would come here; None while it cannot be told apart from what else comes."""
        if self._closing or self.is_held or not self._is_open or not self._reader.is_between:
            return None
        return Way(self, self._descriptor, FROM_SERVER if self._masks else FROM_CLIENT, outline)

    def way_out(self, outline: Outline) -> Way | None:
        """Say how a frame would be written here; None while something waits before it."""
        if self._closing or not self._is_open or self._unsent.waits:
            return None
        return Way(self, self._descriptor, FROM_CLIENT if self._masks else FROM_SERVER, outline)

    @property
    def _is_open(self) -> bool:
        return self._descriptor >= 0 and self._owner is not None and not self._transport.is_closing()

    def take_ahead(self, data: bytes, more: bool = False) -> None:
        """Take bytes as they have come; with ``more`` others have too, elsewhere, which are taken right behind."""
        self._take(data, more)

    def written_ahead(self, data: bytes) -> None:
        """Learn what has been written already: it is left out of what is written next."""
        self._ahead = data

    def left_ahead(self) -> int:
        """Say how many bytes of that have not been left out yet."""
        return len(self._ahead)

    def break_off(self, why: str) -> None:
        """End the connection at once."""
        self._why = self._why or why
        self.abort()

    # ---- what the owner asks ---------------------------------------------------------------------------

    def write(self, messages: list[bytes]) -> None:
        """Write what :func:`joined` gives."""
        transport = self._transport
        if self._closing or transport.is_closing():
            return
        if self._ahead:
            data, ahead = b"".join(messages), self._ahead
            if ahead.startswith(data):
                self._ahead = ahead[len(data) :]  # the rest of it is of the frames that come next
                return
            if not data.startswith(ahead):
                return  # the connection ends for it
            messages, self._ahead = [data[len(ahead) :]], b""
        if self._descriptor < 0 or self._unsent.waits:
            self._keep(messages)
            return
        if len(messages) > MAX_PIECES:
            messages = [b"".join(messages)]
        # Past the transport, which would write at the end of its loop's turn.
        try:
            written = os.writev(self._descriptor, messages)
        except OSError:
            written = 0  # full; or broken, which the transport finds out too
        for index, data in enumerate(messages):
            if written < len(data):
                self._keep([memoryview(data)[written:], *messages[index + 1 :]])
                return
            written -= len(data)

    def _keep(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Have this written when the other side has read what is before it."""
        self._given += sum(map(len, pieces))
        self._unsent.add(pieces)
        size = self._unsent.size
        if size > MAX_UNREAD:
            self._why = self._why or f"it has not read {MAX_UNREAD} bytes that it was sent"
            self._transport.abort()
        elif size > MAX_BUFFERED and not self.is_full:
            self.is_full = True
            if self._owner is not None:
                self._owner.filled()

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not self.is_held and not self._closing and not self._transport.is_closing():
            self.is_held = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self.is_held:
            self.is_held = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def close(self, code: int = NORMAL, why: str = "") -> None:
        """Close it in good order: what was written still arrives, what comes is not taken any more."""
        if self._closing:
            return
        if not self._transport.is_closing():
            self._keep((control_frame(CLOSE, code.to_bytes(2, "big"), self._masks),))
        self._begin_to_close(why)

    def abort(self) -> None:
        """Close it at once; what the other side has not read is given up."""
        if not self._is_lost:  # asyncio's transport does not bear it then, where it had written on after close()
            self._transport.abort()

    # ---- control ---------------------------------------------------------------------------------------

    def _take_control(self, control: list[tuple[int, bytes]]) -> None:
        now = self._loop.time()
        if now - self._controls_since >= 1.0:
            self._controls, self._controls_since = 0, now
        self._controls += len(control)
        if self._controls > MAX_CONTROLS:
            self.close(POLICY, f"more than {MAX_CONTROLS} control frames a second")
        pings = [payload for opcode, payload in control if opcode == PING]
        # Who does not read what was written needs no Pong behind it.
        if pings and not self._closing and not self.is_full and not self._transport.is_closing():
            self._keep((control_frame(PONG, pings[-1], self._masks),))  # the last will do: RFC 6455, 5.5.3
        if control[-1][0] == CLOSE:  # nothing is read behind it
            self._why = self._why or close_words(control[-1][1])
            self.close()
            self._unsent.close()  # both sides have said it

    def _begin_to_close(self, why: str) -> None:
        self._closing = True
        self._why = self._why or why
        self.resume_reading()  # else the other side's Close would not come
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(CLOSE_TIMEOUT, self._transport.abort)

    def _look(self) -> None:
        """Twice an interval: ping who is silent, end who does not answer."""
        self._silent += 1
        if self._is_read():
            self._silent = 0
        elif self.is_held or (self._silent >= _DEAD and self.has_unread):
            self._silent = min(self._silent, _ASKED)  # so that at least we are heard
        if self._silent >= _DEAD:
            self._why = f"no answer for {2 * PING_INTERVAL:g} s"
            self._transport.abort()
            return
        if self._silent == _ASKED:
            self._asked_at = self._loop.time()
        if self._silent >= _ASKED and not self._unsent.waits:
            self._keep((control_frame(PING, b"", self._masks),))
        self._timer = self._loop.call_later(PING_INTERVAL / 2, self._look)

    def _is_read(self) -> bool:
        """Tell whether the other side has read on of what waits here, since this was asked last."""
        waiting = self._unsent.size
        before, self._drained = self._drained, self._given - waiting
        return waiting > 0 and before < self._drained


def joined(frames: list[bytes], masked: bool = False) -> list[bytes]:
    """Give frames as WebSocket messages, in few pieces.

    Args:
        frames: what is to be written.
        masked: whether a client writes them.
    """
    if len(frames) == 1 and len(frames[0]) <= JOINED:
        return [message_head(len(frames[0]), masked) + frames[0]]
    messages: list[bytes] = []
    for data in frames:
        messages += (message_head(len(data), masked), data)
    return [b"".join(messages)] if sum(map(len, messages)) <= JOINED else messages


def _read_buffer() -> memoryview:
    """Give where transports put what has come: one for all wires of a loop, each takes it before the next."""
    buffer: memoryview | None = getattr(_buffers, "buffer", None)
    if buffer is None:
        buffer = _buffers.buffer = memoryview(bytearray(READ_SIZE))
    return buffer
